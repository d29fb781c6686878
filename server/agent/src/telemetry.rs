//! Logs and metrics of the process.
//!
//! Lines of the log go to standard error, so that standard output holds nothing but what programs
//! read. Metrics are rendered when somebody asks; nothing is pushed and no port is opened for them.

use std::fs;
use std::io::{self, IsTerminal};
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use anyhow::Context;
use metrics::gauge;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use service::Service;
use service::monitor::Feed;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::fmt::writer::{BoxMakeWriter, MakeWriterExt};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, reload};

use crate::config::{Log, LogLevel};
use crate::log_file::{LogFile, Rotation};
use crate::{log_feed, metrics_catalog};

/// How often samples are folded into their summaries, so that they take no memory between two
/// questions for the metrics.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// The metrics of the process. Cheap to clone.
#[derive(Clone)]
pub struct Metrics {
    handle: PrometheusHandle,
    sample: Arc<OnceLock<Sampler>>,
}

/// Brings figures up to date that are only looked at when somebody asks.
type Sampler = Box<dyn Fn() + Send + Sync>;

impl Metrics {
    /// Installs the recorder for the whole process and registers every figure at zero.
    ///
    /// Errors when another recorder is installed already.
    pub fn install() -> anyhow::Result<Self> {
        let recorder = recorder()?;
        let handle = recorder.handle();
        metrics::set_global_recorder(recorder).context("metrics are recorded by somebody else in this process")?;
        metrics_catalog::register();
        gauge!("consul_version", "version" => crate::VERSION).set(1.0);
        Ok(Metrics { handle, sample: Arc::default() })
    }

    /// All figures in Prometheus' text format.
    pub fn render(&self) -> String {
        sample_process();
        self.sample.get().into_iter().for_each(|sample| sample());
        self.handle.render()
    }

    /// Shows what `service` holds and where consensus stands, from now on.
    pub fn observe(&self, service: Service) {
        // Only the first service counts: a process has one.
        let _ = self.sample.set(Box::new(move || sample_service(&service)));
    }

    /// The same as a function, for a face that does not know this crate.
    pub fn source(&self) -> Arc<dyn Fn() -> String + Send + Sync> {
        let metrics = self.clone();
        Arc::new(move || metrics.render())
    }

    /// Keeps the figures compact until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let mut tick = tokio::time::interval(UPKEEP_INTERVAL);
        while stop.run_until_cancelled(tick.tick()).await.is_some() {
            self.handle.run_upkeep();
        }
    }
}

fn recorder() -> anyhow::Result<PrometheusRecorder> {
    Ok(PrometheusBuilder::new().set_quantiles(&[0.5, 0.9, 0.99])?.build_recorder())
}

/// Looks at what the server holds.
fn sample_service(service: &Service) {
    let counts = service.counts();
    let status = service.consensus_status();
    let figures = [
        ("consul_state_nodes", counts.nodes as f64),
        ("consul_state_services", counts.services as f64),
        ("consul_state_service_instances", counts.instances as f64),
        ("consul_state_kv_entries", counts.keys as f64),
        ("consul_watch_watchers", counts.watchers as f64),
        ("consul_raft_last_index", status.last_index as f64),
        ("consul_raft_applied_index", status.applied as f64),
        ("consul_raft_term", status.term as f64),
        ("consul_raft_leader_lastContact", status.last_contact.unwrap_or_default().as_secs_f64() * 1000.0),
        ("consul_server_isLeader", f64::from(status.leader == Some(status.id))),
    ];
    figures.into_iter().for_each(|(name, value)| gauge!(name).set(value));
    // Only the leader knows.
    if let Ok(state) = service.autopilot_state(&service::Caller::default()) {
        gauge!("consul_autopilot_healthy").set(f64::from(state.healthy));
        gauge!("consul_autopilot_failure_tolerance").set(f64::from(state.failure_tolerance));
    }
}

/// Looks at the process itself.
fn sample_process() {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let number = |name: &str| -> Option<f64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse().ok()
    };
    if let Some(kib) = number("VmRSS:") {
        gauge!("consul_runtime_sys_bytes").set(kib * 1024.0);
    }
    if let Some(threads) = number("Threads:") {
        gauge!("consul_runtime_threads").set(threads);
    }
    if let Ok(files) = fs::read_dir("/proc/self/fd") {
        gauge!("consul_runtime_open_files").set(files.count() as f64);
    }
}

/// The log of the process, once it has begun.
#[derive(Clone)]
pub struct LogControl {
    /// The lines as they are written.
    pub feed: Feed,
    /// Unset when `RUST_LOG` decides.
    level: Option<reload::Handle<EnvFilter, Registry>>,
}

impl LogControl {
    /// Writes lines from `level` up from now on. Tells whether that took effect: `RUST_LOG` stands
    /// over the configuration for as long as the process runs.
    pub fn set_level(&self, level: LogLevel) -> bool {
        self.level.as_ref().is_some_and(|handle| handle.reload(EnvFilter::new(filter(level))).is_ok())
    }
}

