//! The guard of a program that runs under a lock: a process between the program and whoever holds
//! the lock.
//!
//! It is told over a socket until when the lock is held for certain, by the clock that all processes
//! of the machine share, and ends the program's whole process group before that: first with SIGTERM,
//! then with SIGKILL. It does the same at once when the socket closes. So the program never outlives
//! the lock, also when the holder is killed or stopped and cannot see to it.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedReadHalf;
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::lock::child::code;
use crate::cli::lock::keeper::Moment;

/// How long the program has from SIGTERM to SIGKILL.
const GRACE: Duration = Duration::from_secs(5);

/// How long the system may take to end what was killed.
const KILL_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a guard may take to come up.
pub(super) const START_TIMEOUT: Duration = Duration::from_secs(10);

/// Run a program until its lock is lost
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct LockGuard {
    /// Where it is told how long
    #[arg(long)]
    line: PathBuf,
    /// Run the program through a shell
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    shell: Option<bool>,
    /// The program reads from the terminal, and stays in its foreground
    #[arg(long)]
    terminal: bool,
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    program: Vec<String>,
}

/// Whether a program whose lock is held until then has been ended for it.
pub(super) fn is_over(until: Moment) -> bool {
    until.left() <= GRACE
}

/// Whether the program reads from a terminal, which only processes of its foreground may.
pub(super) fn shares_the_terminal(pass_stdin: bool) -> bool {
    pass_stdin && std::io::stdin().is_terminal()
}

impl LockGuard {
    /// Runs the program, and exits as it does.
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        // Signals to the terminal's foreground are the holder's to act on.
        let _ignored = [signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?, signal(SignalKind::hangup())?];
        let line = UnixStream::connect(&self.line).await.context("nobody holds the lock any more")?;
        let (read, _write) = line.into_split();
        let mut told = BufReader::new(read).lines();
        let Some(mut until) = next(&mut told).await else { return Ok(ExitCode::FAILURE) };
        let mut program = self.start()?;
        loop {
            tokio::select! {
                status = program.child.wait() => return Ok(ExitCode::from(code(status?) as u8)),
                more = next(&mut told) => match more {
                    Some(more) => until = until.max(more),
                    None => return program.end(until).await,
                },
                () = tokio::time::sleep(until.left().saturating_sub(GRACE)) => return program.end(until).await,
            }
        }
    }

    fn start(&self) -> anyhow::Result<Program> {
        let name = self.program.join(" ");
        let mut command = if self.shell.unwrap_or(true) {
            let mut command = Command::new("/bin/sh");
            command.arg("-c").arg(&name);
            command
        } else {
            let (program, args) = self.program.split_first().context("no program was given")?;
            let mut command = Command::new(program);
            command.args(args);
            command
        };
        if !self.terminal {
            command.process_group(0);
        }
        let child = command.spawn().with_context(|| format!("cannot run `{name}`"))?;
        let id = child.id().and_then(|id| i32::try_from(id).ok()).context("the program has ended already")?;
        Ok(Program { child, leader: Pid::from_raw(id), group: !self.terminal })
    }
}

/// The next moment that is told; `None` when the line is closed.
async fn next(told: &mut Lines<BufReader<OwnedReadHalf>>) -> Option<Moment> {
    told.next_line().await.ok()??.parse().ok().map(Moment::from_micros)
}

struct Program {
    child: Child,
    leader: Pid,
    group: bool,
}

impl Program {
    /// Ends all of it before `until`, and within the time of grace.
    async fn end(mut self, until: Moment) -> anyhow::Result<ExitCode> {
        self.signal(Signal::SIGTERM);
        let grace = until.left().min(GRACE);
        let deadline = tokio::time::Instant::now() + grace;
        let status = tokio::time::timeout_at(deadline, self.child.wait()).await;
        // Those whom the program has left behind have the rest of the time.
        self.gone_by(deadline).await;
        self.signal(Signal::SIGKILL);
        self.gone_by(tokio::time::Instant::now() + KILL_TIMEOUT).await;
        let status = match status {
            Ok(status) => status?,
            Err(_) => self.child.wait().await?,
        };
        Ok(ExitCode::from(code(status) as u8))
    }

    fn signal(&self, signal: Signal) {
        // It fails only when nobody is left.
        let _ = if self.group { killpg(self.leader, signal) } else { kill(self.leader, signal) };
    }

    /// Waits until nobody of the group is there, or the time is up.
    async fn gone_by(&self, deadline: tokio::time::Instant) {
        while self.lives() && tokio::time::Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Whether anybody of the group is there.
    fn lives(&self) -> bool {
        self.group && killpg(self.leader, None).is_ok()
    }
}
