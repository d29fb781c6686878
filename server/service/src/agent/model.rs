//! What can be registered with the agent, and what it tells about it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};
use state::{CheckDefinition, NodeInput, Service, ServiceInput, Status, Str};

use crate::Identity;

/// How an agent is set up.
#[derive(Clone, Debug)]
pub struct AgentOptions {
    /// Who this agent is.
    pub identity: Identity,
    /// This node as the catalog is to show it: address, tagged addresses, meta.
    pub node: NodeInput,
    /// Where registrations outlive a restart; `None` keeps them in memory only.
    pub data_dir: Option<PathBuf>,
    /// Time between two full comparisons with the catalog in a cluster of up to 128 nodes; it grows
    /// with the cluster, and as much again is added at random.
    pub sync_interval: Duration,
    /// How long a change of a check's output alone waits before it is written to the catalog, give
    /// or take half of it; zero writes it at once.
    pub output_interval: Duration,
    /// Largest check output kept, in bytes.
    pub output_bytes_max: usize,
    /// Whether the outputs of checks are dropped: only their statuses are kept.
    pub discard_output: bool,
    /// Most meta pairs on a service.
    pub meta_pairs_max: usize,
    /// Whether checks may run programs.
    pub scripts: Scripts,
}

impl AgentOptions {
    /// The usual intervals and bounds, nothing on disk, no scripts.
    pub fn new(identity: Identity, node: NodeInput) -> Self {
        let limits = crate::Limits::default();
        AgentOptions {
            identity,
            node,
            data_dir: None,
            sync_interval: Duration::from_secs(60),
            output_interval: Duration::from_secs(300),
            output_bytes_max: limits.check_output_bytes_max,
            discard_output: false,
            meta_pairs_max: limits.meta_pairs_max,
            scripts: Scripts::Disabled,
        }
    }
}

/// Whether checks may run programs, and who may ask for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scripts {
    /// Never.
    #[default]
    Disabled,
    /// Only those of the configuration files.
    Local,
    /// Those registered over the network as well.
    Enabled,
}

/// Who registered something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Source {
    /// A program, over one of the faces. Outlives a restart.
    #[default]
    Api,
    /// The configuration files. Read again at each start.
    Config,
}

/// An instance to be registered, with its checks.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ServiceDefinition {
    /// The instance. Its id is the name when left empty.
    pub service: ServiceInput,
    /// Its checks; their `service_id` is filled in.
    pub checks: Vec<CheckRegistration>,
    /// The secret with which it is written to the catalog.
    pub token: Option<Arc<str>>,
}

impl ServiceDefinition {
    /// The id under which the instance is registered.
    pub fn id(&self) -> &Str {
        if self.service.id.is_empty() { &self.service.name } else { &self.service.id }
    }

    /// The ids under which the checks are registered, in their order: their own, else `service:` and
    /// the instance's id, with `:` and a number from 1 where there are several checks.
    pub fn check_ids(&self) -> Vec<Str> {
        let several = self.checks.len() > 1;
        let numbered = self.checks.iter().zip(1..);
        let id = |(check, number): (&CheckRegistration, usize)| match &*check.id {
            "" if several => format!("service:{}:{number}", self.id()).into(),
            "" => format!("service:{}", self.id()).into(),
            _ => check.id.clone(),
        };
        numbered.map(id).collect()
    }
}

/// A check to be registered.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CheckRegistration {
    /// Unique on this agent; may be empty, see [`ServiceDefinition::check_ids`]. For a check that is
    /// registered by itself, empty means the name.
    pub id: Str,
    /// A name for people. May be empty for a check that comes with an instance.
    pub name: Str,
    /// Free text.
    pub notes: Str,
    /// The instance it belongs to, by id; empty for the node itself.
    pub service_id: Str,
    /// The status until the first result; `None` keeps what an earlier registration has reached, else
    /// it is critical.
    pub status: Option<Status>,
    /// How it is run.
    pub definition: CheckDefinition,
    /// The secret with which it is written to the catalog.
    pub token: Option<Arc<str>>,
}

/// An instance that is registered here.
#[derive(Clone, Debug, PartialEq)]
pub struct LocalService {
    /// The instance. Its indexes are zero: they belong to the catalog.
    pub row: Arc<Service>,
    /// The secret with which it is written to the catalog.
    pub token: Option<Arc<str>>,
    /// Who registered it.
    pub source: Source,
}

impl LocalService {
    /// A short text that differs whenever anything that can be seen of the instance differs, in
    /// hexadecimal digits. Equal on every agent and in every run of it.
    pub fn content_hash(&self) -> String {
        let row = &*self.row;
        let mut hash = Fingerprint::default();
        hash.add(&[&row.id, &row.name, &row.address, &row.socket_path, &row.kind]);
        hash.add(&row.tags);
        hash.number(row.port).number(row.weights.passing).number(row.weights.warning).number(row.enable_tag_override.into());
        for (key, value) in &row.meta {
            hash.add(&[key, value]);
        }
        for (tag, address) in &row.tagged_addresses {
            hash.add(&[tag, &address.address]).number(address.port);
        }
        hash.finish()
    }
}

/// A digest of texts and numbers in which no two sequences look alike.
#[derive(Default)]
struct Fingerprint(Sha256);

impl Fingerprint {
    /// Adds a list: its length, then each text with its own.
    fn add<T: AsRef<str>>(&mut self, texts: &[T]) -> &mut Self {
        self.0.update((texts.len() as u64).to_le_bytes());
        for text in texts {
            self.0.update((text.as_ref().len() as u64).to_le_bytes());
            self.0.update(text.as_ref());
        }
        self
    }

    fn number(&mut self, number: u32) -> &mut Self {
        self.0.update(number.to_le_bytes());
        self
    }

    fn finish(self) -> String {
        self.0.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }
}
