//! Registrations as they are written to disk: one JSON object each.
//!
//! The field names belong to the files. A field that is missing reads as its default, so that files
//! of older versions stay readable; one that is not known is skipped.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use state::{Check, CheckDefinition, Service, ServiceAddress, Status, Str, Weights};

use super::model::{LocalService, Source};
use super::storage::CheckToStore;

/// An instance at rest.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct StoredService {
    id: Str,
    name: Str,
    #[serde(default)]
    tags: Vec<Str>,
    #[serde(default)]
    address: Str,
    #[serde(default)]
    port: u32,
    #[serde(default)]
    socket_path: Str,
    #[serde(default)]
    meta: BTreeMap<Str, Str>,
    #[serde(default)]
    tagged_addresses: BTreeMap<Str, StoredAddress>,
    #[serde(default = "one")]
    weight_passing: u32,
    #[serde(default = "one")]
    weight_warning: u32,
    #[serde(default)]
    enable_tag_override: bool,
    #[serde(default)]
    kind: Str,
    #[serde(default)]
    token: Option<Arc<str>>,
}

#[derive(Debug, Serialize, Deserialize)]
struct StoredAddress {
    address: Str,
    port: u32,
}

/// A check at rest, with the status it had reached.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct StoredCheck {
    id: Str,
    name: Str,
    #[serde(default)]
    notes: Str,
    #[serde(default)]
    service_id: Str,
    #[serde(default)]
    status: Str,
    #[serde(default)]
    output: Str,
    /// Since when it is critical, in milliseconds since the Unix epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    critical_since_ms: Option<u64>,
    #[serde(default)]
    definition: StoredDefinition,
    #[serde(default)]
    token: Option<Arc<str>>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct StoredDefinition {
    http: Option<Str>,
    method: Option<Str>,
    headers: BTreeMap<Str, Vec<Str>>,
    body: Option<Str>,
    disable_redirects: bool,
    tls_server_name: Option<Str>,
    tls_skip_verify: bool,
    tcp: Option<Str>,
    tcp_use_tls: bool,
    udp: Option<Str>,
    grpc: Option<Str>,
    grpc_use_tls: bool,
    h2ping: Option<Str>,
    h2ping_use_tls: bool,
    script_args: Vec<Str>,
    docker_container_id: Option<Str>,
    shell: Option<Str>,
    alias_node: Option<Str>,
    alias_service: Option<Str>,
    os_service: Option<Str>,
    session_name: Option<Str>,
    ttl_ms: Option<u64>,
    interval_ms: Option<u64>,
    timeout_ms: Option<u64>,
    deregister_critical_after_ms: Option<u64>,
    output_max_bytes: Option<u32>,
    success_before_passing: u32,
    failures_before_warning: u32,
    failures_before_critical: u32,
}

fn one() -> u32 {
    1
}

impl From<&LocalService> for StoredService {
    fn from(service: &LocalService) -> Self {
        let row = (*service.row).clone();
        let addresses = row.tagged_addresses.into_iter();
        StoredService {
            id: row.id,
            name: row.name,
            tags: row.tags,
            address: row.address,
            port: row.port,
            socket_path: row.socket_path,
            meta: row.meta,
            tagged_addresses: addresses.map(|(tag, at)| (tag, StoredAddress { address: at.address, port: at.port })).collect(),
            weight_passing: row.weights.passing,
            weight_warning: row.weights.warning,
            enable_tag_override: row.enable_tag_override,
            kind: row.kind,
            token: service.token.clone(),
        }
    }
}

impl StoredService {
    /// The id that the file is named after.
    pub(super) fn id(&self) -> &Str {
        &self.id
    }

    /// The instance, on `node`.
    pub(super) fn into_local(self, node: &Str) -> LocalService {
        let addresses = self.tagged_addresses.into_iter();
        let row = Service {
            node: node.clone(),
            id: self.id,
            name: self.name,
            tags: self.tags,
            address: self.address,
            port: self.port,
            socket_path: self.socket_path,
            meta: self.meta,
            tagged_addresses: addresses.map(|(tag, at)| (tag, ServiceAddress { address: at.address, port: at.port })).collect(),
            weights: Weights { passing: self.weight_passing, warning: self.weight_warning },
            enable_tag_override: self.enable_tag_override,
            kind: self.kind,
            ..Default::default()
        };
        LocalService { row: Arc::new(row), token: self.token, source: Source::Api }
    }
}

impl StoredCheck {
    /// The check as it is written.
    pub(super) fn new(check: &CheckToStore) -> Self {
        let CheckToStore { row: check, registrant, critical_since } = check;
        StoredCheck {
            id: check.id.clone(),
            name: check.name.clone(),
            notes: check.notes.clone(),
            service_id: check.service_id.clone(),
            status: check.status.as_str().into(),
            output: check.output.clone(),
            critical_since_ms: critical_since.map(|since| wall_ms(since.elapsed())),
            definition: (&check.definition).into(),
            token: registrant.token.clone(),
        }
    }

    /// The id that the file is named after.
    pub(super) fn id(&self) -> &Str {
        &self.id
    }

    /// How long ago it had become critical, if it is and that is known. A clock that was set back
    /// reads as no time at all.
    pub(super) fn critical_for(&self) -> Option<Duration> {
        let began = UNIX_EPOCH + Duration::from_millis(self.critical_since_ms?);
        Some(SystemTime::now().duration_since(began).unwrap_or_default())
    }

    /// The check, on `node`, and its secret. A status that is not known reads as critical.
    pub(super) fn into_check(self, node: &Str) -> (Check, Option<Arc<str>>) {
        let definition = CheckDefinition::from(self.definition);
        let check = Check {
            node: node.clone(),
            id: self.id,
            name: self.name,
            status: Status::from_name(&self.status).unwrap_or_default(),
            notes: self.notes,
            output: self.output,
            service_id: self.service_id,
            kind: definition.kind().into(),
            interval_ms: definition.interval_ms,
            timeout_ms: definition.timeout_ms,
            definition,
            ..Default::default()
        };
        (check, self.token)
    }
}

/// The time so long ago, in milliseconds since the Unix epoch.
fn wall_ms(ago: Duration) -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.saturating_sub(ago).as_millis()).unwrap_or(u64::MAX)
}

/// Both directions name every field, so that one that is added can't be forgotten here.
macro_rules! same_fields {
    ($($field:ident),* $(,)?) => {
        impl From<&CheckDefinition> for StoredDefinition {
            fn from(definition: &CheckDefinition) -> Self {
                let CheckDefinition { $($field),* } = definition.clone();
                StoredDefinition { $($field),* }
            }
        }

        impl From<StoredDefinition> for CheckDefinition {
            fn from(definition: StoredDefinition) -> Self {
                let StoredDefinition { $($field),* } = definition;
                CheckDefinition { $($field),* }
            }
        }
    };
}

same_fields!(
    http,
    method,
    headers,
    body,
    disable_redirects,
    tls_server_name,
    tls_skip_verify,
    tcp,
    tcp_use_tls,
    udp,
    grpc,
    grpc_use_tls,
    h2ping,
    h2ping_use_tls,
    script_args,
    docker_container_id,
    shell,
    alias_node,
    alias_service,
    os_service,
    session_name,
    ttl_ms,
    interval_ms,
    timeout_ms,
    deregister_critical_after_ms,
    output_max_bytes,
    success_before_passing,
    failures_before_warning,
    failures_before_critical,
);
