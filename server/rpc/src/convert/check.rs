//! Checks and their status.

use ::service::Error;
use proto::v1;
use state::{Check, CheckInput, Status};

use super::common::wire_strs;
use super::definition;
use crate::status::invalid;

/// A status for the wire.
pub(crate) fn status(status: Status) -> v1::HealthStatus {
    match status {
        Status::Passing => v1::HealthStatus::Passing,
        Status::Warning => v1::HealthStatus::Warning,
        Status::Critical => v1::HealthStatus::Critical,
    }
}

/// The status that a caller gives; `None` where it is left out.
pub(crate) fn given_status(field: &'static str, given: i32) -> Result<Option<Status>, Error> {
    match v1::HealthStatus::try_from(given) {
        Ok(v1::HealthStatus::Unspecified) => Ok(None),
        Ok(v1::HealthStatus::Passing) => Ok(Some(Status::Passing)),
        Ok(v1::HealthStatus::Warning) => Ok(Some(Status::Warning)),
        Ok(v1::HealthStatus::Critical) => Ok(Some(Status::Critical)),
        Ok(v1::HealthStatus::Maintenance) => Err(invalid(field, "maintenance is the sum of several checks, not the status of one")),
        Err(_) => Err(invalid(field, format_args!("`{given}` is not known"))),
    }
}

/// The status that a caller has to give.
pub(crate) fn required_status(field: &'static str, given: i32) -> Result<Status, Error> {
    given_status(field, given)?.ok_or_else(|| invalid(field, "it is missing; give passing, warning or critical"))
}

/// A check for the wire.
pub(crate) fn check(check: &Check) -> v1::Check {
    let Check { node, id, name, status: verdict, notes, output, service_id, service_name, service_tags, kind, .. } = check;
    let Check { interval_ms, timeout_ms, definition, create_index, modify_index, .. } = check;
    v1::Check {
        node: node.to_string(),
        check_id: id.to_string(),
        name: name.to_string(),
        status: status(*verdict).into(),
        notes: notes.to_string(),
        output: output.to_string(),
        service_id: service_id.to_string(),
        service_name: service_name.to_string(),
        service_tags: wire_strs(service_tags),
        r#type: kind.to_string(),
        definition: definition::wire(definition, *interval_ms, *timeout_ms),
        create_index: create_index.0,
        modify_index: modify_index.0,
    }
}

/// A check as it is registered in the catalog. What is only told, never set, is left out.
pub(crate) fn input(check: v1::Check) -> Result<CheckInput, Error> {
    let v1::Check {
        node: _,
        check_id,
        name,
        status,
        notes,
        output,
        service_id,
        service_name: _,
        service_tags: _,
        r#type,
        definition,
        create_index: _,
        modify_index: _,
    } = check;
    let definition = definition.map(definition::stored).transpose()?.unwrap_or_default();
    let kind = if r#type.is_empty() { definition::kind(&definition).to_owned() } else { r#type };
    Ok(CheckInput {
        id: check_id.into(),
        name: name.into(),
        status: given_status("status", status)?.unwrap_or_default(),
        notes: notes.into(),
        output: output.into(),
        service_id: service_id.into(),
        kind: kind.into(),
        interval_ms: definition.interval_ms,
        timeout_ms: definition.timeout_ms,
        definition,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_read_back_as_it_was_told() {
        for given in [Status::Passing, Status::Warning, Status::Critical] {
            assert_eq!(required_status("status", status(given).into()).unwrap(), given);
        }
    }

    #[test]
    fn a_status_that_nobody_can_give_is_refused() {
        for given in [v1::HealthStatus::Maintenance.into(), 9] {
            assert!(given_status("status", given).is_err());
        }
        assert!(required_status("status", 0).unwrap_err().message.contains("missing"));
    }

    #[test]
    fn a_check_without_a_status_is_critical_until_it_is_known() {
        let check = v1::Check { check_id: "c".into(), ..Default::default() };
        assert_eq!(input(check).unwrap().status, Status::Critical);
    }
}
