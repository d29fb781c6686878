//! Addresses that are worked out on the machine: the templates that go-sockaddr made common, such as
//! `{{ GetPrivateIP }}` and `{{ GetAllInterfaces | include "network" "10.0.0.0/8" | attr "address" }}`.
//!
//! A template is a source, filters, and what is taken of the rest. A text may hold several, among
//! other characters. The interfaces of the machine are looked at once and handed in.

use std::fmt;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use regex::Regex;

/// An address of an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Interface {
    /// The interface.
    pub(crate) name: String,
    /// The address.
    pub(crate) address: IpAddr,
    /// How many bits of it name the network.
    pub(crate) prefix: u8,
    /// Whether the interface is on.
    pub(crate) up: bool,
    /// Whether packets to addresses that nobody else has leave by it.
    pub(crate) default: bool,
}

impl fmt::Display for Interface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.name, self.address, self.prefix)
    }
}

/// The interfaces of this machine, in the order of the system.
pub(crate) fn of_this_machine() -> Vec<Interface> {
    let Ok(found) = nix::ifaddrs::getifaddrs() else { return Vec::new() };
    let defaults = default_interfaces();
    found
        .filter_map(|entry| {
            let ip = |storage: &nix::sys::socket::SockaddrStorage| {
                let v4 = storage.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
                v4.or_else(|| storage.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
            };
            let address = ip(entry.address.as_ref()?)?;
            let prefix = entry.netmask.as_ref().and_then(ip).map_or_else(|| width(address), ones);
            let up = entry.flags.contains(nix::net::if_::InterfaceFlags::IFF_UP);
            Some(Interface { default: defaults.contains(&entry.interface_name), name: entry.interface_name, address, prefix, up })
        })
        .collect()
}

/// The interfaces with a route to everywhere, as the kernel lists them.
fn default_interfaces() -> Vec<String> {
    let table = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let column = |line: &str, at: usize| line.split_whitespace().nth(at).unwrap_or_default().to_owned();
    let v4 = table("/proc/net/route");
    let v4 = v4.lines().skip(1).filter(|line| column(line, 1) == "00000000" && column(line, 7) == "00000000").map(|line| column(line, 0));
    let v6 = table("/proc/net/ipv6_route");
    let everywhere = |line: &&str| column(line, 0).bytes().all(|b| b == b'0') && column(line, 1) == "00" && column(line, 9) != "lo";
    v4.chain(v6.lines().filter(everywhere).map(|line| column(line, 9))).collect()
}

fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn ones(mask: IpAddr) -> u8 {
    let bits = match mask {
        IpAddr::V4(v4) => v4.to_bits().count_ones(),
        IpAddr::V6(v6) => v6.to_bits().count_ones(),
    };
    u8::try_from(bits).unwrap_or(u8::MAX)
}

/// The text with its templates worked out; each gives addresses separated by blanks.
pub(crate) fn expand(text: &str, interfaces: &[Interface]) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        let (template, after) = after.split_once("}}").ok_or_else(|| format!("`{text}` lacks `}}}}`"))?;
        out.push_str(before);
        out.push_str(&evaluate(template.trim(), interfaces)?);
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}

fn evaluate(template: &str, interfaces: &[Interface]) -> Result<String, String> {
    let stages = stages(template)?;
    let mut stages = stages.iter();
    let source = stages.next().ok_or("the template is empty")?;
    let (mut chosen, taken) = begin(source, interfaces)?;
    let mut text = taken.then(|| listed(&chosen));
    for stage in stages {
        if text.is_some() {
            return Err(format!("`{{{{ {template} }}}}`: nothing can follow what gives addresses"));
        }
        match step(stage, &mut chosen)? {
            None => {}
            some => text = some,
        }
    }
    let text = text.ok_or_else(|| format!("`{{{{ {template} }}}}` names interfaces; end it with `| attr \"address\"`"))?;
    if text.is_empty() {
        let have: Vec<String> = interfaces.iter().map(Interface::to_string).collect();
        return Err(format!("`{{{{ {template} }}}}` fits no address of this machine, which has {}", have.join(", ")));
    }
    Ok(text)
}

/// A word and its arguments.
type Stage = Vec<String>;

