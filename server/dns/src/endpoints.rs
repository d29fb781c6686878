//! Where the instances of a service are reached, worked out once per change of the service.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use hickory_proto::rr::{Name, RecordType};
use parking_lot::RwLock;
use service::discovery::{is_usable, weight};
use state::{Instance, Node, ServiceView};

use crate::options::DnsOptions;
use crate::question::{self, InZone, Lookup, Subject};

/// Most services, with and without a tag, whose endpoints are kept. When it is reached all are
/// dropped, and those still asked for are worked out again.
const ENTRIES_MAX: usize = 8192;

/// Where something is reached.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Host {
    /// At an address.
    Address(IpAddr),
    /// At whatever address another name has.
    Name(Name),
}

impl Host {
    /// Reads what was registered; `None` when it is empty or nothing that DNS can tell.
    pub(crate) fn read(text: &str) -> Option<Host> {
        if let Ok(address) = text.parse() {
            return Some(Host::Address(address));
        }
        let mut name = Name::from_ascii(text).ok()?;
        name.set_fqdn(true);
        (!name.is_root()).then_some(Host::Name(name))
    }
}

/// One instance as SRV shows it.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) port: u16,
    pub(crate) weight: u16,
    /// Where it is reached.
    pub(crate) host: Host,
    /// Whether that is where its node is reached.
    pub(crate) at_node: bool,
    /// Its node.
    pub(crate) node: Arc<Node>,
}

/// The usable instances of a service, perhaps only those with a tag.
#[derive(Debug)]
pub(crate) struct Endpoints {
    /// What they were worked out from.
    view: Arc<ServiceView>,
    /// How long answers may be cached, in seconds.
    pub(crate) ttl: u32,
    /// How many usable instances there are.
    pub(crate) usable: usize,
    /// Addresses for A, each once.
    pub(crate) v4: Vec<Ipv4Addr>,
    /// Addresses for AAAA, each once.
    pub(crate) v6: Vec<Ipv6Addr>,
    /// Other names for CNAME, each once.
    pub(crate) names: Vec<Name>,
    /// Instances for SRV, each host and port once.
    pub(crate) targets: Vec<Target>,
}

impl Endpoints {
    fn new(view: Arc<ServiceView>, service: &str, tag: Option<&str>, options: &DnsOptions) -> Self {
        let chosen = |instance: &&Arc<Instance>| is_usable(instance, options.only_passing) && instance.has_tags(tag.as_slice());
        let usable: Vec<Arc<Instance>> = view.instances.values().filter(chosen).cloned().collect();
        let ttl = options.service_ttl.of(service);
        let mut endpoints = Endpoints { view, ttl, usable: usable.len(), v4: vec![], v6: vec![], names: vec![], targets: vec![] };
        let mut hosts = BTreeSet::new();
        let mut seen = BTreeSet::new();
        for instance in &usable {
            let Some((host, at_node)) = host_of(instance, service, options) else { continue };
            if hosts.insert(host.clone()) {
                endpoints.add_host(&host);
            }
            // Two instances on one port of one host are one for SRV. What its node is called counts
            // as well: the target may be the node's name.
            let port = instance.service.port as u16;
            let node = at_node.then(|| instance.node.name.clone());
            if seen.insert((host.clone(), port, node)) {
                let weight = weight(instance).min(u32::from(u16::MAX)) as u16;
                endpoints.targets.push(Target { port, weight, host, at_node, node: instance.node.clone() });
            }
        }
        endpoints
    }

    fn add_host(&mut self, host: &Host) {
        match host {
            Host::Address(IpAddr::V4(address)) => self.v4.push(*address),
            Host::Address(IpAddr::V6(address)) => self.v6.push(*address),
            Host::Name(name) => self.names.push(name.clone()),
        }
    }
}

/// Where an instance is reached, and whether that is its node's address. An instance whose address
/// is the name of its own service would lead in a circle: it is reached at its node.
fn host_of(instance: &Instance, service: &str, options: &DnsOptions) -> Option<(Host, bool)> {
    let own = Host::read(&instance.service.address).filter(|host| !leads_back(host, service, options));
    match own {
        Some(host) => Some((host, false)),
        None => Host::read(&instance.node.address).map(|host| (host, true)),
    }
}

fn leads_back(host: &Host, service: &str, options: &DnsOptions) -> bool {
    let Host::Name(name) = host else { return false };
    let lookup = question::read(name, RecordType::A, options.zones());
    matches!(lookup, Lookup::Zone(InZone { subject: Subject::Service { name, .. }, .. }) if name == service)
}

/// The endpoints of services that were asked for. An entry is good as long as the tables hold the
/// very view that it was made from.
#[derive(Debug, Default)]
pub(crate) struct EndpointCache {
    entries: RwLock<HashMap<Box<str>, Arc<Endpoints>>>,
}

impl EndpointCache {
    /// The endpoints of `service`, which is in lower case, in `view`.
    pub(crate) fn get(&self, view: Arc<ServiceView>, service: &str, tag: Option<&str>, options: &DnsOptions) -> Arc<Endpoints> {
        let tagged = tag.map(|tag| format!("{service}\0{tag}"));
        let key = tagged.as_deref().unwrap_or(service);
        if let Some(found) = self.entries.read().get(key).filter(|found| Arc::ptr_eq(&found.view, &view)) {
            return found.clone();
        }
        let made = Arc::new(Endpoints::new(view, service, tag, options));
        // What has no instances is cheap to work out, and anybody can think of many tags.
        if made.usable > 0 {
            let mut entries = self.entries.write();
            if entries.len() >= ENTRIES_MAX {
                entries.clear();
            }
            entries.insert(key.into(), made.clone());
        }
        made
    }
}
