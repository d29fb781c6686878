//! What can go wrong, and what to do about it.

use std::collections::HashMap;
use std::error::Error as StdError;
use std::fmt;

use proto::v1::ErrorReason;
use tonic::{Code, ConnectError, Status};
use tonic_types::StatusExt;

use crate::lease::Lost;

/// What a server's transport says when the deadline of a call has passed.
const TIMEOUT_EXPIRED: &str = "Timeout expired";

/// Why a call failed.
///
/// ```no_run
/// # async fn run(client: lictor_client::Client) -> Result<(), lictor_client::Error> {
/// use lictor_client::{ErrorReason, PutOptions};
///
/// let created = client.kv().put_with("leader", "me", PutOptions::new().if_absent()).await;
/// match created {
///     Err(error) if error.reason() == Some(ErrorReason::PreconditionFailed) => println!("somebody was faster"),
///     other => drop(other?),
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server refused. Nothing was changed unless the reason says otherwise.
    #[error("{0}")]
    Refused(Box<Refused>),
    /// No server could be reached; the request was not sent.
    #[error("cannot reach `{address}`: {problem}; is an agent running there?")]
    Unreachable {
        /// Where it was tried last.
        address: String,
        /// What happened.
        problem: String,
    },
    /// The connection broke, or ended, while the call was under way. **A write may or may not have
    /// been applied.**
    #[error("the connection was lost while the call was under way: {0}; a write may or may not have been applied")]
    Interrupted(String),
    /// The answer did not come within [`Options::request_timeout`](crate::Options). **A write may
    /// or may not have been applied.**
    #[error("no answer within {0:?}; a write may or may not have been applied: read before writing again")]
    TimedOut(std::time::Duration),
    /// An address that cannot be used.
    #[error("bad address `{address}`: {problem}")]
    InvalidEndpoint {
        /// The address.
        address: String,
        /// What is wrong with it.
        problem: String,
    },
    /// An option that cannot be sent, such as a token with a line break.
    #[error("bad option `{name}`: {problem}")]
    InvalidOption {
        /// Which one.
        name: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// The session or the lock by which something was to be done is lost. Nothing was sent.
    #[error("not held any more: {0}")]
    Lost(#[from] Lost),
    /// The server sent what the contract does not allow.
    #[error("the server broke the contract: {0}")]
    Contract(String),
}

/// A refusal by the server.
#[derive(Clone, Debug)]
pub struct Refused {
    /// The gRPC code.
    pub code: Code,
    /// The stable reason, where this version of the client knows it.
    pub reason: Option<ErrorReason>,
    /// The reason as it was written, such as `KEY_TOO_LONG`; empty if there was none.
    pub reason_code: String,
    /// What, why, and what to do.
    pub message: String,
    /// The values involved, by name.
    pub details: HashMap<String, String>,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.message.as_str(), self.reason_code.as_str()) {
            ("", "") => write!(f, "{}", self.code),
            (message, "") => write!(f, "{message} ({:?})", self.code),
            (message, reason) => write!(f, "{message} ({reason})"),
        }
    }
}

impl Error {
    /// The stable reason of a refusal.
    pub fn reason(&self) -> Option<ErrorReason> {
        self.refused()?.reason
    }

    /// What, why, and what to do; for people.
    pub fn message(&self) -> String {
        self.refused().map_or_else(|| self.to_string(), |refused| refused.message.clone())
    }

    /// A value of the refusal by its name, such as `limit`.
    pub fn detail(&self, name: &str) -> Option<&str> {
        self.refused()?.details.get(name).map(String::as_str)
    }

    /// The refusal, if it is one.
    pub fn refused(&self) -> Option<&Refused> {
        match self {
            Error::Refused(refused) => Some(refused),
            _ => None,
        }
    }

    /// The gRPC code that fits.
    pub fn code(&self) -> Code {
        match self {
            Error::Refused(refused) => refused.code,
            Error::Unreachable { .. } | Error::Interrupted(_) => Code::Unavailable,
            Error::TimedOut(_) => Code::DeadlineExceeded,
            Error::InvalidEndpoint { .. } | Error::InvalidOption { .. } => Code::InvalidArgument,
            Error::Lost(_) => Code::FailedPrecondition,
            Error::Contract(_) => Code::Internal,
        }
    }

