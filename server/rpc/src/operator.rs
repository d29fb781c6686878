//! `OperatorService`: care of the servers themselves.

use std::pin::Pin;

use futures::Stream;
use proto::v1;
use proto::v1::operator_service_server::OperatorService;
use proto::v1::remove_peer_request::Peer as Chosen;
use service::cluster::{Key, KeyOperation, PoolKind};
use service::status::Peer;
use tonic::{Request, Response, Status, Streaming};

use crate::autopilot;
use crate::caller::open;
use crate::convert::common::{local_meta, read_options, write_to};
use crate::serve::Face;
use crate::snapshot;
use crate::status::{answer, invalid, status};

/// A server of the quorum, for the wire.
pub(crate) fn peer(peer: &Peer) -> v1::Peer {
    let Peer { id, name, address, voter: _ } = peer;
    v1::Peer { id: *id, node: name.clone(), address: address.clone() }
}

#[tonic::async_trait]
impl OperatorService for Face {
    type SaveSnapshotStream = Pin<Box<dyn Stream<Item = Result<v1::SaveSnapshotResponse, Status>> + Send>>;

    async fn get_raft_configuration(
        &self,
        request: Request<v1::GetRaftConfigurationRequest>,
    ) -> Result<Response<v1::GetRaftConfigurationResponse>, Status> {
        answer(async {
            let (caller, v1::GetRaftConfigurationRequest { options }) = open(request)?;
            // What this server believes is current once a read as current as asked was possible.
            let directory = self.service.directory(&caller, &read_options(options)?).await?;
            drop(directory);
            let (status, last_indexes) = (self.service.consensus_status(), self.service.last_indexes());
            let server = |found: &Peer| v1::RaftServer {
                peer: Some(peer(found)),
                leader: status.leader == Some(found.id),
                voter: found.voter,
                last_log_index: last_indexes.get(&found.id).copied().unwrap_or(0),
            };
            let mut servers: Vec<v1::RaftServer> = status.peers.iter().map(server).collect();
            servers.sort_by_key(|server| server.peer.as_ref().map_or(0, |peer| peer.id));
            Ok(v1::GetRaftConfigurationResponse {
                meta: Some(local_meta(&self.service)),
                servers,
                configuration_index: status.membership_index,
            })
        })
        .await
    }

    async fn remove_peer(&self, request: Request<v1::RemovePeerRequest>) -> Result<Response<v1::RemovePeerResponse>, Status> {
        answer(async {
            let (caller, v1::RemovePeerRequest { options, peer }) = open(request)?;
            self.service.check_datacenter(write_to(options).as_deref())?;
            let (id, address) = match &peer {
                Some(Chosen::Id(id)) => (Some(*id), None),
                Some(Chosen::Address(address)) => (None, Some(address.as_str())),
                None => return Err(invalid("peer", "give the server's id or its address")),
            };
            self.service.remove_peer(&caller, id, address).await?;
            Ok(v1::RemovePeerResponse { meta: Some(local_meta(&self.service)) })
        })
        .await
    }

    async fn transfer_leader(&self, request: Request<v1::TransferLeaderRequest>) -> Result<Response<v1::TransferLeaderResponse>, Status> {
        answer(async {
            let (caller, v1::TransferLeaderRequest { options, id }) = open(request)?;
            self.service.check_datacenter(write_to(options).as_deref())?;
            let leader = self.service.transfer_leader(&caller, Some(id).filter(|id| *id != 0)).await?;
            let leader = self.service.peers().iter().find(|found| found.id == leader).map(peer);
            Ok(v1::TransferLeaderResponse { meta: Some(local_meta(&self.service)), leader })
        })
        .await
    }

    async fn save_snapshot(&self, request: Request<v1::SaveSnapshotRequest>) -> Result<Response<Self::SaveSnapshotStream>, Status> {
        let pieces = snapshot::save(&self.service, request).await.map_err(status)?;
        Ok(Response::new(Box::pin(pieces)))
    }

    async fn restore_snapshot(
        &self,
        request: Request<Streaming<v1::RestoreSnapshotRequest>>,
    ) -> Result<Response<v1::RestoreSnapshotResponse>, Status> {
        snapshot::restore(&self.service, request).await.map(Response::new)
    }

    async fn get_autopilot_state(
        &self,
        request: Request<v1::GetAutopilotStateRequest>,
    ) -> Result<Response<v1::GetAutopilotStateResponse>, Status> {
        answer(async { autopilot::state(&self.service, request) }).await
    }

    async fn get_autopilot_configuration(
        &self,
        request: Request<v1::GetAutopilotConfigurationRequest>,
    ) -> Result<Response<v1::GetAutopilotConfigurationResponse>, Status> {
        answer(autopilot::configuration(&self.service, request)).await
    }

    async fn set_autopilot_configuration(
        &self,
        request: Request<v1::SetAutopilotConfigurationRequest>,
    ) -> Result<Response<v1::SetAutopilotConfigurationResponse>, Status> {
        answer(autopilot::set(&self.service, request)).await
    }

    async fn manage_keys(&self, request: Request<v1::ManageKeysRequest>) -> Result<Response<v1::ManageKeysResponse>, Status> {
        answer(async {
            let (caller, v1::ManageKeysRequest { action, key, wan, datacenter }) = open(request)?;
            self.service.check_datacenter(Some(&datacenter))?;
            let read = || Key::from_base64(&key).map_err(|error| invalid("key", error));
            let operation = match v1::KeyAction::try_from(action) {
                Ok(v1::KeyAction::List) => KeyOperation::List,
                Ok(v1::KeyAction::Install) => KeyOperation::Install(read()?),
                Ok(v1::KeyAction::Use) => KeyOperation::Use(read()?),
                Ok(v1::KeyAction::Remove) => KeyOperation::Remove(read()?),
                Ok(v1::KeyAction::Unspecified) | Err(_) => return Err(invalid("action", "say what is to be done")),
            };
            let pool = if wan { PoolKind::Wan } else { PoolKind::Lan };
            let answers = self.service.gossip_keys(&caller, pool, operation).await?;
            let members = answers.into_iter().map(|(node, keys)| match keys {
                Ok(keys) => v1::MemberKeys { node, keys: keys.iter().map(Key::to_base64).collect(), error: String::new() },
                Err(error) => v1::MemberKeys { node, keys: Vec::new(), error },
            });
            Ok(v1::ManageKeysResponse { members: members.collect() })
        })
        .await
    }
}
