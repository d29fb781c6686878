//! `lictor kv export` and `import`: keys out to JSON and back.
//!
//! An export is a JSON array of `{"key", "flags", "value"}` with values in base64, as Consul writes
//! it. An import writes many keys in one transaction; where a transaction is refused it writes its
//! keys one by one, so that each failure is told by its key and stops nothing else.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use lictor_client::{Client, Error, ListOptions, PutOptions, Txn, v1};
use serde::Deserialize;

use crate::cli::connect::Connection;
use crate::cli::kv::{argument, bare};
use crate::cli::{json, output};

/// Most keys in one transaction, and most bytes; the server may allow less.
const BATCH_KEYS_MAX: usize = 128;
const BATCH_BYTES_MAX: usize = 256 * 1024;

/// Progress is worth telling from this many keys on, also where nobody looks at a terminal.
const PROGRESS_KEYS_MIN: usize = 1000;

/// How often progress is told.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

/// Print the keys under a prefix as JSON that `import` reads
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Export {
    #[command(flatten)]
    connection: Connection,
    /// What the keys begin with; all keys when left out
    #[arg(value_name = "PREFIX")]
    prefix: Option<String>,
}

/// Write the keys of an export
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Import {
    /// Put this before each key
    #[arg(long, default_value = "", value_name = "PREFIX")]
    prefix: String,
    #[command(flatten)]
    connection: Connection,
    /// The JSON itself; `@FILE` reads it from a file, `-` from standard input
    #[arg(value_name = "DATA", allow_hyphen_values = true)]
    data: Option<String>,
}

impl Export {
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        let client = self.connection.client()?;
        let options = ListOptions { read: self.connection.read(), ..ListOptions::default() };
        let mut pages = client.kv().pages(bare(self.prefix.as_deref()), options).await?;
        let mut out = output::out();
        let mut first = true;
        while let Some(page) = pages.next().await? {
            for entry in &page.entries {
                out.write_all(if first { b"[\n" } else { b",\n" })?;
                out.write_all(exported(entry).as_bytes())?;
                first = false;
            }
        }
        out.write_all(if first { b"[]\n" } else { b"\n]\n" })?;
        out.flush()?;
        Ok(ExitCode::SUCCESS)
    }
}

fn exported(entry: &v1::Entry) -> String {
    let (name, key) = json::key(&entry.key);
    format!("\t{{\n\t\t\"{name}\": {key},\n\t\t\"flags\": {},\n\t\t\"value\": \"{}\"\n\t}}", entry.flags, json::base64(&entry.value))
}

/// One key of an export as it is read.
#[derive(Deserialize)]
struct Exported {
    #[serde(default, alias = "Key")]
    key: Option<String>,
    #[serde(default)]
    key_base64: Option<String>,
    #[serde(default, alias = "Flags")]
    flags: u64,
    #[serde(default, alias = "Value")]
    value: Option<String>,
}

/// One key to write.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Item {
    key: Vec<u8>,
    flags: u64,
    value: Vec<u8>,
}

impl Item {
    fn size(&self) -> usize {
        self.key.len() + self.value.len()
    }

    fn name(&self) -> String {
        String::from_utf8_lossy(&self.key).into_owned()
    }
}

/// Reads an export, all of it before anything is written.
fn items(data: &[u8], prefix: &str) -> anyhow::Result<Vec<Item>> {
    let exported: Vec<Exported> =
        serde_json::from_slice(data).context("the data is not an export: a JSON array of `key`, `flags` and `value` is expected")?;
    exported.into_iter().enumerate().map(|(at, row)| item(row, prefix).with_context(|| format!("entry {} of the export", at + 1))).collect()
}

