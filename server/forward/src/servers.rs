//! Which servers there are, by datacenter.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use gossip::{Member, Pool, Status};

pub(crate) struct Servers {
    /// The own datacenter.
    pub(crate) datacenter: String,
    pub(crate) lan: Pool,
    pub(crate) wan: Option<Pool>,
}

impl Servers {
    /// The addresses of a datacenter's servers that are alive.
    pub(crate) fn of(&self, datacenter: &str) -> Vec<String> {
        let members = match (datacenter == self.datacenter, &self.wan) {
            (true, _) => self.lan.members(),
            (false, Some(wan)) => wan.members(),
            (false, None) => Vec::new(),
        };
        let alive = members.iter().filter(|member| member.status == Status::Alive);
        alive.filter_map(|member| address(member, datacenter)).collect()
    }

    /// The datacenters that are known.
    pub(crate) fn datacenters(&self) -> Vec<String> {
        let wan = self.wan.iter().flat_map(Pool::members);
        let names: BTreeSet<String> = wan.filter_map(|member| member.tags.get("dc").cloned()).chain([self.datacenter.clone()]).collect();
        names.into_iter().collect()
    }
}

fn address(member: &Member, datacenter: &str) -> Option<String> {
    let tag = |name: &str| member.tags.get(name).map(String::as_str);
    if tag("role") != Some("consul") || tag("dc") != Some(datacenter) {
        return None;
    }
    let port: u16 = tag("port")?.parse().ok().filter(|port| *port != 0)?;
    Some(SocketAddr::new(member.address, port).to_string())
}
