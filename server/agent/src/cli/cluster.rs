//! `lictor join`, `leave`, `force-leave` and `operator`.

use std::process::ExitCode;

use anyhow::bail;
use lictor_client::{Client, ReadOptions, v1};
use serde_json::json;

use crate::cli::autopilot::AutopilotCommand;
use crate::cli::connect::Connection;
use crate::cli::output::{Format, Table, print_json, print_line};

/// Have the agent join a cluster by its members
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Join {
    /// The servers of all datacenters instead of the agents of this one
    #[arg(long)]
    wan: bool,
    /// Members: `host` or `host:port`
    #[arg(required = true, value_name = "ADDRESS")]
    addresses: Vec<String>,
    #[command(flatten)]
    connection: Connection,
}

impl Join {
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        let pool = if self.wan { v1::Pool::Wan } else { v1::Pool::Lan };
        let v1::JoinResponse { joined, failed, own } =
            self.connection.client_of_this_agent("join").await?.agent().join(&self.addresses, pool).await?;
        for (address, why) in &failed {
            complain!("Error joining address '{address}': {why}");
        }
        for address in &own {
            complain!("'{address}' is this agent's own address; give the address of another member to join one");
        }
        if joined == 0 && own.is_empty() {
            bail!("nobody has let this agent in");
        }
        if joined > 0 {
            print_line(format_args!("Successfully joined cluster by contacting {joined} nodes."))?;
        }
        Ok(if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

/// Have the agent leave its cluster and end
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Leave {
    #[command(flatten)]
    connection: Connection,
}

impl Leave {
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        self.connection.client_of_this_agent("leave").await?.agent().leave().await?;
        print_line("Graceful leave complete")?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Declare a failed member to have left
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ForceLeave {
    /// Have everybody forget it as well
    #[arg(long)]
    prune: bool,
    /// A server in the pool of all datacenters
    #[arg(long)]
    wan: bool,
    /// Its name
    node: String,
    #[command(flatten)]
    connection: Connection,
}

impl ForceLeave {
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        let pool = if self.wan { v1::Pool::Wan } else { v1::Pool::Lan };
        self.connection.client_of_this_agent("force-leave").await?.agent().force_leave(&self.node, self.prune, pool).await?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Look after the servers
#[derive(Clone, Debug, clap::Subcommand)]
pub(crate) enum Operator {
    /// The servers that keep the log
    #[command(subcommand)]
    Raft(Box<RaftCommand>),
    /// How the servers do, and how they are looked after
    #[command(subcommand)]
    Autopilot(Box<AutopilotCommand>),
}

#[derive(Clone, Debug, clap::Subcommand)]
pub(crate) enum RaftCommand {
    /// List the servers of the quorum
    ListPeers(ListPeers),
    /// Take a server out of the quorum
    RemovePeer(RemovePeer),
    /// Hand leadership to another server
    TransferLeader(TransferLeader),
}

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ListPeers {
    /// How to print
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct RemovePeer {
    /// Its number in the log, as `list-peers` shows it
    #[arg(long, value_name = "ID")]
    id: Option<u64>,
    /// Its address, `host:port`
    #[arg(long, value_name = "ADDRESS")]
    address: Option<String>,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct TransferLeader {
    /// The number of the next leader; any other server without it
    #[arg(long, value_name = "ID", default_value_t = 0, hide_default_value = true)]
    id: u64,
    #[command(flatten)]
    connection: Connection,
}

impl Operator {
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        let command = match self {
            Operator::Raft(command) => *command,
            Operator::Autopilot(command) => return command.run().await,
        };
        match command {
            RaftCommand::ListPeers(list) => list.run().await,
            RaftCommand::RemovePeer(remove) => remove.run().await,
            RaftCommand::TransferLeader(transfer) => {
                let TransferLeader { id, connection } = transfer;
                let leader = connection.client()?.operator().transfer_leader(id, &connection.datacenter()).await?;
                let name = leader.map_or_else(|| "another server".to_owned(), |peer| format!("{} ({})", peer.node, peer.address));
                print_line(format_args!("Success: {name} leads"))?;
                Ok(ExitCode::SUCCESS)
            }
        }
    }
}

impl ListPeers {
    async fn run(self) -> anyhow::Result<ExitCode> {
        let servers = servers(&self.connection.client()?, &self.connection.read()).await?;
        if self.format == Format::Json {
            let rows = servers.iter().map(|server| {
                let peer = server.peer.clone().unwrap_or_default();
                json!({
                    "id": peer.id,
                    "node": peer.node,
                    "address": peer.address,
                    "leader": server.leader,
                    "voter": server.voter,
                    "last_log_index": server.last_log_index,
                })
            });
            print_json(&rows.collect::<Vec<_>>().into())?;
            return Ok(ExitCode::SUCCESS);
        }
        peers(servers).print()?;
        Ok(ExitCode::SUCCESS)
    }
}

/// The servers with how far each has come, where that is known.
fn peers(servers: Vec<v1::RaftServer>) -> Table {
    let mut table = Table::new(["Node", "ID", "Address", "State", "Voter", "RaftProtocol", "Commit Index", "Trails Leader By"]);
    let of_leader = servers.iter().find(|server| server.leader).map_or(0, |server| server.last_log_index);
    for server in servers {
        let unknown = || "-".to_owned();
        let (at, trails) = match (server.leader, server.last_log_index) {
            (_, 0) => (unknown(), unknown()),
            (false, at) if of_leader > 0 => (at.to_string(), commits(of_leader.saturating_sub(at))),
            (_, at) => (at.to_string(), unknown()),
        };
        let peer = server.peer.unwrap_or_default();
        let state = if server.leader { "leader" } else { "follower" };
        table.row([peer.node, peer.id.to_string(), peer.address, state.into(), server.voter.to_string(), "3".into(), at, trails]);
    }
    table
}

fn commits(number: u64) -> String {
    if number == 1 { "1 commit".into() } else { format!("{number} commits") }
}

/// The servers of the quorum in the datacenter that is meant.
async fn servers(client: &Client, read: &ReadOptions) -> anyhow::Result<Vec<v1::RaftServer>> {
    Ok(client.operator().raft_configuration(read).await?.value.servers)
}

impl RemovePeer {
    async fn run(self) -> anyhow::Result<ExitCode> {
        let client = self.connection.client()?;
        let id = match (self.id, self.address) {
            (Some(id), None) => id,
            (None, Some(address)) => {
                let servers = servers(&client, &ReadOptions::stale().datacenter(self.connection.datacenter())).await?;
                let found = servers.into_iter().filter_map(|server| server.peer).find(|peer| peer.address == address);
                let found = found.map(|peer| peer.id);
                found.ok_or_else(|| {
                    anyhow::anyhow!("no server of the quorum is at `{address}`; `operator raft list-peers` tells where they are")
                })?
            }
            _ => bail!("give either `-id` or `-address`"),
        };
        client.operator().remove_peer(id, &self.connection.datacenter()).await?;
        print_line(format_args!("Removed peer with id \"{id}\""))?;
        Ok(ExitCode::SUCCESS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_trails_the_leader_is_told_where_it_is_known() {
        let server = |id, leader, last_log_index| {
            let peer = Some(v1::Peer { id, node: format!("s{id}"), address: "10.0.0.1:8300".into() });
            v1::RaftServer { peer, leader, voter: true, last_log_index }
        };
        let ends = |servers: Vec<v1::RaftServer>| -> Vec<String> {
            let cells = |line: &str| line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).skip(6).collect::<Vec<_>>().join("|");
            peers(servers).to_string().lines().map(cells).collect()
        };
        let known = ends(vec![server(1, true, 90), server(2, false, 89), server(3, false, 90), server(4, false, 0)]);
        assert_eq!(known, ["Commit Index|Trails Leader By", "90|-", "89|1 commit", "90|0 commits", "-|-"]);
        let unknown = ends(vec![server(1, true, 0), server(2, false, 89)]);
        assert_eq!(unknown[1..], ["-|-", "89|-"]);
    }
}
