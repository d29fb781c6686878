//! The program under its guard, from the side of whoever holds the lock.

use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};

use anyhow::Context;
use lictor_client::v1;
use tokio::io::AsyncWriteExt;
use tokio::net::{UnixListener, UnixStream};
use tokio::process::{Child, Command};

use crate::cli::lock::guard::{self, START_TIMEOUT};
use crate::cli::lock::keeper::Moment;

/// A program to run.
pub(super) struct Program<'a> {
    pub(super) line: &'a [String],
    pub(super) shell: bool,
    pub(super) pass_stdin: bool,
    pub(super) prefix: &'a str,
    pub(super) session: &'a str,
    pub(super) fence: Option<&'a v1::Fence>,
}

/// A program that runs under its guard.
pub(super) struct Guarded {
    guard: Child,
    /// Tells the guard how long; when it closes, the guard ends the program.
    line: Option<UnixStream>,
}

impl Program<'_> {
    /// Starts it; it ends before `until` unless that is extended.
    pub(super) async fn start(&self, until: Moment) -> anyhow::Result<Guarded> {
        let directory = Directory::new()?;
        let path = directory.0.join("guard");
        let listener = UnixListener::bind(&path).with_context(|| format!("cannot listen at `{}`", path.display()))?;
        let own = std::env::current_exe().context("this program cannot find itself")?;
        let mut command = Command::new(own);
        command.arg("lock-guard").arg(format!("-line={}", path.display())).arg(format!("-shell={}", self.shell));
        command.arg("--").args(self.line);
        command.env("CONSUL_LOCK_HELD", "true").env("LICTOR_LOCK_PREFIX", self.prefix).env("LICTOR_LOCK_SESSION", self.session);
        if let Some(fence) = self.fence {
            command.env("LICTOR_LOCK_TOKEN", fence.token.to_string());
        }
        if guard::shares_the_terminal(self.pass_stdin) {
            command.arg("-terminal").stdin(Stdio::inherit());
        } else {
            command.process_group(0).stdin(if self.pass_stdin { Stdio::inherit() } else { Stdio::null() });
        }
        let mut guard = command.spawn().context("cannot start the guard of the program")?;
        let accepted = tokio::select! {
            accepted = tokio::time::timeout(START_TIMEOUT, listener.accept()) => accepted.context("the guard did not come up in time")?,
            status = guard.wait() => anyhow::bail!("the guard ended at once: {}", status?),
        };
        let mut guarded = Guarded { guard, line: Some(accepted?.0) };
        guarded.extend(until).await;
        Ok(guarded)
    }
}

impl Guarded {
    /// Waits for the end of the program and tells its exit code; 128 and the number of the signal
    /// that ended it.
    pub(super) async fn wait(&mut self) -> anyhow::Result<i32> {
        Ok(code(self.guard.wait().await?))
    }

    /// Lets the program run until then.
    pub(super) async fn extend(&mut self, until: Moment) {
        if let Some(line) = &mut self.line {
            // A guard that has gone is noticed by waiting for it.
            let _ = line.write_all(format!("{}\n", until.micros()).as_bytes()).await;
        }
    }

    /// Ends the program, politely first, and waits until it and its children are gone.
    pub(super) async fn stop(&mut self) -> anyhow::Result<()> {
        self.line = None;
        self.guard.wait().await?;
        Ok(())
    }
}

/// The exit code as a shell would tell it.
pub(super) fn code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default())
}

/// A directory of one's own, removed in the end.
struct Directory(std::path::PathBuf);

impl Directory {
    fn new() -> anyhow::Result<Self> {
        let path = std::env::temp_dir().join(format!("lictor-lock-{}", uuid::Builder::from_random_bytes(rand::random()).into_uuid()));
        std::os::unix::fs::DirBuilderExt::mode(&mut std::fs::DirBuilder::new(), 0o700)
            .create(&path)
            .with_context(|| format!("cannot create `{}`", path.display()))?;
        Ok(Directory(path))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