    /// Whether the same may succeed a little later without anybody changing anything. Says nothing
    /// about whether repeating a write does harm: see [`Error::outcome_unknown`].
    pub fn is_transient(&self) -> bool {
        match self {
            Error::Refused(refused) => match refused.reason {
                Some(ErrorReason::TooManyWatches) => false,
                _ => matches!(
                    refused.code,
                    Code::Unavailable | Code::ResourceExhausted | Code::Aborted | Code::DeadlineExceeded | Code::Cancelled | Code::Unknown
                ),
            },
            Error::Unreachable { .. } | Error::Interrupted(_) | Error::TimedOut(_) => true,
            Error::InvalidEndpoint { .. } | Error::InvalidOption { .. } | Error::Lost(_) | Error::Contract(_) => false,
        }
    }

    /// Whether a write that failed so may have been applied all the same.
    pub fn outcome_unknown(&self) -> bool {
        match self {
            Error::Refused(refused) => {
                let reasons = [ErrorReason::OutcomeUnknown, ErrorReason::Deadline, ErrorReason::StorageFatal];
                refused.reason.map_or(refused.code == Code::Unknown, |reason| reasons.contains(&reason))
            }
            Error::Interrupted(_) | Error::TimedOut(_) => true,
            _ => false,
        }
    }

    /// What a status means, from a server at `address`.
    pub(crate) fn from_status(status: &Status, address: &str, timeout: std::time::Duration) -> Self {
        let info = status.get_details_error_info().filter(|info| info.domain == proto::ERROR_DOMAIN);
        if let Some(info) = info {
            return Error::Refused(Box::new(Refused {
                code: status.code(),
                reason: ErrorReason::from_code(&info.reason),
                reason_code: info.reason,
                message: status.message().to_owned(),
                details: info.metadata,
            }));
        }
        if has_source::<ConnectError>(status) {
            return Error::Unreachable { address: address.to_owned(), problem: root_cause(status) };
        }
        // A server that gives up at the deadline of the call says so in these words only.
        let expired = status.code() == Code::Cancelled && status.message() == TIMEOUT_EXPIRED;
        if expired || has_source::<tonic::TimeoutExpired>(status) || status.code() == Code::DeadlineExceeded {
            return Error::TimedOut(timeout);
        }
        if has_source::<tonic::transport::Error>(status) || StdError::source(status).is_some() {
            return Error::Interrupted(root_cause(status));
        }
        let (code, message) = (status.code(), status.message().to_owned());
        Error::Refused(Box::new(Refused { code, reason: None, reason_code: String::new(), message, details: HashMap::new() }))
    }

    /// A refusal inside an answer.
    pub(crate) fn from_refusal(refusal: proto::v1::Refusal) -> Self {
        let proto::v1::Refusal { reason, message, metadata } = refusal;
        let reason = ErrorReason::try_from(reason).ok().filter(|reason| *reason != ErrorReason::Unspecified);
        let reason_code = reason.map(ErrorReason::code).unwrap_or_default().to_owned();
        Error::Refused(Box::new(Refused { code: code_of(reason), reason, reason_code, message, details: metadata }))
    }
}

/// The gRPC code of a reason that came without one; only the distinction that
/// [`Error::is_transient`] makes matters here.
fn code_of(reason: Option<ErrorReason>) -> Code {
    match reason {
        Some(ErrorReason::NotLeader | ErrorReason::NoLeader | ErrorReason::NotReady | ErrorReason::ShuttingDown) => Code::Unavailable,
        Some(ErrorReason::TooStale | ErrorReason::DatacenterUnreachable | ErrorReason::OutcomeUnknown) => Code::Unavailable,
        Some(ErrorReason::Overloaded | ErrorReason::SlowConsumer | ErrorReason::TooManyWatches) => Code::ResourceExhausted,
        Some(ErrorReason::PermissionDenied) => Code::PermissionDenied,
        Some(ErrorReason::Unauthenticated) => Code::Unauthenticated,
        Some(ErrorReason::NotImplemented) => Code::Unimplemented,
        Some(ErrorReason::Internal | ErrorReason::StorageFatal) => Code::Internal,
        Some(ErrorReason::UnknownDatacenter | ErrorReason::UnknownNode | ErrorReason::UnknownService) => Code::NotFound,
        Some(ErrorReason::InvalidArgument | ErrorReason::InvalidFilter | ErrorReason::KeyTooLong) => Code::InvalidArgument,
        _ => Code::FailedPrecondition,
    }
}

