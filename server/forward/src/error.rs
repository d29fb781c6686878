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
        /// Whether there was no other one that could have been asked.
        alone: bool,
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

    /// Whether another server, or the same one started anew, may answer what this one did not.
    pub fn is_worth_another_try(&self) -> bool {
        matches!(self, Error::Broken { .. } | Error::Silent { alone: false, .. })
    }

    /// The datacenter that did not answer.
    pub fn datacenter(&self) -> Option<&str> {
        match self {
            Error::UnknownDatacenter { name: datacenter, .. }
            | Error::NoneAlive { datacenter, .. }
            | Error::Unreachable { datacenter, .. }
            | Error::Broken { datacenter, .. }
            | Error::Silent { datacenter, .. }
            | Error::Late { datacenter, .. } => Some(datacenter),
            Error::NoServer | Error::Loop => None,
        }
    }

    /// What is told to who asked: the fate of a write too, unless it was a read.
    pub fn told(&self, reads: bool) -> String {
        let fate = if !reads && self.is_in_doubt() { "; a write may or may not have been applied: read before it is repeated" } else { "" };
        format!("{self}{fate}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_write_is_told_that_its_fate_is_unknown() {
        let silent = Error::Silent { datacenter: "dc2".into(), server: "10.0.0.1:8300".into(), alone: true };
        assert!(silent.told(true).contains("`dc2`") && !silent.told(true).contains("write"), "{}", silent.told(true));
        assert!(silent.told(false).ends_with("may or may not have been applied: read before it is repeated"));
        assert!(!Error::NoServer.told(false).contains("write"));
    }
}
