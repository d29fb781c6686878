//! Why a request was refused: a stable reason, what, why and what to do; the same on all faces.

use std::borrow::Cow;

use consensus::Error as ConsensusError;
use state::Refusal;

/// What kind of failure it is: the faces hold one table each from this to their status codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The request is malformed, whatever the state.
    InvalidArgument,
    /// What is named does not exist.
    NotFound,
    /// The state does not allow it now; reading again may.
    FailedPrecondition,
    /// Something else holds what is asked for.
    Conflict,
    /// Larger than a bound allows.
    TooLarge,
    /// Too much is asked for at once.
    Overloaded,
    /// A position in the history that is not kept any more, or never was.
    OutOfRange,
    /// The caller is not known.
    Unauthenticated,
    /// The caller may not.
    PermissionDenied,
    /// No answer can be given right now.
    Unavailable,
    /// The time was up; a write may have been applied.
    DeadlineExceeded,
    /// Not part of this version.
    Unimplemented,
    /// A defect or a broken disk.
    Internal,
}

/// A stable code for programs. The names are those of `ErrorReason` in `error.proto`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "each reason is documented once, in error.proto")]
pub enum Reason {
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
    LockNotHeld,
    LockQueueFull,
    LockSlotsDiffer,
    StaleFence,
    CheckNotPassing,
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
}

impl Reason {
    /// The code as it appears on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::InvalidArgument => "INVALID_ARGUMENT",
            Reason::InvalidFilter => "INVALID_FILTER",
            Reason::KeyTooLong => "KEY_TOO_LONG",
            Reason::ValueTooLarge => "VALUE_TOO_LARGE",
            Reason::TxnTooLarge => "TXN_TOO_LARGE",
            Reason::TxnTooManyOperations => "TXN_TOO_MANY_OPERATIONS",
            Reason::TxnFailed => "TXN_FAILED",
            Reason::PreconditionFailed => "PRECONDITION_FAILED",
            Reason::LockHeld => "LOCK_HELD",
            Reason::LockDelay => "LOCK_DELAY",
            Reason::LockQueueFull => "LOCK_QUEUE_FULL",
            Reason::LockSlotsDiffer => "LOCK_SLOTS_DIFFER",
            Reason::StaleFence => "STALE_FENCE",
            Reason::CheckNotPassing => "CHECK_NOT_PASSING",
            Reason::LockNotHeld => "LOCK_NOT_HELD",
            Reason::UnknownSession => "UNKNOWN_SESSION",
            Reason::UnknownDatacenter => "UNKNOWN_DATACENTER",
            Reason::DatacenterUnreachable => "DATACENTER_UNREACHABLE",
            Reason::UnknownNode => "UNKNOWN_NODE",
            Reason::UnknownService => "UNKNOWN_SERVICE",
            Reason::UnknownCheck => "UNKNOWN_CHECK",
            Reason::CheckNotTtl => "CHECK_NOT_TTL",
            Reason::NodeConflict => "NODE_ID_CONFLICT",
            Reason::Compacted => "COMPACTED",
            Reason::ForeignCursor => "FOREIGN_CURSOR",
            Reason::TooManyWatches => "TOO_MANY_WATCHES",
            Reason::Overloaded => "OVERLOADED",
            Reason::NoLeader => "NO_LEADER",
            Reason::NotReady => "NOT_READY",
            Reason::TooStale => "TOO_STALE",
            Reason::Deadline => "DEADLINE",
            Reason::PermissionDenied => "PERMISSION_DENIED",
            Reason::NotImplemented => "NOT_IMPLEMENTED",
            Reason::InvalidSnapshot => "INVALID_SNAPSHOT",
            Reason::ScriptsDisabled => "SCRIPTS_DISABLED",
            Reason::InvalidConfiguration => "INVALID_CONFIGURATION",
            Reason::StorageFatal => "STORAGE_FATAL",
            Reason::Internal => "INTERNAL",
        }
    }

    /// The kind of failure that the reason belongs to.
    pub fn kind(self) -> Kind {
        match self {
            Reason::InvalidArgument | Reason::InvalidFilter | Reason::CheckNotTtl | Reason::InvalidConfiguration => Kind::InvalidArgument,
            Reason::InvalidSnapshot => Kind::InvalidArgument,
            Reason::KeyTooLong | Reason::ValueTooLarge | Reason::TxnTooLarge | Reason::TxnTooManyOperations => Kind::TooLarge,
            Reason::PreconditionFailed | Reason::TxnFailed | Reason::LockNotHeld | Reason::UnknownSession => Kind::FailedPrecondition,
            Reason::ScriptsDisabled | Reason::StaleFence | Reason::CheckNotPassing | Reason::LockSlotsDiffer => Kind::FailedPrecondition,
            Reason::LockHeld | Reason::LockDelay | Reason::NodeConflict => Kind::Conflict,
            Reason::UnknownDatacenter | Reason::UnknownNode | Reason::UnknownService | Reason::UnknownCheck => Kind::NotFound,
            Reason::Compacted | Reason::ForeignCursor => Kind::OutOfRange,
            Reason::TooManyWatches | Reason::Overloaded | Reason::LockQueueFull => Kind::Overloaded,
            Reason::NoLeader | Reason::NotReady | Reason::TooStale | Reason::DatacenterUnreachable => Kind::Unavailable,
            Reason::Deadline => Kind::DeadlineExceeded,
            Reason::PermissionDenied => Kind::PermissionDenied,
            Reason::NotImplemented => Kind::Unimplemented,
            Reason::StorageFatal | Reason::Internal => Kind::Internal,
        }
    }
}

