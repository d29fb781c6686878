//! `lictor agent` and `lictor validate`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;

use crate::cli::output::print_line;
use crate::config::{AgentFlags, Config};
use crate::shutdown::Shutdown;
use crate::start::{OPEN_FILES, PidFile, raise_open_files};
use crate::telemetry::{self, Metrics};
use crate::wiring;

/// Check configuration files
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Validate {
    /// Say nothing when they are valid
    #[arg(long)]
    quiet: bool,
    /// Read files of any name as `hcl` or `json`
    #[arg(long, value_name = "FORMAT")]
    config_format: Option<String>,
    /// Files, or directories with .hcl and .json files
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<PathBuf>,
}

impl Validate {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let flags = AgentFlags { config_paths: self.paths, config_format: self.config_format, ..AgentFlags::default() };
        match Config::load(&flags) {
            Ok(config) => {
                config.warnings.iter().for_each(|warning| complain!("warning: {warning}"));
                if !self.quiet {
                    print_line("Configuration is valid!")?;
                }
                Ok(ExitCode::SUCCESS)
            }
            Err(error) => {
                complain!("Config validation failed: {error}");
                Ok(ExitCode::FAILURE)
            }
        }
    }
}

/// Runs the agent until it is asked to stop.
pub(crate) fn run(flags: &AgentFlags, warnings: &[String]) -> anyhow::Result<ExitCode> {
    let config = Config::load(flags)?;
    let log = telemetry::start_log(&config.log)?;
    warnings.iter().chain(&config.warnings).for_each(|warning| tracing::warn!("{warning}"));
    match raise_open_files() {
        Ok(limit) if config.server && limit < OPEN_FILES => {
            tracing::warn!(
                limit,
                "so many files and sockets may be open, where a server of ten thousand agents needs {OPEN_FILES}; raise the hard limit (`ulimit -Hn`, `LimitNOFILE=`) for a large cluster"
            );
        }
        Ok(_) => {}
        Err(error) => tracing::warn!(%error, "the limit of open files stays as it is; many connections may not fit"),
    }
    let metrics = Metrics::install()?;
    let _pid_file = config.pid_file.as_deref().map(PidFile::write).transpose()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start the threads of the agent")?;
    let ended = runtime.block_on(async {
        let shutdown = Shutdown::new();
        shutdown.listen().context("cannot listen for signals")?;
        wiring::run(flags.clone(), config, shutdown, metrics, log).await
    });
    // What still runs now had its time; waiting longer would only hide a task that does not end.
    runtime.shutdown_background();
    ended.map(|()| ExitCode::SUCCESS)
}
