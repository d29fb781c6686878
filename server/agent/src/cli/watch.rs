//! `lictor watch`: tells what changes, as it changes, or runs a program each time.
//!
//! Without a program each change is one line of JSON. With one, the program gets what is there now
//! on its standard input, in the shape that handlers for Consul expect; it is never started while
//! it still runs, and changes that come meanwhile are one more run.

mod handler;
mod lines;
mod shape;

use std::collections::BTreeMap;
use std::io::Write;
use std::process::ExitCode;

use anyhow::bail;
use lictor_client::v1::HealthStatus;
use lictor_client::v1::checks_target::Selection;
use lictor_client::{Change, Client, Gone, Row, Target, WatchEvent, WatchOptions};

use crate::cli::connect::Connection;
use crate::cli::output;
use crate::cli::watch::handler::Handler;

/// Tell what changes, or run a program each time
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Watch {
    /// What to watch: key, keyprefix, services, nodes, service, checks
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<String>,
    /// The key, for `key`
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// What keys begin with, for `keyprefix`
    #[arg(long, value_name = "PREFIX")]
    prefix: Option<String>,
    /// The service, for `service` and `checks`
    #[arg(long, value_name = "NAME")]
    service: Option<String>,
    /// A tag that instances must have, for `service`; may be repeated
    #[arg(long, value_name = "TAG")]
    tag: Vec<String>,
    /// Only instances that pass, for `service`
    #[arg(long)]
    passingonly: bool,
    /// Only checks in this state: any, passing, warning, critical
    #[arg(long, value_name = "STATE")]
    state: Option<String>,
    /// Run the program through a shell
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "true", value_name = "BOOL")]
    shell: Option<bool>,
    /// Print what is there, then end
    #[arg(long)]
    once: bool,
    #[arg(long, hide = true)]
    name: Option<String>,
    #[arg(long, hide = true)]
    filter: Option<String>,
    #[command(flatten)]
    connection: Connection,
    /// The program and its arguments
    #[arg(value_name = "PROGRAM", trailing_var_arg = true, allow_hyphen_values = true)]
    program: Vec<String>,
}

/// What is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Key,
    KeyPrefix,
    Services,
    Nodes,
    Service,
    Checks,
}

