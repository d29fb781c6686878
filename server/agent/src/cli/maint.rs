//! `lictor maint`: takes the node, or one service on it, out of work, and back.

use std::process::ExitCode;

use anyhow::bail;
use lictor_client::v1;

use crate::cli::connect::Connection;
use crate::cli::output::print_line;

/// Ids of the checks that stand for maintenance: that of the node, and how those of services begin.
const MAINTENANCE: [&str; 2] = ["_node_maintenance", "_service_maintenance:"];

/// Take this node or a service on it out of work, or back; without flags, tell what is out of work
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Maint {
    /// Take it out of work
    #[arg(long)]
    enable: bool,
    /// Put it back
    #[arg(long)]
    disable: bool,
    /// Why, for people
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    reason: String,
    /// The id of a service here, instead of the whole node
    #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
    service: String,
    #[command(flatten)]
    connection: Connection,
}

impl Maint {
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        let Maint { enable, disable, reason, service, connection } = self;
        match (enable, disable) {
            (true, true) => bail!("`-enable` and `-disable` exclude each other"),
            (false, true) if !reason.is_empty() => bail!("`-reason` belongs to `-enable`"),
            (false, false) if !reason.is_empty() || !service.is_empty() => bail!("give `-enable` or `-disable` as well"),
            _ => {}
        }
        let client = connection.client_of_this_agent("maint").await?;
        if !enable && !disable {
            let checks = client.agent().checks("").await?;
            checks
                .iter()
                .filter(|check| MAINTENANCE.iter().any(|id| check.check_id.starts_with(id)))
                .try_for_each(|check| print_line(line(check)))?;
            return Ok(ExitCode::SUCCESS);
        }
        client.agent().set_maintenance(&service, enable, &reason).await?;
        let what = if service.is_empty() { "Node".to_owned() } else { format!("Service `{service}`") };
        print_line(format_args!("{what}: maintenance is {}", if enable { "on" } else { "off" }))?;
        Ok(ExitCode::SUCCESS)
    }
}

/// One node or service that is out of work.
fn line(check: &v1::Check) -> String {
    match &*check.service_id {
        "" => format!("Node:\n  Name:   {}\n  Reason: {}", check.node, check.notes),
        id => format!("Service:\n  ID:     {id}\n  Reason: {}", check.notes),
    }
}
