//! Refusals as gRPC tells them: one table from the kind of a refusal to a code, and the reason with
//! its values beside it.

use std::collections::HashMap;
use std::future::Future;

use proto::v1::{self, ErrorReason};
use service::{Error, Kind, Reason};
use state::Refusal;
use tonic::metadata::MetadataValue;
use tonic::{Code, Response, Status};
use tonic_types::{ErrorDetails, StatusExt};

/// Answers a call with what `work` gives.
pub(crate) async fn answer<T>(work: impl Future<Output = Result<T, Error>>) -> Result<Response<T>, Status> {
    match work.await {
        Ok(value) => Ok(Response::new(value)),
        Err(error) => Err(status(error)),
    }
}

/// A refusal as the status of a call.
pub(crate) fn status(error: Error) -> Status {
    let (code, reason) = (code(error.kind()), error.reason.as_str());
    let details = ErrorDetails::with_error_info(reason, proto::ERROR_DOMAIN, metadata(&error));
    because(reason, Status::with_error_details(code, error.message, details))
}

/// Puts the reason beside a status as HTTP has it, for whoever carries it without knowing the contract.
pub(crate) fn because(reason: &'static str, mut status: Status) -> Status {
    status.metadata_mut().insert(forward::REASON.as_str(), MetadataValue::from_static(reason));
    status
}

/// A refusal inside an answer.
pub(crate) fn refusal(error: Error) -> v1::Refusal {
    let reason = ErrorReason::from_code(error.reason.as_str()).unwrap_or_default();
    v1::Refusal { reason: reason.into(), metadata: metadata(&error), message: error.message }
}

/// The server stops: nothing was written, and another server can be asked.
pub(crate) fn shutting_down() -> Status {
    let reason = ErrorReason::ShuttingDown.code();
    let details = ErrorDetails::with_error_info(reason, proto::ERROR_DOMAIN, HashMap::new());
    because(reason, Status::with_error_details(Code::Unavailable, "this server shuts down; go on at another one", details))
}

/// A call or a part of one that this version does not serve.
pub(crate) fn not_implemented(feature: &str) -> Error {
    Error::new(Reason::NotImplemented, format!("`{feature}` is not served by this version")).with("feature", feature)
}

/// A field that has no meaning as it is.
pub(crate) fn invalid(field: &'static str, problem: impl std::fmt::Display) -> Error {
    Error::invalid(format!("`{field}`: {problem}")).with("field", field)
}

/// The table.
fn code(kind: Kind) -> Code {
    match kind {
        Kind::InvalidArgument | Kind::TooLarge => Code::InvalidArgument,
        Kind::NotFound => Code::NotFound,
        Kind::FailedPrecondition => Code::FailedPrecondition,
        Kind::Conflict => Code::Aborted,
        Kind::Overloaded => Code::ResourceExhausted,
        Kind::OutOfRange => Code::OutOfRange,
        Kind::Unauthenticated => Code::Unauthenticated,
        Kind::PermissionDenied => Code::PermissionDenied,
        Kind::Unavailable => Code::Unavailable,
        Kind::DeadlineExceeded => Code::DeadlineExceeded,
        Kind::Unimplemented => Code::Unimplemented,
        Kind::Internal => Code::Internal,
    }
}

fn metadata(error: &Error) -> HashMap<String, String> {
    let own = error.details.iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
    let values = error.refusal.as_deref().map(values).unwrap_or_default();
    values.into_iter().map(|(name, value)| (name.to_owned(), value)).chain(own).collect()
}

