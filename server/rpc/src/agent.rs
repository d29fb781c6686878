//! `AgentService`: the agent of this machine.

use std::collections::{BTreeSet, HashMap};
use std::pin::Pin;
use std::sync::Arc;

use futures::stream::{self, Stream};
use proto::v1;
use proto::v1::agent_service_server::AgentService;
use service::agent::{Reloaded, unknown_service};
use service::cluster::{PoolKind, Status as Standing};
use service::{Caller, Error};
use state::{Check, Service as ServiceRow};
use tonic::{Request, Response, Status, Streaming};

use crate::caller::open;
use crate::catalog::filter;
use crate::convert::agent as convert;
use crate::convert::check::{check, required_status};
use crate::convert::common::{duration, wire_duration};
use crate::serve::Face;
use crate::status::{answer, invalid, not_implemented, shutting_down, status};

#[tonic::async_trait]
impl AgentService for Face {
    type HeartbeatStream = Pin<Box<dyn Stream<Item = Result<v1::HeartbeatResponse, Status>> + Send>>;
    type MonitorStream = Pin<Box<dyn Stream<Item = Result<v1::MonitorResponse, Status>> + Send>>;

    async fn register_service(
        &self,
        request: Request<v1::RegisterServiceRequest>,
    ) -> Result<Response<v1::RegisterServiceResponse>, Status> {
        answer(async {
            let (caller, request) = open(request)?;
            let (definition, replace_existing_checks) = convert::register_service(request, caller.token.clone())?;
            let (id, check_ids) = (definition.id().clone(), definition.check_ids());
            self.service.agent().register_service(&caller, definition, replace_existing_checks).await?;
            let registered = self.service.agent().service(&caller, &id);
            Ok(v1::RegisterServiceResponse {
                service: registered.as_ref().map(convert::local_service),
                check_ids: check_ids.iter().map(ToString::to_string).collect(),
            })
        })
        .await
    }

    async fn deregister_service(
        &self,
        request: Request<v1::DeregisterServiceRequest>,
    ) -> Result<Response<v1::DeregisterServiceResponse>, Status> {
        answer(async {
            let (caller, v1::DeregisterServiceRequest { service_id }) = open(request)?;
            self.service.agent().deregister_service(&caller, &service_id).await?;
            Ok(v1::DeregisterServiceResponse {})
        })
        .await
    }

    async fn list_services(
        &self,
        request: Request<v1::AgentServiceListServicesRequest>,
    ) -> Result<Response<v1::AgentServiceListServicesResponse>, Status> {
        answer(async {
            let (caller, v1::AgentServiceListServicesRequest { filter: text }) = open(request)?;
            let filter = filter::<ServiceRow>(&text)?;
            let all = self.service.agent().services(&caller);
            let chosen = all.values().filter(|local| filter.as_ref().is_none_or(|filter| filter.matches(&*local.row)));
            Ok(v1::AgentServiceListServicesResponse { services: chosen.map(convert::local_service).collect() })
        })
        .await
    }

    async fn list_checks(
        &self,
        request: Request<v1::AgentServiceListChecksRequest>,
    ) -> Result<Response<v1::AgentServiceListChecksResponse>, Status> {
        answer(async {
            let (caller, v1::AgentServiceListChecksRequest { filter: text }) = open(request)?;
            let filter = filter::<Check>(&text)?;
            let all = self.service.agent().checks(&caller);
            let chosen = all.values().filter(|row: &&Arc<Check>| filter.as_ref().is_none_or(|filter| filter.matches(&***row)));
            Ok(v1::AgentServiceListChecksResponse { checks: chosen.map(|row| check(row)).collect() })
        })
        .await
    }

    async fn register_check(&self, request: Request<v1::RegisterCheckRequest>) -> Result<Response<v1::RegisterCheckResponse>, Status> {
        answer(async {
            let (caller, request) = open(request)?;
            let check = convert::register_check(request, caller.token.clone())?;
            let check_id = self.service.agent().register_check(&caller, check).await?.to_string();
            Ok(v1::RegisterCheckResponse { check_id })
        })
        .await
    }

    async fn deregister_check(
        &self,
        request: Request<v1::DeregisterCheckRequest>,
    ) -> Result<Response<v1::DeregisterCheckResponse>, Status> {
        answer(async {
            let (caller, v1::DeregisterCheckRequest { check_id }) = open(request)?;
            self.service.agent().deregister_check(&caller, &check_id).await?;
            Ok(v1::DeregisterCheckResponse {})
        })
        .await
    }

