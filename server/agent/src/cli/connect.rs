//! Which agent a command talks to, as whom, and how current its answers have to be.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use anyhow::{Context, bail};
use lictor_client::{Client, DEFAULT_ADDRESS, Endpoints, Options, ReadOptions};

/// Where HTTP is by default; the default gRPC port is then beside it.
const HTTP_PORT: u16 = 8500;

/// Where gRPC is by default.
const GRPC_PORT: u16 = 8502;

/// How long an agent may take to say where its gRPC is.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);

/// Flags that every command has which talks to an agent.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct Connection {
    /// gRPC address of the agent [env: LICTOR_GRPC_ADDR, CONSUL_GRPC_ADDR] [default: 127.0.0.1:8502]
    #[arg(long, value_name = "ADDRESS", help_heading = "Connection")]
    grpc_addr: Option<String>,
    /// HTTP address of the agent, which then says where its gRPC is [env: LICTOR_HTTP_ADDR, CONSUL_HTTP_ADDR]
    #[arg(long, value_name = "ADDRESS", help_heading = "Connection")]
    http_addr: Option<String>,
    /// Token to present [env: LICTOR_TOKEN, CONSUL_HTTP_TOKEN]
    #[arg(long, value_name = "TOKEN", help_heading = "Connection")]
    token: Option<String>,
    /// File that holds the token [env: LICTOR_TOKEN_FILE, CONSUL_HTTP_TOKEN_FILE]
    #[arg(long, value_name = "FILE", help_heading = "Connection")]
    token_file: Option<String>,
    /// Datacenter to ask [default: that of the agent]
    #[arg(long, value_name = "NAME", help_heading = "Connection")]
    datacenter: Option<String>,
    /// Accept the answer of any server, even one that is behind
    #[arg(long, help_heading = "Connection")]
    stale: bool,
    #[arg(long, hide = true)]
    ca_file: Option<String>,
    #[arg(long, hide = true)]
    ca_path: Option<String>,
    #[arg(long, hide = true)]
    client_cert: Option<String>,
    #[arg(long, hide = true)]
    client_key: Option<String>,
    #[arg(long, hide = true)]
    tls_server_name: Option<String>,
    #[arg(long, hide = true)]
    namespace: Option<String>,
    #[arg(long, hide = true)]
    partition: Option<String>,
}

/// The variables of the environment, as a function so that tests can have their own.
type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The value of the first of `names` that is set.
fn first(env: Env<'_>, names: &[&str]) -> Option<String> {
    names.iter().find_map(|name| env(name).filter(|value| !value.is_empty()))
}

