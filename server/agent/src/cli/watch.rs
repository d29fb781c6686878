//! `lictor watch`: tells what changes, as it changes, or runs a program each time.
//!
//! Without a program each change is one line of JSON. With one, the program gets what is there now
//! on its standard input, in the shape that handlers for Consul expect; it is never started while
//! it still runs, and changes that come meanwhile are one more run.

mod lines;

use std::io::Write;
use std::process::ExitCode;

use anyhow::{anyhow, bail};
use lictor_client::{Client, Target, WatchEvent, WatchOptions};
use net::Network;

use crate::cli::connect::Connection;
use crate::cli::output;
use crate::cli::session::length;
use crate::watches::handler::{Action, HANDLER_TIMEOUT, Handler};
use crate::watches::source::{Source, interrupted};
use crate::watches::{Asked, Kind, Subject, shape};

/// Tell what changes, or run a program each time
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Watch {
    /// What to watch: key, keyprefix, services, nodes, service, checks, event
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<String>,
    /// The key, for `key`
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// What keys begin with, for `keyprefix`
    #[arg(long, value_name = "PREFIX")]
    prefix: Option<String>,
    /// The service, for `service` and `checks`
    #[arg(long, value_name = "NAME")]
    service: Option<String>,
    /// A tag that instances must have, for `service`; may be repeated
    #[arg(long, value_name = "TAG")]
    tag: Vec<String>,
    /// Only instances that pass, for `service`
    #[arg(long)]
    passingonly: bool,
    /// Only checks in this state: any, passing, warning, critical
    #[arg(long, value_name = "STATE")]
    state: Option<String>,
    /// Run the program through a shell
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "true", value_name = "BOOL")]
    shell: Option<bool>,
    /// Print what is there, then end
    #[arg(long)]
    once: bool,
    /// Only events of this name, for `event`
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Post what is there to this URL instead of running a program
    #[arg(long, value_name = "URL")]
    http_handler: Option<String>,
    /// End a run of the program that takes longer than this [default: 5m]
    #[arg(long, value_name = "DURATION")]
    timeout: Option<String>,
    #[arg(long, hide = true)]
    filter: Option<String>,
    #[command(flatten)]
    connection: Connection,
    /// The program and its arguments
    #[arg(value_name = "PROGRAM", trailing_var_arg = true, allow_hyphen_values = true)]
    program: Vec<String>,
}

impl Watch {
    /// Watches until the program fails or the user ends it.
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        let (kind, subject) = self.asked()?.subject().map_err(|problem| anyhow!(problem))?;
        let timeout = self.timeout.as_deref().map(|text| length("-timeout", text)).transpose()?.unwrap_or(HANDLER_TIMEOUT);
        let client = self.connection.client()?;
        match (self.action(), subject) {
            (Some(action), subject) => {
                self.handle(Source::new(&client, subject, kind, self.options(), tell), Handler::new(Network::host(), action, timeout)).await
            }
            (None, Subject::Rows(target)) => self.print(&client, target).await,
            (None, Subject::Events(name)) => self.print_events(&client, &name).await,
        }
    }

    fn asked(&self) -> anyhow::Result<Asked> {
        if self.filter.as_ref().is_some_and(|filter| !filter.is_empty()) {
            bail!("`-filter` is not part of this version of `watch`");
        }
        Ok(Asked {
            kind: self.kind.clone().unwrap_or_default(),
            key: self.key.clone().unwrap_or_default(),
            prefix: self.prefix.clone().unwrap_or_default(),
            service: self.service.clone().unwrap_or_default(),
            tags: self.tag.clone(),
            passing_only: self.passingonly,
            state: self.state.clone().unwrap_or_default(),
            name: self.name.clone().unwrap_or_default(),
        })
    }

    fn action(&self) -> Option<Action> {
        let definition = |url: &String| state::CheckDefinition {
            http: Some(url.as_str().into()),
            method: Some("POST".into()),
            ..state::CheckDefinition::default()
        };
        match &self.http_handler {
            Some(url) => Some(Action::Http(Box::new(definition(url)))),
            None if self.program.is_empty() => None,
            None => Some(Action::Script { args: self.program.clone(), shell: self.shell.unwrap_or(true), quiet: false }),
        }
    }

    fn options(&self) -> WatchOptions {
        WatchOptions { read: self.connection.read(), ..WatchOptions::default() }
    }

    /// One line of JSON for each row that is there and each change.
    async fn print(&self, client: &Client, target: Target) -> anyhow::Result<ExitCode> {
        let mut watch = client.watch_with(target, self.options());
        let mut out = output::out();
        while let Some(event) = watch.next().await? {
            for line in lines::of(&event) {
                writeln!(out, "{line}")?;
            }
            out.flush()?;
            match event {
                WatchEvent::SnapshotEnd { .. } if self.once => break,
                event => interrupted(&event, tell),
            }
        }
        Ok(ExitCode::SUCCESS)
    }

    /// One line of JSON for each event; with `-once` those that the agent has seen lately.
    async fn print_events(&self, client: &Client, name: &str) -> anyhow::Result<ExitCode> {
        if self.once {
            let seen = client.events().list(name, &self.connection.datacenter()).await?;
            seen.iter().try_for_each(|event| output::print_line(shape::event(event)))?;
            return Ok(ExitCode::SUCCESS);
        }
        let mut source = Source::new(client, Subject::Events(name.to_owned()), Kind::Event, self.options(), tell);
        while let Some(news) = source.next().await? {
            news.lines().try_for_each(output::print_line)?;
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Runs the program with what is there, now and after each change.
    async fn handle(&self, mut source: Source, mut handler: Handler) -> anyhow::Result<ExitCode> {
        loop {
            tokio::select! {
                news = source.next() => match news? {
                    Some(news) => handler.offer(news),
                    None => break,
                },
                done = handler.step(), if handler.is_busy() => done?,
            }
            if self.once && handler.has_run() && !handler.is_busy() {
                break;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn tell(what: std::fmt::Arguments<'_>) {
    complain!("{what}");
}

#[cfg(test)]
mod tests;
