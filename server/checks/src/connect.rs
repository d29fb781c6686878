//! How a probe reaches its target: names, addresses, time, TLS.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use net::{Network, Stream};
use tokio::time::Instant;

use crate::tls;

/// Whom to reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Peer {
    /// A name or a literal address, the latter without brackets.
    pub(crate) host: String,
    /// The port.
    pub(crate) port: u16,
    /// Set where TLS is spoken.
    pub(crate) tls: Option<Tls>,
}

/// How TLS is spoken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tls {
    /// The name that the certificate is verified for.
    pub(crate) name: String,
    /// Whether any certificate will do.
    pub(crate) any_certificate: bool,
    /// The protocol to agree on (ALPN, RFC 7301), such as `h2`.
    pub(crate) protocol: Option<&'static [u8]>,
}

impl Peer {
    /// Reads `host:port`; an IPv6 address stands in brackets.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let malformed = || format!("`{text}` is not of the form `host:port`");
        let (host, port) = text.rsplit_once(':').ok_or_else(malformed)?;
        let port = port.parse().map_err(|_| malformed())?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if host.is_empty() || host.contains(char::is_whitespace) {
            return Err(malformed());
        }
        Ok(Peer { host: host.to_owned(), port, tls: None })
    }

    /// Opens a connection, with TLS where it is wanted. The caller bounds the whole by `deadline`,
    /// which is here only shared among the addresses.
    pub(crate) async fn connect(&self, network: &Network, deadline: Instant) -> Result<Stream, String> {
        let stream = dial(network, &self.addresses(network, deadline).await?, deadline).await?;
        let Some(tls) = &self.tls else { return Ok(stream) };
        let stream = tls::handshake(stream, tls).await.map_err(|cause| format!("TLS handshake failed: {cause}"))?;
        Ok(Box::new(stream))
    }

    /// The addresses of the host.
    pub(crate) async fn addresses(&self, network: &Network, deadline: Instant) -> Result<Vec<SocketAddr>, String> {
        match self.host.parse::<IpAddr>() {
            Ok(address) => Ok(vec![SocketAddr::new(address, self.port)]),
            Err(_) => resolve(network, &self.host, self.port, deadline).await,
        }
    }
}

/// The addresses of a name. `localhost` needs no resolver (RFC 6761, §6.3).
async fn resolve(network: &Network, name: &str, port: u16, deadline: Instant) -> Result<Vec<SocketAddr>, String> {
    if name.eq_ignore_ascii_case("localhost") {
        return Ok([IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)]
            .map(|address| SocketAddr::new(address, port))
            .to_vec());
    }
    let left = deadline.saturating_duration_since(Instant::now());
    network.resolve(&format!("{name}:{port}"), left).await.map_err(|cause| match cause.kind() {
        io::ErrorKind::TimedOut => format!("can't resolve `{name}` in time"),
        _ => format!("can't resolve `{name}`: {cause}"),
    })
}

/// Connects to the first address that answers. Each is given its share of the time that is left, so
/// that one that is dead does not hide the next.
async fn dial(network: &Network, addresses: &[SocketAddr], deadline: Instant) -> Result<Stream, String> {
    let mut faults = Vec::new();
    for (index, address) in addresses.iter().enumerate() {
        let left = deadline.saturating_duration_since(Instant::now());
        let share = left / u32::try_from(addresses.len() - index).unwrap_or(u32::MAX);
        match network.connect(&address.to_string(), share.max(Duration::from_millis(1))).await {
            Ok(stream) => return Ok(stream),
            Err(cause) if cause.kind() == io::ErrorKind::TimedOut => {
                faults.push(format!("can't connect to {address}: no answer within {share:?}"));
            }
            Err(cause) => faults.push(format!("can't connect to {address}: {}", plain(&cause))),
        }
    }
    Err(if faults.is_empty() { "the name has no address".to_owned() } else { faults.join("; ") })
}

/// The error in words, without the number of the operating system.
pub(crate) fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_host_and_a_port() {
        for (text, host, port) in [("db.example:5432", "db.example", 5432), ("10.0.0.1:1", "10.0.0.1", 1), ("[::1]:80", "::1", 80)] {
            let peer = Peer::parse(text).unwrap();
            assert_eq!((peer.host.as_str(), peer.port), (host, port));
        }
        for text in ["", "db.example", ":80", "a b:80", "db.example:http", "db.example:70000"] {
            assert!(Peer::parse(text).unwrap_err().contains("host:port"), "{text}");
        }
    }
}
