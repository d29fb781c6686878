//! Addresses: from text to where the agent listens and how it is reached.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::config::Listen;
use crate::config::raw::{Port, Raw};
use crate::config::read::Findings;

/// One literal address. Names and templates are refused, with the reason.
pub(crate) fn address(key: &str, text: &str, findings: &Findings) -> Option<IpAddr> {
    let text = text.trim();
    if text.contains("{{") {
        findings.error(format!("`{key}`: address templates are not part of this version; write the address itself instead of `{text}`"));
        return None;
    }
    if text.starts_with("unix:") {
        findings.error(format!("`{key}`: Unix sockets are not part of this version; write an IP address instead of `{text}`"));
        return None;
    }
    let bare = text.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse().ok();
    if address.is_none() {
        findings.error(format!("`{key}` needs an IP address, not `{text}`"));
    }
    address
}

/// Several addresses, separated by blanks.
fn addresses(key: &str, texts: &[String], findings: &Findings) -> Vec<IpAddr> {
    texts.iter().flat_map(|text| text.split_whitespace()).filter_map(|text| address(key, text, findings)).collect()
}

/// A DNS server: an address, with a port unless it is 53.
pub(crate) fn recursor(text: &str, findings: &Findings) -> Option<SocketAddr> {
    text.parse().ok().or_else(|| address("recursors", text, findings).map(|address| SocketAddr::new(address, 53)))
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
pub(crate) fn listen(raw: &Raw, bind: IpAddr, findings: &Findings) -> Listen {
    let loopback = ["127.0.0.1".to_owned()];
    let client = if raw.client_addr.is_empty() { &loopback[..] } else { &raw.client_addr };
    let client = addresses("client_addr", client, findings);
    let face = |name: &str, own: &Option<String>, number: Port| -> Vec<SocketAddr> {
        let Some(port) = port(&format!("ports.{name}"), number, findings) else { return Vec::new() };
        let own = own.as_ref().map(|text| addresses(&format!("addresses.{name}"), std::slice::from_ref(text), findings));
        own.as_ref().unwrap_or(&client).iter().map(|&address| SocketAddr::new(address, port)).collect()
    };
    let peer = |name: &str, number: Port| port(&format!("ports.{name}"), number, findings).map(|port| SocketAddr::new(bind, port));
    for (name, number) in [("https", raw.ports.https), ("grpc_tls", raw.ports.grpc_tls)] {
        if number != -1 {
            findings.error(format!("`ports.{name}`: TLS is not part of this version; set it to -1"));
        }
    }
    let listen = Listen {
        http: face("http", &raw.addresses.http, raw.ports.http),
        grpc: face("grpc", &raw.addresses.grpc, raw.ports.grpc),
        dns: face("dns", &raw.addresses.dns, raw.ports.dns),
        server: peer("server", raw.ports.server),
        serf_lan: peer("serf_lan", raw.ports.serf_lan),
        serf_wan: peer("serf_wan", raw.ports.serf_wan),
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
pub(crate) fn advertise(bind: IpAddr, found: &[IpAddr], findings: &Findings) -> Option<IpAddr> {
    if !bind.is_unspecified() {
        return Some(bind);
    }
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

/// The IPv4 addresses of this machine's interfaces.
pub(crate) fn of_this_machine() -> Vec<IpAddr> {
    let Ok(interfaces) = nix::ifaddrs::getifaddrs() else { return Vec::new() };
    let mut found: Vec<IpAddr> = interfaces.filter_map(|interface| Some(interface.address?.as_sockaddr_in()?.ip().into())).collect();
    found.sort();
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(bind: &str, found: &[&str]) -> (Option<String>, usize, usize) {
        let findings = Findings::default();
        let found: Vec<IpAddr> = found.iter().map(|address| address.parse().unwrap()).collect();
        let chosen = advertise(bind.parse().unwrap(), &found, &findings).map(|address| address.to_string());
        (chosen, findings.errors.into_inner().len(), findings.warnings.into_inner().len())
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
        let read = |text| recursor(text, &findings).map(|place| place.to_string());
        assert_eq!(read("10.0.0.1").as_deref(), Some("10.0.0.1:53"));
        assert_eq!(read("10.0.0.1:5300").as_deref(), Some("10.0.0.1:5300"));
        assert_eq!(read("::1").as_deref(), Some("[::1]:53"));
        assert_eq!(read("[::1]:54").as_deref(), Some("[::1]:54"));
        assert_eq!(read("dns.example"), None);
        assert_eq!(findings.errors.into_inner(), ["`recursors` needs an IP address, not `dns.example`"]);
    }
}
