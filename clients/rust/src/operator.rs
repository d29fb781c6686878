//! Care of the servers themselves.

use proto::v1;
use proto::v1::operator_service_client::OperatorServiceClient;

use crate::error::Error;
use crate::pool::Pool;
use crate::read::{Answer, ReadOptions, write_options};

/// Calls on the quorum.
#[derive(Clone, Copy)]
pub struct Operator<'a> {
    pool: &'a Pool,
}

impl<'a> Operator<'a> {
    pub(crate) fn new(pool: &'a Pool) -> Self {
        Operator { pool }
    }

    pub(crate) fn pool(&self) -> &'a Pool {
        self.pool
    }

    /// Reads which servers form the quorum.
    ///
    /// ```no_run
    /// # async fn run(client: lictor_client::Client) -> Result<(), lictor_client::Error> {
    /// for server in client.operator().raft_configuration(&Default::default()).await?.value.servers {
    ///     println!("{:?} leads: {}", server.peer, server.leader);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn raft_configuration(&self, read: &ReadOptions) -> Result<Answer<v1::GetRaftConfigurationResponse>, Error> {
        let request = v1::GetRaftConfigurationRequest { options: read.wire() };
        let send = |channel, request| async move { OperatorServiceClient::new(channel).get_raft_configuration(request).await };
        let mut response: v1::GetRaftConfigurationResponse = self.pool.call(request, send).await?;
        let meta = response.meta.take();
        Answer::new(response, meta)
    }

    /// Takes a server out of the quorum of `datacenter` (empty is that of the agent), by its number in
    /// the log.
    ///
    /// ```no_run
    /// # async fn run(client: lictor_client::Client) -> Result<(), lictor_client::Error> {
    /// client.operator().remove_peer(1742, "").await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn remove_peer(&self, id: u64, datacenter: &str) -> Result<(), Error> {
        let request = v1::RemovePeerRequest { options: write_options(datacenter), peer: Some(v1::remove_peer_request::Peer::Id(id)) };
        let send = |channel, request| async move { OperatorServiceClient::new(channel).remove_peer(request).await };
        self.pool.call(request, send).await.map(drop)
    }

    /// Hands leadership of `datacenter` (empty is that of the agent) to the server `id`, or with 0 to any
    /// that is alive. Answers the new leader.
    ///
    /// ```no_run
    /// # async fn run(client: lictor_client::Client) -> Result<(), lictor_client::Error> {
    /// println!("{:?}", client.operator().transfer_leader(0, "").await?);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn transfer_leader(&self, id: u64, datacenter: &str) -> Result<Option<v1::Peer>, Error> {
        let request = v1::TransferLeaderRequest { options: write_options(datacenter), id };
        let send = |channel, request| async move { OperatorServiceClient::new(channel).transfer_leader(request).await };
        let v1::TransferLeaderResponse { meta: _, leader } = self.pool.call(request, send).await?;
        Ok(leader)
    }

    /// Tells how the servers of `datacenter` (empty is that of the agent) do, as their leader sees them.
    ///
    /// ```no_run
    /// # async fn run(client: lictor_client::Client) -> Result<(), lictor_client::Error> {
    /// println!("healthy: {}", client.operator().autopilot_state("").await?.healthy);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn autopilot_state(&self, datacenter: &str) -> Result<v1::GetAutopilotStateResponse, Error> {
        let request = v1::GetAutopilotStateRequest { datacenter: datacenter.to_owned() };
        let send = |channel, request| async move { OperatorServiceClient::new(channel).get_autopilot_state(request).await };
        self.pool.call(request, send).await
    }

    /// Reads how servers are looked after.
    ///
    /// ```no_run
    /// # async fn run(client: lictor_client::Client) -> Result<(), lictor_client::Error> {
    /// println!("{:?}", client.operator().autopilot_configuration(&Default::default()).await?.value);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn autopilot_configuration(&self, read: &ReadOptions) -> Result<Answer<v1::AutopilotConfiguration>, Error> {
        let request = v1::GetAutopilotConfigurationRequest { options: read.wire() };
        let send = |channel, request| async move { OperatorServiceClient::new(channel).get_autopilot_configuration(request).await };
        let v1::GetAutopilotConfigurationResponse { meta, configuration } = self.pool.call(request, send).await?;
        Answer::new(configuration.unwrap_or_default(), meta)
    }

    /// Changes the fields `paths` of how servers are looked after, or all of them when none is named.
    ///
    /// ```no_run
    /// # async fn run(client: lictor_client::Client) -> Result<(), lictor_client::Error> {
    /// use lictor_client::v1::AutopilotConfiguration;
    /// let wanted = AutopilotConfiguration { min_quorum: 3, ..Default::default() };
    /// client.operator().set_autopilot_configuration(wanted, vec!["min_quorum".into()], "").await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn set_autopilot_configuration(
        &self,
        wanted: v1::AutopilotConfiguration,
        paths: Vec<String>,
        datacenter: &str,
    ) -> Result<v1::AutopilotConfiguration, Error> {
        let request = v1::SetAutopilotConfigurationRequest {
            options: write_options(datacenter),
            configuration: Some(wanted),
            update_mask: (!paths.is_empty()).then_some(prost_types::FieldMask { paths }),
            precondition: None,
        };
        let send = |channel, request| async move { OperatorServiceClient::new(channel).set_autopilot_configuration(request).await };
        let v1::SetAutopilotConfigurationResponse { meta: _, configuration } = self.pool.call(request, send).await?;
        Ok(configuration.unwrap_or_default())
    }

    /// Has every member of a pool do something with the keys that gossip is sealed with: of the LAN pool
    /// of `datacenter` (empty is that of the agent), or of the WAN pool.
    ///
    /// ```no_run
    /// # async fn run(client: lictor_client::Client) -> Result<(), lictor_client::Error> {
    /// use lictor_client::v1::KeyAction;
    /// println!("{:?}", client.operator().manage_keys(KeyAction::List, "", false, "").await?);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn manage_keys(&self, action: v1::KeyAction, key: &str, wan: bool, datacenter: &str) -> Result<Vec<v1::MemberKeys>, Error> {
        let request = v1::ManageKeysRequest { action: action.into(), key: key.to_owned(), wan, datacenter: datacenter.to_owned() };
        let send = |channel, request| async move { OperatorServiceClient::new(channel).manage_keys(request).await };
        let v1::ManageKeysResponse { members } = self.pool.call(request, send).await?;
        Ok(members)
    }
}
