//! A cluster of real processes, each on an address of its own at the usual ports.

use harness::{Node, PATIENCE, Setup, eventually};

/// Servers and agents without a log.
pub(crate) struct Fleet {
    pub(crate) servers: Vec<Node>,
    pub(crate) clients: Vec<Node>,
}

/// A server of `datacenter` that expects `expect` of them and joins by `others`.
pub(crate) fn server_of(datacenter: &str, n: usize, expect: usize, others: &[String]) -> Setup {
    let setup = agent(datacenter, &format!("{datacenter}-server-{n}"), others);
    setup.flag("-server").flag(format!("-bootstrap-expect={expect}")).and("-server-port=8300").and("-serf-wan-port=8302")
}

/// An agent without a log.
pub(crate) fn client_of(datacenter: &str, n: usize, others: &[String]) -> Setup {
    agent(datacenter, &format!("{datacenter}-client-{n}"), others)
}

fn agent(datacenter: &str, name: &str, others: &[String]) -> Setup {
    let setup = Setup::bare().flag(format!("-node={name}")).flag(format!("-datacenter={datacenter}"));
    let data = setup.home().join("data");
    let mut setup = setup.flag(format!("-data-dir={}", data.display())).and("-serf-lan-port=8301");
    for other in others {
        setup = setup.flag(format!("-retry-join={other}:8301"));
    }
    setup
}

/// The address of the leader that `node` knows of; empty without one.
pub(crate) fn leader(node: &Node) -> String {
    node.get("/v1/status/leader").text().trim_matches('"').to_owned()
}

impl Fleet {
    /// Starts all of them at the same moment, and waits until each is ready.
    pub(crate) fn start(datacenter: &str, servers: usize, clients: usize) -> Fleet {
        Fleet::with(datacenter, servers, clients, |setup| setup)
    }

    /// As [`Fleet::start`], with each server set up as `adjust` says.
    pub(crate) fn with(datacenter: &str, servers: usize, clients: usize, adjust: impl Fn(Setup) -> Setup) -> Fleet {
        // Each is told of all servers, itself among them: as one configuration for all has it.
        let bare: Vec<Setup> = (0..servers).map(|n| adjust(server_of(datacenter, n, servers, &[]))).collect();
        let addresses: Vec<String> = bare.iter().map(|setup| setup.address().to_string()).collect();
        let join = |setup: Setup| addresses.iter().fold(setup, |setup, address| setup.flag(format!("-retry-join={address}:8301")));
        let mut fleet = Fleet {
            servers: bare.into_iter().map(|setup| join(setup).spawn()).collect(),
            clients: (0..clients).map(|n| client_of(datacenter, n, &addresses).spawn()).collect(),
        };
        for node in fleet.servers.iter_mut().chain(&mut fleet.clients) {
            node.await_ready();
        }
        fleet
    }

    /// Everybody, servers first.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.servers.iter().chain(&self.clients)
    }

    /// Where among the servers the leader is, as the first one of them that answers knows.
    pub(crate) fn leading(&self) -> usize {
        eventually!(
            PATIENCE,
            self.servers
                .iter()
                .find_map(|asked| self.servers.iter().position(|node| leader(asked) == format!("{}:8300", node.setup().address()))),
            "a server leads"
        )
    }

    /// Makes this datacenter and another one known to each other.
    pub(crate) fn meet(&self, other: &Fleet) {
        let address = other.servers[0].setup().address();
        self.servers[0].cli(&["join", "-wan", &format!("{address}:8302")]).success();
    }

    /// Where the servers are.
    pub(crate) fn addresses(&self) -> Vec<String> {
        self.servers.iter().map(|node| node.setup().address().to_string()).collect()
    }
}
