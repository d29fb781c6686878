//! Addresses: from text to where the agent listens and how it is reached.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::config::raw::{Port, Raw};
use crate::config::read::Findings;
use crate::config::sockaddr::{self, Interface};
use crate::config::{Advertise, Listen};

/// Turns texts into addresses, on a machine with these interfaces.
pub(crate) struct Reading<'a> {
    interfaces: &'a [Interface],
    findings: &'a Findings,
}

impl<'a> Reading<'a> {
    /// Reads on a machine with these interfaces.
    pub(crate) fn new(interfaces: &'a [Interface], findings: &'a Findings) -> Self {
        Reading { interfaces, findings }
    }

    /// The text of `key` with its templates worked out.
    pub(crate) fn expand(&self, key: &str, text: &str) -> Option<String> {
        if text.starts_with("unix:") {
            self.findings.error(format!("`{key}`: Unix sockets are not part of this version; write an IP address instead of `{text}`"));
            return None;
        }
        sockaddr::expand(text, self.interfaces).map_err(|error| self.findings.error(format!("`{key}`: {error}"))).ok()
    }

    /// One address.
    pub(crate) fn address(&self, key: &str, text: &str) -> Option<IpAddr> {
        let expanded = self.expand(key, text.trim())?;
        let found: Vec<&str> = expanded.split_whitespace().collect();
        match found.as_slice() {
            [one] => self.literal(key, one),
            [] => self.literal(key, text),
            several => {
                self.findings.error(format!("`{key}` is one address, and `{text}` gives several: {}", several.join(", ")));
                None
            }
        }
    }

    /// Several addresses, separated by blanks.
    fn addresses(&self, key: &str, texts: &[String]) -> Vec<IpAddr> {
        let expanded: Vec<String> = texts.iter().filter_map(|text| self.expand(key, text.trim())).collect();
        expanded.iter().flat_map(|text| text.split_whitespace()).filter_map(|text| self.literal(key, text)).collect()
    }

    fn literal(&self, key: &str, text: &str) -> Option<IpAddr> {
        let bare = text.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(text);
        let address = bare.parse().ok();
        if address.is_none() {
            self.findings.error(format!("`{key}` needs an IP address, not `{text}`"));
        }
        address
    }
}

/// A DNS server: an address, with a port unless it is 53.
pub(crate) fn recursor(text: &str, reading: &Reading<'_>) -> Option<SocketAddr> {
    text.parse().ok().or_else(|| reading.address("recursors", text).map(|address| SocketAddr::new(address, 53)))
}

/// A port that may be off.
fn port(key: &str, port: Port, findings: &Findings) -> Option<u16> {
    if port == -1 {
        return None;
    }
    let valid = u16::try_from(port).ok();
    if valid.is_none() {
        findings.error(format!("`{key}` is a port from 0 to 65535, or -1 for off, not `{port}`"));
    }
    valid
}

/// Where each face listens.
pub(crate) fn listen(raw: &Raw, bind: IpAddr, reading: &Reading<'_>) -> Listen {
    let findings = reading.findings;
    let loopback = ["127.0.0.1".to_owned()];
    let client = if raw.client_addr.is_empty() { &loopback[..] } else { &raw.client_addr };
    let client = reading.addresses("client_addr", client);
    let face = |name: &str, own: &Option<String>, number: Port| -> Vec<SocketAddr> {
        let Some(port) = port(&format!("ports.{name}"), number, findings) else { return Vec::new() };
        let own = own.as_ref().map(|text| reading.addresses(&format!("addresses.{name}"), std::slice::from_ref(text)));
        own.as_ref().unwrap_or(&client).iter().map(|&address| SocketAddr::new(address, port)).collect()
    };
    let peer = |name: &str, own: &Option<String>, number: Port| {
        let address = own.as_ref().and_then(|text| reading.address(name, text)).unwrap_or(bind);
        port(&format!("ports.{name}"), number, findings).map(|port| SocketAddr::new(address, port))
    };
    for (name, number) in [("https", raw.ports.https), ("grpc_tls", raw.ports.grpc_tls)] {
        if number != -1 {
            findings.error(format!("`ports.{name}`: TLS is not part of this version; set it to -1"));
        }
    }
    let listen = Listen {
        http: face("http", &raw.addresses.http, raw.ports.http),
        grpc: face("grpc", &raw.addresses.grpc, raw.ports.grpc),
        dns: face("dns", &raw.addresses.dns, raw.ports.dns),
        server: peer("server", &None, raw.ports.server),
        serf_lan: peer("serf_lan", &raw.serf_lan, raw.ports.serf_lan),
        serf_wan: peer("serf_wan", &raw.serf_wan, raw.ports.serf_wan),
    };
    refuse_shared_ports(&listen, findings);
    listen
}

/// Two faces cannot share a port of one address.
fn refuse_shared_ports(listen: &Listen, findings: &Findings) {
    let peers = [("server", listen.server), ("serf_lan", listen.serf_lan), ("serf_wan", listen.serf_wan)];
    let faces = [("http", &listen.http), ("grpc", &listen.grpc), ("dns", &listen.dns)];
    let all: Vec<(&str, SocketAddr)> = faces
        .into_iter()
        .flat_map(|(name, places)| places.iter().map(move |&place| (name, place)))
        .chain(peers.into_iter().filter_map(|(name, place)| Some((name, place?))))
        .collect();
    for (at, (name, place)) in all.iter().enumerate() {
        let clash = |other: &SocketAddr| {
            other.port() == place.port()
                && place.port() != 0
                && (other.ip() == place.ip() || other.ip().is_unspecified() || place.ip().is_unspecified())
        };
        if let Some((other, _)) = all[..at].iter().find(|(_, other)| clash(other)) {
            findings.error(format!("`ports.{other}` and `ports.{name}` are both {}; give each a port of its own", place.port()));
        }
    }
}

