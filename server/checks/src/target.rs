//! What a check asks, whatever its kind: worked out once from its definition, asked many times.

use std::time::Duration;

use net::Network;
use state::{CheckDefinition, Status};
use tokio::time::{Instant, timeout_at};

use crate::connect::{Peer, Tls};
use crate::plan::Plan;
use crate::schedule::Finding;
use crate::{docker, grpc, h2ping, http, script, tcp, udp};

/// How long a target may take when its definition says nothing.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How long a program may take when its definition says nothing.
const SCRIPT_TIMEOUT: Duration = Duration::from_secs(30);

/// One check's target and how it is asked.
#[derive(Debug)]
pub(crate) enum Target {
    /// A request and the status of its answer.
    Http(Plan),
    /// A program and its exit code.
    Script(script::Script),
    /// A program inside a container and its exit code.
    Docker(docker::Exec),
    /// Anything that is reached by `host:port`.
    Peer {
        /// What is asked once it is reached.
        ask: Ask,
        /// Whom to reach.
        peer: Peer,
        /// As the definition writes it.
        text: String,
        /// How long everything together may take.
        timeout: Duration,
    },
    /// The definition makes no sense; every probe says why.
    Fault(String),
}

/// What is asked of a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    /// Whether it takes a connection.
    Tcp,
    /// Whether nothing says that the port is closed.
    Udp,
    /// Whether this service is `SERVING`; empty is the server as a whole.
    Grpc(String),
    /// Whether it answers an HTTP/2 PING.
    H2Ping,
}

impl Target {
    /// Works the target out of a definition.
    pub(crate) fn new(definition: &CheckDefinition, output_bytes_max: usize) -> Self {
        let timeout = |usual| definition.timeout_ms.filter(|ms| *ms > 0).map_or(usual, Duration::from_millis);
        let text = |field: &Option<state::Str>| field.as_deref().unwrap_or_default().to_owned();
        let args = || definition.script_args.iter().map(|arg| arg.to_string()).collect();
        match definition.kind() {
            "http" => Target::Http(Plan::new(definition, output_bytes_max)),
            "tcp" => peer(definition, Ask::Tcp, text(&definition.tcp), timeout(TIMEOUT)),
            // Silence is the usual answer; to wait for it longer than the interval would delay the next.
            "udp" => {
                let interval = definition.interval_ms.filter(|ms| *ms > 0).map_or(TIMEOUT, Duration::from_millis);
                peer(definition, Ask::Udp, text(&definition.udp), timeout(TIMEOUT).min(interval))
            }
            "grpc" => {
                let text = text(&definition.grpc);
                let (address, service) = text.split_once('/').unwrap_or((&text, ""));
                peer(definition, Ask::Grpc(service.to_owned()), address.to_owned(), timeout(TIMEOUT))
            }
            "h2ping" => peer(definition, Ask::H2Ping, text(&definition.h2ping), timeout(TIMEOUT)),
            "script" => Target::Script(script::Script { args: args(), timeout: timeout(SCRIPT_TIMEOUT), output_bytes_max }),
            "docker" => {
                let container = text(&definition.docker_container_id);
                let engine = docker::engine();
                let args = docker::command(definition.shell.as_deref().unwrap_or_default(), args());
                Target::Docker(docker::Exec { engine, container, args, timeout: timeout(SCRIPT_TIMEOUT), output_bytes_max })
            }
            kind => Target::Fault(format!("a check of kind `{kind}` is not run on this system")),
        }
    }

    /// Asks once, within the time that the definition allows.
    pub(crate) async fn probe(&self, network: &Network) -> Finding {
        match self {
            Target::Http(plan) => http::probe(network, plan).await,
            Target::Script(script) => script.run().await,
            Target::Docker(exec) => exec.run(network).await,
            Target::Fault(fault) => Finding { status: Status::Critical, output: fault.as_str().into() },
            Target::Peer { ask, peer, text, timeout } => probe_peer(network, ask, peer, text, *timeout).await,
        }
    }
}

fn peer(definition: &CheckDefinition, ask: Ask, text: String, timeout: Duration) -> Target {
    let (wanted, protocol): (bool, Option<&'static [u8]>) = match &ask {
        Ask::Tcp => (definition.tcp_use_tls, None),
        Ask::Udp => (false, None),
        Ask::Grpc(_) => (definition.grpc_use_tls, Some(b"h2")),
        Ask::H2Ping => (definition.h2ping_use_tls, Some(b"h2")),
    };
    match Peer::parse(&text) {
        Ok(mut peer) => {
            let given = definition.tls_server_name.as_deref().filter(|name| !name.is_empty());
            let name = given.unwrap_or(&peer.host).to_owned();
            peer.tls = wanted.then_some(Tls { name, any_certificate: definition.tls_skip_verify, protocol });
            Target::Peer { ask, peer, text, timeout }
        }
        Err(fault) => Target::Fault(fault),
    }
}

async fn probe_peer(network: &Network, ask: &Ask, peer: &Peer, text: &str, timeout: Duration) -> Finding {
    let deadline = Instant::now() + timeout;
    let (title, asking): (&str, _) = match ask {
        Ask::Tcp => ("TCP connect", timeout_at(deadline, tcp::probe(network, peer, deadline)).await),
        Ask::Udp => ("UDP connect", Ok(udp::probe(network, peer, deadline).await)),
        Ask::Grpc(service) => ("gRPC check", timeout_at(deadline, grpc::probe(network, peer, service, deadline)).await),
        Ask::H2Ping => ("HTTP2 ping", timeout_at(deadline, h2ping::probe(network, peer, deadline)).await),
    };
    let result = asking.unwrap_or_else(|_| Err(format!("no answer within {timeout:?}")));
    match (result, ask) {
        (Ok(()), Ask::H2Ping) => Finding { status: Status::Passing, output: "HTTP2 ping was successful".into() },
        (Ok(()), Ask::Grpc(_)) => Finding { status: Status::Passing, output: format!("{title} {text}: success").into() },
        (Ok(()), _) => Finding { status: Status::Passing, output: format!("{title} {text}: Success").into() },
        (Err(fault), _) => Finding { status: Status::Critical, output: format!("{title} {text}: {fault}").into() },
    }
}
