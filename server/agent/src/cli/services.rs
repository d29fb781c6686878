//! `lictor services`: register with the agent of this machine, and deregister.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, anyhow, bail};
use lictor_client::v1;
use lictor_client::v1::check_definition::Kind;
use service::agent::{CheckRegistration, ServiceDefinition};
use state::{CheckDefinition, Status};

use crate::cli::catalog::facts;
use crate::cli::connect::Connection;
use crate::cli::output::print_line;
use crate::config::read::Findings;
use crate::config::read_definitions;

/// Register and deregister services of this machine.
#[derive(Clone, Debug, clap::Subcommand)]
pub(crate) enum ServicesCommand {
    /// Register services from files or flags
    Register(Register),
    /// Remove services by id, or those of files
    Deregister(Deregister),
}

/// Register services from files or flags
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Register {
    /// Id, unique on this machine [default: the name]
    #[arg(long, default_value = "", value_name = "ID")]
    id: String,
    /// Name of the service
    #[arg(long, default_value = "", value_name = "NAME")]
    name: String,
    /// Where it is reached [default: the address of the node]
    #[arg(long, default_value = "", value_name = "ADDRESS")]
    address: String,
    /// Its port
    #[arg(long, default_value_t = 0, value_name = "PORT")]
    port: u16,
    /// Its Unix socket, instead of a port
    #[arg(long, default_value = "", value_name = "PATH")]
    socket: String,
    /// A tag; may be repeated
    #[arg(long, value_name = "TAG")]
    tag: Vec<String>,
    /// A fact about it; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    meta: Vec<String>,
    /// Another address, such as `lan=10.0.0.1:80`; may be repeated
    #[arg(long, value_name = "TAG=ADDRESS:PORT")]
    tagged_address: Vec<String>,
    #[arg(long, default_value = "", hide = true)]
    kind: String,
    #[command(flatten)]
    connection: Connection,
    /// Files of definitions, .hcl or .json
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
}

/// Remove services by id, or those of files
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Deregister {
    /// Id of the service
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    #[command(flatten)]
    connection: Connection,
    /// Files of definitions, .hcl or .json
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
}

/// Runs a sub-command.
pub(crate) async fn run(command: ServicesCommand) -> anyhow::Result<ExitCode> {
    match command {
        ServicesCommand::Register(register) => register.run().await,
        ServicesCommand::Deregister(deregister) => deregister.run().await,
    }
}

/// The services that files define.
fn definitions(files: &[PathBuf]) -> anyhow::Result<Vec<ServiceDefinition>> {
    if let Some(missing) = files.iter().find(|file| !Path::new(file).exists()) {
        bail!("no file `{}`; definitions stand in files, a single service in flags such as `-name` and `-id`", missing.display());
    }
    let findings = Findings::default();
    let services = read_definitions(files, &findings);
    let errors = findings.into_errors();
    match errors.as_slice() {
        [] if services.is_empty() => bail!("the files define no service"),
        [] => Ok(services),
        _ => bail!("{}", errors.join("\n")),
    }
}

impl Register {
    async fn run(self) -> anyhow::Result<ExitCode> {
        let requests = self.requests()?;
        let client = self.connection.client_of_this_agent("services register").await?;
        for request in requests {
            let name = request.service.as_ref().map(|service| service.name.clone()).unwrap_or_default();
            client.agent().register_service(request).await.map_err(|error| anyhow!("Did not register {name}: {error}"))?;
            print_line(format_args!("Registered service: {name}"))?;
        }
        Ok(ExitCode::SUCCESS)
    }

    fn requests(&self) -> anyhow::Result<Vec<v1::RegisterServiceRequest>> {
        if !self.kind.is_empty() {
            bail!("`-kind`: proxies and gateways are not part of this version");
        }
        match (self.name.as_str(), self.files.as_slice()) {
            ("", []) => bail!("give `-name`, or files of definitions"),
            ("", files) => Ok(definitions(files)?.into_iter().map(request).collect()),
            (_, []) => Ok(vec![v1::RegisterServiceRequest { service: Some(self.service()?), ..v1::RegisterServiceRequest::default() }]),
            _ => bail!("give `-name` or files, not both"),
        }
    }

    fn service(&self) -> anyhow::Result<v1::Service> {
        Ok(v1::Service {
            id: self.id.clone(),
            name: self.name.clone(),
            tags: self.tag.clone(),
            address: self.address.clone(),
            port: self.port.into(),
            socket_path: self.socket.clone(),
            meta: facts(&self.meta)?,
            tagged_addresses: self.tagged_addresses()?,
            ..v1::Service::default()
        })
    }