fn process_env(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

impl Connection {
    /// A client of the agent; it connects with the first call.
    pub(crate) fn client(&self) -> anyhow::Result<Client> {
        let env: Env<'_> = &process_env;
        self.refuse_what_is_missing(env)?;
        let options = Options { token: self.token(env)?, user_agent: Some("lictor-cli".into()), ..Options::default() };
        Ok(Client::lazy(self.endpoints(env)?, options)?)
    }

    /// A client of the agent for a command that is about that agent alone: another datacenter is refused
    /// rather than passed over.
    pub(crate) async fn client_of_this_agent(&self, command: &str) -> anyhow::Result<Client> {
        let client = self.client()?;
        if let Some(asked) = self.datacenter.as_deref().filter(|name| !name.is_empty()) {
            let own = client.agent().info().await?.datacenter;
            refuse_elsewhere(command, asked, &own)?;
        }
        Ok(client)
    }

    /// How to read.
    pub(crate) fn read(&self) -> ReadOptions {
        let read = if self.stale { ReadOptions::stale() } else { ReadOptions::default() };
        read.datacenter(self.datacenter())
    }

    /// Which datacenter is meant; empty is that of the agent.
    pub(crate) fn datacenter(&self) -> String {
        self.datacenter.clone().unwrap_or_default()
    }

    fn refuse_what_is_missing(&self, env: Env<'_>) -> anyhow::Result<()> {
        let tls = [
            ("-ca-file", self.ca_file.clone().or_else(|| env("CONSUL_CACERT"))),
            ("-ca-path", self.ca_path.clone().or_else(|| env("CONSUL_CAPATH"))),
            ("-client-cert", self.client_cert.clone().or_else(|| env("CONSUL_CLIENT_CERT"))),
            ("-client-key", self.client_key.clone().or_else(|| env("CONSUL_CLIENT_KEY"))),
            ("-tls-server-name", self.tls_server_name.clone().or_else(|| env("CONSUL_TLS_SERVER_NAME"))),
        ];
        if let Some((flag, _)) = tls.iter().find(|(_, value)| value.as_ref().is_some_and(|value| !value.is_empty())) {
            bail!("`{flag}`: TLS is not part of this version; leave it out to connect without");
        }
        if env("CONSUL_HTTP_SSL").is_some_and(|value| matches!(value.as_str(), "1" | "true" | "t" | "TRUE" | "True")) {
            bail!("`CONSUL_HTTP_SSL`: TLS is not part of this version; unset it to connect without");
        }
        for (flag, value) in [("-namespace", &self.namespace), ("-partition", &self.partition)] {
            if value.as_ref().is_some_and(|value| !matches!(value.as_str(), "" | "default")) {
                bail!("`{flag}` is not part of this version; leave it out");
            }
        }
        Ok(())
    }

    fn token(&self, env: Env<'_>) -> anyhow::Result<Option<String>> {
        let file = |path: String| -> anyhow::Result<Option<String>> {
            let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read the token file `{path}`"))?;
            Ok(Some(text.trim().to_owned()))
        };
        if let Some(token) = &self.token {
            return Ok(Some(token.clone()).filter(|token| !token.is_empty()));
        }
        if let Some(path) = &self.token_file {
            return file(path.clone());
        }
        match first(env, &["LICTOR_TOKEN", "CONSUL_HTTP_TOKEN"]) {
            Some(token) => Ok(Some(token)),
            None => first(env, &["LICTOR_TOKEN_FILE", "CONSUL_HTTP_TOKEN_FILE"]).map_or(Ok(None), file),
        }
    }

    /// Flags count over the environment, and gRPC over HTTP.
    fn endpoints(&self, env: Env<'_>) -> anyhow::Result<Endpoints> {
        if let Some(address) = &self.grpc_addr {
            return Ok(address.clone().into());
        }
        if let Some(address) = &self.http_addr {
            return beside_http(address);
        }
        if let Some(address) = first(env, &["LICTOR_GRPC_ADDR", "CONSUL_GRPC_ADDR"]) {
            return Ok(address.into());
        }
        match first(env, &["LICTOR_HTTP_ADDR", "CONSUL_HTTP_ADDR"]) {
            Some(address) => beside_http(&address),
            None => Ok(DEFAULT_ADDRESS.into()),
        }
    }
}

fn refuse_elsewhere(command: &str, asked: &str, own: &str) -> anyhow::Result<()> {
    if asked.eq_ignore_ascii_case(own) {
        return Ok(());
    }
    bail!(
        "`-datacenter={asked}` means nothing to `{command}`: it is about the agent that is asked, and that one is in `{own}`; \
         ask an agent of `{asked}` with `-grpc-addr` or `-http-addr`"
    )
}

/// The gRPC address of the agent whose HTTP is at `address`: on the default ports by habit, else
/// the agent is asked.
fn beside_http(address: &str) -> anyhow::Result<Endpoints> {
    let (host, port) = http_address(address)?;
    if port == HTTP_PORT {
        return Ok(format!("{host}:{GRPC_PORT}").into());
    }
    let ask = || -> anyhow::Result<u64> {
        let answer: serde_json::Value = serde_json::from_str(&http_get(&host, port, "/v1/agent/self")?)?;
        let ports = [&answer["xDS"]["Ports"]["Plaintext"], &answer["xDS"]["Port"]];
        ports.iter().find_map(|port| port.as_u64().filter(|port| *port != 0)).context("it names no gRPC port")
    };
    let grpc = ask().with_context(|| format!("cannot learn from `{host}:{port}` where its gRPC is; give it with `-grpc-addr`"))?;
    Ok(format!("{host}:{grpc}").into())
}

/// Host, with brackets for IPv6, and port.
fn http_address(address: &str) -> anyhow::Result<(String, u16)> {
    let rest = match address.split_once("://") {
        None => address,
        Some(("http" | "tcp", rest)) => rest,
        Some(("https", _)) => bail!("`{address}`: TLS is not part of this version; use `http://`"),
        Some((scheme, _)) => bail!("`{address}`: `{scheme}` addresses are not part of this version; use `host:port`"),
    };
    let rest = rest.trim_end_matches('/');
    match rest.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && !port.ends_with(']') => {
            let port = port.parse().ok().with_context(|| format!("`{address}` needs a port from 1 to 65535 after its `:`"))?;
            Ok((host.to_owned(), port))
        }
        _ if rest.is_empty() => bail!("an empty address names no agent; use `host:port`"),
        _ => Ok((rest.to_owned(), HTTP_PORT)),
    }
}