/// Whether an error of type `T` is behind `status`.
pub(crate) fn has_source<T: StdError + 'static>(status: &Status) -> bool {
    causes(status).any(|cause| cause.is::<T>())
}

fn causes(status: &Status) -> impl Iterator<Item = &(dyn StdError + 'static)> {
    std::iter::successors(StdError::source(status), |cause: &&(dyn StdError + 'static)| StdError::source(*cause))
}

/// The innermost cause: what an operator needs to read.
fn root_cause(status: &Status) -> String {
    causes(status).last().map_or_else(|| status.message().to_owned(), ToString::to_string)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tonic_types::{ErrorDetails, StatusExt};

    use super::*;

    fn refused(code: Code, reason: &str) -> Error {
        let metadata = HashMap::from([("limit".to_owned(), "7".to_owned())]);
        let details = ErrorDetails::with_error_info(reason, proto::ERROR_DOMAIN, metadata);
        let status = Status::with_error_details(code, "the key has 9 bytes, the limit is 7", details);
        Error::from_status(&status, "a:1", Duration::from_secs(1))
    }

    #[test]
    fn a_refusal_shows_its_reason_message_and_details() {
        let error = refused(Code::InvalidArgument, "KEY_TOO_LONG");
        assert_eq!(error.reason(), Some(ErrorReason::KeyTooLong));
        assert_eq!(error.detail("limit"), Some("7"));
        assert_eq!(error.code(), Code::InvalidArgument);
        assert_eq!(error.to_string(), "the key has 9 bytes, the limit is 7 (KEY_TOO_LONG)");
        assert!(!error.is_transient() && !error.outcome_unknown());
    }

    #[test]
    fn a_reason_of_a_newer_server_is_shown_as_it_is() {
        let error = refused(Code::Unavailable, "MOON_IN_THE_WAY");
        assert_eq!(error.reason(), None);
        assert_eq!(error.refused().unwrap().reason_code, "MOON_IN_THE_WAY");
        assert!(error.is_transient());
    }

    #[test]
    fn a_write_whose_fate_is_unknown_says_so() {
        assert!(refused(Code::DeadlineExceeded, "DEADLINE").outcome_unknown());
        assert!(refused(Code::Unavailable, "OUTCOME_UNKNOWN").outcome_unknown());
        assert!(!refused(Code::Unavailable, "NO_LEADER").outcome_unknown());
        assert!(Error::TimedOut(Duration::ZERO).outcome_unknown());
    }

    #[test]
    fn a_status_of_somebody_else_keeps_its_code() {
        let error = Error::from_status(&Status::unimplemented("no such method"), "a:1", Duration::ZERO);
        assert_eq!((error.code(), error.reason()), (Code::Unimplemented, None));
        assert_eq!(error.to_string(), "no such method (Unimplemented)");
    }

    #[test]
    fn a_deadline_that_the_server_kept_is_a_timeout() {
        let error = Error::from_status(&Status::cancelled("Timeout expired"), "a:1", Duration::from_secs(1));
        assert!(matches!(error, Error::TimedOut(after) if after == Duration::from_secs(1)));
    }

    #[test]
    fn a_full_house_of_watches_is_not_worth_a_retry() {
        assert!(!refused(Code::ResourceExhausted, "TOO_MANY_WATCHES").is_transient());
        assert!(refused(Code::ResourceExhausted, "OVERLOADED").is_transient());
    }
}
