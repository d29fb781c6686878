//! What one can ask before anything else.

use proto::v1;
use proto::v1::status_service_client::StatusServiceClient;
use tonic::transport::Channel;

use crate::error::Error;
use crate::pool::Pool;
use crate::read::Answer;

/// Calls on leader, peers, limits and version.
#[derive(Clone, Copy)]
pub struct Status<'a> {
    pool: &'a Pool,
}

impl<'a> Status<'a> {
    pub(crate) fn new(pool: &'a Pool) -> Self {
        Status { pool }
    }

    /// Tells who leads, as the asked server believes; `None` when no leader is known.
    ///
    /// ```no_run
    /// # async fn run(client: lictor_client::Client) -> Result<(), lictor_client::Error> {
    /// println!("{:?}", client.status().leader().await?.value);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn leader(&self) -> Result<Answer<Option<v1::Peer>>, Error> {
        let send = |channel, request| async move { self.stub(channel).get_leader(request).await };
        let v1::GetLeaderResponse { meta, leader, term: _ } = self.pool.call(v1::GetLeaderRequest::default(), send).await?;
        Answer::new(leader, meta)
    }

    /// Lists the servers of the quorum.
    ///
    /// ```no_run
    /// # async fn run(client: lictor_client::Client) -> Result<(), lictor_client::Error> {
    /// println!("{} servers", client.status().peers().await?.value.len());
    /// # Ok(())
    /// # }
    /// ```
    pub async fn peers(&self) -> Result<Answer<Vec<v1::Peer>>, Error> {
        let send = |channel, request| async move { self.stub(channel).list_peers(request).await };
        let v1::ListPeersResponse { meta, peers } = self.pool.call(v1::ListPeersRequest::default(), send).await?;
        Answer::new(peers, meta)
    }

    /// Tells the limits in force.
    ///
    /// ```no_run
    /// # async fn run(client: lictor_client::Client) -> Result<(), lictor_client::Error> {
    /// println!("values up to {} bytes", client.status().limits().await?.value_bytes_max);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn limits(&self) -> Result<v1::Limits, Error> {
        let send = |channel, request| async move { self.stub(channel).get_limits(request).await };
        let v1::GetLimitsResponse { limits } = self.pool.call(v1::GetLimitsRequest {}, send).await?;
        limits.ok_or_else(|| Error::Contract("the answer has no limits".into()))
    }

    /// Tells which build answers.
    ///
    /// ```no_run
    /// # async fn run(client: lictor_client::Client) -> Result<(), lictor_client::Error> {
    /// println!("{}", client.status().version().await?.version);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn version(&self) -> Result<v1::GetVersionResponse, Error> {
        let send = |channel, request| async move { self.stub(channel).get_version(request).await };
        self.pool.call(v1::GetVersionRequest {}, send).await
    }

    fn stub(&self, channel: Channel) -> StatusServiceClient<Channel> {
        StatusServiceClient::new(channel)
    }
}