/// The body of one small answer.
fn http_get(host: &str, port: u16, path: &str) -> anyhow::Result<String> {
    let bare = host.trim_matches(['[', ']']);
    let place = (bare, port).to_socket_addrs()?.next().with_context(|| format!("`{bare}` has no address"))?;
    let mut stream = TcpStream::connect_timeout(&place, LOOKUP_TIMEOUT)?;
    stream.set_read_timeout(Some(LOOKUP_TIMEOUT))?;
    stream.set_write_timeout(Some(LOOKUP_TIMEOUT))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(4 * 1024 * 1024).read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("the answer is not HTTP")?;
    match head.split_whitespace().nth(1) {
        Some("200") => Ok(body.to_owned()),
        _ => bail!("it answers `{}`", head.lines().next().unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoints(connection: &Connection, env: &[(&str, &str)]) -> String {
        let get = |name: &str| env.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        match connection.endpoints(&get) {
            Ok(endpoints) => endpoints.addresses().join(","),
            Err(error) => format!("{error:#}"),
        }
    }

    #[test]
    fn flags_count_over_the_environment() {
        let none = Connection::default();
        let grpc = Connection { grpc_addr: Some("a:1".into()), http_addr: Some("b:8500".into()), ..Connection::default() };
        let http = Connection { http_addr: Some("b".into()), ..Connection::default() };
        let all = [("CONSUL_GRPC_ADDR", "c:3"), ("CONSUL_HTTP_ADDR", "d:8500")];
        assert_eq!(endpoints(&none, &[]), "127.0.0.1:8502");
        assert_eq!(endpoints(&grpc, &all), "a:1");
        assert_eq!(endpoints(&http, &all), "b:8502");
        assert_eq!(endpoints(&none, &all), "c:3");
        assert_eq!(endpoints(&none, &all[1..]), "d:8502");
        assert_eq!(endpoints(&none, &[("CONSUL_HTTP_ADDR", "http://[::1]:8500/")]), "[::1]:8502");
        assert_eq!(endpoints(&none, &[("CONSUL_HTTP_ADDR", ""), ("LICTOR_GRPC_ADDR", "e:5")]), "e:5");
    }

    #[test]
    fn what_cannot_be_reached_says_why() {
        let with = |address: &str| endpoints(&Connection { http_addr: Some(address.into()), ..Connection::default() }, &[]);
        assert!(with("https://a:8501").contains("TLS is not part of this version"));
        assert!(with("unix:///run/x").contains("`unix` addresses are not part of this version"));
        assert!(with("a:x").contains("needs a port"));
        assert!(with("127.0.0.1:1").contains("give it with `-grpc-addr`"));
    }

    #[test]
    fn an_agent_on_another_port_is_asked() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let agent = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 512];
            let read = stream.read(&mut request).unwrap();
            stream.write_all(b"HTTP/1.0 200 OK\r\n\r\n{\"xDS\": {\"Ports\": {\"Plaintext\": 4711}}}").unwrap();
            String::from_utf8_lossy(&request[..read]).into_owned()
        });
        let connection = Connection { http_addr: Some(address), ..Connection::default() };
        assert_eq!(endpoints(&connection, &[]), "127.0.0.1:4711");
        assert!(agent.join().unwrap().starts_with("GET /v1/agent/self HTTP/1.0\r\n"));
    }

    #[test]
    fn tokens_come_from_flag_file_or_environment() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "from-file\n").unwrap();
        let env = |name: &str| (name == "CONSUL_HTTP_TOKEN").then(|| "from-env".to_owned());
        let path = Some(file.path().display().to_string());
        let token = |connection: Connection| connection.token(&env).unwrap();
        assert_eq!(token(Connection { token: Some("t".into()), token_file: path.clone(), ..Connection::default() }).as_deref(), Some("t"));
        assert_eq!(token(Connection { token_file: path, ..Connection::default() }).as_deref(), Some("from-file"));
        assert_eq!(token(Connection::default()).as_deref(), Some("from-env"));
        let missing = Connection { token_file: Some("/nonexistent".into()), ..Connection::default() };
        assert!(missing.token(&env).unwrap_err().to_string().contains("`/nonexistent`"));
    }

    #[test]
    fn another_datacenter_is_refused_where_it_means_nothing() {
        let refused = refuse_elsewhere("leave", "dc2", "dc1").unwrap_err().to_string();
        assert!(refused.contains("`-datacenter=dc2`") && refused.contains("`leave`") && refused.contains("`dc1`"), "{refused}");
        assert!(refuse_elsewhere("leave", "DC1", "dc1").is_ok());
    }

    #[test]
    fn tls_is_refused_rather_than_left_out() {
        let none = |_: &str| None;
        let ssl = |name: &str| (name == "CONSUL_HTTP_SSL").then(|| "true".to_owned());
        let flagged = Connection { ca_file: Some("/ca".into()), ..Connection::default() };
        assert!(flagged.refuse_what_is_missing(&none).unwrap_err().to_string().contains("`-ca-file`"));
        assert!(Connection::default().refuse_what_is_missing(&ssl).unwrap_err().to_string().contains("`CONSUL_HTTP_SSL`"));
        assert!(Connection { namespace: Some("default".into()), ..Connection::default() }.refuse_what_is_missing(&none).is_ok());
    }
}
