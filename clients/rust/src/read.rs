//! What every read may ask for, and what every answer tells about itself.

use std::time::Duration;

use proto::v1;
pub use proto::v1::Consistency;

use crate::error::Error;

/// What a read may ask for. The default is: the datacenter of the asked agent, linearizable.
///
/// ```
/// use lictor_client::ReadOptions;
///
/// let recent_enough = ReadOptions::stale().at_least(42);
/// let elsewhere = ReadOptions::default().datacenter("dc2");
/// # let _ = (recent_enough, elsewhere);
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ReadOptions {
    datacenter: String,
    consistency: Consistency,
    min_revision: u64,
    max_staleness: Option<Duration>,
}

impl ReadOptions {
    /// Contains every write that was acknowledged before the request was sent.
    pub fn linearizable() -> Self {
        ReadOptions { consistency: Consistency::Linearizable, ..Self::default() }
    }

    /// As linearizable while the servers' clocks run at nearly the same rate; costs no quorum round.
    pub fn leased() -> Self {
        ReadOptions { consistency: Consistency::Leased, ..Self::default() }
    }

    /// What the asked server has, whatever its age.
    pub fn stale() -> Self {
        ReadOptions { consistency: Consistency::Stale, ..Self::default() }
    }

    /// Asks another datacenter.
    pub fn datacenter(mut self, name: impl Into<String>) -> Self {
        self.datacenter = name.into();
        self
    }

    /// The datacenter that is asked; empty is that of the agent.
    pub fn asked_datacenter(&self) -> &str {
        &self.datacenter
    }

    /// Waits until the answer reflects at least this revision.
    pub fn at_least(mut self, revision: u64) -> Self {
        self.min_revision = revision;
        self
    }

    /// Refuses a stale answer that may be older than this.
    pub fn no_older_than(mut self, age: Duration) -> Self {
        self.max_staleness = Some(age);
        self
    }

    pub(crate) fn wire(&self) -> Option<v1::ReadOptions> {
        if *self == Self::default() {
            return None;
        }
        Some(v1::ReadOptions {
            datacenter: self.datacenter.clone(),
            consistency: self.consistency.into(),
            min_revision: self.min_revision,
            max_staleness: self.max_staleness.and_then(|age| age.try_into().ok()),
        })
    }
}

/// How to write to `datacenter`; empty is that of the asked agent.
pub(crate) fn write_options(datacenter: &str) -> Option<v1::WriteOptions> {
    (!datacenter.is_empty()).then(|| v1::WriteOptions { datacenter: datacenter.to_owned() })
}

/// What was asked for, and where the answer stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer<T> {
    /// What was asked for.
    pub value: T,
    /// Revision, datacenter, leader known, staleness.
    pub meta: v1::ResponseMeta,
}

impl<T> Answer<T> {
    pub(crate) fn new(value: T, meta: Option<v1::ResponseMeta>) -> Result<Self, Error> {
        let meta = meta.ok_or_else(|| Error::Contract("an answer came without its metadata".into()))?;
        Ok(Answer { value, meta })
    }

    /// Revision of the last change to what was read, or of the write.
    pub fn revision(&self) -> u64 {
        self.meta.revision
    }
}
