//! `lictor rtt`: how far two nodes are from each other.

use std::process::ExitCode;

use anyhow::bail;
use lictor_client::{Client, v1};

use crate::cli::connect::Connection;
use crate::cli::output::print_line;

/// Estimate the round trip between two nodes
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Rtt {
    /// Servers in the pool of all datacenters: names are `node.datacenter`
    #[arg(long)]
    wan: bool,
    /// A node
    from: String,
    /// Another one; without it, the agent's own
    to: Option<String>,
    #[command(flatten)]
    connection: Connection,
}

impl Rtt {
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        let client = self.connection.client()?;
        let (pool, name) = if self.wan { (v1::Pool::Wan, "WAN") } else { (v1::Pool::Lan, "LAN") };
        let to = match &self.to {
            Some(to) => to.clone(),
            None => self.own_name(&client).await?,
        };
        let coordinates = client.agent().coordinates(pool, &self.connection.datacenter()).await?;
        let trip = distance(find(&coordinates, &self.from, self.wan)?, find(&coordinates, &to, self.wan)?);
        print_line(format_args!("Estimated {} <-> {to} rtt: {:.3} ms (using {name} coordinates)", self.from, trip * 1000.0))?;
        Ok(ExitCode::SUCCESS)
    }

    /// What the agent is called in the pool that is meant.
    async fn own_name(&self, client: &Client) -> anyhow::Result<String> {
        let info = client.agent().info().await?;
        let asked = self.connection.datacenter();
        if !asked.is_empty() && !asked.eq_ignore_ascii_case(&info.datacenter) {
            bail!("the agent that is asked is in `{}`, not in `{asked}`; name two nodes", info.datacenter);
        }
        match (self.wan, info.server) {
            (false, _) => Ok(info.node),
            (true, true) => Ok(format!("{}.{}", info.node, info.datacenter)),
            (true, false) => bail!("the agent that is asked is no server, so it is not in the WAN pool; name two servers"),
        }
    }
}

fn find<'a>(coordinates: &'a [v1::Coordinate], name: &str, wan: bool) -> anyhow::Result<&'a v1::Coordinate> {
    let found = coordinates.iter().find(|found| found.node == name);
    let list = if wan {
        "`lictor members -wan`, asked of a server, lists who there is, as `node.datacenter`"
    } else {
        "`lictor members` lists who there is"
    };
    found.ok_or_else(|| anyhow::anyhow!("nothing was heard yet of where `{name}` is; {list}"))
}

/// The estimated round trip in seconds.
fn distance(a: &v1::Coordinate, b: &v1::Coordinate) -> f64 {
    let space = a.vec.iter().zip(&b.vec).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt();
    let raw = space + a.height + b.height;
    let adjusted = raw + a.adjustment + b.adjustment;
    if adjusted > 0.0 { adjusted } else { raw }
}
