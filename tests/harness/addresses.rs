//! Where a node listens.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};

/// Where a running node answers, as it said itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// HTTP API.
    pub http: SocketAddr,
    /// gRPC API.
    pub grpc: SocketAddr,
    /// DNS, UDP and TCP.
    pub dns: SocketAddr,
}

impl Addresses {
    /// Reads the lines that a node prints when it is ready: a label, a colon, an address.
    pub(crate) fn read(lines: &[String]) -> Option<Self> {
        let labelled = |label: &str| lines.iter().find_map(|line| address_after(line, label));
        Some(Addresses { http: labelled("HTTP:")?, grpc: labelled("gRPC:")?, dns: labelled("DNS:")? })
    }
}

fn address_after(line: &str, label: &str) -> Option<SocketAddr> {
    let (before, after) = line.split_once(label)?;
    let begins = before.chars().all(|c| !c.is_alphanumeric());
    let words = after.split(|c: char| c.is_whitespace() || c == ',' || c == '(');
    let mut found = words.filter_map(|word| word.trim_start_matches("http://").trim_end_matches('/').parse().ok());
    found.next().filter(|_| begins)
}

/// A loopback address that no other node of this process has, and hardly one of another process.
pub(crate) fn own_address() -> IpAddr {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let [.., high, low] = std::process::id().to_be_bytes();
    let count = NEXT.fetch_add(1, Ordering::Relaxed) % 254 + 1;
    Ipv4Addr::new(127, high | 0x40, low, count as u8).into()
}
