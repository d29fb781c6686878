//! `lictor keygen` and `keyring`: the keys that gossip is sealed with.
//!
//! A key has to be in every pool before it is used in any: a server is in two, that of its datacenter
//! and that of all datacenters. So a change is made in all of them, of all datacenters, unless one is
//! named.

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::bail;
use lictor_client::{Client, Error, v1};

use crate::cli::connect::Connection;
use crate::cli::output::print_line;

/// Most members by way of which Consul's agents may have an answer sent as well.
const RELAYS_MAX: i64 = 5;

/// Make a key for gossip
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Keygen {}

impl Keygen {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        print_line(gossip::Key::generate().to_base64())?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Change the keys that gossip is sealed with, on every member of every pool
///
/// Acts on the pool between datacenters and on that of each datacenter; with `-datacenter` on that of
/// one only, with `-wan` on the one between them only.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Keyring {
    /// List the keys of all members
    #[arg(long)]
    list: bool,
    /// List the keys that members seal with
    #[arg(long)]
    list_primary: bool,
    /// Add a key that opens
    #[arg(long, value_name = "KEY")]
    install: Option<String>,
    /// Seal with this key from now on
    #[arg(long = "use", value_name = "KEY")]
    seal_with: Option<String>,
    /// Take a key out
    #[arg(long, value_name = "KEY")]
    remove: Option<String>,
    /// Only the pool between datacenters
    #[arg(long)]
    wan: bool,
    /// Only the pool of this datacenter; with `-list` and `-list-primary`
    #[arg(long)]
    local_only: bool,
    /// 0 to 5. Changes nothing here: each member is asked over a connection of its own, so no answer has to be relayed
    #[arg(long, value_name = "MEMBERS", default_value_t = 0, hide_default_value = true, allow_negative_numbers = true)]
    relay_factor: i64,
    #[command(flatten)]
    connection: Connection,
}

/// A gossip pool: that of a datacenter, or the one between them.
struct Pool {
    /// Empty for the one between them.
    datacenter: String,
}

impl Pool {
    fn is_wan(&self) -> bool {
        self.datacenter.is_empty()
    }

    fn heading(&self) -> String {
        if self.is_wan() { "WAN:".to_owned() } else { format!("{} (LAN):", self.datacenter) }
    }
}