/// The values of a refusal by the state machine, under the names that the contract gives them.
fn values(refusal: &Refusal) -> Vec<(&'static str, String)> {
    match refusal {
        Refusal::CompareFailed { subject, expected, found } => {
            vec![("subject", subject.to_string()), ("expected", expected.to_string()), ("modify_index", found.to_string())]
        }
        Refusal::LockHeld { key, holder } => vec![("key", key.to_string()), ("holder", holder.to_string())],
        Refusal::LockDelay { key, remaining_ms } => vec![("key", key.to_string()), ("remaining_ms", remaining_ms.to_string())],
        Refusal::LockQueueFull { key, limit } => vec![("key", key.to_string()), ("limit", limit.to_string())],
        Refusal::LockSlotsDiffer { key, slots, asked } => {
            vec![("key", key.to_string()), ("slots", slots.to_string()), ("asked", asked.to_string())]
        }
        Refusal::StaleFence { key, token, current } => {
            vec![("key", key.to_string()), ("token", token.to_string()), ("current", current.to_string())]
        }
        Refusal::Absent { subject } => vec![("subject", subject.to_string()), ("modify_index", "0".to_owned())],
        Refusal::CheckNotPassing { check, status } => {
            vec![("check_id", check.to_string()), ("status", status.map_or("absent", state::Status::as_str).to_owned())]
        }
        Refusal::LockNotHeld { key, session } => vec![("key", key.to_string()), ("session", session.to_string())],
        Refusal::UnknownSession { session } => vec![("session", session.to_string())],
        Refusal::UnknownNode { node } => vec![("node", node.to_string())],
        Refusal::UnknownService { node, service_id } => vec![("node", node.to_string()), ("service_id", service_id.to_string())],
        Refusal::UnknownCheck { node, check_id } => vec![("node", node.to_string()), ("check_id", check_id.to_string())],
        Refusal::NodeConflict { name, id, holder_id, holder_name: _, holder_address: _ } => {
            vec![("node", name.to_string()), ("node_id", id.to_string()), ("other", holder_id.to_string())]
        }
        Refusal::Restore { why: _ } => Vec::new(),
        Refusal::Txn { failures: _ } => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;
    use prost_types::FileDescriptorSet;

    use super::*;

    /// Every reason; a new one does not compile until it is added here.
    fn reasons() -> Vec<Reason> {
        use Reason::*;
        let all = vec![
            InvalidArgument,
            InvalidFilter,
            KeyTooLong,
            ValueTooLarge,
            TxnTooLarge,
            TxnTooManyOperations,
            TxnFailed,
            PreconditionFailed,
            LockHeld,
            LockDelay,
            LockQueueFull,
            LockSlotsDiffer,
            StaleFence,
            CheckNotPassing,
            LockNotHeld,
            UnknownSession,
            UnknownDatacenter,
            DatacenterUnreachable,
            UnknownNode,
            UnknownService,
            UnknownCheck,
            CheckNotTtl,
            NodeConflict,
            Compacted,
            ForeignCursor,
            TooManyWatches,
            Overloaded,
            NoLeader,
            NotReady,
            TooStale,
            Deadline,
            PermissionDenied,
            NotImplemented,
            InvalidSnapshot,
            ScriptsDisabled,
            InvalidConfiguration,
            StorageFatal,
            Internal,
        ];
        for reason in &all {
            match reason {
                InvalidArgument | InvalidFilter | KeyTooLong | ValueTooLarge | TxnTooLarge | TxnTooManyOperations => {}
                LockQueueFull | LockSlotsDiffer | TxnFailed | PreconditionFailed | LockHeld | LockDelay | StaleFence | CheckNotPassing
                | LockNotHeld | UnknownSession | UnknownDatacenter => {}
                DatacenterUnreachable | UnknownNode | UnknownService | UnknownCheck | CheckNotTtl | NodeConflict | Compacted => {}
                ForeignCursor | TooManyWatches | Overloaded | NoLeader | NotReady | TooStale | Deadline => {}
                PermissionDenied | NotImplemented | InvalidSnapshot | ScriptsDisabled | InvalidConfiguration | StorageFatal | Internal => {}
            }
        }
        all
    }

    /// The gRPC code that the contract documents for each reason: the first word of its comment.
    fn documented() -> HashMap<String, String> {
        let set = FileDescriptorSet::decode(proto::FILE_DESCRIPTOR_SET).unwrap();
        let file = set.file.iter().find(|file| file.name() == "lictor/v1/error.proto").expect("the contract has an error file");
        let position = file.enum_type.iter().position(|kind| kind.name() == "ErrorReason").expect("reasons are an enum") as i32;
        let locations = &file.source_code_info.as_ref().expect("comments are kept").location;
        let values = file.enum_type[position as usize].value.iter().zip(0..);
        let comment = |at: i32| {
            let found = locations.iter().find(|location| location.path == [5, position, 2, at]);
            found.map(|location| location.leading_comments().trim().to_owned()).unwrap_or_default()
        };
        let code = |at| comment(at).split(['.', ',', ' ']).next().unwrap_or_default().to_owned();
        values.map(|(value, at)| (value.name().trim_start_matches("ERROR_REASON_").to_owned(), code(at))).collect()
    }

    fn name(code: Code) -> &'static str {
        match code {
            Code::InvalidArgument => "INVALID_ARGUMENT",
            Code::NotFound => "NOT_FOUND",
            Code::FailedPrecondition => "FAILED_PRECONDITION",
            Code::Aborted => "ABORTED",
            Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
            Code::OutOfRange => "OUT_OF_RANGE",
            Code::Unauthenticated => "UNAUTHENTICATED",
            Code::PermissionDenied => "PERMISSION_DENIED",
            Code::Unavailable => "UNAVAILABLE",
            Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
            Code::Unimplemented => "UNIMPLEMENTED",
            Code::Internal => "INTERNAL",
            other => panic!("{other:?} is not in the table"),
        }
    }

    #[test]
    fn every_reason_is_in_the_contract_with_the_code_that_it_is_told_with() {
        let documented = documented();
        assert_eq!(documented.get("TOO_STALE").map(String::as_str), Some("UNAVAILABLE"), "the comments are found");
        for reason in reasons() {
            let expected = documented.get(reason.as_str());
            assert_eq!(expected.map(String::as_str), Some(name(code(reason.kind()))), "{}", reason.as_str());
            assert!(ErrorReason::from_code(reason.as_str()).is_some());
        }
    }

    #[test]
    fn a_status_carries_reason_message_and_values() {
        let status = status(Error::new(Reason::KeyTooLong, "the key has 9 bytes").with("size", 9).with("limit", 7));
        let info = status.get_details_error_info().expect("a refusal has an ErrorInfo");
        assert_eq!((status.code(), status.message()), (Code::InvalidArgument, "the key has 9 bytes"));
        assert_eq!((info.reason.as_str(), info.domain.as_str()), ("KEY_TOO_LONG", "lictor.dev"));
        assert_eq!(info.metadata["limit"], "7");
    }

    #[test]
    fn a_failed_comparison_tells_what_was_found() {
        let refused = Refusal::CompareFailed { subject: "a".into(), expected: state::LogIndex(3), found: state::LogIndex(9) };
        let info = status(refused.into()).get_details_error_info().expect("a refusal has an ErrorInfo");
        assert_eq!((info.reason.as_str(), &*info.metadata["modify_index"]), ("PRECONDITION_FAILED", "9"));
    }

    #[test]
    fn a_refusal_inside_an_answer_is_the_same() {
        let refused = refusal(Error::new(Reason::TooManyWatches, "enough").with("limit", 3));
        assert_eq!(refused.reason(), ErrorReason::TooManyWatches);
        assert_eq!((refused.message.as_str(), &*refused.metadata["limit"]), ("enough", "3"));
    }
}
