//! `lictor debug`: what a report of a fault needs, in one archive: who the agent is, its machine, its
//! members, what is registered with it, its metrics and its log over an interval. Secrets are not in it.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use flate2::Compression;
use flate2::write::GzEncoder;
use lictor_client::v1::{self, LogLevel};
use lictor_client::{Client, Error};
use serde_json::{Value, json};
use tokio::time::{Instant, interval, sleep_until};

use crate::cli::connect::Connection;
use crate::cli::output::print_line;
use crate::cli::{info, monitor};
use crate::config::duration;

/// What can be gathered.
const TARGETS: [&str; 5] = ["agent", "host", "members", "metrics", "logs"];

/// Largest log that is gathered, in bytes; what comes after it is left out, which the index says.
const LOG_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Gather what a report of a fault needs into one archive
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Debug {
    /// How long log and metrics are gathered
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = time)]
    duration: Duration,
    /// Time between two pictures of the metrics
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = time)]
    interval: Duration,
    /// Gather only this: agent, host, members, metrics or logs; may be repeated [default: all]
    #[arg(long, value_name = "WHAT")]
    capture: Vec<String>,
    /// The archive, without `.tar.gz` [default: lictor-debug- and the time, in this directory]
    #[arg(long, value_name = "PATH")]
    output: Option<PathBuf>,
    /// Make one archive; false leaves a directory
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = true, default_missing_value = "true", action = clap::ArgAction::Set, value_name = "BOOL")]
    archive: bool,
    #[command(flatten)]
    connection: Connection,
}

fn time(text: &str) -> Result<Duration, String> {
    let parsed = duration::parse(text).filter(|duration| !duration.is_zero());
    parsed.ok_or_else(|| "a duration is written like `10s` or `1h30m`, and is longer than 0".to_owned())
}

impl Debug {
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        let wanted = self.targets()?;
        let client = self.connection.client_of_this_agent("debug").await?;
        // Before anything is written: an agent that does not answer leaves nothing behind.
        let info = client.agent().info().await?;
        let folder = self.folder();
        fs::create_dir(&folder)
            .with_context(|| format!("cannot make the directory `{}`; give another with `-output`", folder.display()))?;
        complain!("Gathering for {}; interrupt to end earlier", humantime::format_duration(self.duration));
        let gathered = Gathering { client: &client, folder: &folder, wanted: &wanted }.gather(info, self.duration, self.interval).await;
        gathered.with_context(|| format!("what was gathered so far is in `{}`", folder.display()))?;
        let place = if self.archive { archive(&folder)? } else { folder };
        print_line(format_args!("Saved debug archive: {}", place.display()))?;
        Ok(ExitCode::SUCCESS)
    }

    fn targets(&self) -> anyhow::Result<Vec<&str>> {
        let given: Vec<&str> = self.capture.iter().flat_map(|list| list.split(',')).map(str::trim).collect();
        if let Some(odd) = given.iter().find(|target| !TARGETS.contains(target)) {
            bail!("`{odd}` can't be gathered; `-capture` takes {}", TARGETS.join(", "));
        }
        Ok(if given.is_empty() { TARGETS.to_vec() } else { given })
    }

    fn folder(&self) -> PathBuf {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        self.output.clone().unwrap_or_else(|| format!("lictor-debug-{now}").into())
    }
}

struct Gathering<'a> {
    client: &'a Client,
    folder: &'a Path,
    wanted: &'a [&'a str],
}

