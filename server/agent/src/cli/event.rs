//! `lictor event`: fires an event, lists the latest, or tells them as they come.

use std::process::ExitCode;

use lictor_client::{WatchOptions, v1};

use crate::cli::connect::Connection;
use crate::cli::lock::write_options;
use crate::cli::output::{Format, Table, print_json, print_line};
use crate::watches::source::Source;
use crate::watches::{Kind, Subject, shape};

/// Fire an event to every agent of the datacenter, or look at events
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Event {
    /// What it is called; with `-list` and `-follow` only events of this name are shown
    #[arg(long, value_name = "NAME", required_unless_present_any = ["list", "follow"])]
    name: Option<String>,
    /// Only nodes whose name matches this regular expression
    #[arg(long, value_name = "REGEX", default_value = "", hide_default_value = true, conflicts_with_all = ["list", "follow"])]
    node: String,
    /// Only nodes with a service whose name matches
    #[arg(long, value_name = "REGEX", default_value = "", hide_default_value = true, conflicts_with_all = ["list", "follow"])]
    service: String,
    /// Only nodes where such a service has a tag that matches
    #[arg(long, value_name = "REGEX", default_value = "", hide_default_value = true, conflicts_with_all = ["list", "follow"])]
    tag: String,
    /// Show the latest events that concern the agent, by Lamport time
    #[arg(long)]
    list: bool,
    /// Tell events as they come to the agent, one line of JSON each
    #[arg(long, conflicts_with = "list")]
    follow: bool,
    /// How to print a list
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// What it carries
    #[arg(default_value = "", hide_default_value = true, conflicts_with_all = ["list", "follow"])]
    payload: String,
    #[command(flatten)]
    connection: Connection,
}

impl Event {
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        match (self.list, self.follow) {
            (true, _) => self.list().await?,
            (_, true) => self.follow().await?,
            _ => self.fire().await?,
        }
        Ok(ExitCode::SUCCESS)
    }

    async fn fire(self) -> anyhow::Result<()> {
        let client = self.connection.client()?;
        let events = client.events();
        let fired = events.fire(v1::EventServiceFireRequest {
            options: write_options(&self.connection),
            name: self.name.unwrap_or_default(),
            payload: self.payload.into(),
            node_filter: self.node,
            service_filter: self.service,
            tag_filter: self.tag,
        });
        print_line(format_args!("Event ID: {}", fired.await?.id))?;
        Ok(())
    }

    async fn list(self) -> anyhow::Result<()> {
        let name = self.name.unwrap_or_default();
        let events = self.connection.client()?.events().list(&name, &self.connection.datacenter()).await?;
        if self.format == Format::Json {
            print_json(&events.iter().map(shape::event).collect::<Vec<_>>().into())?;
            return Ok(());
        }
        let mut table = Table::new(["LTime", "ID", "Name", "Payload"]);
        for event in events {
            let payload = String::from_utf8_lossy(&event.payload).escape_debug().to_string();
            table.row([event.lamport_time.to_string(), event.id, event.name.escape_debug().to_string(), payload]);
        }
        table.print()?;
        Ok(())
    }

    async fn follow(self) -> anyhow::Result<()> {
        let subject = Subject::Events(self.name.unwrap_or_default());
        let options = WatchOptions { read: self.connection.read(), ..WatchOptions::default() };
        let mut source = Source::new(&self.connection.client()?, subject, Kind::Event, options, |what| complain!("{what}"));
        while let Some(news) = source.next().await? {
            news.lines().try_for_each(print_line)?;
        }
        Ok(())
    }
}