/// How others reach this node when nobody says so: the bind address, or the machine's only private
/// address.
pub(crate) fn advertise(bind: IpAddr, reading: &Reading<'_>) -> Option<IpAddr> {
    if !bind.is_unspecified() {
        return Some(bind);
    }
    let findings = reading.findings;
    let mut found: Vec<IpAddr> = reading.interfaces.iter().map(|one| one.address).filter(IpAddr::is_ipv4).collect();
    found.sort();
    found.dedup();
    let private: Vec<IpAddr> = found.iter().copied().filter(is_private).collect();
    let usable: Vec<IpAddr> =
        if private.is_empty() { found.iter().copied().filter(|address| !address.is_loopback()).collect() } else { private };
    match usable.as_slice() {
        [only] => Some(*only),
        [] => {
            findings.warn("this machine has no address but loopback, so other machines cannot reach this agent; `-advertise` sets one");
            Some(Ipv4Addr::LOCALHOST.into())
        }
        several => {
            let list: Vec<String> = several.iter().map(IpAddr::to_string).collect();
            findings.error(format!("this machine has several addresses ({}); choose one with `-advertise` or `-bind`", list.join(", ")));
            None
        }
    }
}

fn is_private(address: &IpAddr) -> bool {
    let shared = |v4: &Ipv4Addr| v4.octets()[0] == 100 && (v4.octets()[1] & 0xc0) == 64;
    matches!(address, IpAddr::V4(v4) if v4.is_private() || shared(v4))
}

/// Where others reach this node: as the configuration says, else by `lan`.
pub(crate) fn advertised(raw: &Raw, lan: IpAddr, reading: &Reading<'_>) -> Advertise {
    let texts = &raw.advertise;
    let given = |key: &str, text: &Option<String>, v4: Option<bool>| {
        let address = reading.address(key, text.as_ref()?)?;
        if address.is_unspecified() {
            reading.findings.error(format!("`{key}` is where others reach this node, so it cannot be a wildcard address"));
        }
        if v4.is_some_and(|v4| v4 != address.is_ipv4()) {
            reading.findings.error(format!("`{key}` is of the other family: `{address}`"));
        }
        Some(address)
    };
    let wan = given("advertise_addr_wan", &texts.wan, None).unwrap_or(lan);
    let family = |address: IpAddr, v4: bool| (address.is_ipv4() == v4).then_some(address);
    let lan_ipv4 = given("advertise_addr_ipv4", &texts.ipv4, Some(true)).or(family(lan, true));
    let lan_ipv6 = given("advertise_addr_ipv6", &texts.ipv6, Some(false)).or(family(lan, false));
    Advertise {
        wan,
        lan_ipv4,
        lan_ipv6,
        wan_ipv4: given("advertise_addr_wan_ipv4", &texts.wan_ipv4, Some(true)).or(family(wan, true)).or(lan_ipv4),
        wan_ipv6: given("advertise_addr_wan_ipv6", &texts.wan_ipv6, Some(false)).or(family(wan, false)).or(lan_ipv6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interface(address: &str) -> Interface {
        Interface { name: "eth0".into(), address: address.parse().unwrap(), prefix: 24, up: true, default: true }
    }

    fn chosen(bind: &str, found: &[&str]) -> (Option<String>, usize, usize) {
        let findings = Findings::default();
        let found: Vec<Interface> = found.iter().map(|address| interface(address)).collect();
        let chosen = advertise(bind.parse().unwrap(), &Reading::new(&found, &findings)).map(|address| address.to_string());
        let (errors, warnings) = findings.into_parts();
        (chosen, errors.len(), warnings.len())
    }

    #[test]
    fn the_advertised_address_is_never_a_guess() {
        let some = |address: &str| Some(address.to_owned());
        assert_eq!(chosen("10.1.2.3", &["10.9.9.9"]), (some("10.1.2.3"), 0, 0));
        assert_eq!(chosen("0.0.0.0", &["127.0.0.1", "192.168.1.4", "8.8.8.8"]), (some("192.168.1.4"), 0, 0));
        assert_eq!(chosen("0.0.0.0", &["127.0.0.1", "8.8.8.8"]), (some("8.8.8.8"), 0, 0));
        assert_eq!(chosen("0.0.0.0", &["10.0.0.1", "172.17.0.1"]), (None, 1, 0));
        assert_eq!(chosen("0.0.0.0", &["127.0.0.1"]), (some("127.0.0.1"), 0, 1));
    }

    #[test]
    fn recursors_may_name_their_port() {
        let findings = Findings::default();
        let read = |text| recursor(text, &Reading::new(&[], &findings)).map(|place| place.to_string());
        assert_eq!(read("10.0.0.1").as_deref(), Some("10.0.0.1:53"));
        assert_eq!(read("10.0.0.1:5300").as_deref(), Some("10.0.0.1:5300"));
        assert_eq!(read("::1").as_deref(), Some("[::1]:53"));
        assert_eq!(read("[::1]:54").as_deref(), Some("[::1]:54"));
        assert_eq!(read("dns.example"), None);
        assert_eq!(findings.into_errors(), ["`recursors` needs an IP address, not `dns.example`"]);
    }
}
