//! Care of the servers themselves.

use proto::v1;
use proto::v1::operator_service_client::OperatorServiceClient;

use crate::error::Error;
use crate::pool::Pool;
use crate::read::{Answer, ReadOptions};

/// Calls on the quorum.
#[derive(Clone, Copy)]
pub struct Operator<'a> {
    pool: &'a Pool,
}

impl<'a> Operator<'a> {
    pub(crate) fn new(pool: &'a Pool) -> Self {
        Operator { pool }
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
}