/// Takes a template apart: stages between bars, words between blanks, quotes keep words together.
fn stages(template: &str) -> Result<Vec<Stage>, String> {
    let mut stages = vec![Stage::new()];
    let mut rest = template.chars().peekable();
    while let Some(&next) = rest.peek() {
        match next {
            '|' => {
                rest.next();
                stages.push(Stage::new());
            }
            quote @ ('"' | '`') => {
                rest.next();
                let mut word = String::new();
                loop {
                    match rest.next() {
                        Some(c) if c == quote => break,
                        Some('\\') if quote == '"' => word.extend(rest.next()),
                        Some(c) => word.push(c),
                        None => return Err(format!("a quote is not closed in `{template}`")),
                    }
                }
                stages.last_mut().expect("there is a first stage").push(word);
            }
            c if c.is_whitespace() => {
                rest.next();
            }
            _ => {
                let mut word = String::new();
                while let Some(c) = rest.next_if(|c| !c.is_whitespace() && *c != '|' && *c != '"') {
                    word.push(c);
                }
                stages.last_mut().expect("there is a first stage").push(word);
            }
        }
    }
    match stages.iter().any(Vec::is_empty) {
        true => Err(format!("`{template}` has an empty part")),
        false => Ok(stages),
    }
}

/// What a source gives, and whether addresses are taken of it at once.
fn begin(stage: &Stage, all: &[Interface]) -> Result<(Vec<Interface>, bool), String> {
    let words: Vec<&str> = stage.iter().map(String::as_str).collect();
    let only = |keep: &dyn Fn(&Interface) -> bool| all.iter().filter(|one| keep(one)).cloned().collect::<Vec<_>>();
    let first = |mut some: Vec<Interface>| {
        some.truncate(1);
        (some, true)
    };
    Ok(match words.as_slice() {
        ["GetAllInterfaces"] => (all.to_vec(), false),
        ["GetDefaultInterfaces"] => (only(&|one| one.default), false),
        ["GetPrivateInterfaces"] => (outward(all, is_private), false),
        ["GetPublicInterfaces"] => (outward(all, |address| !is_private(address)), false),
        ["GetPrivateIP"] => first(outward(all, is_private)),
        ["GetPrivateIPs"] => (outward(all, is_private), true),
        ["GetPublicIP"] => first(outward(all, |address| !is_private(address))),
        ["GetPublicIPs"] => (outward(all, |address| !is_private(address)), true),
        ["GetInterfaceIP", name] => first(of_interface(all, name)),
        ["GetInterfaceIPs", name] => (of_interface(all, name), true),
        [] => return Err("the template is empty".into()),
        [other, ..] => {
            return Err(format!(
                "`{other}` is no source of addresses; use `GetPrivateIP`, `GetPublicIP`, `GetInterfaceIP \"name\"`, \
                 `GetAllInterfaces`, `GetDefaultInterfaces`, `GetPrivateInterfaces` or `GetPublicInterfaces`"
            ));
        }
    })
}

/// Addresses that others can reach, on the interfaces with the route to everywhere; on a machine that
/// has no such route, on all that are on. IPv4 comes first, then small networks.
fn outward(all: &[Interface], wanted: impl Fn(IpAddr) -> bool) -> Vec<Interface> {
    let routed = all.iter().any(|one| one.default);
    let reachable = |one: &&Interface| one.up && is_forwardable(one.address) && (one.default || !routed);
    let mut some: Vec<Interface> = all.iter().filter(reachable).filter(|one| wanted(one.address)).cloned().collect();
    some.sort_by_key(|one| (one.address.is_ipv6(), u8::MAX - one.prefix));
    some
}

fn of_interface(all: &[Interface], name: &str) -> Vec<Interface> {
    let mut some: Vec<Interface> = all.iter().filter(|one| one.name == name && is_forwardable(one.address)).cloned().collect();
    some.sort_by_key(|one| (one.address.is_ipv6(), u8::MAX - one.prefix));
    some
}

fn listed(chosen: &[Interface]) -> String {
    chosen.iter().map(|one| one.address.to_string()).collect::<Vec<_>>().join(" ")
}

