//! What has to be in place before the agent begins, and what it says when it is not.

use std::fmt;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Context;
use net::{Listener, Network};

/// What listens on a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Face {
    /// The HTTP API.
    Http,
    /// The gRPC API.
    Grpc,
    /// DNS over UDP and TCP.
    Dns,
    /// The servers' own protocol.
    Server,
    /// Gossip of the datacenter.
    SerfLan,
    /// Gossip between datacenters.
    SerfWan,
}

impl Face {
    /// The flag that moves it to another port.
    pub fn flag(self) -> &'static str {
        match self {
            Face::Http => "-http-port",
            Face::Grpc => "-grpc-port",
            Face::Dns => "-dns-port",
            Face::Server => "-server-port",
            Face::SerfLan => "-serf-lan-port",
            Face::SerfWan => "-serf-wan-port",
        }
    }

    fn address_flag(self) -> &'static str {
        match self {
            Face::Http | Face::Grpc | Face::Dns => "-client",
            Face::Server | Face::SerfLan | Face::SerfWan => "-bind",
        }
    }
}

impl fmt::Display for Face {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Face::Http => "HTTP",
            Face::Grpc => "gRPC",
            Face::Dns => "DNS",
            Face::Server => "server RPC",
            Face::SerfLan => "LAN gossip",
            Face::SerfWan => "WAN gossip",
        })
    }
}

/// Opens a TCP port, or says which flag to change.
pub async fn bind_tcp(network: &Network, face: Face, address: SocketAddr) -> anyhow::Result<Box<dyn Listener>> {
    network.listen(address).await.map_err(|error| bind_error(face, address, error))
}

/// Says why a port could not be opened, and what to do.
pub fn bind_error(face: Face, address: SocketAddr, error: io::Error) -> anyhow::Error {
    let (port, flag, client) = (address.port(), face.flag(), face.address_flag());
    let advice = match error.kind() {
        io::ErrorKind::AddrInUse => format!("port {port} is in use; stop what uses it, or choose another port with `{flag}`"),
        io::ErrorKind::AddrNotAvailable => format!("`{}` is not an address of this machine; choose another with `{client}`", address.ip()),
        io::ErrorKind::PermissionDenied => {
            format!("port {port} needs more rights than this process has; choose one above 1023 with `{flag}`")
        }
        _ => format!("choose another port with `{flag}` or another address with `{client}`"),
    };
    anyhow::Error::new(error).context(format!("cannot listen for {face} on `{address}`: {advice}"))
}

/// Files and sockets that ten thousand agents need of one server. Not more, even where more is allowed: a program that
/// is run may look at each that it could have.
pub const OPEN_FILES: u64 = 65_536;

/// Lets this process have as many files and sockets open as it needs, as far as the system allows: by default that
/// is a thousand. Returns how many it may have.
pub fn raise_open_files() -> io::Result<u64> {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let wanted = hard.min(OPEN_FILES).max(soft);
    if wanted > soft {
        setrlimit(Resource::RLIMIT_NOFILE, wanted, hard)?;
    }
    Ok(wanted)
}

/// The process id in a file, as long as the value lives.
#[derive(Debug)]
pub struct PidFile {
    path: PathBuf,
}

impl PidFile {
    /// Writes the file, over one that is there.
    pub fn write(path: &Path) -> anyhow::Result<Self> {
        fs::write(path, std::process::id().to_string())
            .with_context(|| format!("cannot write the process id to `{}`; give another file with `-pid-file`", path.display()))?;
        Ok(PidFile { path: path.to_owned() })
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "the process id file stays behind");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_port_in_use_names_the_flag_to_change() {
        let first = bind_tcp(&Network::host(), Face::Http, "127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = first.local_address().unwrap();
        let error = bind_tcp(&Network::host(), Face::Http, address).await.err().expect("it is taken").to_string();
        assert_eq!(
            error,
            format!(
                "cannot listen for HTTP on `{address}`: port {} is in use; stop what uses it, or choose another port with `-http-port`",
                address.port()
            )
        );
    }

    #[tokio::test]
    async fn an_address_of_another_machine_is_refused() {
        let elsewhere = "198.51.100.1:8300".parse().unwrap();
        let error = bind_tcp(&Network::host(), Face::Server, elsewhere).await.err().expect("it is elsewhere").to_string();
        assert!(error.contains("`198.51.100.1` is not an address of this machine; choose another with `-bind`"), "{error}");
    }

    #[test]
    fn as_many_files_may_be_open_as_the_system_allows_and_an_agent_needs() {
        use nix::sys::resource::{Resource, getrlimit, setrlimit};
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        setrlimit(Resource::RLIMIT_NOFILE, hard.min(1024), hard).unwrap();
        assert_eq!(raise_open_files().unwrap(), hard.min(OPEN_FILES));
        assert_eq!(getrlimit(Resource::RLIMIT_NOFILE).unwrap(), (hard.min(OPEN_FILES), hard));
    }

    #[test]
    fn the_process_id_goes_with_the_process() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("pid");
        let file = PidFile::write(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), std::process::id().to_string());
        drop(file);
        assert!(!path.exists());
        assert!(PidFile::write(&home.path().join("no/pid")).unwrap_err().to_string().contains("-pid-file"));
    }
}
