//! Reloading: the files are read again, what can change while running is applied, and the rest is named.
//!
//! A configuration with any mistake changes nothing.

use std::io;

use service::agent::{Agent, ReloadRequest, Reloaded};
use service::{Error, Reason};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::config::{AgentFlags, Config};
use crate::telemetry::LogControl;

/// The configuration that is in force, and where it comes from.
pub(crate) struct Reloader {
    flags: AgentFlags,
    running: Config,
    log: LogControl,
    hangup: Signal,
}

/// Names the fields in which two configurations differ.
macro_rules! differing {
    ($old:expr, $new:expr, [$($field:ident),* $(,)?]) => {{
        let mut names: Vec<String> = Vec::new();
        $(if $old.$field != $new.$field {
            names.push(stringify!($field).to_owned());
        })*
        names
    }};
}

impl Reloader {
    /// Starts from what the agent was started with. A SIGHUP is kept for [`run`](Reloader::run) from here on,
    /// so this comes before anybody is told that the agent is there.
    ///
    /// # Errors
    /// The process can't listen for SIGHUP.
    pub(crate) fn new(flags: AgentFlags, running: Config, log: LogControl) -> io::Result<Self> {
        Ok(Reloader { flags, running, log, hangup: signal(SignalKind::hangup())? })
    }

    /// Answers requests and SIGHUP until `stop`.
    pub(crate) async fn run(mut self, agent: Agent, mut requests: mpsc::Receiver<ReloadRequest>, stop: CancellationToken) {
        loop {
            let reply = tokio::select! {
                () = stop.cancelled() => return,
                _ = self.hangup.recv() => None,
                Some(request) = requests.recv() => Some(request),
            };
            let trigger = if reply.is_some() { "request" } else { "SIGHUP" };
            let result = self.reload(&agent).await;
            match &result {
                Ok(Reloaded { applied, restart_needed }) => {
                    tracing::info!(
                        trigger,
                        applied = applied.join(", "),
                        restart_needed = restart_needed.join(", "),
                        "configuration reloaded"
                    );
                }
                Err(error) => tracing::warn!(trigger, "the configuration was not reloaded, the one in force stays: {error}"),
            }
            // Who asked may have left.
            let _ = reply.map(|reply| reply.send(result));
        }
    }

    async fn reload(&mut self, agent: &Agent) -> Result<Reloaded, Error> {
        let flags = self.flags.clone();
        let loaded = tokio::task::spawn_blocking(move || Config::load(&flags)).await;
        let loaded = loaded.map_err(|_| Error::new(Reason::Internal, "reading the configuration has failed in itself"))?;
        let config = loaded.map_err(|error| Error::new(Reason::InvalidConfiguration, error.to_string()))?;
        config.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
        let (services, checks) = agent.reconfigure(config.services.clone(), config.checks.clone()).await?;
        // What needs a restart is compared with what runs, now and the next time.
        self.running.services = config.services.clone();
        self.running.checks = config.checks.clone();
        let level = self.running.log.level != config.log.level && self.log.set_level(config.log.level);
        if level {
            self.running.log.level = config.log.level;
        }
        let interval = self.running.check_update_interval != config.check_update_interval;
        if interval {
            agent.set_output_interval(config.check_update_interval);
            self.running.check_update_interval = config.check_update_interval;
        }
        let applied = [("services", services), ("checks", checks), ("log_level", level), ("check_update_interval", interval)];
        let applied = applied.into_iter().filter(|(_, changed)| *changed).map(|(name, _)| name.to_owned()).collect();
        let restart_needed = needs_restart(&self.running, &config);
        Ok(Reloaded { applied, restart_needed })
    }
}

/// Fields that differ and are read only when the agent starts.
fn needs_restart(old: &Config, new: &Config) -> Vec<String> {
    differing!(
        old,
        new,
        [
            dev,
            server,
            bootstrap_expect,
            datacenter,
            node_name,
            node_id,
            node_meta,
            bind_addr,
            advertise_addr,
            listen,
            data_dir,
            pid_file,
            log,
            dns,
            http,
            limits,
            default_query_time,
            max_query_time,
            check_output_max_size,
            check_update_interval,
            scripts,
            watch_history,
        ]
    )
}