/// Filters, sorts or cuts; or takes a text, with which the template ends.
fn step(stage: &Stage, chosen: &mut Vec<Interface>) -> Result<Option<String>, String> {
    let words: Vec<&str> = stage.iter().map(String::as_str).collect();
    let count = |text: &str| text.parse::<usize>().map_err(|_| format!("`{text}` is not a number in a template"));
    match words.as_slice() {
        ["include", by, value] => {
            let fits = selector(by, value)?;
            chosen.retain(|one| fits(one));
        }
        ["exclude", by, value] => {
            let fits = selector(by, value)?;
            chosen.retain(|one| !fits(one));
        }
        ["sort", by] => sort(by, chosen)?,
        ["limit", most] => chosen.truncate(count(most)?),
        ["offset", skip] => drop(chosen.drain(..count(skip)?.min(chosen.len()))),
        ["unique", by] => {
            let mut seen = Vec::new();
            let attribute = attribute(by)?;
            chosen.retain(|one| {
                let value = attribute(one);
                let new = !seen.contains(&value);
                seen.push(value);
                new
            });
        }
        // As there, the first one counts.
        ["attr", name] => {
            let attribute = attribute(name)?;
            return Ok(Some(chosen.first().map(attribute).unwrap_or_default()));
        }
        ["join", name, between] => {
            let attribute = attribute(name)?;
            return Ok(Some(chosen.iter().map(attribute).collect::<Vec<_>>().join(between)));
        }
        _ => {
            return Err(format!(
                "`{}` is not understood in a template; use `include`, `exclude`, `sort`, `limit`, `offset`, `unique`, `attr` or `join`",
                words.join(" ")
            ));
        }
    }
    Ok(None)
}

fn attribute(name: &str) -> Result<fn(&Interface) -> String, String> {
    Ok(match name.to_ascii_lowercase().as_str() {
        "address" => |one| one.address.to_string(),
        "name" => |one| one.name.clone(),
        "network" => |one| format!("{}/{}", network(one.address, one.prefix), one.prefix),
        _ => return Err(format!("`{name}` is not known of an interface; use `address`, `name` or `network`")),
    })
}

type Selector = Box<dyn Fn(&Interface) -> bool>;

fn selector(by: &str, value: &str) -> Result<Selector, String> {
    let values: Vec<String> = value.split('|').map(|part| part.trim().to_ascii_lowercase()).collect();
    Ok(match by.to_ascii_lowercase().as_str() {
        "name" => {
            let names = Regex::new(value).map_err(|error| format!("`{value}` is not a pattern for names: {error}"))?;
            Box::new(move |one| names.is_match(&one.name))
        }
        "address" => {
            let addresses = Regex::new(value).map_err(|error| format!("`{value}` is not a pattern for addresses: {error}"))?;
            Box::new(move |one| addresses.is_match(&one.address.to_string()))
        }
        "network" => {
            let networks: Result<Vec<_>, String> = values.iter().map(|text| parse_network(text)).collect();
            let networks = networks?;
            Box::new(move |one| networks.iter().any(|(base, prefix)| contains(*base, *prefix, one.address)))
        }
        "type" => kinds(&values)?,
        "rfc" => rfcs(&values)?,
        "flag" | "flags" => flags(&values)?,
        "size" => {
            let prefix: u8 = value.trim_start_matches('/').parse().map_err(|_| format!("`{value}` is not a size such as `/24`"))?;
            Box::new(move |one| one.prefix == prefix)
        }
        _ => {
            return Err(format!("interfaces are not chosen by `{by}`; use `name`, `address`, `network`, `type`, `rfc`, `flags` or `size`"));
        }
    })
}

fn kinds(values: &[String]) -> Result<Selector, String> {
    if let Some(odd) = values.iter().find(|kind| !matches!(kind.as_str(), "ip" | "ipv4" | "ipv6")) {
        return Err(format!("`{odd}` is no type of address; use `IP`, `IPv4` or `IPv6`"));
    }
    let values = values.to_vec();
    Ok(Box::new(move |one| {
        let own = if one.address.is_ipv4() { "ipv4" } else { "ipv6" };
        values.iter().any(|kind| kind == "ip" || kind == own)
    }))
}

fn rfcs(values: &[String]) -> Result<Selector, String> {
    if let Some(odd) = values.iter().find(|rfc| !matches!(rfc.as_str(), "1918" | "6598" | "6890" | "4193")) {
        return Err(format!("addresses are not chosen by RFC `{odd}`; use `1918`, `6598`, `4193` or `6890`"));
    }
    let values = values.to_vec();
    Ok(Box::new(move |one| {
        values.iter().any(|rfc| match (rfc.as_str(), one.address) {
            ("1918", IpAddr::V4(v4)) => v4.is_private(),
            ("6598", IpAddr::V4(v4)) => is_shared(v4),
            ("4193", IpAddr::V6(v6)) => v6.is_unique_local(),
            ("6890", address) => is_private(address),
            _ => false,
        })
    }))
}

