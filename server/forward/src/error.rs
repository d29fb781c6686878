//! Why a request was not carried, or not answered.

use std::time::Duration;

/// Why a request was not carried, or not answered.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No server of the own datacenter is known.
    #[error("no server is known to this agent yet; have it join a cluster with `-retry-join`, or look at its log")]
    NoServer,
    /// There is no such datacenter.
    #[error("no path to datacenter `{name}`; known are {known}")]
    UnknownDatacenter {
        /// Its name.
        name: String,
        /// Those that are known.
        known: String,
    },
    /// The datacenter is known, and all its servers are gone.
    #[error("no server of datacenter `{datacenter}` is alive: {fates}; start one of them, or mend the network between here and there")]
    NoneAlive {
        /// The datacenter.
        datacenter: String,
        /// What became of each.
        fates: String,
    },
    /// Servers are known, and none could be reached.
    #[error("no server of datacenter `{datacenter}` can be reached: {why}; see whether they run, and the network between here and there")]
    Unreachable {
        /// The datacenter.
        datacenter: String,
        /// What went wrong with each.
        why: String,
    },
    /// As many requests as may be are under way.
    #[error(
        "as many requests as may be, {limit} each, are under way to the servers of datacenter `{datacenter}` ({servers}); wait until some have ended, or ask another agent"
    )]
    Full {
        /// The datacenter.
        datacenter: String,
        /// Their addresses.
        servers: String,
        /// Most requests to each at a time.
        limit: usize,
    },
    /// The connection broke after the request was sent. **It may or may not have been carried out.**
    #[error("the connection to server {server} of datacenter `{datacenter}` broke before its answer came: {why}")]
    Broken {
        /// The datacenter.
        datacenter: String,
        /// Its address.
        server: String,
        /// What went wrong.
        why: String,
    },
    /// The server took the request and is silent since. **It may or may not have been carried out.**
    #[error("server {server} of datacenter `{datacenter}` is silent: its process is stopped, or the network is cut; look after it")]
    Silent {
        /// The datacenter.
        datacenter: String,
        /// Its address.
        server: String,
    },
    /// The server is there and did not answer in time. **It may or may not have been carried out.**
    #[error("server {server} of datacenter `{datacenter}` has not answered within {waited:?}; see its log, and try again")]
    Late {
        /// The datacenter.
        datacenter: String,
        /// Its address.
        server: String,
        /// How long was waited.
        waited: Duration,
    },
    /// It has been carried too often.
    #[error("the request goes round between servers; their views of the datacenters differ")]
    Loop,
}

impl Error {
    /// Whether the request may have been carried out.
    pub fn is_in_doubt(&self) -> bool {
        matches!(self, Error::Broken { .. } | Error::Silent { .. } | Error::Late { .. })
    }

    /// The stable code under which it is told.
    pub fn reason(&self, reads: bool) -> &'static str {
        match self {
            Error::UnknownDatacenter { .. } => "UNKNOWN_DATACENTER",
            Error::Full { .. } => "OVERLOADED",
            error if error.is_in_doubt() && !reads => "OUTCOME_UNKNOWN",
            _ => "DATACENTER_UNREACHABLE",
        }
    }

    /// The datacenter that did not answer.
    pub fn datacenter(&self) -> Option<&str> {
        match self {
            Error::UnknownDatacenter { name: datacenter, .. }
            | Error::NoneAlive { datacenter, .. }
            | Error::Unreachable { datacenter, .. }
            | Error::Full { datacenter, .. }
            | Error::Broken { datacenter, .. }
            | Error::Silent { datacenter, .. }
            | Error::Late { datacenter, .. } => Some(datacenter),
            Error::NoServer | Error::Loop => None,
        }
    }

    /// What is told to who asked for something of `datacenter`: where it was lost on the way there too, and
    /// the fate of a write, unless it was a read.
    pub fn told(&self, datacenter: Option<&str>, reads: bool) -> String {
        let on_the_way = match (datacenter, self.datacenter()) {
            (Some(asked), Some(lost)) if !asked.is_empty() && !asked.eq_ignore_ascii_case(lost) => {
                format!("; the request was on its way to datacenter `{asked}`")
            }
            _ => String::new(),
        };
        let fate = if !reads && self.is_in_doubt() { "; a write may or may not have been applied: read before it is repeated" } else { "" };
        format!("{self}{on_the_way}{fate}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_write_is_told_that_its_fate_is_unknown() {
        let silent = Error::Silent { datacenter: "dc2".into(), server: "10.0.0.1:8300".into() };
        let told = |reads| silent.told(Some("dc2"), reads);
        assert!(told(true).contains("`dc2`") && !told(true).contains("write"), "{}", told(true));
        assert!(told(false).ends_with("may or may not have been applied: read before it is repeated"));
        assert!(!Error::NoServer.told(None, false).contains("write"));
        assert_eq!([silent.reason(true), silent.reason(false)], ["DATACENTER_UNREACHABLE", "OUTCOME_UNKNOWN"]);
    }

    #[test]
    fn a_request_that_is_lost_on_its_way_says_where_it_went() {
        let late = Error::Late { datacenter: "dc1".into(), server: "10.0.0.1:8300".into(), waited: Duration::from_secs(20) };
        assert!(late.told(Some("dc2"), true).ends_with("the request was on its way to datacenter `dc2`"));
        assert!(!late.told(Some("dc1"), true).contains("on its way"));
    }
}