fn item(row: Exported, prefix: &str) -> anyhow::Result<Item> {
    let key = match (row.key, row.key_base64) {
        (Some(key), None) => key.into_bytes(),
        (None, Some(key)) => STANDARD.decode(key).context("`key_base64` is not base64")?,
        _ => bail!("one of `key` and `key_base64` is needed"),
    };
    let value = STANDARD.decode(row.value.unwrap_or_default()).context("`value` is not base64")?;
    let key = joined(prefix, key);
    if key.is_empty() {
        bail!("the key is empty");
    }
    Ok(Item { key, flags: row.flags, value })
}

/// The key under a prefix, with one slash between them.
fn joined(prefix: &str, key: Vec<u8>) -> Vec<u8> {
    if prefix.is_empty() {
        return key;
    }
    let key = key.strip_prefix(b"/").unwrap_or(&key);
    [prefix.trim_end_matches('/').as_bytes(), b"/", key].concat()
}

/// Cuts into batches that fit a transaction.
fn batches(items: &[Item], keys_max: usize, bytes_max: usize) -> Vec<&[Item]> {
    let mut batches = Vec::new();
    let (mut start, mut bytes) = (0, 0);
    for (at, item) in items.iter().enumerate() {
        let full = at - start >= keys_max || bytes + item.size() > bytes_max;
        if at > start && full {
            batches.push(&items[start..at]);
            (start, bytes) = (at, 0);
        }
        bytes += item.size();
    }
    if start < items.len() {
        batches.push(&items[start..]);
    }
    batches
}

impl Import {
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        let items = items(&argument(self.data.as_deref().unwrap_or("-"))?, bare(Some(&self.prefix)))?;
        let client = self.connection.client()?;
        let limits = client.status().limits().await?;
        let at_most = |limit: u64, own: usize| usize::try_from(limit).map_or(own, |limit| if limit == 0 { own } else { limit.min(own) });
        let keys_max = at_most(limits.txn_operations_max, BATCH_KEYS_MAX);
        let bytes_max = at_most(limits.txn_bytes_max, BATCH_BYTES_MAX);
        let mut progress = Progress::new(items.len());
        let mut out = output::out();
        for batch in batches(&items, keys_max, bytes_max) {
            let failures = self.write(&client, batch).await?;
            for item in batch.iter().filter(|item| !failures.iter().any(|(key, _)| key == &item.key)) {
                writeln!(out, "Imported: {}", item.name())?;
            }
            out.flush()?;
            for (key, error) in &failures {
                complain!("Error! Did not import {}: {error}", String::from_utf8_lossy(key));
            }
            progress.add(batch.len(), failures.len());
        }
        progress.end()
    }

    /// Writes a batch and tells the keys that were refused. An error means that the server is out
    /// of reach, so that there is no use in going on.
    async fn write(&self, client: &Client, batch: &[Item]) -> anyhow::Result<Vec<(Vec<u8>, String)>> {
        if batch.len() > 1 {
            let txn = batch.iter().fold(Txn::new().datacenter(self.connection.datacenter()), |txn, item| {
                txn.put_with_flags(&item.key, item.value.clone(), item.flags)
            });
            match client.kv().txn(txn).await {
                Ok(answer) if answer.value.committed => return Ok(Vec::new()),
                Ok(_) => {}
                Err(error) => one_by_one_helps(error, batch)?,
            }
        }
        let mut failures = Vec::new();
        for item in batch {
            let options = PutOptions::new().datacenter(self.connection.datacenter()).flags(item.flags);
            match client.kv().put_with(&item.key, item.value.clone(), options).await {
                Ok(_) => {}
                Err(error) => {
                    let text = error.to_string();
                    one_by_one_helps(error, batch)?;
                    failures.push((item.key.clone(), text));
                }
            }
        }
        Ok(failures)
    }
}

/// Whether the server has looked at the keys and refused some of them.
fn one_by_one_helps(error: Error, batch: &[Item]) -> anyhow::Result<()> {
    if error.refused().is_some() && !error.is_transient() && !error.outcome_unknown() {
        return Ok(());
    }
    let first = batch.first().map(Item::name).unwrap_or_default();
    Err(anyhow::Error::new(error)
        .context(format!("stopped at `{first}`; what was imported before it is there, importing again does no harm")))
}

