//! One run of a program: exit code 0 passes, 1 warns, everything else is critical, so that plug-ins
//! written for Nagios work as they are.
//!
//! The program leads a process group of its own. When its time is up, or when it has ended and left
//! something behind that still holds its output, the whole group is killed. Of its output the end is
//! kept, in bounded memory, however much it prints.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use process::Group;
use state::Status;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;
use tokio::process::{Child, Command};
use tokio::time::{Instant, timeout_at};

use crate::schedule::Finding;
use crate::tail::Tail;

/// How long the output of a program that has ended may still flow before what holds it is killed.
const LEFT_BEHIND: Duration = Duration::from_millis(250);

/// Read at a time.
const PIECE: usize = 16 * 1024;

/// A program to run.
#[derive(Clone, Debug)]
pub(crate) struct Script {
    /// The program and its arguments; no shell is in between.
    pub(crate) args: Vec<String>,
    /// How long a run may take.
    pub(crate) timeout: Duration,
    /// Most bytes of output to report.
    pub(crate) output_bytes_max: usize,
}

impl Script {
    /// Runs the program once.
    pub(crate) async fn run(&self) -> Finding {
        let (child, output) = match self.spawn() {
            Ok(started) => started,
            Err(cause) => {
                let program = self.args.first().map(String::as_str).unwrap_or_default();
                let output = format!("`{program}` can't be run: {cause}");
                return Finding { status: Status::Critical, output: output.into() };
            }
        };
        let mut tail = Tail::new(self.output_bytes_max);
        match self.watch(child, output, &mut tail).await {
            Ok(Some(exit)) => Finding { status: verdict(exit), output: describe(exit, tail).into() },
            Err(cause) => Finding { status: Status::Critical, output: format!("the program can't be waited for: {cause}").into() },
            Ok(None) => {
                let said = tail.into_text();
                let output = format!("Timed out ({:?}) running check{}{said}", self.timeout, if said.is_empty() { "" } else { "\n" });
                Finding { status: Status::Critical, output: output.into() }
            }
        }
    }

    fn spawn(&self) -> io::Result<(Child, Receiver)> {
        let (program, args) = self.args.split_first().ok_or_else(|| io::Error::other("no program is named"))?;
        let (reader, writer) = io::pipe()?;
        let mut command = std::process::Command::new(program);
        command.args(args).stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer).process_group(0);
        let child = Command::from(command).kill_on_drop(true).spawn()?;
        Ok((child, Receiver::from_owned_fd(reader.into())?))
    }

    /// Follows the run to its end; `None` when its time was up.
    async fn watch(&self, mut child: Child, mut output: Receiver, tail: &mut Tail) -> io::Result<Option<ExitStatus>> {
        let deadline = Instant::now() + self.timeout;
        let mut group = Group::of(&child);
        let mut piece = vec![0; PIECE];
        let mut open = true;
        let exit = loop {
            tokio::select! {
                read = output.read(&mut piece), if open => match read {
                    Ok(0) | Err(_) => open = false,
                    Ok(count) => tail.push(&piece[..count]),
                },
                exit = child.wait() => break exit?,
                () = tokio::time::sleep_until(deadline) => {
                    group.kill();
                    // Reaps it; a killed process ends at once.
                    let _ = child.wait().await;
                    return Ok(None);
                }
            }
        };
        let drained = timeout_at(Instant::now() + LEFT_BEHIND, drain(&mut output, open, &mut piece, tail)).await;
        match drained {
            // Nobody holds the output any more: the group has ended, and its number may be somebody else's.
            Ok(()) => group.spare(),
            Err(_) => group.kill(),
        }
        Ok(Some(exit))
    }
}

async fn drain(output: &mut Receiver, open: bool, piece: &mut [u8], tail: &mut Tail) {
    if !open {
        return;
    }
    while let Ok(count @ 1..) = output.read(piece).await {
        tail.push(&piece[..count]);
    }
}

fn verdict(exit: ExitStatus) -> Status {
    match exit.code() {
        Some(code) => by_exit_code(code.into()),
        None => Status::Critical,
    }
}

/// The rule of Nagios plug-ins.
pub(crate) fn by_exit_code(code: i64) -> Status {
    match code {
        0 => Status::Passing,
        1 => Status::Warning,
        _ => Status::Critical,
    }
}

/// What the program printed; where it printed nothing and failed, how it ended.
fn describe(exit: ExitStatus, tail: Tail) -> String {
    match tail.into_text() {
        text if !text.is_empty() || exit.success() => text,
        _ => exit.to_string(),
    }
}
