//! Reloading: the files are read again, what can change while running is applied, and the rest is named.
//!
//! A configuration with any mistake changes nothing, and neither does one of whose definitions any can't be
//! registered.

use std::io;
use std::sync::Arc;

use arc_swap::ArcSwap;
use service::agent::{Agent, ReloadRequest, Reloaded};
use service::{Error, Reason};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::config::{AgentFlags, Config, ConfigError, Dns, Limits, Log};
use crate::faces::Live;
use crate::telemetry::LogControl;
use crate::watches::Watches;

/// The configuration that is in force, and where it comes from.
pub(crate) struct Reloader {
    flags: AgentFlags,
    running: Arc<ArcSwap<Config>>,
    log: LogControl,
    live: Live,
    watches: Watches,
    hangup: Signal,
}

impl Reloader {
    /// Starts from what the agent was started with. A SIGHUP is kept for [`run`](Reloader::run) from here on,
    /// so this comes before anybody is told that the agent is there.
    ///
    /// # Errors
    /// The process can't listen for SIGHUP.
    pub(crate) fn new(flags: AgentFlags, running: Arc<ArcSwap<Config>>, log: LogControl, live: Live, watches: Watches) -> io::Result<Self> {
        Ok(Reloader { flags, running, log, live, watches, hangup: signal(SignalKind::hangup())? })
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
        let config = loaded.map_err(refusal)?;
        let running = self.running.load_full();
        let mut next = with_live_settings(&running, &config);
        // What can fail comes before what can't.
        let faces = self.live.prepare(&next).map_err(|error| Error::new(Reason::InvalidConfiguration, format!("{error:#}")))?;
        let (services, checks) = agent.reconfigure(config.services.clone(), config.checks.clone()).await?;
        config.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
        self.live.apply(faces, &next);
        let watches = self.watches.apply(&config.watches).await;
        if running.log.level != next.log.level && !self.log.set_level(next.log.level) {
            next.log.level = running.log.level;
        }
        agent.set_output_interval(next.check_update_interval);
        agent.set_discard_output(next.discard_check_output);
        if running.node_meta != next.node_meta {
            agent.set_node_meta(next.node_meta.iter().map(|(key, value)| (key.as_str().into(), value.as_str().into())).collect());
        }
        let definitions = [("services", services), ("checks", checks), ("watches", watches)].into_iter().filter(|(_, changed)| *changed);
        let applied = definitions.map(|(name, _)| name.to_owned()).chain(running.differences(&next)).collect();
        let restart_needed = next.differences(&config);
        self.running.store(Arc::new(next));
        Ok(Reloaded { applied, restart_needed })
    }
}

/// What runs, with the settings of `new` that can change while it does.
fn with_live_settings(running: &Config, new: &Config) -> Config {
    let (domain, alt_domain) = (running.dns.domain.clone(), running.dns.alt_domain.clone());
    Config {
        node_meta: new.node_meta.clone(),
        log: Log { level: new.log.level, ..running.log.clone() },
        dns: Dns { domain, alt_domain, ..new.dns.clone() },
        http: new.http.clone(),
        limits: Limits { http_max_conns_per_client: new.limits.http_max_conns_per_client, ..running.limits.clone() },
        discard_check_output: new.discard_check_output,
        check_update_interval: new.check_update_interval,
        services: new.services.clone(),
        checks: new.checks.clone(),
        watches: new.watches.clone(),
        warnings: new.warnings.clone(),
        ..running.clone()
    }
}

/// The mistakes in words, and the place of the first one for programs.
fn refusal(error: ConfigError) -> Error {
    let mut refusal = Error::new(Reason::InvalidConfiguration, error.to_string());
    let first = error.0.iter().find(|mistake| mistake.place.is_some()).or(error.0.first());
    if let Some(place) = first.and_then(|mistake| mistake.place.as_ref()) {
        refusal = refusal.with("file", &place.file).with("line", place.line);
    }
    if let Some(field) = first.and_then(|mistake| mistake.field.as_ref()) {
        refusal = refusal.with("field", field);
    }
    refusal.with("mistakes", error.0.len())
}
