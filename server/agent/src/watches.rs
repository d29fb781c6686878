//! Watches with handlers: what is watched, and what is done about each change.
//!
//! The same parts serve `lictor watch` and the watches of the configuration. Those of the
//! configuration run as long as the agent does; a handler that fails is run again with what is there
//! by then, after a pause that grows.

pub(crate) mod handler;
pub(crate) mod rows;
pub(crate) mod shape;
pub(crate) mod source;

use std::time::Duration;

use lictor_client::v1::HealthStatus;
use lictor_client::v1::checks_target::Selection;
use lictor_client::{Client, Dial, Options, ReadOptions, Target, WatchOptions};
use net::Network;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::watches::handler::{Action, Handler};
use crate::watches::source::Source;

/// The types of watches, for messages.
const KINDS: &str = "key, keyprefix, services, nodes, service, checks or event";

/// How long a starting agent waits for a watch to have begun.
const BEGIN_TIMEOUT: Duration = Duration::from_secs(5);

/// How long it may take to reach this agent itself.
const CONNECT: Duration = Duration::from_secs(5);

/// What is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Key,
    KeyPrefix,
    Services,
    Nodes,
    Service,
    Checks,
    Event,
}

/// Where it is found.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Subject {
    /// Rows of the cluster.
    Rows(Target),
    /// Events of this name, or all.
    Events(String),
}

/// What is to be watched, as it was written; what is not given is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// The type.
    pub kind: String,
    /// The key, for `key`.
    pub key: String,
    /// What keys begin with, for `keyprefix`.
    pub prefix: String,
    /// The service, for `service` and `checks`.
    pub service: String,
    /// Tags that instances must have, for `service`.
    pub tags: Vec<String>,
    /// Only instances that pass, for `service`.
    pub passing_only: bool,
    /// Only checks in this state.
    pub state: String,
    /// Only events of this name.
    pub name: String,
}

/// A watch of the configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Watch {
    /// What is watched.
    pub asked: Asked,
    /// Another datacenter; empty is that of the agent.
    pub datacenter: String,
    /// The token that it is watched with.
    pub token: Option<String>,
    /// What is done about a change.
    pub action: Action,
    /// How long that may take.
    pub timeout: Duration,
}

impl Asked {
    /// What is watched, or what is wrong with it.
    pub(crate) fn subject(&self) -> Result<(Kind, Subject), String> {
        let need = |value: &str, key: &str| match value {
            "" => Err(format!("a watch of type `{}` needs `{key}`", self.kind)),
            value => Ok(value.to_owned()),
        };
        let (kind, target) = match self.kind.as_str() {
            "key" => (Kind::Key, Target::key(need(&self.key, "key")?)),
            "keyprefix" => (Kind::KeyPrefix, Target::prefix(self.prefix.clone())),
            "services" => (Kind::Services, Target::services()),
            "nodes" => (Kind::Nodes, Target::nodes()),
            "service" => {
                let mut target = Target::service(need(&self.service, "service")?);
                if self.passing_only {
                    target = target.passing_only();
                }
                (Kind::Service, self.tags.iter().fold(target, Target::tag))
            }
            "checks" => (Kind::Checks, Target::checks(self.checks()?)),
            "event" => return Ok((Kind::Event, Subject::Events(self.name.clone()))),
            "" => return Err(format!("a watch needs a `type`: {KINDS}")),
            known @ ("agent_service" | "connect_roots" | "connect_leaf") => {
                return Err(format!("watches of type `{known}` are not part of this version"));
            }
            other => return Err(format!("unknown type `{other}` of a watch; use {KINDS}")),
        };
        Ok((kind, Subject::Rows(target)))
    }

    fn checks(&self) -> Result<Selection, String> {
        let status = |status: HealthStatus| Ok(Selection::Status(status.into()));
        match (self.service.as_str(), self.state.as_str()) {
            ("", "" | "any") => Ok(Selection::All(true)),
            ("", "passing") => status(HealthStatus::Passing),
            ("", "warning") => status(HealthStatus::Warning),
            ("", "critical") => status(HealthStatus::Critical),
            ("", other) => Err(format!("unknown state `{other}`; use any, passing, warning or critical")),
            (service, "") => Ok(Selection::Service(service.to_owned())),
            (_, _) => Err("a watch of checks has a `service` or a `state`, not both".into()),
        }
    }
}

