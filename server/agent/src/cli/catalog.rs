//! `lictor catalog`: what the datacenter knows.

use std::collections::{BTreeMap, HashMap};
use std::process::ExitCode;

use anyhow::bail;
use lictor_client::{CatalogQuery, v1};
use serde_json::Value;

use crate::cli::connect::Connection;
use crate::cli::json;
use crate::cli::output::{Format, Table, pairs, print_json};

/// Look at datacenters, nodes and services.
#[derive(Clone, Debug, clap::Subcommand)]
pub(crate) enum CatalogCommand {
    /// List the known datacenters
    Datacenters(Datacenters),
    /// List nodes
    Nodes(Nodes),
    /// List services
    Services(Services),
}

/// List the known datacenters
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Datacenters {
    /// How to print
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    #[command(flatten)]
    connection: Connection,
}

/// List nodes
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Nodes {
    /// Print everything that is known of each node
    #[arg(long)]
    detailed: bool,
    /// Node to sort by
    #[arg(long, default_value = "", value_name = "NODE")]
    near: String,
    /// Only nodes with this fact; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    node_meta: Vec<String>,
    /// Only nodes that run this service
    #[arg(long, value_name = "SERVICE")]
    service: Option<String>,
    /// Only nodes for which this expression holds
    #[arg(long, default_value = "", value_name = "EXPRESSION")]
    filter: String,
    /// How to print
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    #[command(flatten)]
    connection: Connection,
}

/// List services
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Services {
    /// Print tags too
    #[arg(long)]
    tags: bool,
    /// Only services on this node
    #[arg(long, value_name = "NODE")]
    node: Option<String>,
    /// Only services on nodes with this fact; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    node_meta: Vec<String>,
    /// How to print
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    #[command(flatten)]
    connection: Connection,
}

/// Runs a sub-command.
pub(crate) async fn run(command: CatalogCommand) -> anyhow::Result<ExitCode> {
    match command {
        CatalogCommand::Datacenters(datacenters) => datacenters.run().await,
        CatalogCommand::Nodes(nodes) => nodes.run().await,
        CatalogCommand::Services(services) => services.run().await,
    }
}

impl Datacenters {
    async fn run(self) -> anyhow::Result<ExitCode> {
        let names = self.connection.client()?.catalog().datacenters().await?.value;
        if self.format == Format::Json {
            print_json(&names.into())?;
        } else {
            let mut table = Table::bare();
            names.into_iter().for_each(|name| table.row([name]));
            table.print()?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Nodes {
    async fn run(self) -> anyhow::Result<ExitCode> {
        let nodes = self.find().await?;
        if self.format == Format::Json {
            print_json(&nodes.iter().map(json::node).collect::<Vec<Value>>().into())?;
        } else if nodes.is_empty() {
            complain!("No nodes match");
        } else {
            self.table(&nodes).print()?;
        }
        Ok(ExitCode::SUCCESS)
    }

    async fn find(&self) -> anyhow::Result<Vec<v1::Node>> {
        let client = self.connection.client()?;
        let query = CatalogQuery {
            read: self.connection.read(),
            node_meta: facts(&self.node_meta)?,
            near: self.near.clone(),
            filter: self.filter.clone(),
            ..CatalogQuery::default()
        };
        let Some(service) = &self.service else { return Ok(client.catalog().nodes(query).await?.value) };
        let mut nodes: Vec<v1::Node> = Vec::new();
        for node in client.catalog().instances(service, query).await?.value.into_iter().filter_map(|instance| instance.node) {
            if !nodes.iter().any(|known| known.name == node.name) {
                nodes.push(node);
            }
        }
        Ok(nodes)
    }

    fn table(&self, nodes: &[v1::Node]) -> Table {
        if self.detailed {
            let mut table = Table::new(["Node", "ID", "Address", "DC", "TaggedAddresses", "Meta"]);
            for node in nodes {
                let tagged = pairs(&node.tagged_addresses);
                table.row([node.name.clone(), node.id.clone(), node.address.clone(), node.datacenter.clone(), tagged, pairs(&node.meta)]);
            }
            return table;
        }
        let mut table = Table::new(["Node", "ID", "Address", "DC"]);
        for node in nodes {
            let short: String = node.id.chars().take(8).collect();
            table.row([node.name.clone(), short, node.address.clone(), node.datacenter.clone()]);
        }
        table
    }
}

impl Services {
    async fn run(self) -> anyhow::Result<ExitCode> {
        let services = self.find().await?;
        if self.format == Format::Json {
            print_json(&services.iter().map(json::summary).collect::<Vec<Value>>().into())?;
            return Ok(ExitCode::SUCCESS);
        }
        let mut table = Table::bare();
        for service in services {
            if self.tags {
                table.row([service.name, service.tags.join(",")]);
            } else {
                table.row([service.name]);
            }
        }
        table.print()?;
        Ok(ExitCode::SUCCESS)
    }

    async fn find(&self) -> anyhow::Result<Vec<v1::ServiceSummary>> {
        let client = self.connection.client()?;
        let node_meta = facts(&self.node_meta)?;
        let Some(node) = &self.node else {
            let query = CatalogQuery { read: self.connection.read(), node_meta, ..CatalogQuery::default() };
            return Ok(client.catalog().services(query).await?.value);
        };
        let found = client.catalog().node(node, &self.connection.read()).await?.value;
        match found.node {
            None => bail!("no node `{node}` is registered; `lictor catalog nodes` lists them"),
            Some(row) if node_meta.iter().any(|(key, value)| row.meta.get(key) != Some(value)) => Ok(Vec::new()),
            Some(_) => Ok(summaries(&found.services)),
        }
    }
}

/// The services of one node, by name, each with the tags of all its instances there.
fn summaries(services: &[v1::Service]) -> Vec<v1::ServiceSummary> {
    let mut by_name: BTreeMap<&str, v1::ServiceSummary> = BTreeMap::new();
    for service in services {
        let row = by_name
            .entry(&service.name)
            .or_insert_with(|| v1::ServiceSummary { name: service.name.clone(), ..v1::ServiceSummary::default() });
        *row.instances.get_or_insert(0) += 1;
        row.tags.extend(service.tags.iter().cloned());
        row.tags.sort();
        row.tags.dedup();
    }
    by_name.into_values().collect()
}

/// `KEY=VALUE` arguments as pairs.
pub(crate) fn facts(texts: &[String]) -> anyhow::Result<HashMap<String, String>> {
    let pair = |text: &String| match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => bail!("`{text}` is not `key=value`"),
    };
    texts.iter().map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instances_of_a_node_become_services() {
        let service = |name: &str, tags: &[&str]| v1::Service {
            name: name.into(),
            tags: tags.iter().map(|&tag| tag.into()).collect(),
            ..v1::Service::default()
        };
        let rows = summaries(&[service("web", &["b"]), service("db", &[]), service("web", &["a", "b"])]);
        let rows: Vec<(&str, String, u64)> = rows.iter().map(|row| (row.name.as_str(), row.tags.join(","), row.instances())).collect();
        assert_eq!(rows, [("db", String::new(), 1), ("web", "a,b".into(), 2)]);
    }

    #[test]
    fn facts_are_pairs() {
        assert_eq!(facts(&["a=b=c".into()]).unwrap()["a"], "b=c");
        assert!(facts(&["ab".into()]).unwrap_err().to_string().contains("`ab` is not `key=value`"));
    }
}