    fn tagged_addresses(&self) -> anyhow::Result<HashMap<String, v1::ServiceAddress>> {
        let place = |(tag, text): (String, String)| {
            let (address, port) = match text.rsplit_once(':') {
                Some((host, port)) if !host.contains(':') || host.ends_with(']') => (
                    host.trim_matches(['[', ']']).to_owned(),
                    port.parse::<u16>().with_context(|| format!("`{text}` needs a port after its `:`"))?,
                ),
                _ => (text, 0),
            };
            Ok((tag, v1::ServiceAddress { address, port: port.into() }))
        };
        facts(&self.tagged_address)?.into_iter().map(place).collect()
    }
}

impl Deregister {
    async fn run(self) -> anyhow::Result<ExitCode> {
        let ids = match (&self.id, self.files.as_slice()) {
            (Some(id), []) if !id.is_empty() => vec![id.clone()],
            (None, [_, ..]) => definitions(&self.files)?.iter().map(|definition| definition.id().to_string()).collect(),
            (Some(_), [_, ..]) => bail!("give `-id` or files, not both"),
            _ => bail!("give `-id`, or files of definitions"),
        };
        let client = self.connection.client_of_this_agent("services deregister").await?;
        for id in ids {
            client.agent().deregister_service(&id).await.map_err(|error| anyhow!("Did not deregister {id}: {error}"))?;
            print_line(format_args!("Deregistered service: {id}"))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// A definition as the contract says it.
fn request(definition: ServiceDefinition) -> v1::RegisterServiceRequest {
    let ServiceDefinition { service, checks, token: _ } = definition;
    let pairs =
        |map: std::collections::BTreeMap<state::Str, state::Str>| map.into_iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
    let place = |(tag, place): (state::Str, state::ServiceAddress)| {
        (tag.to_string(), v1::ServiceAddress { address: place.address.to_string(), port: place.port })
    };
    let service = v1::Service {
        id: service.id.to_string(),
        name: service.name.to_string(),
        tags: service.tags.iter().map(ToString::to_string).collect(),
        address: service.address.to_string(),
        port: service.port,
        socket_path: service.socket_path.to_string(),
        tagged_addresses: service.tagged_addresses.into_iter().map(place).collect(),
        meta: pairs(service.meta),
        weights: Some(v1::Weights { passing: service.weights.passing, warning: service.weights.warning }),
        enable_tag_override: service.enable_tag_override,
        kind: service.kind.to_string(),
        create_index: 0,
        modify_index: 0,
    };
    let checks = checks.into_iter().map(check).collect();
    v1::RegisterServiceRequest { service: Some(service), checks, replace_existing_checks: false }
}

fn check(check: CheckRegistration) -> v1::CheckRegistration {
    let status = match check.status {
        None => v1::HealthStatus::Unspecified,
        Some(Status::Passing) => v1::HealthStatus::Passing,
        Some(Status::Warning) => v1::HealthStatus::Warning,
        Some(Status::Critical) => v1::HealthStatus::Critical,
    };
    v1::CheckRegistration {
        check_id: check.id.to_string(),
        name: check.name.to_string(),
        notes: check.notes.to_string(),
        status: status.into(),
        definition: Some(check_definition(&check.definition)),
    }
}

fn check_definition(check: &CheckDefinition) -> v1::CheckDefinition {
    let span = |ms: u64| prost_types::Duration { seconds: (ms / 1000) as i64, nanos: (ms % 1000 * 1_000_000) as i32 };
    let tls = (check.tls_server_name.is_some() || check.tls_skip_verify)
        .then(|| v1::CheckTls { server_name: text(&check.tls_server_name), skip_verify: check.tls_skip_verify });
    v1::CheckDefinition {
        kind: kind(check),
        interval: check.interval_ms.map(span),
        timeout: check.timeout_ms.map(span),
        deregister_critical_service_after: check.deregister_critical_after_ms.map(span),
        output_max_size: check.output_max_bytes.unwrap_or(0),
        success_before_passing: check.success_before_passing,
        failures_before_warning: check.failures_before_warning,
        failures_before_critical: check.failures_before_critical,
        tls,
    }
}

/// How a check is run: the kind that [`CheckDefinition::kind`] names.
fn kind(check: &CheckDefinition) -> Option<Kind> {
    let args = || check.script_args.iter().map(ToString::to_string).collect();
    Some(match check.kind() {
        "ttl" => {
            let ms = check.ttl_ms.unwrap_or(0);
            let ttl = prost_types::Duration { seconds: (ms / 1000) as i64, nanos: (ms % 1000 * 1_000_000) as i32 };
            Kind::Ttl(v1::TtlCheck { ttl: Some(ttl) })
        }
        "http" => Kind::Http(v1::HttpCheck {
            url: text(&check.http),
            method: text(&check.method),
            headers: check.headers.iter().map(header).collect(),
            body: text(&check.body),
            disable_redirects: check.disable_redirects,
        }),
        "tcp" => Kind::Tcp(v1::TcpCheck { address: text(&check.tcp), use_tls: check.tcp_use_tls }),
        "udp" => Kind::Udp(v1::UdpCheck { address: text(&check.udp) }),
        "grpc" => Kind::Grpc(v1::GrpcCheck { target: text(&check.grpc), use_tls: check.grpc_use_tls }),
        "h2ping" => Kind::H2ping(v1::H2PingCheck { address: text(&check.h2ping), use_tls: Some(check.h2ping_use_tls) }),
        "docker" => {
            Kind::Docker(v1::DockerCheck { container_id: text(&check.docker_container_id), shell: text(&check.shell), args: args() })
        }
        "os_service" => Kind::OsService(v1::OsServiceCheck { name: text(&check.os_service) }),
        "script" => Kind::Script(v1::ScriptCheck { args: args() }),
        "alias" => Kind::Alias(v1::AliasCheck { node: text(&check.alias_node), service_id: text(&check.alias_service) }),
        _ => return None,
    })
}

fn header((name, values): (&state::Str, &Vec<state::Str>)) -> v1::Header {
    v1::Header { name: name.to_string(), values: values.iter().map(ToString::to_string).collect() }
}

fn text(text: &Option<state::Str>) -> String {
    text.as_deref().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        register: Register,
    }

    fn requests(line: &[&str]) -> anyhow::Result<Vec<v1::RegisterServiceRequest>> {
        Line::parse_from(["register"].iter().chain(line)).register.requests()
    }

    #[test]
    fn flags_make_a_service() {
        let line = [
            "--name=web",
            "--id=web1",
            "--port=80",
            "--tag=a",
            "--tag=b",
            "--meta=v=2",
            "--tagged-address=lan=10.0.0.1:81",
            "--tagged-address=wan=[::1]:82",
        ];
        let service = requests(&line).unwrap().remove(0).service.unwrap();
        assert_eq!((service.id.as_str(), service.port, service.tags.len(), service.meta["v"].as_str()), ("web1", 80, 2, "2"));
        assert_eq!((service.tagged_addresses["lan"].port, service.tagged_addresses["wan"].address.as_str()), (81, "::1"));
    }

    #[test]
    fn files_make_services_with_checks() {
        let file = tempfile::Builder::new().suffix(".hcl").tempfile().unwrap();
        let text = r#"service { name = "web" check { http = "http://localhost/" interval = "1500ms" header { A = ["b"] } } }
                      service { name = "db" check { ttl = "30s" status = "passing" } }"#;
        std::fs::write(file.path(), text).unwrap();
        let requests = requests(&[file.path().to_str().unwrap()]).unwrap();
        let names: Vec<&str> = requests.iter().map(|request| request.service.as_ref().unwrap().name.as_str()).collect();
        assert_eq!(names, ["web", "db"]);
        let web = requests[0].checks[0].definition.clone().unwrap();
        assert_eq!(web.interval, Some(prost_types::Duration { seconds: 1, nanos: 500_000_000 }));
        let Some(Kind::Http(http)) = web.kind else { panic!("an HTTP check") };
        assert_eq!((http.url.as_str(), http.headers[0].values[0].as_str()), ("http://localhost/", "b"));
        assert_eq!(requests[1].checks[0].status(), v1::HealthStatus::Passing);
    }

    #[test]
    fn misuse_says_what_to_give() {
        let cases: &[(&[&str], &str)] = &[
            (&[], "give `-name`, or files"),
            (&["/nonexistent.hcl"], "no file `/nonexistent.hcl`"),
            (&["--name=a", "x.hcl"], "not both"),
            (&["--name=a", "--meta=x"], "`x` is not `key=value`"),
            (&["--name=a", "--kind=mesh-gateway"], "`-kind`"),
            (&["--name=a", "--tagged-address=lan=h:x"], "needs a port"),
        ];
        for (line, part) in cases {
            let error = requests(line).unwrap_err().to_string();
            assert!(error.contains(part), "{line:?}: {error}");
        }
    }
}
