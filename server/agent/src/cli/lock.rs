//! `lictor lock`: runs a program while holding a lock, or one of several slots.
//!
//! What is written to the keys is what Consul's own clients write, so that both exclude each other.
//! The session is renewed several times a TTL. The program is run by a guard, a process of its own
//! that knows until when the session lives for certain and ends the program before that, whatever
//! becomes of this process: see [`guard`].

mod board;
mod child;
pub(crate) mod guard;
mod keeper;
mod semaphore;
mod slot;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use lictor_client::{Client, v1};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, timeout_at};

use crate::cli::connect::Connection;
use crate::cli::lock::board::Board;
use crate::cli::lock::child::Program;
use crate::cli::lock::keeper::Keeper;
use crate::cli::lock::semaphore::Semaphore;
use crate::cli::lock::slot::Slot;
use crate::cli::session::length;

/// Exit code when the program failed and that is asked for.
const CHILD_FAILED: u8 = 2;

/// How long giving back what is held may take.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(10);

/// Run a program while holding a lock, or one of several slots
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Lock {
    /// How many may hold it at a time
    #[arg(long = "n", default_value_t = 1, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
    slots: u32,
    /// Name of the session [default: the program]
    #[arg(long, default_value = "", value_name = "NAME")]
    name: String,
    /// Exit with 2 if the program fails
    #[arg(long)]
    child_exit_code: bool,
    /// How often in a row renewing the session may fail before the program is ended
    #[arg(long, default_value_t = 3, value_name = "NUMBER")]
    monitor_retry: u32,
    /// Let the program read standard input
    #[arg(long)]
    pass_stdin: bool,
    /// Give up waiting for the lock after this long [default: never]
    #[arg(long, value_name = "DURATION")]
    timeout: Option<String>,
    /// The same as `-timeout`
    #[arg(long = "try", value_name = "DURATION")]
    try_for: Option<String>,
    /// Run the program through a shell
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "true", value_name = "BOOL")]
    shell: Option<bool>,
    /// Say what happens
    #[arg(long)]
    verbose: bool,
    #[command(flatten)]
    connection: Connection,
    /// What the keys of the lock begin with, then the program and its arguments
    #[arg(value_name = "PREFIX PROGRAM", trailing_var_arg = true, allow_hyphen_values = true)]
    line: Vec<String>,
}

/// How a lock is kept in keys.
enum Layout {
    Slot(Slot),
    Semaphore(Semaphore),
}

/// A lock that is held.
pub(super) struct Held {
    /// The revision from which on it is.
    pub(super) revision: u64,
    /// The proof of it, where one key is the whole lock.
    pub(super) fence: Option<v1::Fence>,
}

/// Why a program ended before its time.
enum Ended {
    Lost(String),
    Stopped,
}