fn flags(values: &[String]) -> Result<Selector, String> {
    let known = ["up", "down", "forwardable", "loopback", "global unicast", "link-local unicast", "link-local"];
    if let Some(odd) = values.iter().find(|flag| !known.contains(&flag.as_str())) {
        return Err(format!("`{odd}` is no flag of an interface; use one of `{}`", known.join("`, `")));
    }
    let values = values.to_vec();
    Ok(Box::new(move |one| {
        values.iter().all(|flag| match flag.as_str() {
            "up" => one.up,
            "down" => !one.up,
            "forwardable" => is_forwardable(one.address),
            "loopback" => one.address.is_loopback(),
            "global unicast" => !one.address.is_loopback() && !is_link_local(one.address) && !one.address.is_multicast(),
            _ => is_link_local(one.address),
        })
    }))
}

/// Sorts by several things, the first of which counts most; `-` turns one around.
fn sort(by: &str, chosen: &mut [Interface]) -> Result<(), String> {
    for part in by.split(',').rev() {
        let part = part.trim();
        let (name, backwards) = part.strip_prefix('-').map_or((part.trim_start_matches('+'), false), |name| (name, true));
        match name.to_ascii_lowercase().as_str() {
            "address" => chosen.sort_by_key(|one| one.address),
            "default" => chosen.sort_by_key(|one| !one.default),
            "name" => chosen.sort_by(|one, other| one.name.cmp(&other.name)),
            "private" => chosen.sort_by_key(|one| !is_private(one.address)),
            "size" => chosen.sort_by_key(|one| u8::MAX - one.prefix),
            "type" => chosen.sort_by_key(|one| one.address.is_ipv6()),
            _ => {
                return Err(format!(
                    "interfaces are not sorted by `{name}`; use `address`, `default`, `name`, `private`, `size` or `type`"
                ));
            }
        }
        if backwards {
            chosen.reverse();
        }
    }
    Ok(())
}

fn parse_network(text: &str) -> Result<(IpAddr, u8), String> {
    let wrong = || format!("`{text}` is not a network such as `10.0.0.0/8`");
    let (base, prefix) = text.split_once('/').ok_or_else(wrong)?;
    let base: IpAddr = base.parse().map_err(|_| wrong())?;
    let prefix: u8 = prefix.parse().ok().filter(|prefix| *prefix <= width(base)).ok_or_else(wrong)?;
    Ok((base, prefix))
}

fn network(address: IpAddr, prefix: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => Ipv4Addr::from_bits(v4.to_bits() & u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0)).into(),
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & u128::MAX.checked_shl(128 - u32::from(prefix.min(128))).unwrap_or(0)).into(),
    }
}

fn contains(base: IpAddr, prefix: u8, address: IpAddr) -> bool {
    base.is_ipv4() == address.is_ipv4() && network(base, prefix) == network(address, prefix)
}

