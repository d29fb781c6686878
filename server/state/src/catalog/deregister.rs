//! Deregistration: removing a check, a service with its checks, or a node with all that is on it.

use crate::apply::Effects;
use crate::catalog::edit::Edit;
use crate::command::Deregistration;
use crate::id::LogIndex;
use crate::outcome::{Outcome, Refusal};
use crate::tables::Tables;

/// Removes what is named. What is not there counts as removed: the request may be repeated.
pub(crate) fn deregister(
    tables: &mut Tables,
    index: LogIndex,
    request: &Deregistration,
    effects: &mut Effects,
) -> Result<Outcome, Refusal> {
    let mut edit = Edit::new(tables, index, &request.node, effects);
    let removed = match (&request.service_id, &request.check_id) {
        (None, None) => edit.remove_node(),
        (Some(service_id), _) => {
            let removed = edit.remove_service(service_id);
            edit.finish();
            removed as u64
        }
        (None, Some(check_id)) => {
            let removed = edit.remove_check(check_id);
            edit.finish();
            removed as u64
        }
    };
    Ok(Outcome::Done { entry: None, removed })
}