    async fn update_ttl(&self, request: Request<v1::UpdateTtlRequest>) -> Result<Response<v1::UpdateTtlResponse>, Status> {
        answer(async {
            let (caller, v1::UpdateTtlRequest { check_id, status, output }) = open(request)?;
            let ttl = self.report(&caller, &check_id, status, &output).await?;
            Ok(v1::UpdateTtlResponse { ttl: Some(ttl) })
        })
        .await
    }

    async fn heartbeat(&self, request: Request<Streaming<v1::HeartbeatRequest>>) -> Result<Response<Self::HeartbeatStream>, Status> {
        answer(async {
            let (caller, requests) = open(request)?;
            let beats =
                Beats { face: self.clone(), caller, requests, checks: BTreeSet::new(), end: "the heartbeat stream was cut off".into() };
            let answers: Self::HeartbeatStream = Box::pin(stream::try_unfold(beats, |mut beats| async move {
                let answer = beats.next().await?;
                Ok(answer.map(|answer| (answer, beats)))
            }));
            Ok::<_, Error>(answers)
        })
        .await
    }

    async fn get_info(&self, request: Request<v1::GetInfoRequest>) -> Result<Response<v1::GetInfoResponse>, Status> {
        let v1::GetInfoRequest {} = request.into_inner();
        let identity = self.service.identity();
        Ok(Response::new(v1::GetInfoResponse {
            node_id: identity.node_id.to_string(),
            node: identity.node_name.to_string(),
            datacenter: identity.datacenter.to_string(),
            server: identity.server,
            version: identity.version.to_owned(),
            member: Some(convert::member(self.service.this_member(PoolKind::Lan))),
            addresses: self.options.addresses.clone().into_iter().collect(),
            started_at: Some(self.started_at.into()),
            stats: self.stats(),
            configuration: self.options.config.as_ref().map(|config| config().into_iter().collect()).unwrap_or_default(),
        }))
    }

    async fn get_service(
        &self,
        request: Request<v1::AgentServiceGetServiceRequest>,
    ) -> Result<Response<v1::AgentServiceGetServiceResponse>, Status> {
        let found = answer(async {
            let (caller, v1::AgentServiceGetServiceRequest { service_id, known_hash, wait }) = open(request)?;
            let limits = self.service.limits();
            let wait = match wait {
                Some(wait) => duration("wait", wait)?.min(limits.blocking_wait_max),
                None => limits.blocking_wait_default,
            };
            let known = Some(&*known_hash).filter(|known| !known.is_empty());
            let found = self.service.agent().service_once_changed(&caller, &service_id, known, wait).await;
            let (service, content_hash) = found.ok_or_else(|| unknown_service(&service_id))?;
            Ok(v1::AgentServiceGetServiceResponse { service: Some(convert::local_service(&service)), content_hash })
        });
        self.stop.run_until_cancelled(found).await.unwrap_or_else(|| Err(shutting_down()))
    }

    async fn get_service_health(
        &self,
        request: Request<v1::GetServiceHealthRequest>,
    ) -> Result<Response<v1::GetServiceHealthResponse>, Status> {
        answer(async {
            use v1::get_service_health_request::Subject;
            let (caller, v1::GetServiceHealthRequest { subject }) = open(request)?;
            let agent = self.service.agent();
            let found = match subject {
                Some(Subject::ServiceId(id)) => vec![agent.health_by_id(&caller, &id)?],
                Some(Subject::Service(name)) => {
                    let found = agent.health_by_name(&caller, &name);
                    if found.is_empty() {
                        return Err(unknown_service(&name));
                    }
                    found
                }
                None => return Err(invalid("subject", "give `service_id` or `service`")),
            };
            let worst = found.iter().map(|instance| instance.status).max().unwrap_or_default();
            let instances = found.iter().map(convert::instance_health).collect();
            Ok(v1::GetServiceHealthResponse { status: convert::aggregate(worst).into(), instances })
        })
        .await
    }

    async fn get_host(&self, request: Request<v1::GetHostRequest>) -> Result<Response<v1::GetHostResponse>, Status> {
        answer(async {
            let (caller, v1::GetHostRequest {}) = open(request)?;
            Ok(convert::host(self.service.host(&caller)?))
        })
        .await
    }

    async fn get_metrics(&self, request: Request<v1::GetMetricsRequest>) -> Result<Response<v1::GetMetricsResponse>, Status> {
        answer(async {
            let v1::GetMetricsRequest {} = request.into_inner();
            let metrics = self.options.metrics.as_ref().ok_or_else(|| not_implemented("AgentService.GetMetrics"))?;
            Ok(v1::GetMetricsResponse { text: metrics() })
        })
        .await
    }

