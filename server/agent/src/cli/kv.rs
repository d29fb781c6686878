//! `lictor kv`: read, write and remove keys.

use std::io::{Read, Write};
use std::process::ExitCode;

use anyhow::{Context, anyhow, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use lictor_client::{Client, DeleteOptions, Error, ErrorReason, KvPages, ListOptions, PutOptions, v1};

use crate::cli::connect::Connection;
use crate::cli::output::{Format, out, print_json, print_line};
use crate::cli::{json, transfer};

/// Read and write keys.
#[derive(Clone, Debug, clap::Subcommand)]
pub(crate) enum KvCommand {
    /// Print a key, or the keys under a prefix
    Get(Get),
    /// Write a key
    Put(Put),
    /// Remove a key, or the keys under a prefix
    Delete(Delete),
    /// Print the keys under a prefix as JSON that `import` reads
    Export(transfer::Export),
    /// Write the keys of an export
    Import(transfer::Import),
}

/// Print a key, or the keys under a prefix
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Get {
    /// Print values in base64
    #[arg(long)]
    base64: bool,
    /// Print everything that is known of each key
    #[arg(long)]
    detailed: bool,
    /// Print only the names of the keys that begin so, folded at the separator
    #[arg(long)]
    keys: bool,
    /// Print all keys that begin so
    #[arg(long)]
    recurse: bool,
    /// Where `-keys` folds; empty does not fold
    #[arg(long, default_value = "/", value_name = "TEXT")]
    separator: String,
    /// How to print
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    #[command(flatten)]
    connection: Connection,
    /// The key, or what keys begin with
    #[arg(value_name = "KEY")]
    key: Option<String>,
}

/// Write a key
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Put {
    /// The value is in base64
    #[arg(long)]
    base64: bool,
    /// Write only if the key is at `-modify-index`, which is 0 for one that must not exist
    #[arg(long)]
    cas: bool,
    /// See `-cas`
    #[arg(long, value_name = "INDEX")]
    modify_index: Option<u64>,
    /// A number that is kept with the value
    #[arg(long, default_value_t = 0, value_name = "NUMBER")]
    flags: u64,
    /// Session for `-acquire` and `-release`
    #[arg(long, value_name = "UUID")]
    session: Option<String>,
    /// Take the lock of the key for the session
    #[arg(long)]
    acquire: bool,
    /// Give up the lock of the key
    #[arg(long)]
    release: bool,
    #[command(flatten)]
    connection: Connection,
    /// The key
    #[arg(value_name = "KEY")]
    key: Option<String>,
    /// The value; `@FILE` reads it from a file, `-` from standard input
    #[arg(value_name = "VALUE", allow_hyphen_values = true)]
    value: Option<String>,
}

/// Remove a key, or the keys under a prefix
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Delete {
    /// Remove only if the key is at `-modify-index`
    #[arg(long)]
    cas: bool,
    /// See `-cas`
    #[arg(long, value_name = "INDEX")]
    modify_index: Option<u64>,
    /// Remove all keys that begin so
    #[arg(long)]
    recurse: bool,
    #[command(flatten)]
    connection: Connection,
    /// The key, or what keys begin with
    #[arg(value_name = "KEY")]
    key: Option<String>,
}

/// Runs a sub-command.
pub(crate) async fn run(command: KvCommand) -> anyhow::Result<ExitCode> {
    match command {
        KvCommand::Get(get) => get.run().await,
        KvCommand::Put(put) => put.run().await,
        KvCommand::Delete(delete) => delete.run().await,
        KvCommand::Export(export) => export.run().await,
        KvCommand::Import(import) => import.run().await,
    }
}

/// The key without the slash that a path would begin with.
pub(crate) fn bare(key: Option<&str>) -> &str {
    let key = key.unwrap_or_default();
    key.strip_prefix('/').unwrap_or(key)
}

fn required(key: Option<&str>) -> anyhow::Result<&str> {
    match bare(key) {
        "" => bail!("a KEY is missing"),
        key => Ok(key),
    }
}

/// The bytes that an argument stands for: itself, `@FILE`, or `-` for standard input.
pub(crate) fn argument(text: &str) -> anyhow::Result<Vec<u8>> {
    match (text, text.strip_prefix('@')) {
        ("-", _) => {
            let mut bytes = Vec::new();
            std::io::stdin().lock().read_to_end(&mut bytes).context("cannot read standard input")?;
            Ok(bytes)
        }
        (_, Some(path)) => std::fs::read(path).with_context(|| format!("cannot read `{path}`")),
        _ => Ok(text.as_bytes().to_vec()),
    }
}

impl Get {
    async fn run(self) -> anyhow::Result<ExitCode> {
        let client = self.connection.client()?;
        if self.keys {
            return self.names(&client).await;
        }
        if self.recurse {
            return self.tree(&client).await;
        }
        let key = required(self.key.as_deref())?;
        let found = client.kv().get_with(key, &self.connection.read()).await?.value;
        let entry = found.ok_or_else(|| anyhow!("No key exists at: {key}"))?;
        match self.format {
            Format::Json => print_json(&json::entry(&entry))?,
            Format::Table if self.detailed => print_line(details(&entry, self.base64))?,
            Format::Table => {
                let mut out = out();
                out.write_all(&value(&entry, self.base64))?;
                out.write_all(b"\n")?;
                out.flush()?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }

    async fn pages(&self, client: &Client, keys_only: bool, separator: &str) -> anyhow::Result<KvPages> {
        let options = ListOptions {
            read: self.connection.read(),
            keys_only,
            separator: Bytes::copy_from_slice(separator.as_bytes()),
            ..ListOptions::default()
        };
        Ok(client.kv().pages(bare(self.key.as_deref()), options).await?)
    }

    async fn names(&self, client: &Client) -> anyhow::Result<ExitCode> {
        let mut pages = self.pages(client, true, &self.separator).await?;
        let mut out = out();
        let mut all = Vec::new();
        while let Some(page) = pages.next().await? {
            let mut keys: Vec<Bytes> = page.entries.into_iter().map(|entry| entry.key).chain(page.folders).collect();
            keys.sort_unstable();
            match self.format {
                Format::Json => all.extend(keys.iter().map(|key| String::from_utf8_lossy(key).into_owned())),
                Format::Table => {
                    for key in keys {
                        out.write_all(&key)?;
                        out.write_all(b"\n")?;
                    }
                }
            }
        }
        out.flush()?;
        if self.format == Format::Json {
            print_json(&all.into())?;
        }
        Ok(ExitCode::SUCCESS)
    }

    async fn tree(&self, client: &Client) -> anyhow::Result<ExitCode> {
        let mut pages = self.pages(client, false, "").await?;
        let mut out = out();
        let mut rows = 0_usize;
        while let Some(page) = pages.next().await? {
            for entry in &page.entries {
                match self.format {
                    Format::Json => {
                        out.write_all(if rows == 0 { b"[\n  " } else { b",\n  " })?;
                        serde_json::to_writer(&mut out, &json::entry(entry))?;
                    }
                    Format::Table if self.detailed => {
                        let gap = if rows == 0 { "" } else { "\n" };
                        writeln!(out, "{gap}{}", details(entry, self.base64))?;
                    }
                    Format::Table => {
                        out.write_all(&entry.key)?;
                        out.write_all(b":")?;
                        out.write_all(&value(entry, self.base64))?;
                        out.write_all(b"\n")?;
                    }
                }
                rows += 1;
            }
        }
        if self.format == Format::Json {
            out.write_all(if rows == 0 { b"[]\n" } else { b"\n]\n" })?;
        }
        out.flush()?;
        Ok(ExitCode::SUCCESS)
    }
}

fn value(entry: &v1::Entry, base64: bool) -> Vec<u8> {
    if base64 { json::base64(&entry.value).into_bytes() } else { entry.value.to_vec() }
}

/// Everything that is known of a key, a line each.
fn details(entry: &v1::Entry, base64: bool) -> String {
    let session = if entry.session_id.is_empty() { "-" } else { &entry.session_id };
    let rows = [
        ("CreateIndex", entry.create_index.to_string()),
        ("Flags", entry.flags.to_string()),
        ("Key", String::from_utf8_lossy(&entry.key).into_owned()),
        ("LockIndex", entry.lock_index.to_string()),
        ("ModifyIndex", entry.modify_index.to_string()),
        ("Session", session.to_owned()),
        ("Value", String::from_utf8_lossy(&value(entry, base64)).into_owned()),
    ];
    rows.map(|(name, value)| format!("{name:<17}{value}")).join("\n")
}

impl Put {
    async fn run(self) -> anyhow::Result<ExitCode> {
        let key = required(self.key.as_deref())?;
        let options = self.options()?;
        let value = self.value()?;
        let client = self.connection.client()?;
        match client.kv().put_with(key, value, options).await {
            Ok(_) if self.acquire => print_line(format_args!("Success! Lock acquired on: {key}"))?,
            Ok(_) if self.release => print_line(format_args!("Success! Lock released on: {key}"))?,
            Ok(_) => print_line(format_args!("Success! Data written to: {key}"))?,
            Err(error) => return Err(refused(&error, key, "write to")),
        }
        Ok(ExitCode::SUCCESS)
    }

    fn options(&self) -> anyhow::Result<PutOptions> {
        let mut options = PutOptions::new().datacenter(self.connection.datacenter()).flags(self.flags);
        options = match (self.cas, self.modify_index) {
            (false, Some(_)) => bail!("`-modify-index` needs `-cas`"),
            (true, None | Some(0)) => options.if_absent(),
            (true, Some(index)) => options.if_modify_index(index),
            (false, None) => options,
        };
        match (self.acquire, self.release, self.session.as_deref().filter(|session| !session.is_empty())) {
            (true, true, _) => bail!("`-acquire` and `-release` exclude each other"),
            (true, false, Some(session)) => Ok(options.acquire(session)),
            (false, true, Some(session)) => Ok(options.release(session)),
            (false, false, None) => Ok(options),
            (false, false, Some(_)) => bail!("`-session` needs `-acquire` or `-release`"),
            (_, _, None) => bail!("`-acquire` and `-release` need `-session`"),
        }
    }

    fn value(&self) -> anyhow::Result<Vec<u8>> {
        let bytes = argument(self.value.as_deref().unwrap_or_default())?;
        if !self.base64 {
            return Ok(bytes);
        }
        STANDARD.decode(bytes.trim_ascii()).context("the value is not base64; leave out `-base64` to write it as it is")
    }
}

impl Delete {
    async fn run(self) -> anyhow::Result<ExitCode> {
        if self.recurse {
            return self.tree().await;
        }
        let key = required(self.key.as_deref())?;
        let mut options = DeleteOptions::new().datacenter(self.connection.datacenter());
        options = match (self.cas, self.modify_index) {
            (false, Some(_)) => bail!("`-modify-index` needs `-cas`"),
            (true, None | Some(0)) => bail!("`-cas` needs `-modify-index` with an index from 1"),
            (true, Some(index)) => options.if_modify_index(index),
            (false, None) => options,
        };
        let client = self.connection.client()?;
        client.kv().delete_with(key, options).await.map_err(|error| refused(&error, key, "delete"))?;
        print_line(format_args!("Success! Deleted key: {key}"))?;
        Ok(ExitCode::SUCCESS)
    }

    async fn tree(&self) -> anyhow::Result<ExitCode> {
        if self.cas || self.modify_index.is_some() {
            bail!("`-recurse` and `-cas` exclude each other");
        }
        let prefix = bare(self.key.as_deref());
        let options = DeleteOptions::new().datacenter(self.connection.datacenter());
        self.connection.client()?.kv().delete_prefix_with(prefix, options).await?;
        print_line(format_args!("Success! Deleted keys with prefix: {prefix}"))?;
        Ok(ExitCode::SUCCESS)
    }
}

/// A refusal in the words that scripts look for, then in the server's own.
fn refused(error: &Error, key: &str, verb: &str) -> anyhow::Error {
    match error.reason() {
        Some(ErrorReason::PreconditionFailed) => anyhow!("Did not {verb} {key}: CAS failed: {}", error.message()),
        Some(ErrorReason::LockHeld | ErrorReason::LockDelay) => anyhow!("Did not acquire lock: {}", error.message()),
        Some(ErrorReason::LockNotHeld) => anyhow!("Did not release lock: {}", error.message()),
        _ => anyhow!("Did not {verb} {key}: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        put: Put,
    }

    fn put(line: &[&str]) -> Put {
        Line::parse_from(["put"].iter().chain(line)).put
    }

    #[test]
    fn flags_that_do_not_go_together_are_refused() {
        let cases: &[(&[&str], &str)] = &[
            (&["--modify-index=3", "k"], "`-modify-index` needs `-cas`"),
            (&["--acquire", "k"], "need `-session`"),
            (&["--session=s", "k"], "needs `-acquire` or `-release`"),
            (&["--session=s", "--acquire", "--release", "k"], "exclude each other"),
        ];
        for (line, part) in cases {
            let error = put(line).options().unwrap_err().to_string();
            assert!(error.contains(part), "{line:?}: {error}");
        }
        assert!(put(&["--cas", "k"]).options().is_ok());
        assert!(put(&["--session=s", "--release", "k"]).options().is_ok());
    }

    #[test]
    fn values_come_from_argument_file_or_base64() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), b"\x00\xff").unwrap();
        assert_eq!(put(&["k", "v"]).value().unwrap(), b"v");
        assert_eq!(put(&["k"]).value().unwrap(), b"");
        assert_eq!(put(&["k", &format!("@{}", file.path().display())]).value().unwrap(), b"\x00\xff");
        assert_eq!(put(&["--base64", "k", "AP8=\n"]).value().unwrap(), b"\x00\xff");
        assert!(put(&["--base64", "k", "!"]).value().unwrap_err().to_string().contains("not base64"));
        assert!(put(&["k", "@/nonexistent"]).value().unwrap_err().to_string().contains("`/nonexistent`"));
    }

    #[test]
    fn one_leading_slash_is_a_habit() {
        assert_eq!((bare(Some("/a/b")), bare(Some("//a")), bare(None)), ("a/b", "/a", ""));
    }

    #[test]
    fn details_stand_in_columns() {
        let entry = v1::Entry { key: "k".into(), value: "v".into(), modify_index: 12, ..v1::Entry::default() };
        let text = details(&entry, true);
        assert!(text.contains("ModifyIndex      12\nSession          -\nValue            dg=="), "{text}");
    }
}