/// How far an import is, told on standard error.
struct Progress {
    total: usize,
    done: usize,
    failed: usize,
    told: Instant,
    wanted: bool,
}

impl Progress {
    fn new(total: usize) -> Self {
        let wanted = total > PROGRESS_KEYS_MIN || (io::stderr().is_terminal() && !io::stdout().is_terminal());
        Progress { total, done: 0, failed: 0, told: Instant::now(), wanted }
    }

    fn add(&mut self, done: usize, failed: usize) {
        self.done += done;
        self.failed += failed;
        if self.wanted && (self.told.elapsed() >= PROGRESS_INTERVAL || self.done == self.total) {
            self.told = Instant::now();
            complain!("{} of {} keys, {} %", self.done, self.total, self.done * 100 / self.total.max(1));
        }
    }

    fn end(self) -> anyhow::Result<ExitCode> {
        if self.failed > 0 {
            bail!("{} of {} keys were not imported", self.failed, self.total);
        }
        Ok(ExitCode::SUCCESS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sized(sizes: &[usize]) -> Vec<Item> {
        sizes.iter().map(|&size| Item { key: vec![b'k'], flags: 0, value: vec![0; size - 1] }).collect()
    }

    #[test]
    fn an_export_reads_back_as_it_was() {
        let entries = [
            v1::Entry { key: "a \"q\"".into(), value: vec![0, 255].into(), flags: u64::MAX, ..v1::Entry::default() },
            v1::Entry { key: vec![0xff].into(), ..v1::Entry::default() },
        ];
        let text = format!("[\n{}\n]\n", entries.each_ref().map(exported).join(",\n"));
        let expected: Vec<Item> =
            entries.iter().map(|entry| Item { key: entry.key.to_vec(), flags: entry.flags, value: entry.value.to_vec() }).collect();
        assert_eq!(items(text.as_bytes(), "").unwrap(), expected);
        assert!(
            text.starts_with("[\n\t{\n\t\t\"key\": \"a \\\"q\\\"\",\n\t\t\"flags\": 18446744073709551615,\n\t\t\"value\": \"AP8=\"\n\t}"),
            "{text}"
        );
    }

    #[test]
    fn a_damaged_export_is_refused_as_a_whole() {
        let cases = [
            ("{}", "not an export"),
            ("[{\"flags\": 1}]", "entry 1 of the export: one of `key` and `key_base64` is needed"),
            ("[{\"key\": \"a\", \"value\": \"\"}, {\"key\": \"b\", \"value\": \"!\"}]", "entry 2 of the export: `value` is not base64"),
            ("[{\"key\": \"\"}]", "the key is empty"),
        ];
        for (data, part) in cases {
            let error = format!("{:#}", items(data.as_bytes(), "").unwrap_err());
            assert!(error.contains(part), "{data}: {error}");
        }
    }

    #[test]
    fn a_prefix_is_put_before_with_one_slash() {
        assert_eq!(joined("", b"/a".to_vec()), b"/a");
        assert_eq!(joined("p", b"a/b/".to_vec()), b"p/a/b/");
        assert_eq!(joined("p/", b"/a".to_vec()), b"p/a");
    }

    #[test]
    fn batches_fit_a_transaction_and_lose_nothing() {
        let lengths =
            |sizes: &[usize], keys, bytes| batches(&sized(sizes), keys, bytes).iter().map(|batch| batch.len()).collect::<Vec<_>>();
        assert_eq!(lengths(&[], 2, 10), [] as [usize; 0]);
        assert_eq!(lengths(&[1, 1, 1, 1, 1], 2, 10), [2, 2, 1]);
        assert_eq!(lengths(&[6, 6, 4, 1], 9, 10), [1, 2, 1]);
        assert_eq!(lengths(&[100, 1, 100], 9, 10), [1, 1, 1]);
    }
}
