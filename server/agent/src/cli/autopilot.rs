//! `lictor operator autopilot`: how the servers do, and how they are to be looked after.

use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use lictor_client::v1;
use serde_json::json;

use crate::cli::connect::Connection;
use crate::cli::output::{Format, Table, print_json, print_line};

#[derive(Clone, Debug, clap::Subcommand)]
pub(crate) enum AutopilotCommand {
    /// Tell how the servers do
    State(State),
    /// Tell how servers are looked after
    GetConfig(GetConfig),
    /// Change how servers are looked after
    SetConfig(SetConfig),
}

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct State {
    /// How to print
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct GetConfig {
    #[command(flatten)]
    connection: Connection,
}

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct SetConfig {
    /// Take failed servers out once they are replaced: true or false
    #[arg(long, value_name = "BOOL")]
    cleanup_dead_servers: Option<bool>,
    /// A server that was not heard of for longer is unhealthy
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    last_contact_threshold: Option<Duration>,
    /// A server that is further behind is unhealthy
    #[arg(long, value_name = "ENTRIES")]
    max_trailing_logs: Option<u64>,
    /// Fewest voters that clean-up may leave
    #[arg(long, value_name = "VOTERS")]
    min_quorum: Option<u32>,
    /// How long a new server must be healthy before it votes
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    server_stabilization_time: Option<Duration>,
    #[command(flatten)]
    connection: Connection,
}

impl AutopilotCommand {
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            AutopilotCommand::State(state) => state.run().await?,
            AutopilotCommand::GetConfig(GetConfig { connection }) => {
                let found = connection.client()?.operator().autopilot_configuration(&connection.read()).await?.value;
                print_line(config(&found).trim_end())?;
            }
            AutopilotCommand::SetConfig(set) => set.run().await?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn length(wire: Option<prost_types::Duration>) -> String {
    let length = wire.and_then(|wire| Duration::try_from(wire).ok());
    length.map_or_else(|| "never".into(), |length| humantime::format_duration(Duration::from_millis(length.as_millis() as u64)).to_string())
}

fn config(found: &v1::AutopilotConfiguration) -> String {
    format!(
        "CleanupDeadServers = {}\nLastContactThreshold = {}\nMaxTrailingLogs = {}\nMinQuorum = {}\nServerStabilizationTime = {}\n",
        found.cleanup_dead_servers,
        length(found.last_contact_threshold),
        found.max_trailing_logs,
        found.min_quorum,
        length(found.server_stabilization_time),
    )
}

impl State {
    async fn run(self) -> anyhow::Result<()> {
        let state = self.connection.client()?.operator().autopilot_state(&self.connection.datacenter()).await?;
        let row = |health: &v1::ServerHealth| {
            let server = health.server.clone().unwrap_or_default();
            let peer = server.peer.clone().unwrap_or_default();
            let status = match (server.leader, server.voter) {
                (true, _) => "leader",
                (_, true) => "voter",
                _ => "non-voter",
            };
            (server, peer, status)
        };
        if self.format == Format::Json {
            let servers = state.servers.iter().map(|health| {
                let (server, peer, status) = row(health);
                json!({
                    "id": peer.id, "name": peer.node, "address": peer.address, "status": status, "healthy": health.healthy,
                    "node_status": health.member_status, "last_contact": length(health.last_contact), "last_term": health.last_term,
                    "last_index": server.last_log_index, "version": health.version,
                })
            });
            return Ok(print_json(&json!({
                "healthy": state.healthy, "failure_tolerance": state.failure_tolerance,
                "optimistic_failure_tolerance": state.optimistic_failure_tolerance, "servers": servers.collect::<Vec<_>>(),
            }))?);
        }
        let mut table = Table::new(["Name", "ID", "Address", "Status", "Healthy", "Pool", "Last Contact", "Last Index", "Stable Since"]);
        for health in &state.servers {
            let (server, peer, status) = row(health);
            let stable = health.stable_since.and_then(|time| SystemTime::try_from(time).ok()).unwrap_or(SystemTime::UNIX_EPOCH);
            table.row([
                peer.node,
                peer.id.to_string(),
                peer.address,
                status.to_owned(),
                health.healthy.to_string(),
                health.member_status.clone(),
                length(health.last_contact),
                server.last_log_index.to_string(),
                humantime::format_rfc3339_seconds(stable).to_string(),
            ]);
        }
        Ok(print_line(format_args!(
            "Healthy: {}\nFailure Tolerance: {}\nOptimistic Failure Tolerance: {}\n\n{}",
            state.healthy,
            state.failure_tolerance,
            state.optimistic_failure_tolerance,
            table.to_string().trim_end()
        ))?)
    }
}

impl SetConfig {
    async fn run(self) -> anyhow::Result<()> {
        let wire = |length: Duration| prost_types::Duration::try_from(length).ok();
        let mut wanted = v1::AutopilotConfiguration::default();
        let mut paths = Vec::new();
        let mut named = |given: bool, path: &str| paths.extend(given.then(|| path.to_owned()));
        named(self.cleanup_dead_servers.is_some(), "cleanup_dead_servers");
        named(self.last_contact_threshold.is_some(), "last_contact_threshold");
        named(self.max_trailing_logs.is_some(), "max_trailing_logs");
        named(self.min_quorum.is_some(), "min_quorum");
        named(self.server_stabilization_time.is_some(), "server_stabilization_time");
        if paths.is_empty() {
            anyhow::bail!("say what is to be changed, such as `-min-quorum=3`");
        }
        wanted.cleanup_dead_servers = self.cleanup_dead_servers.unwrap_or_default();
        wanted.last_contact_threshold = self.last_contact_threshold.and_then(wire);
        wanted.max_trailing_logs = self.max_trailing_logs.unwrap_or_default();
        wanted.min_quorum = self.min_quorum.unwrap_or_default();
        wanted.server_stabilization_time = self.server_stabilization_time.and_then(wire);
        let datacenter = self.connection.datacenter();
        self.connection.client()?.operator().set_autopilot_configuration(wanted, paths, &datacenter).await?;
        Ok(print_line("Configuration updated!")?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_is_printed_a_line_each() {
        let wire = |millis| prost_types::Duration::try_from(Duration::from_millis(millis)).ok();
        let found = v1::AutopilotConfiguration {
            cleanup_dead_servers: true,
            last_contact_threshold: wire(200),
            max_trailing_logs: 250,
            server_stabilization_time: wire(10_000),
            ..Default::default()
        };
        let text = config(&found);
        assert!(text.contains("CleanupDeadServers = true\nLastContactThreshold = 200ms\n"), "{text}");
        assert!(text.ends_with("ServerStabilizationTime = 10s\n"), "{text}");
        assert_eq!(length(None), "never");
    }
}
