//! `StatusService`: what one can ask before anything else.

use proto::v1;
use proto::v1::status_service_server::StatusService;
use service::event::PAYLOAD_MAX;
use service::{Error, Limits};
use state::lock::{SLOTS_MAX, WAITERS_MAX};
use tonic::{Request, Response, Status};

use crate::caller::open;
use crate::convert::common::{local_meta, wire_duration};
use crate::operator::peer;
use crate::serve::Face;
use crate::status::answer;

/// Versions of the contract that are served.
const APIS: [&str; 1] = ["lictor.v1"];

#[tonic::async_trait]
impl StatusService for Face {
    async fn get_leader(&self, request: Request<v1::GetLeaderRequest>) -> Result<Response<v1::GetLeaderResponse>, Status> {
        answer(async {
            let (_, v1::GetLeaderRequest { datacenter }) = open(request)?;
            self.service.check_datacenter(Some(&datacenter))?;
            let status = self.service.consensus_status();
            let leader = status.peers.iter().find(|peer| Some(peer.id) == status.leader).map(peer);
            Ok(v1::GetLeaderResponse { meta: Some(local_meta(&self.service)), leader, term: status.term })
        })
        .await
    }

    async fn list_peers(&self, request: Request<v1::ListPeersRequest>) -> Result<Response<v1::ListPeersResponse>, Status> {
        answer(async {
            let (_, v1::ListPeersRequest { datacenter }) = open(request)?;
            self.service.check_datacenter(Some(&datacenter))?;
            let mut peers: Vec<v1::Peer> = self.service.peers().iter().map(peer).collect();
            peers.sort_by_key(|peer| peer.id);
            Ok(v1::ListPeersResponse { meta: Some(local_meta(&self.service)), peers })
        })
        .await
    }

    async fn get_limits(&self, request: Request<v1::GetLimitsRequest>) -> Result<Response<v1::GetLimitsResponse>, Status> {
        answer(async {
            let (_, v1::GetLimitsRequest {}) = open(request)?;
            let limits = limits(self.service.limits(), self.options.max_message_bytes);
            Ok::<_, Error>(v1::GetLimitsResponse { limits: Some(limits) })
        })
        .await
    }

    async fn get_version(&self, request: Request<v1::GetVersionRequest>) -> Result<Response<v1::GetVersionResponse>, Status> {
        let v1::GetVersionRequest {} = request.into_inner();
        Ok(Response::new(v1::GetVersionResponse {
            version: self.service.identity().version.to_owned(),
            source_revision: String::new(),
            build_time: None,
            apis: APIS.map(str::to_owned).to_vec(),
        }))
    }
}

fn limits(limits: &Limits, request_bytes_max: usize) -> v1::Limits {
    v1::Limits {
        key_bytes_max: limits.key_bytes_max as u64,
        value_bytes_max: limits.value_bytes_max as u64,
        request_bytes_max: request_bytes_max as u64,
        txn_operations_max: limits.txn_ops_max as u64,
        txn_bytes_max: limits.txn_bytes_max as u64,
        page_size_max: limits.page_size_max as u64,
        watches_per_stream_max: limits.watches_per_stream_max as u64,
        watch_backlog_max: limits.watch_backlog_max as u64,
        bookmark_interval: Some(wire_duration(limits.bookmark_interval)),
        history_changes_max: limits.history_changes_max as u64,
        history_bytes_max: limits.history_bytes_max as u64,
        check_output_bytes_max: limits.check_output_bytes_max as u64,
        meta_pairs_max: limits.meta_pairs_max as u64,
        event_payload_bytes_max: PAYLOAD_MAX as u64,
        lock_waiters_max: WAITERS_MAX as u64,
        lock_slots_max: SLOTS_MAX.into(),
        lock_value_bytes_max: limits.lock_value_bytes_max as u64,
    }
}