/// Begins to log.
///
/// The environment variable `RUST_LOG`, when it is set, decides on the level of each part instead
/// of the configuration: `RUST_LOG=lictor=debug,lictor_dns=trace`.
pub fn start_log(log: &Log) -> anyhow::Result<LogControl> {
    let mut fixed = true;
    let filter = match std::env::var("RUST_LOG") {
        Ok(directives) if !directives.is_empty() => {
            EnvFilter::try_new(&directives).with_context(|| format!("`RUST_LOG={directives}` is not a list of `part=level`"))?
        }
        _ => {
            fixed = false;
            EnvFilter::new(filter(log.level))
        }
    };
    let file = log.file.as_deref().map(|path| open_log(path, &log.rotation)).transpose()?;
    let colour = file.is_none() && !log.json && io::stderr().is_terminal();
    let writer = match file {
        Some(file) => BoxMakeWriter::new(io::stderr.and(Mutex::new(file))),
        None => BoxMakeWriter::new(io::stderr),
    };
    let (filter, handle) = reload::Layer::new(filter);
    let lines = tracing_subscriber::fmt::layer().with_writer(writer).with_ansi(colour);
    let lines = if log.json { lines.json().flatten_event(true).boxed() } else { lines.boxed() };
    let (feed, told) = log_feed::layer();
    let started = tracing_subscriber::registry().with(lines.with_filter(filter)).with(told).try_init();
    started.map_err(|error| anyhow::anyhow!("the log cannot begin: {error}"))?;
    Ok(LogControl { feed, level: (!fixed).then_some(handle) })
}

/// Our own parts at `level`; the libraries below speak up only when something is wrong.
fn filter(level: LogLevel) -> String {
    let libraries = match level {
        LogLevel::Trace => "info",
        LogLevel::Error => "error",
        LogLevel::Debug | LogLevel::Info | LogLevel::Warn => "warn",
    };
    // It tells of every attempt to reach a dead peer; that the peer is dead is told once, by gossip.
    let consensus = if level == LogLevel::Trace { "info" } else { "error" };
    format!("{libraries},openraft={consensus},lictor={level}")
}

fn open_log(path: &Path, rotation: &Rotation) -> anyhow::Result<LogFile> {
    LogFile::open(path, rotation.clone())
        .with_context(|| format!("cannot write the log file `{}`; give another with `-log-file`", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics_catalog::CATALOG;

    #[test]
    fn every_figure_is_there_from_the_start() {
        let recorder = recorder().unwrap();
        let handle = recorder.handle();
        metrics::with_local_recorder(&recorder, || {
            metrics_catalog::register();
            sample_process();
        });
        let text = handle.render();
        for series in CATALOG.iter().filter(|series| series.labels.is_empty()) {
            let shown = text.lines().any(|line| line.starts_with(series.name) && !line.starts_with('#'));
            assert!(shown, "`{}` is missing in:\n{text}", series.name);
        }
        assert!(text.contains("consul_kvs_apply{quantile=\"0.99\"}"), "{text}");
        assert!(!text.contains("consul_runtime_sys_bytes 0\n"), "{text}");
    }

    /// The names in the sources of the servers that look like a figure's.
    fn names_in(folder: &Path, names: &mut std::collections::BTreeMap<String, usize>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                names_in(&path, names);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                for word in text.split('"').filter(|word| word.len() > 7 && word.starts_with("consul_") && !word.contains([' ', '{', '\\']))
                {
                    *names.entry(word.to_owned()).or_default() += 1;
                }
            }
        }
    }

    #[test]
    fn every_figure_of_the_list_is_taken_and_none_is_taken_that_is_not_listed() {
        let mut names = std::collections::BTreeMap::new();
        names_in(&Path::new(env!("CARGO_MANIFEST_DIR")).join(".."), &mut names);
        for series in CATALOG {
            assert!(names.remove(series.name).is_some_and(|times| times > 1), "`{}` is listed and nobody takes it", series.name);
        }
        assert_eq!(names.into_keys().collect::<Vec<_>>(), [] as [&str; 0], "taken and not listed");
    }

    #[test]
    fn names_are_unique() {
        let mut names: Vec<&str> = CATALOG.iter().map(|series| series.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), CATALOG.len());
    }

    #[test]
    fn a_level_is_that_of_our_own_parts() {
        assert_eq!(filter(LogLevel::Debug), "warn,openraft=error,lictor=debug");
        assert_eq!(filter(LogLevel::Error), "error,openraft=error,lictor=error");
    }

    #[test]
    fn a_log_file_that_cannot_be_opened_is_named() {
        let error = open_log(Path::new("/nonexistent/x.log"), &Rotation::default()).unwrap_err().to_string();
        assert!(error.contains("/nonexistent/x.log") && error.contains("-log-file"), "{error}");
    }
}
