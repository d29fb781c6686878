//! Error reasons as they are written on the wire: without the prefix that only Protocol Buffers
//! need.

use crate::v1::ErrorReason;

const PREFIX: &str = "ERROR_REASON_";

impl ErrorReason {
    /// The reason as `google.rpc.ErrorInfo.reason` holds it, such as `NOT_LEADER`.
    pub fn code(self) -> &'static str {
        let name = self.as_str_name();
        name.strip_prefix(PREFIX).unwrap_or(name)
    }

    /// The reason that is written as `code`, or `None` if this version does not know it.
    pub fn from_code(code: &str) -> Option<Self> {
        Self::from_str_name(&format!("{PREFIX}{code}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_the_bare_name_and_is_read_back() {
        assert_eq!(ErrorReason::NotLeader.code(), "NOT_LEADER");
        assert_eq!(ErrorReason::from_code("NOT_LEADER"), Some(ErrorReason::NotLeader));
        assert_eq!(ErrorReason::from_code("ERROR_REASON_NOT_LEADER"), None);
        assert_eq!(ErrorReason::from_code("not_leader"), None);
    }
}
