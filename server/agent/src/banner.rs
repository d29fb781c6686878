//! What the agent prints once it is ready. People read it; so do programs, which wait for the first
//! line and take the addresses from those after it.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::config::Config;

/// The first line, printed when everything that follows is true.
pub const READY: &str = "==> Lictor agent running!";

/// Where the faces really listen: the system has chosen the ports that were given as 0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listening {
    /// HTTP API.
    pub http: Vec<SocketAddr>,
    /// gRPC API.
    pub grpc: Vec<SocketAddr>,
    /// DNS.
    pub dns: Vec<SocketAddr>,
    /// The servers' own protocol.
    pub server: Option<SocketAddr>,
    /// Gossip of the datacenter.
    pub gossip: Option<SocketAddr>,
}

impl Listening {
    /// Where the agent itself reaches its gRPC.
    pub(crate) fn own_grpc(&self) -> Option<String> {
        let mut address = *self.grpc.first()?;
        if address.ip().is_unspecified() {
            address.set_ip(if address.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() });
        }
        Some(address.to_string())
    }
}

/// Prints that the agent is ready, to standard output.
pub fn print(config: &Config, node_id: &str, listening: &Listening) {
    use std::io::Write as _;
    let mut out = std::io::stdout().lock();
    // Nobody may be reading, and the agent runs all the same.
    let _ = out.write_all(text(config, node_id, listening).as_bytes()).and_then(|()| out.flush());
}

fn text(config: &Config, node_id: &str, listening: &Listening) -> String {
    let storage = match &config.data_dir {
        Some(path) => path.display().to_string(),
        None => "none, nothing survives this process".to_owned(),
    };
    let mut text = format!("{READY}\n");
    let mut line = |name: &str, value: &str| writeln!(text, "{name}: {value}").expect("writing to a string succeeds");
    line("HTTP", &list(&listening.http));
    line("gRPC", &list(&listening.grpc));
    line("DNS", &list(&listening.dns));
    line("Server", &listening.server.map_or_else(|| "off".into(), |address| address.to_string()));
    line("Gossip", &listening.gossip.map_or_else(|| "off".into(), |address| address.to_string()));
    line("Node", &format!("{} ({node_id})", config.node_name));
    line("Datacenter", &config.datacenter);
    line("Data", &storage);
    line("Version", crate::VERSION);
    let next = next_steps(config, listening);
    if !next.is_empty() {
        text.push_str("\nTry next:\n");
        next.iter().for_each(|command| writeln!(text, "  {command}").expect("writing to a string succeeds"));
    }
    text
}

fn list(addresses: &[SocketAddr]) -> String {
    match addresses {
        [] => "off".into(),
        some => some.iter().map(SocketAddr::to_string).collect::<Vec<_>>().join(", "),
    }
}

/// One command for each face that is open.
fn next_steps(config: &Config, listening: &Listening) -> Vec<String> {
    let grpc = listening.grpc.first().map(|address| match address.port() {
        8502 if address.ip().is_loopback() => "lictor kv put greeting hello".to_owned(),
        _ => format!("lictor kv put -grpc-addr={} greeting hello", reachable(*address)),
    });
    let http = listening.http.first().map(|address| format!("curl http://{}/v1/kv/greeting?raw", reachable(*address)));
    let dns = listening.dns.first().map(|&address| {
        let address = reachable(address);
        format!("dig @{} -p {} {}.node.{}", address.ip(), address.port(), config.node_name, config.dns.domain)
    });
    [grpc, http, dns].into_iter().flatten().collect()
}

/// An address that can be connected to from this machine.
fn reachable(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => ([127, 0, 0, 1], v4.port()).into(),
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => (std::net::Ipv6Addr::LOCALHOST, v6.port()).into(),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::AgentFlags;

    #[test]
    fn programs_find_the_addresses_and_people_the_next_step() {
        let flags = AgentFlags { dev: Some(true), node: Some("n1".into()), ..AgentFlags::default() };
        let config = Config::load(&flags).unwrap();
        let listening = Listening {
            http: vec!["0.0.0.0:8500".parse().unwrap(), "[::1]:8500".parse().unwrap()],
            grpc: vec!["127.0.0.1:40001".parse().unwrap()],
            dns: vec![],
            ..Listening::default()
        };
        let text = text(&config, "8f5a7c0e", &listening);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[..4], [READY, "HTTP: 0.0.0.0:8500, [::1]:8500", "gRPC: 127.0.0.1:40001", "DNS: off"]);
        assert_eq!(
            lines[lines.len() - 2..],
            ["  lictor kv put -grpc-addr=127.0.0.1:40001 greeting hello", "  curl http://127.0.0.1:8500/v1/kv/greeting?raw"]
        );
    }
}