/// Addresses that providers share among their customers (RFC 6598).
fn is_shared(v4: Ipv4Addr) -> bool {
    contains(Ipv4Addr::new(100, 64, 0, 0).into(), 10, v4.into())
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

/// Whether routers pass packets on to it.
fn is_forwardable(address: IpAddr) -> bool {
    !address.is_loopback() && !is_link_local(address) && !address.is_multicast() && !address.is_unspecified()
}

/// Whether it is of a network that is set apart from the internet (RFC 6890).
fn is_private(address: IpAddr) -> bool {
    let apart = [
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "240.0.0.0/4",
        "::/127",
        "64:ff9b::/96",
        "100::/64",
        "2001::/23",
        "2001:db8::/32",
        "fc00::/7",
        "fe80::/10",
    ];
    apart.iter().filter_map(|text| parse_network(text).ok()).any(|(base, prefix)| contains(base, prefix, address))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine() -> Vec<Interface> {
        let one = |name: &str, address: &str, prefix, default| Interface {
            name: name.into(),
            address: address.parse().unwrap(),
            prefix,
            up: name != "eth9",
            default,
        };
        vec![
            one("lo", "127.0.0.1", 8, false),
            one("lo", "::1", 128, false),
            one("eth0", "fe80::1", 64, true),
            one("eth0", "10.1.2.3", 16, true),
            one("eth0", "fd00::3", 64, true),
            one("eth1", "8.8.4.4", 24, true),
            one("docker0", "172.17.0.1", 16, false),
            one("eth9", "10.9.9.9", 24, false),
        ]
    }

    #[test]
    fn the_common_forms_give_what_they_say() {
        let all = machine();
        for (template, expected) in [
            ("{{ GetPrivateIP }}", "10.1.2.3"),
            ("{{GetPublicIP}}", "8.8.4.4"),
            ("{{ GetPrivateIPs }}", "10.1.2.3 fd00::3"),
            ("{{ GetInterfaceIP \"eth0\" }}", "10.1.2.3"),
            ("{{ GetInterfaceIP `docker0` }}", "172.17.0.1"),
            ("{{ GetInterfaceIPs \"eth0\" }}", "10.1.2.3 fd00::3"),
            ("{{ GetAllInterfaces | include \"network\" \"10.0.0.0/8\" | attr \"address\" }}", "10.1.2.3"),
            ("{{ GetAllInterfaces | include \"network\" \"10.0.0.0/8\" | include \"flags\" \"down\" | attr \"address\" }}", "10.9.9.9"),
            ("{{ GetPrivateInterfaces | exclude \"name\" \"docker.*\" | sort \"default\" | limit 1 | attr \"address\" }}", "10.1.2.3"),
            (
                "{{ GetAllInterfaces | include \"name\" \"^eth[01]$\" | include \"type\" \"IPv4\" | join \"address\" \" \" }}",
                "10.1.2.3 8.8.4.4",
            ),
            ("{{ GetAllInterfaces | include \"rfc\" \"1918\" | sort \"-address\" | attr \"address\" }}", "172.17.0.1"),
            ("{{ GetAllInterfaces | include \"flags\" \"loopback\" | include \"type\" \"IPv6\" | attr \"address\" }}", "::1"),
            ("{{ GetDefaultInterfaces | include \"type\" \"IPv4\" | unique \"name\" | offset 1 | attr \"name\" }}", "eth1"),
            ("{{ GetAllInterfaces | include \"name\" \"docker0\" | attr \"network\" }}", "172.17.0.0/16"),
            ("[{{ GetInterfaceIP \"docker0\" }}]:8301", "[172.17.0.1]:8301"),
            ("10.0.0.1", "10.0.0.1"),
        ] {
            assert_eq!(expand(template, &all).as_deref(), Ok(expected), "{template}");
        }
    }

    #[test]
    fn a_machine_without_a_way_out_has_private_addresses_too() {
        let mut all = machine();
        all.iter_mut().for_each(|one| one.default = false);
        assert_eq!(expand("{{ GetPrivateIPs }}", &all).as_deref(), Ok("10.1.2.3 172.17.0.1 fd00::3"));
    }

    #[test]
    fn what_does_not_work_out_says_why() {
        let all = machine();
        for (template, part) in [
            ("{{ GetInterfaceIP \"eth7\" }}", "fits no address of this machine, which has lo 127.0.0.1/8"),
            ("{{ GetPrivatIP }}", "`GetPrivatIP` is no source of addresses"),
            ("{{ GetAllInterfaces }}", "end it with `| attr \"address\"`"),
            ("{{ GetPrivateIP | attr \"address\" }}", "nothing can follow"),
            ("{{ GetAllInterfaces | include \"network\" \"ten\" | attr \"address\" }}", "`ten` is not a network"),
            ("{{ GetAllInterfaces | frob 1 }}", "`frob 1` is not understood"),
            ("{{ GetAllInterfaces | include \"name\" \"(\" | attr \"address\" }}", "is not a pattern"),
            ("{{ GetInterfaceIP \"eth0 }}", "a quote is not closed"),
            ("{{ GetPrivateIP", "lacks `}}`"),
            ("{{ }}", "empty"),
        ] {
            let error = expand(template, &all).unwrap_err();
            assert!(error.contains(part), "{template}: {error}");
        }
    }

    #[test]
    fn this_machine_has_at_least_its_loopback_address() {
        assert!(of_this_machine().iter().any(|one| one.address.is_loopback() && one.prefix >= 8), "{:?}", of_this_machine());
    }
}
