//! Runs a program for each change: one at a time, with the newest state, none left out at the end.

use std::process::Stdio;

use anyhow::{Context, bail};
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

/// A program that is run for changes.
pub(crate) struct Handler {
    program: Vec<String>,
    shell: bool,
    running: Option<JoinHandle<anyhow::Result<()>>>,
    /// The newest state that no run has seen.
    waiting: Option<(u64, String)>,
    runs: u64,
}

impl Handler {
    /// A program with its arguments; through a shell they are one line.
    pub(crate) fn new(program: Vec<String>, shell: bool) -> Self {
        Handler { program, shell, running: None, waiting: None, runs: 0 }
    }

    /// Whether a run is under way or due.
    pub(crate) fn is_busy(&self) -> bool {
        self.running.is_some() || self.waiting.is_some()
    }

    /// Whether a run has ended.
    pub(crate) fn has_run(&self) -> bool {
        self.runs > 0
    }

    /// Hands over what is there at `revision`, in place of anything older that still waits.
    pub(crate) fn offer(&mut self, revision: u64, state: String) {
        self.waiting = Some((revision, state));
    }

    /// Starts the run that is due, or waits for the end of the one under way. May be dropped and
    /// called again at any time. A program that fails is an error.
    pub(crate) async fn step(&mut self) -> anyhow::Result<()> {
        let Some(running) = &mut self.running else {
            if let Some((revision, state)) = self.waiting.take() {
                let child = self.start(revision)?;
                self.running = Some(tokio::spawn(finish(child, state, self.program.join(" "))));
            }
            return Ok(());
        };
        let ended = running.await;
        self.running = None;
        self.runs += 1;
        ended.context("the run of the handler was lost")?
    }

    fn start(&self, revision: u64) -> anyhow::Result<Child> {
        let mut command = if self.shell {
            let mut command = Command::new("/bin/sh");
            command.arg("-c").arg(self.program.join(" "));
            command
        } else {
            let (program, args) = self.program.split_first().context("no program was given")?;
            let mut command = Command::new(program);
            command.args(args);
            command
        };
        command.env("CONSUL_INDEX", revision.to_string()).stdin(Stdio::piped()).kill_on_drop(true);
        command.spawn().with_context(|| format!("cannot run `{}`", self.program.join(" ")))
    }
}

/// Feeds the program and waits for it. One that does not read its input is free to do so.
async fn finish(mut child: Child, state: String, name: String) -> anyhow::Result<()> {
    if let Some(mut stdin) = child.stdin.take() {
        let _ = stdin.write_all(state.as_bytes()).await;
        let _ = stdin.write_all(b"\n").await;
    }
    let status = child.wait().await.with_context(|| format!("cannot wait for `{name}`"))?;
    if !status.success() {
        bail!("handler `{name}` failed: {status}");
    }
    Ok(())
}
