//! What can be configured, in types that cannot hold nonsense.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use hickory_proto::rr::Name;

/// How the DNS face answers.
#[derive(Clone, Debug)]
pub struct DnsOptions {
    /// The zone that is answered for.
    pub domain: Domain,
    /// A second zone with the same contents.
    pub alt_domain: Option<Domain>,
    /// How long an answer about a node may be cached.
    pub node_ttl: Duration,
    /// How long an answer about a service may be cached.
    pub service_ttl: ServiceTtl,
    /// Leave out instances that warn, not only those that are critical.
    pub only_passing: bool,
    /// Set the TC bit when the transport cut the answer, so that the client asks again over TCP.
    pub enable_truncate: bool,
    /// Most answers over UDP to a client without EDNS; at least 1 and at most 8 are given.
    pub udp_answer_limit: usize,
    /// Most addresses in an answer on any transport; 0 for no limit. Leaving some out for this is
    /// not a truncation.
    pub a_record_limit: usize,
    /// The timers of the zone.
    pub soa: Soa,
    /// Servers that are asked for names outside the zone. None: such questions are refused.
    pub recursors: Vec<SocketAddr>,
    /// The order in which they are tried.
    pub recursor_strategy: RecursorStrategy,
    /// How long each of them may take.
    pub recursor_timeout: Duration,
    /// Answer from what this server has, without asking the leader.
    pub allow_stale: bool,
    /// With `allow_stale`: how long ago this server may have heard from its leader.
    pub max_stale: Duration,
    /// Write every name in full.
    pub disable_compression: bool,
    /// Add the node's meta as TXT records to the additional section.
    pub enable_additional_node_meta_txt: bool,
    /// Most questions that may wait at once, for recursors or for the leader. More are answered
    /// with SERVFAIL.
    pub waiting_max: usize,
    /// Most TCP connections at once. More wait to be accepted.
    pub tcp_connections_max: usize,
    /// A TCP connection that sends nothing for this long, or does not take its answer, is closed.
    pub tcp_idle_timeout: Duration,
}

impl Default for DnsOptions {
    fn default() -> Self {
        DnsOptions {
            domain: Domain::well_known("consul"),
            alt_domain: Some(Domain::well_known("lictor")),
            node_ttl: Duration::ZERO,
            service_ttl: ServiceTtl::default(),
            only_passing: false,
            enable_truncate: true,
            udp_answer_limit: 3,
            a_record_limit: 0,
            soa: Soa::default(),
            recursors: Vec::new(),
            recursor_strategy: RecursorStrategy::Sequential,
            recursor_timeout: Duration::from_secs(2),
            allow_stale: true,
            max_stale: Duration::from_secs(87_600 * 3600),
            disable_compression: false,
            enable_additional_node_meta_txt: true,
            waiting_max: 1024,
            tcp_connections_max: 1024,
            tcp_idle_timeout: Duration::from_secs(10),
        }
    }
}

impl DnsOptions {
    /// The zones that are answered for.
    pub(crate) fn zones(&self) -> impl Iterator<Item = &Domain> {
        [&self.domain].into_iter().chain(&self.alt_domain)
    }
}

/// The timers of the zone's SOA record.
#[derive(Clone, Debug)]
pub struct Soa {
    /// How often a secondary should look for changes.
    pub refresh: Duration,
    /// How long it waits after a failure to do so.
    pub retry: Duration,
    /// When it should stop to answer.
    pub expire: Duration,
    /// How long a negative answer may be cached (RFC 2308), and the TTL of the SOA record itself.
    pub min_ttl: Duration,
}

impl Default for Soa {
    fn default() -> Self {
        Soa {
            refresh: Duration::from_secs(3600),
            retry: Duration::from_secs(600),
            expire: Duration::from_secs(86_400),
            min_ttl: Duration::ZERO,
        }
    }
}

/// The order in which recursors are tried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RecursorStrategy {
    /// As they are listed.
    #[default]
    Sequential,
    /// In a new random order for every question.
    Random,
}

/// A domain name that a zone can have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Domain(Name);

/// A text that is no domain name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a domain name: labels of 1 to 63 characters, separated by dots, as in `consul.`")]
pub struct BadDomain(String);

impl Domain {
    fn well_known(label: &str) -> Domain {
        label.parse().expect("a constant label is a domain name")
    }

    pub(crate) fn name(&self) -> &Name {
        &self.0
    }
}

impl FromStr for Domain {
    type Err = BadDomain;

    fn from_str(text: &str) -> Result<Self, BadDomain> {
        let bad = || BadDomain(text.to_owned());
        let mut name = Name::from_ascii(text).map_err(|_| bad())?;
        name.set_fqdn(true);
        if name.is_root() { Err(bad()) } else { Ok(Domain(name.to_lowercase())) }
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Time to live by service: a rule for the very name wins over the longest `prefix*`, and that over
/// `*`. Without a rule it is zero.
#[derive(Clone, Debug, Default)]
pub struct ServiceTtl {
    exact: BTreeMap<String, u32>,
    /// Longest prefix first.
    prefixes: Vec<(String, u32)>,
}

impl ServiceTtl {
    /// The rules, each a service's name, a `prefix*` or `*`, and its time to live. Names are
    /// compared without regard to case.
    pub fn new<S: AsRef<str>>(rules: impl IntoIterator<Item = (S, Duration)>) -> Self {
        let mut ttl = ServiceTtl::default();
        for (rule, duration) in rules {
            let rule = rule.as_ref().to_lowercase();
            match rule.strip_suffix('*') {
                Some(prefix) => ttl.prefixes.push((prefix.to_owned(), seconds(duration))),
                None => _ = ttl.exact.insert(rule, seconds(duration)),
            }
        }
        ttl.prefixes.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
        ttl
    }

    /// The time to live for `service`, which is in lower case, in seconds.
    pub(crate) fn of(&self, service: &str) -> u32 {
        let by_prefix = || self.prefixes.iter().find(|(prefix, _)| service.starts_with(prefix.as_str())).map(|(_, ttl)| *ttl);
        self.exact.get(service).copied().or_else(by_prefix).unwrap_or(0)
    }
}

/// A time to live in whole seconds, within what RFC 2181 §8 allows.
pub(crate) fn seconds(duration: Duration) -> u32 {
    duration.as_secs().min(i32::MAX as u64) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_specific_rule_for_a_ttl_wins() {
        let rules = [("web", 10), ("web-*", 5), ("web-front-*", 7), ("*", 1)];
        let ttl = ServiceTtl::new(rules.map(|(name, seconds)| (name, Duration::from_secs(seconds))));
        assert_eq!(ttl.of("web"), 10);
        assert_eq!(ttl.of("web-api"), 5);
        assert_eq!(ttl.of("web-front-1"), 7);
        assert_eq!(ttl.of("db"), 1);
        assert_eq!(ServiceTtl::default().of("web"), 0);
    }

    #[test]
    fn a_domain_is_taken_with_or_without_its_last_dot() {
        let domain: Domain = "Corp.Example".parse().unwrap();
        assert_eq!(domain.to_string(), "corp.example.");
        assert_eq!("corp.example.".parse(), Ok(domain));
    }

    #[test]
    fn what_no_zone_can_be_called_is_refused() {
        for text in ["", ".", "a..b", &"x".repeat(64)] {
            assert!(text.parse::<Domain>().is_err(), "{text}");
        }
    }
}