/// A refusal. Nothing was changed unless the reason is `DEADLINE` or `STORAGE_FATAL`.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// The stable code.
    pub reason: Reason,
    /// What, why and what to do.
    pub message: String,
    /// The values involved, by name, for programs.
    pub details: Vec<(&'static str, String)>,
    /// The refusal of the state machine behind it, for faces that print it in their own words.
    pub refusal: Option<Box<Refusal>>,
}

impl Error {
    /// An error with a reason and a text.
    pub fn new(reason: Reason, message: impl Into<Cow<'static, str>>) -> Self {
        Error { reason, message: message.into().into_owned(), details: Vec::new(), refusal: None }
    }

    /// A malformed request.
    pub fn invalid(message: impl Into<Cow<'static, str>>) -> Self {
        Error::new(Reason::InvalidArgument, message)
    }

    /// The same with a named value.
    pub fn with(mut self, name: &'static str, value: impl ToString) -> Self {
        self.details.push((name, value.to_string()));
        self
    }

    /// What kind of failure it is.
    pub fn kind(&self) -> Kind {
        self.reason.kind()
    }

    pub(crate) fn unknown_datacenter(name: &str, known: &str) -> Self {
        let message = format!("no path to datacenter `{name}`: this server belongs to `{known}` and knows no other");
        Error::new(Reason::UnknownDatacenter, message).with("datacenter", name)
    }
}

impl From<ConsensusError> for Error {
    fn from(error: ConsensusError) -> Self {
        let reason = match &error {
            ConsensusError::NoLeader => Reason::NoLeader,
            ConsensusError::NotReady { .. } => Reason::NotReady,
            ConsensusError::Timeout(_) | ConsensusError::Interrupted | ConsensusError::RestoreUnknown(_) => Reason::Deadline,
            ConsensusError::Quorum(_) => Reason::PreconditionFailed,
            ConsensusError::Snapshot(_) => Reason::InvalidSnapshot,
            ConsensusError::Overloaded(_) => Reason::Overloaded,
            ConsensusError::Fatal(_) => Reason::StorageFatal,
        };
        Error::new(reason, error.to_string())
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        let reason = match &refusal {
            Refusal::CompareFailed { .. } => Reason::PreconditionFailed,
            Refusal::LockHeld { .. } => Reason::LockHeld,
            Refusal::LockDelay { .. } => Reason::LockDelay,
            Refusal::LockQueueFull { .. } => Reason::LockQueueFull,
            Refusal::LockSlotsDiffer { .. } => Reason::LockSlotsDiffer,
            Refusal::StaleFence { .. } => Reason::StaleFence,
            Refusal::Absent { .. } => Reason::PreconditionFailed,
            Refusal::CheckNotPassing { .. } => Reason::CheckNotPassing,
            Refusal::LockNotHeld { .. } => Reason::LockNotHeld,
            Refusal::UnknownSession { .. } => Reason::UnknownSession,
            Refusal::UnknownNode { .. } => Reason::UnknownNode,
            Refusal::UnknownService { .. } => Reason::UnknownService,
            Refusal::UnknownCheck { .. } => Reason::UnknownCheck,
            Refusal::NodeConflict { .. } => Reason::NodeConflict,
            Refusal::Restore { .. } => Reason::InvalidSnapshot,
            Refusal::Txn { .. } => Reason::TxnFailed,
        };
        let mut error = Error::new(reason, refusal.to_string());
        error.refusal = Some(Box::new(refusal));
        error
    }
}
