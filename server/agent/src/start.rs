//! What has to be in place before the agent begins, and what it says when it is not.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use nix::fcntl::{Flock, FlockArg};
use tokio::net::TcpListener;

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
pub async fn bind_tcp(face: Face, address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| bind_error(face, address, error))
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

/// A data directory that this process alone uses, as long as the value lives.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    _lock: Flock<File>,
}

impl DataDir {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The UUID of the node whose data this is: the one found here, else `configured`, else a new
    /// one, which is then kept.
    ///
    /// Errors when the directory belongs to another node than the configured one.
    pub fn node_id(&self, configured: Option<&str>) -> anyhow::Result<String> {
        let file = self.path.join("node-id");
        let display = file.display();
        match fs::read_to_string(&file) {
            Ok(text) => {
                let Ok(kept) = uuid::Uuid::try_parse(text.trim()) else {
                    bail!("`{display}` does not hold a UUID; restore it from a backup, or remove it to give this node a new identity");
                };
                let kept = kept.hyphenated().to_string();
                match configured {
                    Some(other) if other != kept => bail!(
                        "data directory `{}` belongs to node `{kept}`, not to `{other}`; give another `-data-dir`, or leave out `-node-id`",
                        self.path.display()
                    ),
                    _ => Ok(kept),
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let id = configured.map_or_else(|| uuid::Uuid::new_v4().to_string(), str::to_owned);
                write_durably(&file, &id).with_context(|| format!("cannot keep the node's id in `{display}`"))?;
                Ok(id)
            }
            Err(error) => {
                Err(error).with_context(|| format!("cannot read the node's id from `{display}`; give this user the right to read it"))
            }
        }
    }
}

/// Writes beside, syncs, renames, syncs the directory: after this the file is there, whole.
fn write_durably(path: &Path, text: &str) -> io::Result<()> {
    let beside = path.with_extension("tmp");
    let mut file = File::create(&beside)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    match path.parent() {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

/// Creates the data directory if need be, makes sure that it can be written, and takes it for this
/// process.
pub fn prepare_data_dir(path: &Path) -> anyhow::Result<DataDir> {
    let display = path.display();
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("cannot create data directory `{display}`; create it for this user, or give another with `-data-dir`"))?;
    let lock = OpenOptions::new().create(true).truncate(false).write(true).open(path.join("agent.lock")).with_context(|| {
        format!("cannot write to data directory `{display}`; give this user the right to write there, or give another with `-data-dir`")
    })?;
    let lock = Flock::lock(lock, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| {
        anyhow::Error::new(errno)
            .context(format!("data directory `{display}` is used by another running agent; stop it, or give another with `-data-dir`"))
    })?;
    Ok(DataDir { path: path.to_owned(), _lock: lock })
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
        let first = bind_tcp(Face::Http, "127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = first.local_addr().unwrap();
        let error = bind_tcp(Face::Http, address).await.unwrap_err().to_string();
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
        let error = bind_tcp(Face::Server, "198.51.100.1:8300".parse().unwrap()).await.unwrap_err().to_string();
        assert!(error.contains("`198.51.100.1` is not an address of this machine; choose another with `-bind`"), "{error}");
    }

    #[test]
    fn a_data_directory_serves_one_agent_at_a_time() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("deep/data");
        let first = prepare_data_dir(&path).unwrap();
        let error = prepare_data_dir(&path).unwrap_err().to_string();
        assert!(error.contains("is used by another running agent"), "{error}");
        drop(first);
        prepare_data_dir(&path).unwrap();
    }

    #[test]
    fn a_data_directory_keeps_the_node_that_it_belongs_to() {
        let home = tempfile::tempdir().unwrap();
        let directory = prepare_data_dir(home.path()).unwrap();
        let id = directory.node_id(None).unwrap();
        assert_eq!(directory.node_id(None).unwrap(), id);
        assert_eq!(directory.node_id(Some(&id)).unwrap(), id);
        let error = directory.node_id(Some("8f5a7c0e-2d3b-4c1a-9e6f-0123456789ab")).unwrap_err().to_string();
        assert!(error.contains(&format!("belongs to node `{id}`")), "{error}");
        fs::write(home.path().join("node-id"), "x").unwrap();
        assert!(directory.node_id(None).unwrap_err().to_string().contains("does not hold a UUID"));
    }

    #[test]
    fn a_file_in_the_place_of_the_directory_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = prepare_data_dir(file.path()).unwrap_err().to_string();
        assert!(error.contains("cannot create data directory") && error.contains("-data-dir"), "{error}");
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
