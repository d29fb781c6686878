//! Measures Lictor against its floors and goals, beside what the machine allows.
//!
//! ```text
//!   rows ──▶ lictor, etcd      servers as real processes on real disks
//!     │        │
//!     ├──────▶ grpc, http1, dns ──▶ load      closed loops on one thread; what counts
//!     │        └──▶ http2, requests           cheap, because they share the processors
//!     ▼
//!   report ◀── machine         the same work without a product in between
//! ```

mod cluster;
mod dns;
mod etcd;
mod grpc;
mod histogram;
mod http1;
mod http2;
mod lictor;
mod load;
mod machine;
mod process;
mod report;
mod requests;
mod rows;

use std::env;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Parser;

use crate::machine::Limits;
use crate::rows::Bench;

/// Measures Lictor against its floors and goals, beside what the machine allows
#[derive(Parser)]
struct Flags {
    /// Measure only rows whose name contains one of these, such as `puts` or `dns`
    filters: Vec<String>,
    /// Directory for data, on the disk that is to be measured [default: beside this program]
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Write the figures to this file, as JSON
    #[arg(long)]
    json: Option<PathBuf>,
    /// Measure this binary instead of building one
    #[arg(long)]
    binary: Option<PathBuf>,
    /// Leave etcd out even where it is installed
    #[arg(long)]
    alone: bool,
    /// Seconds of load in each row
    #[arg(long, default_value_t = 6)]
    seconds: u64,
    /// Keys that are written and read
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..=9_000_000))]
    keys: u64,
    /// Keys of the row for many keys
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1000..=9_000_000))]
    keys_large: u64,
}

fn main() -> ExitCode {
    match run(Flags::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Measures, prints, and says whether every row could be measured.
fn run(flags: Flags) -> Result<bool> {
    let began = Instant::now();
    let files = process::raise_open_files()?;
    if files < 12_000 {
        eprintln!("only {files} files may be open; rows with thousands of connections need more (ulimit -n)");
    }
    let dir = match flags.dir {
        Some(dir) => dir,
        None => env::current_exe()?.with_file_name("lictor-bench-data"),
    };
    let dir = dir.join(format!("run-{}", std::process::id()));
    std::fs::create_dir_all(&dir).with_context(|| format!("cannot create `{}`; `--dir` names another place", dir.display()))?;
    let binary = flags.binary.map_or_else(lictor::build, Ok)?;
    let bench = Bench {
        binary,
        dir,
        filters: flags.filters,
        time: Duration::from_secs(flags.seconds.max(1)),
        alone: flags.alone,
        keys: flags.keys,
        keys_large: flags.keys_large,
    };

    let mut rows = Vec::new();
    let limits = Limits::measure(&bench.dir)?;
    let all_well = bench.run(&mut rows);
    let limits = limits.larger(Limits::measure(&bench.dir)?);
    print!("{}", report::table(&rows, &limits));
    println!("measured in {:.0} s", began.elapsed().as_secs_f64());
    if let Some(path) = flags.json {
        let text = format!("{:#}\n", report::json(&rows, &limits));
        std::fs::write(&path, text).with_context(|| format!("cannot write `{}`", path.display()))?;
    }
    std::fs::remove_dir_all(&bench.dir).with_context(|| format!("cannot remove `{}`", bench.dir.display()))?;
    Ok(all_well)
}