impl Gathering<'_> {
    async fn gather(&self, info: v1::GetInfoResponse, duration: Duration, pause: Duration) -> anyhow::Result<()> {
        let agent = self.client.agent();
        let mut missing: Vec<String> = Vec::new();
        if self.wants("agent") {
            let configuration: Vec<_> = info.configuration.clone().into_iter().collect();
            let mut about = json!(info::sections(info));
            about["configuration"] = configuration.into_iter().map(|(key, value)| (key, Value::from(value))).collect();
            self.json("agent.json", &about)?;
            self.told("services.json", agent.services("").await.map(|rows| listed(rows.iter().map(service_shape))), &mut missing)?;
            self.told("checks.json", agent.checks("").await.map(|rows| listed(rows.iter().map(check_shape))), &mut missing)?;
        }
        if self.wants("host") {
            self.told("host.json", agent.host().await.map(|host| format!("{:#}", host_shape(&host))), &mut missing)?;
        }
        if self.wants("members") {
            let members = agent.members(v1::Pool::Lan).await;
            let shape = |members: Vec<v1::Member>| format!("{:#}", Value::from_iter(members.iter().map(info::row)));
            self.told("members.json", members.map(shape), &mut missing)?;
        }
        let begun = SystemTime::now();
        let until = Instant::now() + duration;
        let flows = async { tokio::try_join!(self.metrics(until, pause), self.log(until)).map(|(_, cut)| cut) };
        let cut = tokio::select! {
            cut = flows => cut?,
            _ = tokio::signal::ctrl_c() => false,
        };
        let index = json!({
            "program": crate::VERSION,
            "captured": self.wanted,
            "begun": humantime::format_rfc3339_seconds(begun).to_string(),
            "ended": humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
            "log_cut": cut,
            "missing": missing,
        });
        self.json("index.json", &index)
    }

    fn wants(&self, target: &str) -> bool {
        self.wanted.contains(&target)
    }

    /// A picture of the metrics at once and then each `pause`.
    async fn metrics(&self, until: Instant, pause: Duration) -> anyhow::Result<()> {
        if !self.wants("metrics") {
            return Ok(());
        }
        fs::create_dir(self.folder.join("metrics"))?;
        let mut tick = interval(pause);
        for number in 1.. {
            tokio::select! {
                _ = tick.tick() => {}
                () = sleep_until(until) => break,
            }
            let text = self.client.agent().metrics().await?;
            fs::write(self.folder.join("metrics").join(format!("{number:04}.txt")), text)?;
        }
        Ok(())
    }

    /// The log in debug detail. Says whether it was cut off for its size.
    async fn log(&self, until: Instant) -> anyhow::Result<bool> {
        if !self.wants("logs") {
            return Ok(false);
        }
        let mut file = BufWriter::new(File::create(self.folder.join("lictor.log"))?);
        let mut lines = self.client.agent().monitor(LogLevel::Debug).await?;
        let mut written = 0;
        loop {
            let line = tokio::select! {
                line = lines.next() => line?,
                () = sleep_until(until) => None,
            };
            let Some(line) = line else { break };
            let text = monitor::json(&line);
            written += text.len() as u64 + 1;
            if written > LOG_BYTES_MAX {
                file.flush()?;
                return Ok(true);
            }
            writeln!(file, "{text}")?;
            // Whoever interrupts finds everything that was told.
            file.flush()?;
        }
        Ok(false)
    }

    fn json(&self, name: &str, value: &Value) -> anyhow::Result<()> {
        Ok(fs::write(self.folder.join(name), format!("{value:#}\n"))?)
    }

    /// Writes what the agent told; what it refused to tell is named in the index instead.
    fn told(&self, name: &str, text: Result<String, Error>, missing: &mut Vec<String>) -> anyhow::Result<()> {
        match text {
            Ok(text) => fs::write(self.folder.join(name), text + "\n")?,
            Err(error) => missing.push(format!("{name}: {error}")),
        }
        Ok(())
    }
}

fn listed(rows: impl Iterator<Item = Value>) -> String {
    format!("{:#}", Value::from_iter(rows))
}

fn service_shape(row: &v1::Service) -> Value {
    json!({ "id": row.id, "name": row.name, "address": row.address, "port": row.port, "tags": row.tags })
}

/// A check without how it is run: headers, bodies and arguments may hold secrets.
fn check_shape(row: &v1::Check) -> Value {
    json!({
        "id": row.check_id,
        "name": row.name,
        "service_id": row.service_id,
        "status": row.status().as_str_name(),
        "output": row.output,
    })
}

fn host_shape(host: &v1::GetHostResponse) -> Value {
    let memory = host.memory.unwrap_or_default();
    let system = host.system.clone().unwrap_or_default();
    let disk = host.disk.clone().unwrap_or_default();
    json!({
        "memory": { "total": memory.total, "available": memory.available, "used": memory.used, "free": memory.free,
                    "buffers": memory.buffers, "cached": memory.cached, "swap_total": memory.swap_total, "swap_free": memory.swap_free },
        "processors": host.processors.iter().map(|one| json!({ "number": one.number, "vendor": one.vendor, "model": one.model, "mhz": one.mhz })).collect::<Vec<_>>(),
        "system": { "host_name": system.host_name, "processes": system.processes, "platform": system.platform,
                    "platform_version": system.platform_version, "kernel_version": system.kernel_version, "architecture": system.architecture },
        "disk": { "path": disk.path, "total": disk.total, "free": disk.free, "used": disk.used },
        "errors": host.errors,
    })
}

/// Packs a directory into an archive beside it, and removes it.
fn archive(folder: &Path) -> anyhow::Result<PathBuf> {
    let mut name = folder.file_name().unwrap_or_default().to_owned();
    let inside = name.clone();
    name.push(".tar.gz");
    let place = folder.with_file_name(name);
    let pack = || -> std::io::Result<()> {
        let mut archive = tar::Builder::new(GzEncoder::new(BufWriter::new(File::create_new(&place)?), Compression::default()));
        archive.append_dir_all(inside, folder)?;
        archive.into_inner()?.finish()?.into_inner().map_err(std::io::IntoInnerError::into_error)?.sync_all()
    };
    pack().with_context(|| format!("cannot write `{}`; what was gathered is in `{}`", place.display(), folder.display()))?;
    fs::remove_dir_all(folder).with_context(|| format!("the archive is whole, and `{}` can't be removed", folder.display()))?;
    Ok(place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_holds_the_directory_under_its_name() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("d1");
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("a.json"), "{}").unwrap();
        let place = archive(&folder).unwrap();
        assert_eq!(place, home.path().join("d1.tar.gz"));
        assert!(!folder.exists());
        let mut found = tar::Archive::new(flate2::read::GzDecoder::new(File::open(&place).unwrap()));
        let names: Vec<String> = found.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().display().to_string()).collect();
        assert!(names.contains(&"d1/a.json".to_owned()), "{names:?}");
        fs::create_dir(&folder).unwrap();
        assert!(archive(&folder).is_err(), "an archive that is there is not written over");
    }
}
