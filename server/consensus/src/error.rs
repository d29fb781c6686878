//! Why a proposal or a read failed, by what the caller can do about it.

use std::sync::{Arc, OnceLock};

pub(crate) use net::chain;

/// The first thing that went wrong with the disk, in its own words: what the library reports later
/// wraps it many times over.
#[derive(Clone, Debug, Default)]
pub(crate) struct RootCause(Arc<OnceLock<Arc<str>>>);

impl RootCause {
    /// Takes note of a failure; only the first counts.
    pub(crate) fn note(&self, error: &dyn std::error::Error) {
        self.0.get_or_init(|| chain(error).into());
    }

    /// The failure behind `error`: the first that was noted, else `error` itself.
    pub(crate) fn behind(&self, error: &dyn std::error::Error) -> Error {
        Error::Fatal(self.0.get().cloned().unwrap_or_else(|| chain(error).into()))
    }
}

/// Nothing was changed unless the variant says otherwise.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// No leader is known, or it has lost its quorum. Retry later.
    #[error("no leader is elected; retry in a moment, and look at the servers' logs if it persists")]
    NoLeader,
    /// The state has not caught up with what was acknowledged before. Retry in a moment.
    #[error("this server has not caught up yet: applied {applied} of {target}; retry in a moment or ask another server")]
    NotReady {
        /// The last command applied.
        applied: u64,
        /// The last command known to be committed.
        target: u64,
    },
    /// The answer did not come in time. **A proposal may or may not be applied.**
    #[error("no answer from the quorum within {0:?}; a write may or may not have been applied: read before writing again")]
    Timeout(std::time::Duration),
    /// The leader changed while the proposal was under way. **It may or may not be applied.**
    #[error("the leader changed while the write was under way; it may or may not have been applied: read before writing again")]
    Interrupted,
    /// A change of the quorum was refused. Nothing was changed.
    #[error("the quorum can't be changed so: {0}")]
    Quorum(Arc<str>),
    /// A snapshot was refused. Nothing was changed.
    #[error("{0}")]
    Snapshot(Arc<str>),
    /// No leader was found to tell whether a restore is done. **The state is wholly the snapshot's, or wholly as it was.**
    #[error(
        "the leader was lost while the snapshot was put in its place, and no other could be asked ({0}); it may or may not have been \
         restored, but not in part: as soon as there is a leader look at what is there, or restore it again, which does no harm"
    )]
    RestoreUnknown(Arc<str>),
    /// Too many proposals are under way. Nothing was proposed.
    #[error("too many writes are in flight ({0}); retry with a pause")]
    Overloaded(usize),
    /// The log or the state can't be written any more. The process must end. **A proposal may or
    /// may not be applied.**
    #[error("storage failed, this server stops: {0}")]
    Fatal(Arc<str>),
}