    async fn list_members(&self, request: Request<v1::ListMembersRequest>) -> Result<Response<v1::ListMembersResponse>, Status> {
        answer(async {
            let (caller, v1::ListMembersRequest { pool, filter }) = open(request)?;
            if !filter.is_empty() {
                return Err(not_implemented("ListMembersRequest.filter"));
            }
            let members = self.service.members(&caller, pool_kind(pool)?)?;
            Ok(v1::ListMembersResponse { members: members.into_iter().map(convert::member).collect() })
        })
        .await
    }

    async fn join(&self, request: Request<v1::JoinRequest>) -> Result<Response<v1::JoinResponse>, Status> {
        answer(async {
            let (caller, v1::JoinRequest { addresses, pool }) = open(request)?;
            let report = self.service.join(&caller, pool_kind(pool)?, &addresses).await?;
            Ok(v1::JoinResponse { joined: report.joined as u32, failed: report.failed.into_iter().collect(), own: report.own })
        })
        .await
    }

    async fn leave(&self, request: Request<v1::LeaveRequest>) -> Result<Response<v1::LeaveResponse>, Status> {
        answer(async {
            let (caller, v1::LeaveRequest {}) = open(request)?;
            self.service.leave(&caller).await?;
            Ok(v1::LeaveResponse {})
        })
        .await
    }

    async fn force_leave(&self, request: Request<v1::ForceLeaveRequest>) -> Result<Response<v1::ForceLeaveResponse>, Status> {
        answer(async {
            let (caller, v1::ForceLeaveRequest { node, prune, pool }) = open(request)?;
            self.service.force_leave(&caller, pool_kind(pool)?, &node, prune)?;
            Ok(v1::ForceLeaveResponse {})
        })
        .await
    }

    async fn reload(&self, request: Request<v1::ReloadRequest>) -> Result<Response<v1::ReloadResponse>, Status> {
        answer(async {
            let (caller, v1::ReloadRequest {}) = open(request)?;
            let Reloaded { applied, restart_needed } = self.service.agent().reload(&caller).await?;
            Ok(v1::ReloadResponse { applied, restart_needed })
        })
        .await
    }

    async fn monitor(&self, request: Request<v1::MonitorRequest>) -> Result<Response<Self::MonitorStream>, Status> {
        answer(async {
            let (caller, v1::MonitorRequest { level }) = open(request)?;
            let Some(feed) = &self.options.monitor else { return Err(not_implemented("AgentService.Monitor")) };
            let lines = self.service.monitor(&caller, feed, convert::log_level(level)?)?;
            let flow: Self::MonitorStream = Box::pin(stream::try_unfold((self.stop.clone(), lines), |(stop, mut lines)| async move {
                let Some(told) = stop.run_until_cancelled(lines.next()).await else { return Err(shutting_down()) };
                Ok(told.map(|told| (convert::log_line(told), (stop, lines))))
            }));
            Ok(flow)
        })
        .await
    }

    async fn set_maintenance(&self, request: Request<v1::SetMaintenanceRequest>) -> Result<Response<v1::SetMaintenanceResponse>, Status> {
        answer(async {
            let (caller, v1::SetMaintenanceRequest { service_id, enabled, reason }) = open(request)?;
            self.service.agent().set_maintenance(&caller, &service_id, enabled, &reason).await?;
            Ok(v1::SetMaintenanceResponse {})
        })
        .await
    }

    async fn list_coordinates(
        &self,
        request: Request<v1::ListCoordinatesRequest>,
    ) -> Result<Response<v1::ListCoordinatesResponse>, Status> {
        answer(async {
            let (caller, v1::ListCoordinatesRequest { pool, datacenter }) = open(request)?;
            self.service.check_datacenter(Some(&datacenter))?;
            let coordinates = self.service.coordinates(&caller, pool_kind(pool)?)?.into_iter();
            Ok(v1::ListCoordinatesResponse { coordinates: coordinates.map(|(node, at)| convert::coordinate(node, &at)).collect() })
        })
        .await
    }
}

/// One stream of heartbeats, and the checks that it has kept alive.
struct Beats {
    face: Face,
    caller: Caller,
    requests: Streaming<v1::HeartbeatRequest>,
    checks: BTreeSet<String>,
    /// Why it ends, once it does.
    end: String,
}