impl Keyring {
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        let (action, key) = self.action()?;
        let client = self.connection.client()?;
        let pools = self.pools(&client).await?;
        if action == v1::KeyAction::List {
            let which = if self.list_primary { "primary " } else { "" };
            print_line(format_args!("==> Gathering installed {which}encryption keys..."))?;
        }
        let (mut reached, mut failed) = (false, false);
        for pool in &pools {
            let members = match client.operator().manage_keys(action, &key, pool.is_wan(), &pool.datacenter).await {
                Ok(members) => members,
                // A lone server may take part in its datacenter's pool only.
                Err(error) if pool.is_wan() && !self.wan && is_absent(&error) => continue,
                Err(error) => {
                    failed = true;
                    complain!("{} {error}", pool.heading());
                    continue;
                }
            };
            reached = true;
            for member in members.iter().filter(|member| !member.error.is_empty()) {
                failed = true;
                complain!("{} {}: {}", pool.heading(), member.node, member.error);
            }
            if action == v1::KeyAction::List {
                print_line(format_args!("\n{}\n{}", pool.heading(), counted(&members, self.list_primary)))?;
            }
        }
        Ok(if reached && !failed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    fn action(&self) -> anyhow::Result<(v1::KeyAction, String)> {
        if !(0..=RELAYS_MAX).contains(&self.relay_factor) {
            bail!("`-relay-factor` is from 0 to {RELAYS_MAX}, not {}", self.relay_factor);
        }
        let lists = self.list || self.list_primary;
        if self.local_only && !lists {
            bail!("`-local-only` goes with `-list` and `-list-primary` only; name one datacenter's pool with `-datacenter`");
        }
        match (lists, &self.install, &self.seal_with, &self.remove) {
            (true, None, None, None) if self.list != self.list_primary => Ok((v1::KeyAction::List, String::new())),
            (false, Some(key), None, None) => Ok((v1::KeyAction::Install, key.clone())),
            (false, None, Some(key), None) => Ok((v1::KeyAction::Use, key.clone())),
            (false, None, None, Some(key)) => Ok((v1::KeyAction::Remove, key.clone())),
            _ => bail!("give one of `-list`, `-list-primary`, `-install`, `-use` and `-remove`"),
        }
    }

    /// The pools that are meant: the one between datacenters, then those of the datacenters.
    async fn pools(&self, client: &Client) -> anyhow::Result<Vec<Pool>> {
        let asked = self.connection.datacenter();
        match (self.wan, asked.is_empty()) {
            (true, true) if self.local_only => bail!("`-wan` and `-local-only` exclude each other"),
            (true, true) => return Ok(vec![Pool { datacenter: String::new() }]),
            (true, false) => bail!("`-wan` and `-datacenter` exclude each other: there is one WAN pool, whichever datacenter is asked"),
            (false, false) => return Ok(vec![Pool { datacenter: asked }]),
            (false, true) => {}
        }
        if self.local_only {
            return Ok(vec![Pool { datacenter: client.agent().info().await?.datacenter }]);
        }
        let datacenters = client.catalog().datacenters().await?.value;
        Ok(std::iter::once(String::new()).chain(datacenters).map(|datacenter| Pool { datacenter }).collect())
    }
}

/// Whether the pool is one that nobody there takes part in.
fn is_absent(error: &Error) -> bool {
    matches!(error, Error::Refused(refused) if refused.details.get("pool").is_some_and(|pool| pool == "absent"))
}

/// Each key, and how many of the members have it.
fn counted(members: &[v1::MemberKeys], primary: bool) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for member in members {
        let shown = if primary { 1 } else { member.keys.len() };
        member.keys.iter().take(shown).for_each(|key| *counts.entry(key).or_default() += 1);
    }
    let lines = counts.iter().map(|(key, count)| format!("  {key} [{count}/{}]", members.len()));
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        keyring: Keyring,
    }

    fn action(args: &[&str]) -> Result<v1::KeyAction, String> {
        let line = Line::try_parse_from(std::iter::once("keyring").chain(args.iter().copied())).map_err(|error| error.to_string())?;
        line.keyring.action().map(|(action, _)| action).map_err(|error| error.to_string())
    }

    #[test]
    fn one_thing_is_done_at_a_time() {
        assert_eq!(action(&["--list"]), Ok(v1::KeyAction::List));
        assert_eq!(action(&["--list-primary", "--local-only", "--relay-factor=5"]), Ok(v1::KeyAction::List));
        assert_eq!(action(&["--use=k"]), Ok(v1::KeyAction::Use));
        assert!(action(&[]).unwrap_err().contains("`-install`"));
        assert!(action(&["--list", "--remove=k"]).unwrap_err().contains("give one of"));
        assert!(action(&["--install=k", "--local-only"]).unwrap_err().contains("`-local-only`"));
        for factor in ["--relay-factor=6", "--relay-factor=-1"] {
            assert!(action(&["--list", factor]).unwrap_err().contains("from 0 to 5"), "{factor}");
        }
    }

    #[test]
    fn keys_are_counted_and_the_first_of_a_member_is_the_one_it_seals_with() {
        let member = |keys: &[&str]| v1::MemberKeys { keys: keys.iter().map(|&key| key.into()).collect(), ..Default::default() };
        let members = [member(&["new", "old"]), member(&["old"])];
        assert_eq!(counted(&members, false), "  new [1/2]\n  old [2/2]");
        assert_eq!(counted(&members, true), "  new [1/2]\n  old [1/2]");
    }
}
