//! The command line: one binary, every operation a sub-command over the Rust client.
//!
//! Exit codes: 0 done, 1 failed, 127 no such command; `members` adds 2 for an empty list. Answers go
//! to standard output, everything else to standard error.

/// Writes a line to standard error, which may be closed by its reader at any time.
macro_rules! complain {
    ($($part:tt)*) => { $crate::cli::output::complain(format_args!($($part)*)) };
}

mod agent;
mod args;
mod autopilot;
mod catalog;
mod cluster;
mod connect;
mod debug;
mod event;
mod exec;
mod info;
pub(crate) mod json;
mod keyring;
mod kv;
mod lock;
mod maint;
mod monitor;
mod output;
mod recover;
mod reload;
mod rtt;
mod services;
mod session;
mod snapshot;
mod transfer;
mod watch;

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches};

use crate::cli::args::Misuse;
use crate::config::AgentFlags;

/// Exit code of an unknown command.
const NO_COMMAND: u8 = 127;

/// Knows which services run where and how they do, keeps shared configuration and locks, and tells
/// everyone at once when something changes.
#[derive(Clone, Debug, clap::Parser)]
#[command(
    name = "lictor",
    disable_help_subcommand = true,
    args_override_self = true,
    after_help = "Every flag may be written with one dash or two."
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum Command {
    /// Run an agent; `agent -dev` needs nothing else
    Agent(Box<AgentFlags>),
    /// Read and write keys
    #[command(subcommand)]
    Kv(Box<kv::KvCommand>),
    /// Look at datacenters, nodes and services
    #[command(subcommand)]
    Catalog(Box<catalog::CatalogCommand>),
    /// Register and deregister services of this machine
    #[command(subcommand)]
    Services(Box<services::ServicesCommand>),
    /// Begin, renew, list and end sessions
    #[command(subcommand)]
    Session(Box<session::SessionCommand>),
    /// Run a program while holding a lock, or one of several slots
    Lock(Box<lock::Lock>),
    #[command(hide = true)]
    LockGuard(lock::guard::LockGuard),
    /// Tell what changes, or run a program each time
    Watch(Box<watch::Watch>),
    /// Take this node or a service on it out of work, or back
    Maint(maint::Maint),
    /// Show the log of the agent as it is written
    Monitor(monitor::Monitor),
    /// Gather what a report of a fault needs into one archive
    Debug(debug::Debug),
    /// Have the agent read its configuration again
    Reload(reload::Reload),
    /// Have the agent join a cluster by its members
    Join(cluster::Join),
    /// Have the agent leave its cluster and end
    Leave(cluster::Leave),
    /// Declare a failed member to have left
    ForceLeave(cluster::ForceLeave),
    /// Look after the servers
    #[command(subcommand)]
    Operator(Box<cluster::Operator>),
    /// Save everything to a file, and bring it back
    #[command(subcommand)]
    Snapshot(Box<snapshot::SnapshotCommand>),
    /// Make a new quorum from the data directories that are left of an old one
    Recover(recover::Recover),
    /// Fire an event to every agent of the datacenter, or look at events
    Event(Box<event::Event>),
    /// Run a program on many machines
    Exec(Box<exec::Exec>),
    /// Make a key for gossip
    Keygen(keyring::Keygen),
    /// Change the keys that gossip is sealed with
    Keyring(Box<keyring::Keyring>),
    /// Estimate the round trip between two nodes
    Rtt(rtt::Rtt),
    /// List the agents that this one knows
    Members(Box<info::Members>),
    /// Tell who the agent is and how it runs
    Info(Box<info::Info>),
    /// Check configuration files
    Validate(agent::Validate),
    /// Tell the version of this program
    Version(info::Version),
}