impl Lock {
    /// Waits, runs the program, and gives the lock back.
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        let (prefix, program) = self.split()?;
        let patience = self.patience()?;
        let client = self.connection.client()?;
        let name = match (self.name.as_str(), self.slots) {
            ("", 1) => "Consul API Lock".to_owned(),
            ("", _) => "Consul API Semaphore".to_owned(),
            (name, _) => name.to_owned(),
        };
        let keeper = Keeper::begin(&client, self.session(name), &self.connection.datacenter(), self.monitor_retry).await?;
        let outcome = self.hold(&client, &keeper, &prefix, &program, patience).await;
        keeper.end().await;
        outcome
    }

    async fn hold(
        &self,
        client: &Client,
        keeper: &Keeper,
        prefix: &str,
        program: &[String],
        patience: Option<Duration>,
    ) -> anyhow::Result<ExitCode> {
        let layout = Layout::new(client, prefix, keeper.id(), self.slots, &self.connection.datacenter());
        let mut board = Board::new(client, prefix, self.connection.read());
        let mut stopped = Stopped::new()?;
        let give_up = patience.map(|patience| Instant::now() + patience);
        self.tell(format_args!("waiting for the lock `{prefix}` as session {}", keeper.id()));
        let held = tokio::select! {
            held = layout.acquire(&mut board) => held,
            lost = keeper.lost() => Err(anyhow!("the session was lost while waiting: {lost}")),
            () = past(give_up) => Err(anyhow!("the lock `{prefix}` was not free within {:?}", patience.unwrap_or_default())),
            () = stopped.wait() => Err(anyhow!("stopped while waiting for the lock `{prefix}`")),
        };
        let result = match held {
            Ok(held) => self.run_program(keeper, &layout, &mut board, &held, prefix, program, &mut stopped).await,
            Err(error) => Err(error),
        };
        if timeout_at(Instant::now() + RELEASE_TIMEOUT, layout.release()).await.is_err() {
            complain!("the lock `{prefix}` could not be given back in time; it ends with its session");
        }
        result
    }

    #[allow(clippy::too_many_arguments, reason = "the one place where all of it meets")]
    async fn run_program(
        &self,
        keeper: &Keeper,
        layout: &Layout,
        board: &mut Board,
        held: &Held,
        prefix: &str,
        program: &[String],
        stopped: &mut Stopped,
    ) -> anyhow::Result<ExitCode> {
        self.tell(format_args!("holding the lock `{prefix}`"));
        let mut child = Program {
            line: program,
            shell: self.shell.unwrap_or(true),
            pass_stdin: self.pass_stdin,
            prefix,
            session: keeper.id(),
            fence: held.fence.as_ref(),
        }
        .start(keeper.until())
        .await?;
        let mut until = keeper.follow();
        let ended = loop {
            tokio::select! {
                status = child.wait() => match guard::is_over(keeper.until()) {
                    true => break Ended::Lost("the session could not be renewed in time".into()),
                    false => return self.finished(status?, program),
                },
                Ok(()) = until.changed() => {
                    let until = *until.borrow_and_update();
                    child.extend(until).await;
                }
                lost = keeper.lost() => break Ended::Lost(lost),
                taken = layout.taken_away(board, held) => break Ended::Lost(taken),
                () = stopped.wait() => break Ended::Stopped,
            }
        };
        child.stop().await?;
        match ended {
            Ended::Lost(why) => bail!("the lock `{prefix}` was lost, and the program was ended: {why}"),
            Ended::Stopped => bail!("stopped; the program was ended"),
        }
    }

    fn finished(&self, code: i32, program: &[String]) -> anyhow::Result<ExitCode> {
        if code == 0 {
            return Ok(ExitCode::SUCCESS);
        }
        complain!("`{}` ended with exit code {code}", program.join(" "));
        Ok(if self.child_exit_code { ExitCode::from(CHILD_FAILED) } else { ExitCode::SUCCESS })
    }

    fn split(&self) -> anyhow::Result<(String, Vec<String>)> {
        let (prefix, program) = self.line.split_first().context("a PREFIX and a PROGRAM are missing")?;
        let prefix = prefix.trim_matches('/');
        if prefix.is_empty() {
            bail!("the PREFIX is empty; give what the keys of the lock begin with");
        }
        if program.is_empty() {
            bail!("a PROGRAM is missing after the prefix `{prefix}`");
        }
        Ok((prefix.to_owned(), program.to_vec()))
    }

    fn patience(&self) -> anyhow::Result<Option<Duration>> {
        let given = match (&self.timeout, &self.try_for) {
            (Some(_), Some(_)) => bail!("give `-timeout` or `-try`, not both"),
            (Some(text), None) => Some(length("-timeout", text)?),
            (None, Some(text)) => Some(length("-try", text)?),
            (None, None) => None,
        };
        Ok(given.filter(|patience| !patience.is_zero()))
    }

    fn session(&self, name: String) -> v1::SessionServiceCreateRequest {
        let behavior = if self.slots == 1 { v1::SessionBehavior::Release } else { v1::SessionBehavior::Delete };
        v1::SessionServiceCreateRequest {
            options: write_options(&self.connection),
            name,
            behavior: behavior.into(),
            ttl: Some(crate::cli::session::wire(keeper::TTL)),
            ..Default::default()
        }
    }

    fn tell(&self, what: std::fmt::Arguments<'_>) {
        if self.verbose {
            complain!("{what}");
        }
    }
}

impl Layout {
    fn new(client: &Client, prefix: &str, session: &str, slots: u32, datacenter: &str) -> Self {
        match slots {
            1 => Layout::Slot(Slot::new(client, prefix, session, datacenter)),
            slots => Layout::Semaphore(Semaphore::new(client, prefix, session, slots, datacenter)),
        }
    }

    async fn acquire(&self, board: &mut Board) -> anyhow::Result<Held> {
        match self {
            Layout::Slot(slot) => slot.acquire(board).await,
            Layout::Semaphore(semaphore) => semaphore.acquire(board).await,
        }
    }

    /// Waits until the keys say that it is not held any more, and tells how.
    async fn taken_away(&self, board: &mut Board, held: &Held) -> String {
        loop {
            let seen = board.is_whole() && board.revision() >= held.revision;
            let is_held = match self {
                Layout::Slot(slot) => slot.is_held(board),
                Layout::Semaphore(semaphore) => semaphore.is_held(board),
            };
            if seen && !is_held {
                return "its key was deleted, or given to another session".into();
            }
            if let Err(error) = board.change().await {
                complain!("the lock cannot be watched any more: {error:#}");
                return std::future::pending().await;
            }
        }
    }

    async fn release(&self) {
        let released = match self {
            Layout::Slot(slot) => slot.release().await,
            Layout::Semaphore(semaphore) => semaphore.release().await,
        };
        if let Err(error) = released {
            complain!("the lock could not be given back, and ends with its session: {error:#}");
        }
    }
}

/// Requests to end this process.
struct Stopped {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

impl Stopped {
    fn new() -> anyhow::Result<Self> {
        Ok(Stopped { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn wait(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

async fn past(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// Where to write.
pub(super) fn write_options(connection: &Connection) -> Option<v1::WriteOptions> {
    let datacenter = connection.datacenter();
    (!datacenter.is_empty()).then_some(v1::WriteOptions { datacenter })
}
