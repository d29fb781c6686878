//! From the service's refusals to status codes and texts.
//!
//! One table: most of what Consul's servers refuse is a 500 with a text, whatever its nature, and
//! clients know those texts. Where the service words a refusal differently, the words that clients
//! know are printed.

use http::StatusCode;
use service::{Error, Reason};
use state::Refusal;

/// A request that was refused, as it is told over HTTP.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) status: StatusCode,
    pub(crate) text: String,
    /// The service's reason, when the service refused.
    pub(crate) reason: Option<Reason>,
    /// The methods that would have been allowed.
    pub(crate) allow: Option<String>,
    /// The values involved, by name, for programs.
    pub(crate) details: Vec<(&'static str, String)>,
}

/// The usual result of a handler.
pub(crate) type Outcome<T> = Result<T, Fault>;

impl Fault {
    pub(crate) fn new(status: StatusCode, text: impl Into<String>) -> Self {
        Fault { status, text: text.into(), reason: None, allow: None, details: Vec::new() }
    }

    /// The request itself is malformed.
    pub(crate) fn bad(text: impl Into<String>) -> Self {
        Fault::new(StatusCode::BAD_REQUEST, text)
    }

    /// What is named does not exist.
    pub(crate) fn missing(text: impl Into<String>) -> Self {
        Fault::new(StatusCode::NOT_FOUND, text)
    }

    /// Refused by a rule, with the code that clients know for it.
    pub(crate) fn server(text: impl Into<String>) -> Self {
        Fault::new(StatusCode::INTERNAL_SERVER_ERROR, text)
    }

    /// Exists elsewhere, not here.
    pub(crate) fn unsupported(text: impl Into<String>) -> Self {
        Fault::new(StatusCode::NOT_IMPLEMENTED, text)
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        let (status, text) = translate(&error);
        Fault { status, text, reason: Some(error.reason), allow: None, details: error.details }
    }
}

/// The agent's own endpoints answer a malformed request and an unknown id more precisely than those
/// of the servers.
pub(crate) fn local(error: Error) -> Fault {
    let mut fault = Fault::from(error);
    match fault.reason {
        Some(Reason::InvalidArgument) => fault.status = StatusCode::BAD_REQUEST,
        Some(Reason::UnknownService | Reason::UnknownCheck) => fault.status = StatusCode::NOT_FOUND,
        _ => {}
    }
    fault
}

fn translate(error: &Error) -> (StatusCode, String) {
    use StatusCode as Code;
    let own = || capitalized(&error.message);
    match error.reason {
        Reason::KeyTooLong | Reason::ValueTooLarge | Reason::TxnTooLarge | Reason::TxnTooManyOperations => (Code::PAYLOAD_TOO_LARGE, own()),
        Reason::PermissionDenied => (Code::FORBIDDEN, format!("Permission denied: {}", error.message)),
        Reason::Overloaded | Reason::TooManyWatches => (Code::TOO_MANY_REQUESTS, format!("rate limit exceeded: {}", error.message)),
        Reason::NotImplemented => (Code::NOT_IMPLEMENTED, own()),
        Reason::InvalidFilter => (Code::INTERNAL_SERVER_ERROR, format!("Failed to create boolean expression evaluator: {}", error.message)),
        Reason::UnknownDatacenter => (Code::INTERNAL_SERVER_ERROR, "No path to datacenter".into()),
        Reason::NoLeader => (Code::INTERNAL_SERVER_ERROR, "No cluster leader".into()),
        _ => (Code::INTERNAL_SERVER_ERROR, error.refusal.as_deref().and_then(known).unwrap_or_else(own)),
    }
}

/// The words that clients know for a refusal of the state machine, where there are any.
fn known(refusal: &Refusal) -> Option<String> {
    match refusal {
        Refusal::UnknownSession { session } => Some(format!("raft apply failed: invalid session \"{session}\"")),
        Refusal::CheckNotPassing { check, status: None } => Some(format!("Missing check '{check}' registration")),
        Refusal::CheckNotPassing { check, status: Some(_) } => Some(format!("Check '{check}' is in critical state")),
        Refusal::UnknownNode { .. } => Some("Missing node registration".into()),
        Refusal::UnknownService { .. } => Some("Missing service registration".into()),
        _ => None,
    }
}

/// Consul's texts begin with a capital letter.
fn capitalized(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_refusals_keep_their_words_and_codes() {
        let told = |error: Error| {
            let fault = Fault::from(error);
            (fault.status.as_u16(), fault.text)
        };
        assert_eq!(told(Error::new(Reason::NoLeader, "x")), (500, "No cluster leader".into()));
        assert_eq!(told(Error::new(Reason::UnknownDatacenter, "x")), (500, "No path to datacenter".into()));
        assert_eq!(told(Error::invalid("must provide node")), (500, "Must provide node".into()));
        assert_eq!(told(Error::new(Reason::ValueTooLarge, "big")), (413, "Big".into()));
        assert_eq!(told(Error::new(Reason::PermissionDenied, "no")), (403, "Permission denied: no".into()));
        assert_eq!(told(Refusal::UnknownNode { node: "n".into() }.into()), (500, "Missing node registration".into()));
        assert_eq!(local(Error::invalid("missing check name")).status, StatusCode::BAD_REQUEST);
    }
}