/// Runs the command that `args` name; the first of them is the program itself.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let mut args = args.into_iter();
    let program = program_name(args.next());
    let mut root = Cli::command().name(program).bin_name(program);
    root.build();
    let given: Result<Vec<String>, OsString> = args.map(OsString::into_string).collect();
    let given = match given {
        Ok(given) => given,
        Err(odd) => return fail(format_args!("argument `{}` is not text; give bytes with `@FILE` or `-`", odd.to_string_lossy())),
    };
    match args::normalise(&given, &root) {
        Ok(normal) => parsed(root, program, normal),
        Err(Misuse::Flag(text)) => fail(text),
        Err(Misuse::NoCommand(text)) => {
            if let Some(text) = text {
                complain!("Error! {text}");
            }
            complain!("{}", root.render_help());
            ExitCode::from(NO_COMMAND)
        }
        Err(Misuse::Incomplete(path)) => {
            let command = path.iter().try_fold(&mut root, |command, name| command.find_subcommand_mut(name));
            command.into_iter().for_each(|command| complain!("{}", command.render_help()));
            ExitCode::FAILURE
        }
    }
}

/// `consul` when the binary is started under that name, else `lictor`.
fn program_name(argument: Option<OsString>) -> &'static str {
    let name = argument.as_deref().and_then(|path| Path::new(path).file_name());
    if name.is_some_and(|name| name == "consul") { "consul" } else { "lictor" }
}

fn parsed(root: clap::Command, program: &str, normal: args::Normal) -> ExitCode {
    let line = std::iter::once(program.to_owned()).chain(normal.args);
    let cli = root.try_get_matches_from(line).and_then(|matches| Cli::from_arg_matches(&matches));
    match cli {
        Ok(cli) => ended(execute(cli.command, &normal.warnings)),
        Err(error) if error.use_stderr() => {
            // The rest of the text is advice that stands in the help as well.
            let text = error.to_string();
            let first = text.split("\n\n").next().unwrap_or_default();
            fail(first.trim_start_matches("error: "))
        }
        Err(help) => ended(output::print_line(help.to_string().trim_end()).map(|()| ExitCode::SUCCESS).map_err(Into::into)),
    }
}

fn execute(command: Command, warnings: &[String]) -> anyhow::Result<ExitCode> {
    if let Command::Agent(flags) = &command {
        return agent::run(flags, warnings);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match command {
            Command::Agent(_) => unreachable!("the agent has a runtime of its own"),
            Command::Kv(command) => kv::run(*command).await,
            Command::Catalog(command) => catalog::run(*command).await,
            Command::Services(command) => services::run(*command).await,
            Command::Session(command) => session::run(*command).await,
            Command::Lock(lock) => lock.run().await,
            Command::LockGuard(guard) => guard.run().await,
            Command::Watch(watch) => watch.run().await,
            Command::Maint(maint) => maint.run().await,
            Command::Monitor(monitor) => monitor.run().await,
            Command::Debug(debug) => debug.run().await,
            Command::Reload(reload) => reload.run().await,
            Command::Join(join) => join.run().await,
            Command::Leave(leave) => leave.run().await,
            Command::ForceLeave(leave) => leave.run().await,
            Command::Operator(operator) => operator.run().await,
            Command::Snapshot(command) => command.run().await,
            Command::Recover(recover) => recover.run(),
            Command::Event(event) => event.run().await,
            Command::Exec(exec) => exec.run().await,
            Command::Keygen(keygen) => keygen.run(),
            Command::Keyring(keyring) => keyring.run().await,
            Command::Rtt(rtt) => rtt.run().await,
            Command::Members(members) => members.run().await,
            Command::Info(info) => info.run().await,
            Command::Validate(validate) => validate.run(),
            Command::Version(version) => version.run(),
        }
    })
}

/// The exit code, after saying what went wrong. A reader that has gone away is no failure.
fn ended(result: anyhow::Result<ExitCode>) -> ExitCode {
    match result {
        Ok(code) => code,
        Err(error) if is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => fail(format_args!("{error:#}")),
    }
}

fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe))
}

fn fail(text: impl std::fmt::Display) -> ExitCode {
    complain!("Error! {text}");
    ExitCode::FAILURE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_binary_answers_to_both_names() {
        assert_eq!(program_name(Some("/usr/bin/consul".into())), "consul");
        assert_eq!(program_name(Some("./lictor".into())), "lictor");
        assert_eq!(program_name(None), "lictor");
    }

    #[test]
    fn a_reader_that_has_gone_is_no_failure() {
        let closed = anyhow::Error::new(io::Error::from(io::ErrorKind::BrokenPipe)).context("printing");
        assert!(is_closed_pipe(&closed));
        assert!(!is_closed_pipe(&anyhow::anyhow!("other")));
    }
}
