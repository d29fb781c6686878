//! `lictor session`: begin, renew, list and end sessions.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{anyhow, bail};
use lictor_client::{ErrorReason, v1};
use serde_json::{Value, json};

use crate::cli::connect::Connection;
use crate::cli::output::{Format, Table, print_json, print_line};
use crate::config::duration;

/// Begin, renew, list and end sessions.
#[derive(Clone, Debug, clap::Subcommand)]
pub(crate) enum SessionCommand {
    /// Begin a session and print its id
    Create(Box<Create>),
    /// Keep a session alive for its TTL from now
    Renew(One),
    /// End a session and release what it holds
    Destroy(One),
    /// Show one session
    Info(Shown),
    /// List sessions
    List(List),
}

/// Begin a session and print its id
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Create {
    /// A name for people
    #[arg(long, default_value = "", value_name = "NAME")]
    name: String,
    /// Node to tie it to [default: that of the agent]
    #[arg(long, default_value = "", value_name = "NODE")]
    node: String,
    /// It may end when it was not renewed for this long, 10s to 24h [default: it never does]
    #[arg(long, value_name = "DURATION")]
    ttl: Option<String>,
    /// How long its keys stay free after it ended without a release, at most 60s [default: 15s]
    #[arg(long, value_name = "DURATION")]
    lock_delay: Option<String>,
    /// What happens to its keys when it ends: release, delete
    #[arg(long, default_value = "release", value_name = "BEHAVIOR")]
    behavior: String,
    /// Check of the node to tie it to; may be repeated
    #[arg(long, value_name = "ID")]
    node_check: Vec<String>,
    /// Check of an instance on the node to tie it to; may be repeated
    #[arg(long, value_name = "ID")]
    service_check: Vec<String>,
    /// Let it outlive a failure of its node up to its TTL
    #[arg(long)]
    ignore_node_failure: bool,
    #[command(flatten)]
    connection: Connection,
}

/// Names one session.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct One {
    #[command(flatten)]
    connection: Connection,
    /// The session
    #[arg(value_name = "ID")]
    id: String,
}

/// Show one session
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Shown {
    /// How to print
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    #[command(flatten)]
    one: One,
}

/// List sessions
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct List {
    /// Only those of this node
    #[arg(long, default_value = "", value_name = "NODE")]
    node: String,
    /// How to print
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    #[command(flatten)]
    connection: Connection,
}

/// Runs a sub-command.
pub(crate) async fn run(command: SessionCommand) -> anyhow::Result<ExitCode> {
    match command {
        SessionCommand::Create(create) => create.run().await,
        SessionCommand::Renew(one) => one.renew().await,
        SessionCommand::Destroy(one) => one.destroy().await,
        SessionCommand::Info(shown) => shown.run().await,
        SessionCommand::List(list) => list.run().await,
    }
}

impl Create {
    async fn run(self) -> anyhow::Result<ExitCode> {
        let length = |flag: &str, text: &Option<String>| text.as_deref().map(|text| length(flag, text)).transpose();
        let behavior = match self.behavior.as_str() {
            "release" => v1::SessionBehavior::Release,
            "delete" => v1::SessionBehavior::Delete,
            other => bail!("unknown behavior `{other}`; use release or delete"),
        };
        let asked = v1::SessionServiceCreateRequest {
            options: super::lock::write_options(&self.connection),
            name: self.name,
            node: self.node,
            behavior: behavior.into(),
            ttl: length("-ttl", &self.ttl)?.map(wire),
            lock_delay: length("-lock-delay", &self.lock_delay)?.map(wire),
            node_checks: self.node_check,
            service_checks: self.service_check,
            ignore_node_failure: self.ignore_node_failure,
        };
        let session = self.connection.client()?.sessions().create(asked).await?;
        print_line(&session.id)?;
        Ok(ExitCode::SUCCESS)
    }
}

impl One {
    async fn renew(self) -> anyhow::Result<ExitCode> {
        let renewed = self.connection.client()?.sessions().renew(&self.id, &self.connection.datacenter()).await?;
        match renewed.valid_for {
            Some(length) => print_line(format_args!("Session {} lives for {} from now", self.id, humantime::format_duration(length)))?,
            None => print_line(format_args!("Session {} never expires", self.id))?,
        }
        Ok(ExitCode::SUCCESS)
    }

    async fn destroy(self) -> anyhow::Result<ExitCode> {
        if self.connection.client()?.sessions().destroy(&self.id, &self.connection.datacenter()).await? {
            print_line(format_args!("Session destroyed: {}", self.id))?;
        } else {
            print_line(format_args!("No session had the id {}", self.id))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Shown {
    async fn run(self) -> anyhow::Result<ExitCode> {
        let One { connection, id } = &self.one;
        let session = connection.client()?.sessions().get(id, &connection.read()).await?;
        let session = session.ok_or_else(|| anyhow!("no session has the id `{id}` ({})", ErrorReason::UnknownSession.code()))?;
        match self.format {
            Format::Json => print_json(&row(&session))?,
            Format::Table => {
                let mut table = Table::bare();
                table.row(["ID".into(), session.id.clone()]);
                table.row(["Name".into(), session.name.clone()]);
                table.row(["Node".into(), session.node.clone()]);
                table.row(["Behavior".into(), behavior(&session).into()]);
                table.row(["TTL".into(), told(session.ttl)]);
                table.row(["LockDelay".into(), told(session.lock_delay)]);
                table.row(["NodeChecks".into(), session.node_checks.join(", ")]);
                table.row(["ServiceChecks".into(), session.service_checks.join(", ")]);
                table.row(["CreateIndex".into(), session.create_index.to_string()]);
                table.row(["ModifyIndex".into(), session.modify_index.to_string()]);
                table.print()?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl List {
    async fn run(self) -> anyhow::Result<ExitCode> {
        let sessions = self.connection.client()?.sessions().list(&self.node, &self.connection.read()).await?.value;
        match self.format {
            Format::Json => print_json(&sessions.iter().map(row).collect())?,
            Format::Table => {
                let mut table = Table::new(["ID", "Name", "Node", "TTL", "Behavior"]);
                for session in &sessions {
                    let (name, node) = (session.name.clone(), session.node.clone());
                    table.row([session.id.clone(), name, node, told(session.ttl), behavior(session).into()]);
                }
                table.print()?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// A length of time as a flag gives it.
pub(super) fn length(flag: &str, text: &str) -> anyhow::Result<Duration> {
    duration::parse(text).ok_or_else(|| anyhow!("`{flag}`: `{text}` is not a length of time; write it as in 15s, 1m30s"))
}

/// A length of time for the wire; what does not fit is the longest that does.
pub(super) fn wire(length: Duration) -> prost_types::Duration {
    length.try_into().unwrap_or(prost_types::Duration { seconds: i64::MAX, nanos: 0 })
}

fn behavior(session: &v1::Session) -> &'static str {
    if session.behavior() == v1::SessionBehavior::Delete { "delete" } else { "release" }
}

fn told(length: Option<prost_types::Duration>) -> String {
    match length.map(Duration::try_from) {
        Some(Ok(length)) => humantime::format_duration(length).to_string(),
        Some(Err(_)) | None => "-".into(),
    }
}

fn row(session: &v1::Session) -> Value {
    json!({
        "id": session.id,
        "name": session.name,
        "node": session.node,
        "behavior": behavior(session),
        "ttl": told(session.ttl),
        "lock_delay": told(session.lock_delay),
        "node_checks": session.node_checks,
        "service_checks": session.service_checks,
        "create_index": session.create_index,
        "modify_index": session.modify_index,
    })
}
