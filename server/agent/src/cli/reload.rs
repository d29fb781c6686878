//! `lictor reload`: has the agent read its configuration again.

use std::process::ExitCode;

use crate::cli::connect::Connection;
use crate::cli::output::print_line;

/// Have the agent read its configuration again
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Reload {
    #[command(flatten)]
    connection: Connection,
}

impl Reload {
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        let done = self.connection.client_of_this_agent("reload").await?.agent().reload().await?;
        print_line("Configuration reload triggered")?;
        if !done.applied.is_empty() {
            print_line(format_args!("In force now: {}", done.applied.join(", ")))?;
        }
        if !done.restart_needed.is_empty() {
            print_line(format_args!("Needs a restart: {}", done.restart_needed.join(", ")))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}
