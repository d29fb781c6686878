//! `lictor info`, `members` and `version`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::ExitCode;

use lictor_client::v1;
use regex::Regex;
use serde_json::{Map, Value, json};

use crate::cli::connect::Connection;
use crate::cli::output::{Format, Table, pairs, print_json, print_line};

/// Tell who the agent is and how it runs
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Info {
    /// How to print
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    #[command(flatten)]
    connection: Connection,
}

/// List the agents that this one knows
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Members {
    /// Print all tags of each member
    #[arg(long)]
    detailed: bool,
    /// The servers of all datacenters
    #[arg(long)]
    wan: bool,
    /// Only members in a state that matches this regular expression: alive, suspect, leaving, left, failed
    #[arg(long, value_name = "REGEX", value_parser = states)]
    status: Option<Regex>,
    /// How to print
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    #[command(flatten)]
    connection: Connection,
}

/// Tell the version of this program
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Version {
    /// How to print
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

impl Version {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        match self.format {
            Format::Json => print_json(&json!({"name": "lictor", "version": crate::VERSION, "api": "lictor.v1"}))?,
            Format::Table => print_line(format_args!("Lictor v{}\nAPI lictor.v1; speaks Consul's HTTP API v1", crate::VERSION))?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Facts by section and name.
pub(super) type Sections = BTreeMap<String, BTreeMap<String, String>>;

impl Info {
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        let sections = sections(self.connection.client_of_this_agent("info").await?.agent().info().await?);
        match self.format {
            Format::Json => print_json(&json!(sections))?,
            Format::Table => print_line(text(&sections))?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// The facts of an agent.
pub(super) fn sections(info: v1::GetInfoResponse) -> Sections {
    let mut sections = Sections::new();
    let mut add = |section: &str, name: &str, value: String| {
        sections.entry(section.to_owned()).or_default().insert(name.to_owned(), value);
    };
    add("agent", "node", info.node);
    add("agent", "node_id", info.node_id);
    add("agent", "datacenter", info.datacenter);
    add("agent", "server", info.server.to_string());
    if let Some(started) = info.started_at {
        add("agent", "started_at", started.to_string());
    }
    add("build", "version", info.version);
    for (face, address) in info.addresses {
        add("addresses", &face, address);
    }
    for (name, value) in info.stats {
        let (section, name) = name.split_once('.').unwrap_or(("agent", &name));
        add(section, name, value);
    }
    sections
}

/// Each section with its facts below it.
fn text(sections: &Sections) -> String {
    let mut text = String::new();
    for (section, facts) in sections {
        writeln!(text, "{section}:").expect("writing to a string succeeds");
        for (name, value) in facts {
            writeln!(text, "\t{name} = {value}").expect("writing to a string succeeds");
        }
    }
    text.trim_end().to_owned()
}

impl Members {
    /// Exit code 2 when there is none, as scripts expect.
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        let pool = if self.wan { v1::Pool::Wan } else { v1::Pool::Lan };
        let mut members = self.connection.client_of_this_agent("members").await?.agent().members(pool).await?;
        members.retain(|member| self.status.as_ref().is_none_or(|wanted| wanted.is_match(status(member.status()))));
        if members.is_empty() {
            complain!("No members match");
            return Ok(ExitCode::from(2));
        }
        match self.format {
            Format::Json => print_json(&members.iter().map(row).collect::<Vec<Value>>().into())?,
            Format::Table => table(&members, self.detailed).print()?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// The states that a member may be in.
const STATES: [v1::MemberStatus; 5] =
    [v1::MemberStatus::Alive, v1::MemberStatus::Suspect, v1::MemberStatus::Leaving, v1::MemberStatus::Left, v1::MemberStatus::Failed];

/// An expression over states, as a whole; one that no state matches is a mistake.
fn states(text: &str) -> Result<Regex, String> {
    let regex = Regex::new(&format!("^(?:{text})$")).map_err(|error| format!("it is no regular expression: {error}"))?;
    match STATES.iter().any(|state| regex.is_match(status(*state))) {
        true => Ok(regex),
        false => Err(format!("no state matches it; there are {}", STATES.map(status).join(", "))),
    }
}

fn status(status: v1::MemberStatus) -> &'static str {
    match status {
        v1::MemberStatus::Unspecified => "unknown",
        v1::MemberStatus::Alive => "alive",
        v1::MemberStatus::Suspect => "suspect",
        v1::MemberStatus::Leaving => "leaving",
        v1::MemberStatus::Left => "left",
        v1::MemberStatus::Failed => "failed",
    }
}

/// Where a member gossips; one that does not has no port.
fn place(member: &v1::Member) -> String {
    match (member.address.contains(':'), member.port) {
        (_, 0) => member.address.clone(),
        (true, port) => format!("[{}]:{port}", member.address),
        (false, port) => format!("{}:{port}", member.address),
    }
}

fn table(members: &[v1::Member], detailed: bool) -> Table {
    if detailed {
        let mut table = Table::new(["Node", "Address", "Status", "Tags"]);
        for member in members {
            table.row([member.name.clone(), place(member), status(member.status()).into(), pairs(&member.tags)]);
        }
        return table;
    }
    let mut table = Table::new(["Node", "Address", "Status", "Type", "Build", "Protocol", "DC", "Partition", "Segment"]);
    for member in members {
        let tag = |name: &str| member.tags.get(name).cloned().unwrap_or_else(|| "-".into());
        let state = status(member.status()).to_owned();
        // There is one of each: scripts that count columns find them.
        let segment = if role(member) == "server" { "<all>" } else { "<default>" };
        let (build, protocol, datacenter) = (tag("build"), tag("vsn"), tag("dc"));
        let kind = role(member).to_owned();
        table.row([member.name.clone(), place(member), state, kind, build, protocol, datacenter, "default".into(), segment.into()]);
    }
    table
}

/// `server` or `client`.
fn role(member: &v1::Member) -> &'static str {
    if member.tags.get("role").is_some_and(|role| role == "consul") { "server" } else { "client" }
}

/// A member as JSON.
pub(super) fn row(member: &v1::Member) -> Value {
    let tags: Map<String, Value> = member.tags.iter().map(|(tag, value)| (tag.clone(), value.as_str().into())).collect();
    json!({
        "name": member.name,
        "address": member.address,
        "port": member.port,
        "status": status(member.status()),
        "tags": tags,
        "incarnation": member.incarnation,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info() -> v1::GetInfoResponse {
        v1::GetInfoResponse {
            node: "n1".into(),
            node_id: "8f5a".into(),
            datacenter: "dc1".into(),
            server: true,
            version: "0.1.0".into(),
            addresses: [("serf_lan".to_owned(), "[::1]:8301".to_owned())].into(),
            stats: [("raft.term".to_owned(), "3".to_owned())].into(),
            ..v1::GetInfoResponse::default()
        }
    }

    #[test]
    fn states_are_chosen_by_an_expression_that_fits_one() {
        let failed = states("failed|left").unwrap();
        assert!(failed.is_match("left") && failed.is_match("failed") && !failed.is_match("alive"));
        assert!(!states("l.*").unwrap().is_match("failed"), "the whole state is compared");
        assert!(states("bogus").unwrap_err().contains("alive, suspect, leaving, left, failed"));
        assert!(states("(").unwrap_err().contains("no regular expression"));
    }

    #[test]
    fn facts_stand_below_their_section() {
        let text = text(&sections(info()));
        assert!(text.starts_with("addresses:\n\tserf_lan = [::1]:8301\nagent:\n\tdatacenter = dc1\n"), "{text}");
        assert!(text.ends_with("raft:\n\tterm = 3"), "{text}");
    }
}