impl Watch {
    /// Watches until the program fails or the user ends it.
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        let (kind, target) = self.target()?;
        let client = self.connection.client()?;
        if self.program.is_empty() {
            self.print(&client, target).await
        } else {
            let handler = Handler::new(self.program.clone(), self.shell.unwrap_or(true));
            self.handle(&client, target, kind, handler).await
        }
    }

    fn target(&self) -> anyhow::Result<(Kind, Target)> {
        if self.filter.as_ref().is_some_and(|filter| !filter.is_empty()) {
            bail!("`-filter` is not part of this version of `watch`");
        }
        let given = |value: &Option<String>| value.clone().filter(|value| !value.is_empty());
        let need =
            |value: &Option<String>, flag: &str| given(value).ok_or_else(|| anyhow::anyhow!("`-type={}` needs `{flag}`", self.kind_name()));
        Ok(match self.kind_name() {
            "key" => (Kind::Key, Target::key(need(&self.key, "-key")?)),
            "keyprefix" => (Kind::KeyPrefix, Target::prefix(self.prefix.clone().unwrap_or_default())),
            "services" => (Kind::Services, Target::services()),
            "nodes" => (Kind::Nodes, Target::nodes()),
            "service" => {
                let mut target = Target::service(need(&self.service, "-service")?);
                if self.passingonly {
                    target = target.passing_only();
                }
                (Kind::Service, self.tag.iter().fold(target, Target::tag))
            }
            "checks" => (Kind::Checks, Target::checks(self.checks(given(&self.service))?)),
            "" => bail!("`-type` is missing: key, keyprefix, services, nodes, service or checks"),
            known @ ("event" | "agent_service" | "connect_roots" | "connect_leaf") => bail!("`-type={known}` is not part of this version"),
            other => bail!("unknown type `{other}`; use key, keyprefix, services, nodes, service or checks"),
        })
    }

    fn kind_name(&self) -> &str {
        self.kind.as_deref().unwrap_or_default()
    }

    fn checks(&self, service: Option<String>) -> anyhow::Result<Selection> {
        let state = self.state.as_deref().filter(|state| !state.is_empty());
        let status = |status: HealthStatus| Selection::Status(status.into());
        Ok(match (service, state) {
            (Some(_), Some(_)) => bail!("give `-service` or `-state`, not both"),
            (Some(service), None) => Selection::Service(service),
            (None, None | Some("any")) => Selection::All(true),
            (None, Some("passing")) => status(HealthStatus::Passing),
            (None, Some("warning")) => status(HealthStatus::Warning),
            (None, Some("critical")) => status(HealthStatus::Critical),
            (None, Some(other)) => bail!("unknown state `{other}`; use any, passing, warning or critical"),
        })
    }

    fn options(&self) -> WatchOptions {
        WatchOptions { read: self.connection.read(), ..WatchOptions::default() }
    }

    /// One line of JSON for each row that is there and each change.
    async fn print(&self, client: &Client, target: Target) -> anyhow::Result<ExitCode> {
        let mut watch = client.watch_with(target, self.options());
        let mut out = output::out();
        while let Some(event) = watch.next().await? {
            for line in lines::of(&event) {
                writeln!(out, "{line}")?;
            }
            out.flush()?;
            match event {
                WatchEvent::SnapshotEnd { .. } if self.once => break,
                event => interrupted(&event),
            }
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Runs the program with what is there, now and after each change.
    async fn handle(&self, client: &Client, target: Target, kind: Kind, mut handler: Handler) -> anyhow::Result<ExitCode> {
        let mut watch = client.watch_with(target, self.options());
        let mut rows = Rows::default();
        loop {
            tokio::select! {
                event = watch.next() => {
                    let Some(event) = event? else { break };
                    interrupted(&event);
                    if let Some(revision) = rows.take(event) {
                        handler.offer(revision, shape::of(kind, rows.by_name.values()).to_string());
                    }
                }
                done = handler.step(), if handler.is_busy() => done?,
            }
            if self.once && handler.has_run() && !handler.is_busy() {
                break;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// A lost connection is told; the watch goes on by itself.
fn interrupted(event: &WatchEvent) {
    if let WatchEvent::Interrupted { error, retry_in } = event {
        eprintln!("{error}; trying again in {retry_in:.1?}");
    }
}

/// What is there, put together from snapshot and changes.
#[derive(Default)]
struct Rows {
    by_name: BTreeMap<Vec<u8>, Row>,
    whole: bool,
}

impl Rows {
    /// Takes in an event; says at which revision there is something new to look at.
    fn take(&mut self, event: WatchEvent) -> Option<u64> {
        match event {
            WatchEvent::Snapshot { rows, .. } => {
                self.by_name.extend(rows.into_iter().map(|row| (name(&row), row)));
                None
            }
            WatchEvent::SnapshotEnd { revision, .. } => {
                self.whole = true;
                Some(revision)
            }
            WatchEvent::Changes { changes, revision, continued, .. } => {
                changes.into_iter().for_each(|change| self.change(change));
                (self.whole && !continued).then_some(revision)
            }
            WatchEvent::Reset { .. } => {
                *self = Rows::default();
                None
            }
            WatchEvent::Bookmark { .. } | WatchEvent::Interrupted { .. } => None,
        }
    }

    fn change(&mut self, change: Change) {
        match change {
            Change::Put(row) => {
                self.by_name.insert(name(&row), row);
            }
            Change::Delete(gone) => {
                self.by_name.remove(&gone_name(&gone));
            }
        }
    }
}

/// What tells a row from the others of its watch.
fn name(row: &Row) -> Vec<u8> {
    let of = |text: &str| text.as_bytes().to_vec();
    match row {
        Row::Entry(entry) => entry.key.to_vec(),
        Row::Node(node) => of(&node.name.to_ascii_lowercase()),
        Row::Service(service) => of(&service.name.to_ascii_lowercase()),
        Row::Check(check) => pair(&check.node, &check.check_id),
        Row::Instance(instance) => {
            let node = instance.node.as_ref().map(|node| node.name.as_str()).unwrap_or_default();
            let id = instance.service.as_ref().map(|service| service.id.as_str()).unwrap_or_default();
            pair(node, id)
        }
    }
}

/// The same of a row that is gone.
fn gone_name(gone: &Gone) -> Vec<u8> {
    match gone {
        Gone::Key(key) => key.to_vec(),
        Gone::Node(name) | Gone::Service(name) => name.to_ascii_lowercase().into_bytes(),
        Gone::Check(check) => pair(&check.node, &check.check_id),
        Gone::Instance(instance) => pair(&instance.node, &instance.service_id),
    }
}

fn pair(node: &str, id: &str) -> Vec<u8> {
    [node.to_ascii_lowercase().as_bytes(), b"\0", id.as_bytes()].concat()
}

#[cfg(test)]
mod tests;
