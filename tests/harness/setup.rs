//! How a node is to be started.

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tempfile::TempDir;

use crate::addresses::{Addresses, own_address};
use crate::binary::binary;
use crate::node::Node;

/// How a node is started; [`Setup::start`] does it.
#[derive(Clone, Debug)]
pub struct Setup {
    pub(crate) program: PathBuf,
    arguments: Vec<OsString>,
    last: Vec<OsString>,
    pub(crate) environment: Vec<(OsString, OsString)>,
    pub(crate) home: Arc<TempDir>,
    pub(crate) listen: Listen,
    data_dir: Option<PathBuf>,
}

/// Where the node is told to listen.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Listen {
    /// On an address of its own, at ports that the system chooses.
    Own(IpAddr),
    /// Where it listened before.
    Again(Addresses),
    /// Wherever it likes.
    Default,
}

impl Setup {
    /// One server on throw-away storage.
    pub fn dev() -> Self {
        Setup::bare().flag("-dev")
    }

    /// One durable server, its data in [`Setup::data_dir`].
    pub fn durable() -> Self {
        let setup = Setup::bare();
        let data_dir = setup.home.path().join("data");
        setup.data_in(data_dir)
    }

    /// An agent without any flag but those for the network.
    pub fn bare() -> Self {
        let home = Arc::new(tempfile::Builder::new().prefix("lictor-test-").tempdir().unwrap());
        let listen = Listen::Own(own_address());
        Setup { program: binary().into(), arguments: Vec::new(), last: Vec::new(), environment: Vec::new(), home, listen, data_dir: None }
    }

    /// A durable server with its data in `data_dir`.
    pub fn data_in(mut self, data_dir: impl Into<PathBuf>) -> Self {
        let data_dir = data_dir.into();
        let mut flag = OsString::from("-data-dir=");
        flag.push(&data_dir);
        self.data_dir = Some(data_dir);
        self.flag("-server").flag("-bootstrap-expect=1").flag(flag)
    }

    /// Adds a flag.
    pub fn flag(mut self, flag: impl Into<OsString>) -> Self {
        self.arguments.push(flag.into());
        self
    }

    /// Adds a flag after those for the network, over which it counts.
    pub fn and(mut self, flag: impl Into<OsString>) -> Self {
        self.last.push(flag.into());
        self
    }

    /// Adds a fragment of configuration.
    pub fn config(self, hcl: &str) -> Self {
        self.flag("-hcl").flag(hcl)
    }

    /// Sets a variable of the environment.
    pub fn env(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Runs another program in place of the binary under test.
    pub fn program(mut self, path: impl Into<PathBuf>) -> Self {
        self.program = path.into();
        self
    }

    /// Leaves addresses and ports to the agent: only sensible when [isolated](crate::isolated).
    pub fn default_ports(mut self) -> Self {
        self.listen = Listen::Default;
        self
    }

    /// The address that it listens on.
    pub fn address(&self) -> IpAddr {
        match self.listen {
            Listen::Own(address) => address,
            Listen::Again(addresses) => addresses.http.ip(),
            Listen::Default => panic!("the setup leaves its address to the agent"),
        }
    }

    /// Where the data of a durable server lies.
    pub fn data_dir(&self) -> &Path {
        self.data_dir.as_deref().expect("the setup is durable")
    }

    /// A directory that goes away with the last of setup and node.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// Starts the node and waits until it is ready; panics with its log if it does not get there.
    pub fn start(&self) -> Node {
        Node::start(self.clone())
    }

    /// Starts the node without waiting for anything.
    pub fn spawn(&self) -> Node {
        Node::spawn(self.clone())
    }

    pub(crate) fn command_line(&self) -> Vec<OsString> {
        let mut line: Vec<OsString> = vec!["agent".into()];
        line.extend(self.arguments.iter().cloned());
        match self.listen {
            Listen::Own(address) => {
                line.extend([format!("-client={address}"), format!("-bind={address}")].map(Into::into));
                line.extend(["-http-port=0", "-grpc-port=0", "-dns-port=0"].map(Into::into));
                line.extend(["-server-port=0", "-serf-lan-port=0", "-serf-wan-port=0"].map(Into::into));
            }
            Listen::Again(Addresses { http, grpc, dns }) => {
                line.extend([format!("-client={}", http.ip()), format!("-bind={}", http.ip())].map(Into::into));
                let ports =
                    [format!("-http-port={}", http.port()), format!("-grpc-port={}", grpc.port()), format!("-dns-port={}", dns.port())];
                line.extend(ports.map(Into::into));
                line.extend(["-server-port=0", "-serf-lan-port=0", "-serf-wan-port=0"].map(Into::into));
            }
            Listen::Default => {}
        }
        line.extend(self.last.iter().cloned());
        line
    }
}