/// The watches of the configuration, at work.
pub(crate) struct Watches {
    /// Where the agent's own gRPC is; unset when that is switched off.
    address: Option<String>,
    network: Network,
    running: Vec<(Watch, CancellationToken)>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Watches {
    /// None yet. They talk to the agent at `address`, and to handlers over `network`.
    pub(crate) fn new(address: Option<String>, network: Network, tasks: TaskTracker, stop: CancellationToken) -> Self {
        Watches { address, network, running: Vec::new(), tasks, stop }
    }

    /// Ends the watches that are not wanted any more and begins those that are new; the others are
    /// not touched. Says whether there was anything to do, once the new ones have begun or it takes
    /// too long.
    pub(crate) async fn apply(&mut self, wanted: &[Watch]) -> bool {
        let mut new = wanted.to_vec();
        let before = self.running.len();
        self.running.retain(|(watch, stop)| match new.iter().position(|wanted| wanted == watch) {
            Some(at) => {
                new.swap_remove(at);
                true
            }
            None => {
                stop.cancel();
                false
            }
        });
        let changed = before != self.running.len() || !new.is_empty();
        let begun: Vec<_> = new.into_iter().filter_map(|watch| self.begin(watch)).collect();
        let deadline = tokio::time::Instant::now() + BEGIN_TIMEOUT;
        for begun in begun {
            // One that cannot begin says so in the log, and goes on trying.
            let _ = tokio::time::timeout_at(deadline, begun).await;
        }
        changed
    }

    fn begin(&mut self, watch: Watch) -> Option<oneshot::Receiver<()>> {
        let client = self.address.as_ref().map(|address| {
            let token = watch.token.clone();
            let network = self.network.clone();
            let dial = Dial::new(move |address| {
                let network = network.clone();
                async move { network.connect(&address, CONNECT).await }
            });
            let options = Options { token, user_agent: Some("lictor-watch".into()), dial: Some(dial), ..Options::default() };
            Client::lazy(address.as_str(), options)
        });
        let client = match client {
            Some(Ok(client)) => client,
            Some(Err(error)) => {
                tracing::error!(kind = watch.asked.kind, "a watch of the configuration cannot begin: {error}");
                return None;
            }
            None => {
                tracing::error!("watches of the configuration need the agent's gRPC port, which is switched off; set `ports.grpc`");
                return None;
            }
        };
        let stop = self.stop.child_token();
        let (begun, beginning) = oneshot::channel();
        let handler = Handler::new(self.network.clone(), watch.action.clone(), watch.timeout);
        self.tasks.spawn(run(client, watch.clone(), handler, begun, stop.clone()));
        self.running.push((watch, stop));
        Some(beginning)
    }
}

/// Follows one watch until `stop`. Tells `begun` when no change is missed any more.
async fn run(client: Client, watch: Watch, mut handler: Handler, begun: oneshot::Sender<()>, stop: CancellationToken) {
    let kind = watch.asked.kind.clone();
    let Ok((shape, subject)) = watch.asked.subject() else { return };
    let read = ReadOptions::default().datacenter(watch.datacenter.clone());
    let mut source =
        Source::new(&client, subject, shape, WatchOptions { read, ..WatchOptions::default() }, |what| tracing::warn!("{what}"));
    let ready = stop.run_until_cancelled(source.begin()).await;
    let _ = begun.send(());
    if ready.is_none() {
        return;
    }
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            news = source.next() => match news {
                Ok(Some(news)) => handler.offer(news),
                Ok(None) => return,
                Err(error) => {
                    tracing::error!(kind, "a watch of the configuration has ended: {error:#}");
                    return;
                }
            },
            done = handler.step(), if handler.is_busy() => match done {
                Ok(()) => {}
                Err(error) => {
                    let pause = handler.again();
                    tracing::warn!(kind, "{error:#}; it is run again in {pause:?}");
                }
            },
        }
    }
}
