//! Which servers there are, by datacenter.

use std::collections::{BTreeSet, HashSet};
use std::net::{IpAddr, SocketAddr};

use gossip::{Member, Status};

use crate::Error;

/// Tells who is in a pool.
type Members = Box<dyn Fn() -> Vec<Member> + Send + Sync>;

pub(crate) struct Servers {
    /// The own datacenter.
    pub(crate) datacenter: String,
    lan: Members,
    wan: Option<Members>,
}

impl Servers {
    pub(crate) fn new(
        datacenter: &str,
        lan: impl Fn() -> Vec<Member> + Send + Sync + 'static,
        wan: Option<impl Fn() -> Vec<Member> + Send + Sync + 'static>,
    ) -> Self {
        Servers { datacenter: datacenter.to_owned(), lan: Box::new(lan), wan: wan.map(|wan| Box::new(wan) as Members) }
    }

    /// The addresses of a datacenter's servers that are alive.
    pub(crate) fn of(&self, datacenter: &str) -> Vec<String> {
        let alive = self.members(datacenter).into_iter().filter(|member| member.status == Status::Alive);
        alive.filter_map(|member| address(&member, datacenter)).collect()
    }

    /// Where the servers of every datacenter live, or did.
    pub(crate) fn hosts(&self) -> HashSet<IpAddr> {
        let members = (self.lan)().into_iter().chain(self.wan.iter().flat_map(|wan| wan()));
        members.filter(|member| member.tags.get("role").is_some_and(|role| role == "consul")).map(|member| member.address).collect()
    }

    fn members(&self, datacenter: &str) -> Vec<Member> {
        match (datacenter == self.datacenter, &self.wan) {
            (true, _) => (self.lan)(),
            (false, Some(wan)) => wan(),
            (false, None) => Vec::new(),
        }
    }

    /// Why a datacenter has no server that could be asked.
    pub(crate) fn why_none(&self, datacenter: &str) -> Error {
        let own = datacenter == self.datacenter;
        let fates = fates(&self.members(datacenter), datacenter);
        match fates.is_empty() {
            false => Error::NoneAlive { datacenter: datacenter.to_owned(), fates },
            true if own => Error::NoServer,
            true => Error::UnknownDatacenter { name: datacenter.to_owned(), known: self.datacenters().join(", ") },
        }
    }

    /// The datacenters that are known.
    pub(crate) fn datacenters(&self) -> Vec<String> {
        let wan = self.wan.iter().flat_map(|wan| wan());
        let names: BTreeSet<String> = wan.filter_map(|member| member.tags.get("dc").cloned()).chain([self.datacenter.clone()]).collect();
        names.into_iter().collect()
    }
}

/// What became of each server of a datacenter.
fn fates(members: &[Member], datacenter: &str) -> String {
    let fate = |member: &Member| match member.status {
        Status::Left | Status::Leaving => format!("`{}` has left", member.name),
        Status::Failed => format!("`{}` has failed", member.name),
        Status::Alive => format!("`{}` does not say at which port it serves", member.name),
    };
    let servers = members.iter().filter(|member| is_server(member, datacenter));
    servers.map(fate).collect::<Vec<_>>().join(", ")
}

fn is_server(member: &Member, datacenter: &str) -> bool {
    let tag = |name: &str| member.tags.get(name).map(String::as_str);
    tag("role") == Some("consul") && tag("dc") == Some(datacenter)
}

fn address(member: &Member, datacenter: &str) -> Option<String> {
    if !is_server(member, datacenter) {
        return None;
    }
    let tag = |name: &str| member.tags.get(name).map(String::as_str);
    let port: u16 = tag("port")?.parse().ok().filter(|port| *port != 0)?;
    Some(SocketAddr::new(member.address, port).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_told_what_became_of_each_server() {
        let member = |name: &str, role: &str, status| Member {
            name: name.into(),
            node_id: String::new(),
            address: [10, 0, 0, 1].into(),
            port: 8302,
            tags: [("role", role), ("dc", "dc2"), ("port", "8300")].map(|(tag, value)| (tag.to_owned(), value.to_owned())).into(),
            status,
        };
        let members =
            [member("s1.dc2", "consul", Status::Failed), member("s2.dc2", "consul", Status::Left), member("c", "node", Status::Failed)];
        assert_eq!(fates(&members, "dc2"), "`s1.dc2` has failed, `s2.dc2` has left");
        assert_eq!(fates(&members, "dc3"), "");
    }
}