impl Beats {
    /// Takes the next heartbeat; `None` when the client has closed the stream.
    async fn next(&mut self) -> Result<Option<v1::HeartbeatResponse>, Status> {
        let stop = self.face.stop.clone();
        let Some(request) = stop.run_until_cancelled(self.requests.message()).await else {
            self.end = "the agent was stopped".into();
            return Err(shutting_down());
        };
        let Some(v1::HeartbeatRequest { check_id, status: given, output }) = request.inspect_err(|broken| {
            self.end = format!("the heartbeat stream broke: {}", broken.message());
        })?
        else {
            self.end = "the heartbeat stream was closed by its client".into();
            return Ok(None);
        };
        let reported = self.face.report(&self.caller, &check_id, given, &output).await;
        let ttl = reported.map_err(|error| {
            self.end = format!("the heartbeat stream ended with a report on `{check_id}` that was refused: {error}");
            status(error)
        })?;
        // No more than there are checks here: others were refused.
        self.checks.insert(check_id.clone());
        Ok(Some(v1::HeartbeatResponse { check_id, ttl: Some(ttl) }))
    }
}

impl Drop for Beats {
    fn drop(&mut self) {
        self.face.service.agent().heartbeats_ended(self.checks.iter().map(String::as_str), &self.end);
    }
}

impl Face {
    async fn report(&self, caller: &Caller, check_id: &str, given: i32, output: &str) -> Result<prost_types::Duration, Error> {
        let status = required_status("status", given)?;
        let ttl = self.service.agent().update_ttl(caller, check_id, status, output).await?;
        Ok(wire_duration(ttl))
    }

    /// Free figures for people.
    fn stats(&self) -> HashMap<String, String> {
        let status = self.service.consensus_status();
        let service = &self.service;
        let identity = service.identity();
        let count = |pool, wanted: Option<Standing>| {
            let members = service.members(&Caller::default(), pool).unwrap_or_default();
            members.iter().filter(|member| wanted.is_none_or(|wanted| member.status == wanted)).count().to_string()
        };
        let contact = status.last_contact.map_or_else(|| "never".to_owned(), |age| format!("{}ms", age.as_millis()));
        let voters: Vec<String> =
            status.peers.iter().filter(|peer| peer.voter).map(|peer| format!("{} ({})", peer.name, peer.address)).collect();
        let figures = [
            ("build.version", identity.version.to_owned()),
            ("agent.services", service.agent().services(&Caller::default()).len().to_string()),
            ("agent.checks", service.agent().checks(&Caller::default()).len().to_string()),
            ("consul.server", identity.server.to_string()),
            ("consul.leader", (status.state == "leader").to_string()),
            ("consul.leader_addr", service.leader_address().unwrap_or_default()),
            ("consul.known_datacenters", service.datacenters().len().to_string()),
            ("consul.known_servers", service.known_servers().to_string()),
            ("consul.bootstrap", (identity.expect == 1).to_string()),
            ("serf_lan.members", count(PoolKind::Lan, None)),
            ("serf_lan.failed", count(PoolKind::Lan, Some(Standing::Failed))),
            ("serf_lan.left", count(PoolKind::Lan, Some(Standing::Left))),
            ("serf_wan.members", if identity.wan_port == 0 { "0".to_owned() } else { count(PoolKind::Wan, None) }),
            ("runtime.arch", std::env::consts::ARCH.to_owned()),
            ("runtime.os", std::env::consts::OS.to_owned()),
            ("runtime.cpu_count", std::thread::available_parallelism().map_or(1, usize::from).to_string()),
            ("raft.commit_index", status.committed.to_string()),
            ("raft.last_snapshot_index", status.flushed.to_string()),
            ("raft.last_contact", contact),
            ("raft.latest_configuration", voters.join(", ")),
            ("raft.latest_configuration_index", status.membership_index.to_string()),
            ("raft.num_peers", status.peers.len().saturating_sub(1).to_string()),
            ("raft.state", status.state.to_owned()),
            ("raft.term", status.term.to_string()),
            ("raft.last_log_index", status.last_index.to_string()),
            ("raft.applied_index", status.applied.to_string()),
            ("raft.peers", status.peers.len().to_string()),
        ];
        // Where there is no log, nothing is to be told of it.
        let told = figures.into_iter().filter(|(name, _)| identity.server || !name.starts_with("raft."));
        told.map(|(name, value)| (name.to_owned(), value)).collect()
    }
}

fn pool_kind(pool: i32) -> Result<PoolKind, Error> {
    match v1::Pool::try_from(pool) {
        Ok(v1::Pool::Unspecified | v1::Pool::Lan) => Ok(PoolKind::Lan),
        Ok(v1::Pool::Wan) => Ok(PoolKind::Wan),
        Err(_) => Err(invalid("pool", format_args!("`{pool}` is not known"))),
    }
}
