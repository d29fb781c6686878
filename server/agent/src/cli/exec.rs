//! `lictor exec`: runs a program on many machines, and shows what it prints as it comes.
//!
//! Lines carry the name of their machine. Exit codes: 0 when the program ended with 0 everywhere, 2
//! when it ended with another code somewhere, 1 when a machine did not run it.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::ExitCode;

use anyhow::bail;
use lictor_client::v1;
use lictor_client::v1::exec_service_run_response::News;

use crate::cli::connect::Connection;
use crate::cli::session::{length, wire};

/// Exit code when the program failed on a machine.
const PROGRAM_FAILED: u8 = 2;

/// Bytes of a line that wait for its end; a longer line is shown in pieces.
const LINE_MAX: usize = 8 * 1024;

/// Run a program on many machines
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Exec {
    /// Regular expression over names of nodes
    #[arg(long, default_value = "", value_name = "REGEX")]
    node: String,
    /// Regular expression over names of services on them
    #[arg(long, default_value = "", value_name = "REGEX")]
    service: String,
    /// Regular expression over tags of these services
    #[arg(long, default_value = "", value_name = "REGEX")]
    tag: String,
    /// Run the program through a shell
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "true", value_name = "BOOL")]
    shell: Option<bool>,
    /// How long a machine may take to begin [default: 5s]
    #[arg(long, value_name = "DURATION")]
    wait: Option<String>,
    /// How long the program may run [default: 5m]
    #[arg(long, value_name = "DURATION")]
    timeout: Option<String>,
    /// Say more of what happens
    #[arg(long)]
    verbose: bool,
    #[arg(long, hide = true)]
    prefix: Option<String>,
    #[arg(long, hide = true)]
    wait_repl: Option<String>,
    #[command(flatten)]
    connection: Connection,
    /// The program and its arguments
    #[arg(value_name = "PROGRAM", trailing_var_arg = true, allow_hyphen_values = true)]
    program: Vec<String>,
}

/// What has come of the run so far.
#[derive(Default)]
struct Outcome {
    meant: usize,
    ended: usize,
    failed: usize,
    absent: usize,
}

impl Exec {
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        if self.program.is_empty() {
            bail!("a PROGRAM is missing");
        }
        let span = |flag: &str, text: &Option<String>| text.as_deref().map(|text| length(flag, text).map(wire)).transpose();
        let request = v1::ExecServiceRunRequest {
            options: super::lock::write_options(&self.connection),
            begin_within: span("-wait", &self.wait)?,
            timeout: span("-timeout", &self.timeout)?,
            args: self.program.clone(),
            shell: self.shell.unwrap_or(true),
            node_filter: self.node.clone(),
            service_filter: self.service.clone(),
            tag_filter: self.tag.clone(),
        };
        let client = self.connection.client()?;
        let mut stream = client.exec().run(request).await?;
        let (mut outcome, mut lines) = (Outcome::default(), Lines::default());
        while let Some(v1::ExecServiceRunResponse { node, news }) = stream.next().await? {
            if let Some(news) = news {
                self.take(&node, news, &mut outcome, &mut lines)?;
            }
        }
        lines.rest()?;
        let Outcome { meant, ended, failed, absent } = outcome;
        complain!("{ended} of {meant} nodes have run it, {failed} of them with an exit code other than 0; {absent} have not");
        Ok(match (failed, ended == meant) {
            (0, true) => ExitCode::SUCCESS,
            (0, false) => ExitCode::FAILURE,
            _ => ExitCode::from(PROGRAM_FAILED),
        })
    }

    fn take(&self, node: &str, news: News, outcome: &mut Outcome, lines: &mut Lines) -> std::io::Result<()> {
        match news {
            News::Started(started) => {
                outcome.meant = started.nodes.len();
                if self.verbose {
                    complain!("{} nodes are meant: {}", started.nodes.len(), started.nodes.join(", "));
                }
            }
            News::Begun(_) if self.verbose => complain!("{node}: it runs"),
            News::Begun(_) => {}
            News::Output(output) => lines.take(node, output.stderr, &output.data)?,
            News::Ended(ended) => {
                lines.end(node)?;
                outcome.ended += 1;
                if ended.bytes_dropped > 0 {
                    complain!("{node}: {} bytes of its output were left out", ended.bytes_dropped);
                }
                if ended.timed_out {
                    complain!("{node}: it ran for too long and was ended");
                }
                if ended.code != 0 {
                    outcome.failed += 1;
                    complain!("{node}: ended with exit code {}", ended.code);
                }
            }
            News::Refused(refusal) => {
                outcome.absent += 1;
                complain!("{node}: refused: {}", refusal.message);
            }
            News::Missing(missing) => {
                lines.end(node)?;
                outcome.absent += 1;
                complain!("{node}: missing: {}", missing.why);
            }
        }
        Ok(())
    }
}

/// Lines that have begun, by machine and stream.
#[derive(Default)]
struct Lines {
    begun: BTreeMap<(String, bool), Vec<u8>>,
}

impl Lines {
    fn take(&mut self, node: &str, stderr: bool, data: &[u8]) -> std::io::Result<()> {
        let line = self.begun.entry((node.to_owned(), stderr)).or_default();
        let mut whole = Vec::new();
        for byte in data {
            if *byte != b'\n' {
                line.push(*byte);
            }
            if *byte == b'\n' || line.len() >= LINE_MAX {
                whole.push(std::mem::take(line));
            }
        }
        whole.iter().try_for_each(|line| print(node, stderr, line))
    }

    /// What a machine has begun and will not end.
    fn end(&mut self, node: &str) -> std::io::Result<()> {
        for stderr in [false, true] {
            if let Some(line) = self.begun.remove(&(node.to_owned(), stderr)).filter(|line| !line.is_empty()) {
                print(node, stderr, &line)?;
            }
        }
        Ok(())
    }

    fn rest(&mut self) -> std::io::Result<()> {
        let nodes: Vec<String> = self.begun.keys().map(|(node, _)| node.clone()).collect();
        nodes.iter().try_for_each(|node| self.end(node))
    }
}

fn print(node: &str, stderr: bool, line: &[u8]) -> std::io::Result<()> {
    let text = [node.as_bytes(), b": ", line, b"\n"].concat();
    if stderr {
        return std::io::stderr().write_all(&text);
    }
    let mut out = std::io::stdout().lock();
    out.write_all(&text)?;
    out.flush()
}
