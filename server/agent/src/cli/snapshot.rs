//! `lictor snapshot`: everything there is, out to a file and back.
//!
//! A file gets its name only when it is whole: it is written beside its place, flushed, read back and
//! verified, and then renamed. A save that fails leaves the earlier file as it was.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context, bail};
use bytes::Bytes;
use lictor_client::SnapshotStream;
use serde_json::json;
use store::snapshot::{Damage, Reader, Summary};

use crate::cli::connect::Connection;
use crate::cli::output::{Format, Table, print_json, print_line};

/// Bytes that are read or sent at a time.
const PIECE: usize = 256 << 10;

/// Save everything to a file, and bring it back
#[derive(Clone, Debug, clap::Subcommand)]
pub(crate) enum SnapshotCommand {
    /// Save everything as it is now to a file, and verify the file
    Save(Save),
    /// Put a snapshot in the place of everything
    Restore(Restore),
    /// Tell what is in a snapshot
    Inspect(Inspect),
    /// Read a snapshot to its end, and tell whether each byte is as it was written
    Verify(Verify),
}

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Save {
    /// Where to; a file of that name is replaced when the new one is whole
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Restore {
    /// The snapshot
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Inspect {
    /// How to print
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// The snapshot
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Verify {
    /// The snapshot
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

impl SnapshotCommand {
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            SnapshotCommand::Save(save) => save.run().await?,
            SnapshotCommand::Restore(restore) => restore.run().await?,
            SnapshotCommand::Inspect(inspect) => inspect.run()?,
            SnapshotCommand::Verify(Verify { file }) => {
                let summary = verify(&file)?;
                print_line(format_args!("`{}` is whole: {} rows, {} bytes", file.display(), summary.rows, summary.bytes))?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Save {
    async fn run(self) -> anyhow::Result<()> {
        let client = self.connection.client()?;
        let snapshot = client.operator().save_snapshot(&self.connection.read()).await?;
        let beside = Beside::new(&self.file)?;
        let summary = beside.fill(snapshot).await?;
        beside.put_in_place(&self.file)?;
        print_line(format_args!("Saved and verified snapshot to index {}", summary.header.revision))?;
        Ok(())
    }
}

/// A file that has not got its name yet; it goes away unless it gets it.
struct Beside {
    path: PathBuf,
    named: bool,
}

impl Beside {
    fn new(place: &Path) -> anyhow::Result<Self> {
        let name = place.file_name().with_context(|| format!("`{}` names no file", place.display()))?;
        let mut hidden = std::ffi::OsString::from(".");
        hidden.push(name);
        hidden.push(format!(".{}.tmp", std::process::id()));
        Ok(Beside { path: place.with_file_name(hidden), named: false })
    }

    /// Writes a snapshot, flushes it, and verifies what is there now.
    async fn fill(&self, mut snapshot: SnapshotStream) -> anyhow::Result<Summary> {
        let shown = self.path.display();
        let mut file = File::create(&self.path).with_context(|| format!("cannot write `{shown}`"))?;
        while let Some(bytes) = snapshot.next().await? {
            file.write_all(&bytes).with_context(|| format!("cannot write `{shown}`"))?;
        }
        file.sync_all().with_context(|| format!("cannot flush `{shown}`"))?;
        drop(file);
        verify(&self.path).context("what was written does not read back")
    }

    fn put_in_place(mut self, place: &Path) -> anyhow::Result<()> {
        std::fs::rename(&self.path, place).with_context(|| format!("cannot write `{}`", place.display()))?;
        self.named = true;
        let parent = place.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(parent).and_then(|folder| folder.sync_all()).with_context(|| format!("cannot flush `{}`", parent.display()))
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        if !self.named {
            // It may not have been made.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

impl Restore {
    async fn run(self) -> anyhow::Result<()> {
        verify(&self.file)?;
        let client = self.connection.client()?;
        let mut restore = client.operator().restore_snapshot(&self.connection.datacenter());
        let mut file = open(&self.file)?;
        let mut piece = vec![0; PIECE];
        loop {
            let read = file.read(&mut piece).with_context(|| format!("cannot read `{}`", self.file.display()))?;
            if read == 0 || !restore.send(Bytes::copy_from_slice(&piece[..read])).await {
                break;
            }
        }
        let restored = restore.finish().await.map_err(told)?;
        print_line(format_args!("Restored snapshot of index {}", restored.snapshot_revision))?;
        Ok(())
    }
}

/// Says what a restore without an answer means.
fn told(error: lictor_client::Error) -> anyhow::Error {
    let unknown = matches!(error, lictor_client::Error::Interrupted(_) | lictor_client::Error::TimedOut(_));
    let error = anyhow::Error::new(error);
    match unknown {
        true => error.context(
            "the snapshot may or may not have been restored, but not in part: look at what is there, or restore it again, which does no harm",
        ),
        false => error,
    }
}

impl Inspect {
    fn run(self) -> anyhow::Result<()> {
        let summary = verify(&self.file)?;
        let header = &summary.header;
        let id = format!("{}-{}-{}", header.term, header.revision, header.taken.0);
        let taken = humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_millis(header.taken.0)).to_string();
        if self.format == Format::Json {
            let kinds = summary.counts.iter().map(|(kind, count)| json!({"Name": kind, "Count": count.rows, "Size": count.bytes}));
            return Ok(print_json(&json!({
                "Meta": {
                    "ID": id, "Size": summary.bytes, "Index": header.revision.0, "Term": header.term, "Version": summary.format,
                    "Taken": taken, "Datacenter": header.datacenter, "Build": header.version, "SHA256": hex(&summary.digest),
                },
                "Stats": kinds.collect::<Vec<_>>(),
                "TotalCount": summary.rows,
            }))?);
        }
        let mut about = Table::bare();
        for (name, value) in [
            ("ID", id),
            ("Size", summary.bytes.to_string()),
            ("Index", header.revision.to_string()),
            ("Term", header.term.to_string()),
            ("Version", summary.format.to_string()),
            ("Taken", taken),
            ("Datacenter", header.datacenter.clone()),
            ("Build", header.version.clone()),
            ("SHA256", hex(&summary.digest)),
        ] {
            about.row([name.to_owned(), value]);
        }
        let mut kinds = Table::new(["Type", "Count", "Size"]);
        for (kind, count) in &summary.counts {
            kinds.row([(*kind).to_owned(), count.rows.to_string(), count.bytes.to_string()]);
        }
        Ok(print_line(format_args!("{about}\n{}", kinds.to_string().trim_end()))?)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn open(path: &Path) -> anyhow::Result<File> {
    File::open(path).with_context(|| format!("cannot read `{}`", path.display()))
}

/// Reads a snapshot to its end.
fn verify(path: &Path) -> anyhow::Result<Summary> {
    let shown = path.display();
    let mut file = open(path)?;
    let (mut reader, mut piece) = (Reader::default(), vec![0; PIECE]);
    let damaged = |damage: Damage| anyhow::Error::new(damage).context(format!("`{shown}` is no snapshot that can be used"));
    loop {
        let read = file.read(&mut piece).with_context(|| format!("cannot read `{shown}`"))?;
        if read == 0 {
            break;
        }
        reader.push(&piece[..read]);
        while reader.next_part().map_err(damaged)?.is_some() {}
    }
    let summary = reader.finish().map_err(damaged)?;
    if !summary.counts.contains_key("tables") {
        bail!("`{shown}` is no snapshot that can be used: it does not hold the numbers that every state has");
    }
    Ok(summary)
}
