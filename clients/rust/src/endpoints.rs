//! Where the servers are.

use tonic::transport::Uri;

use crate::error::Error;

/// Where an agent serves gRPC unless configured.
pub const DEFAULT_ADDRESS: &str = "127.0.0.1:8502";

/// Environment variables that name the servers, the first that is set wins.
const VARIABLES: [&str; 2] = ["LICTOR_GRPC_ADDR", "CONSUL_GRPC_ADDR"];

/// One or more servers, the preferred one first. The client moves on to the next when one cannot
/// be reached.
///
/// An address is `host:port`, `host` (port 8502) or an `http://` URL. A text may name several,
/// separated by commas.
///
/// ```
/// use lictor_client::Endpoints;
///
/// let one = Endpoints::from("127.0.0.1:8502");
/// let three = Endpoints::from(["10.0.0.1", "10.0.0.2", "10.0.0.3"]);
/// assert_eq!(three.addresses().len(), 3);
/// assert_eq!(one.addresses(), ["127.0.0.1:8502"]);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoints(Vec<String>);

impl Endpoints {
    /// What `LICTOR_GRPC_ADDR` says, else `CONSUL_GRPC_ADDR`, else [`DEFAULT_ADDRESS`].
    ///
    /// ```
    /// let endpoints = lictor_client::Endpoints::from_env();
    /// assert!(!endpoints.addresses().is_empty());
    /// ```
    pub fn from_env() -> Self {
        let set = VARIABLES.iter().filter_map(|name| std::env::var(name).ok());
        set.map(|text| text.trim().to_owned()).find(|text| !text.is_empty()).as_deref().map_or_else(Self::default, Self::from)
    }

    /// The addresses as they were given.
    pub fn addresses(&self) -> &[String] {
        &self.0
    }

    pub(crate) fn uris(&self) -> Result<Vec<Uri>, Error> {
        if self.0.is_empty() {
            return Err(Error::InvalidEndpoint { address: String::new(), problem: "no address was given".into() });
        }
        self.0.iter().map(|address| uri(address)).collect()
    }
}

impl Default for Endpoints {
    fn default() -> Self {
        Endpoints(vec![DEFAULT_ADDRESS.to_owned()])
    }
}

impl From<&str> for Endpoints {
    fn from(text: &str) -> Self {
        Endpoints(text.split(',').map(str::trim).filter(|address| !address.is_empty()).map(str::to_owned).collect())
    }
}

impl From<String> for Endpoints {
    fn from(text: String) -> Self {
        Self::from(text.as_str())
    }
}

impl From<std::net::SocketAddr> for Endpoints {
    fn from(address: std::net::SocketAddr) -> Self {
        Endpoints(vec![address.to_string()])
    }
}

impl<T: Into<String>> From<Vec<T>> for Endpoints {
    fn from(addresses: Vec<T>) -> Self {
        Endpoints(addresses.into_iter().map(Into::into).collect())
    }
}

impl<T: Into<String>, const N: usize> From<[T; N]> for Endpoints {
    fn from(addresses: [T; N]) -> Self {
        Endpoints(addresses.into_iter().map(Into::into).collect())
    }
}

/// Makes a full URL of an address.
fn uri(address: &str) -> Result<Uri, Error> {
    let invalid = |problem: String| Error::InvalidEndpoint { address: address.to_owned(), problem };
    let rest = match address.split_once("://") {
        None => address,
        Some(("http", rest)) => rest,
        Some((scheme, _)) => return Err(invalid(format!("the scheme `{scheme}` is not supported, use `http`"))),
    };
    let rest = rest.trim_end_matches('/');
    let has_port = rest.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && !port.contains(']') && !host.ends_with(':'));
    let bare_v6 = rest.parse::<std::net::Ipv6Addr>().is_ok();
    let full = match (bare_v6, has_port) {
        (true, _) => format!("http://[{rest}]:8502"),
        (false, true) => format!("http://{rest}"),
        (false, false) => format!("http://{rest}:8502"),
    };
    let parsed: Uri = full.parse().map_err(|error| invalid(format!("it is not an address: {error}")))?;
    match (parsed.host(), parsed.path()) {
        (None | Some(""), _) => Err(invalid("it has no host".into())),
        (_, "" | "/") => Ok(parsed),
        (_, path) => Err(invalid(format!("it has a path, `{path}`, which means nothing here"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_may_leave_out_what_is_usual() {
        for (address, expected) in [
            ("127.0.0.1:1", "http://127.0.0.1:1/"),
            ("localhost", "http://localhost:8502/"),
            ("http://a:9/", "http://a:9/"),
            ("::1", "http://[::1]:8502/"),
            ("[::1]:7", "http://[::1]:7/"),
            ("[::1]", "http://[::1]:8502/"),
        ] {
            assert_eq!(uri(address).unwrap().to_string(), expected, "{address}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused_with_its_cause() {
        for (address, cause) in
            [("https://a:1", "scheme `https`"), ("a:b c", "not an address"), ("http://", "no host"), ("a:1/v1/kv", "path")]
        {
            let error = uri(address).unwrap_err().to_string();
            assert!(error.contains(cause) && error.contains(address), "{address}: {error}");
        }
        assert!(Endpoints::from(" , ").uris().is_err());
    }

    #[test]
    fn a_text_may_name_several_servers() {
        assert_eq!(Endpoints::from("a:1, b:2").addresses(), ["a:1", "b:2"]);
    }
}
