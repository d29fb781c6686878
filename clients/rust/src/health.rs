//! Who is fit for work.

use std::collections::HashMap;

use proto::v1;
use proto::v1::checks_target::Selection;
use proto::v1::health_service_client::HealthServiceClient;
use tonic::transport::Channel;

use crate::error::Error;
use crate::pages::gather;
use crate::pool::Pool;
use crate::read::{Answer, ReadOptions};

/// Calls on the health of services.
#[derive(Clone, Copy)]
pub struct Health<'a> {
    pool: &'a Pool,
}

/// Which instances or checks are wanted.
///
/// ```
/// use lictor_client::HealthQuery;
/// let usable = HealthQuery { passing_only: true, tags: vec!["primary".into()], ..HealthQuery::default() };
/// # let _ = usable;
/// ```
#[derive(Clone, Debug, Default)]
pub struct HealthQuery {
    /// How to read.
    pub read: ReadOptions,
    /// Only instances whose checks all pass.
    pub passing_only: bool,
    /// Tags that an instance must have, all of them; only for instances.
    pub tags: Vec<String>,
    /// Facts that the node must have in its meta, all of them.
    pub node_meta: HashMap<String, String>,
    /// Expression over the fields of a row; empty takes all.
    pub filter: String,
    /// Node to sort by, the closest first.
    pub near: String,
    /// Most rows in one page; 0 leaves it to the server.
    pub page_size: u32,
}

impl<'a> Health<'a> {
    pub(crate) fn new(pool: &'a Pool) -> Self {
        Health { pool }
    }

    /// Lists the instances of one service whose checks all pass, with their nodes and checks.
    ///
    /// ```no_run
    /// # async fn run(client: lictor_client::Client) -> Result<(), lictor_client::Error> {
    /// for instance in client.health().passing("web").await?.value {
    ///     println!("{:?}", instance.service);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn passing(&self, service: &str) -> Result<Answer<Vec<v1::Instance>>, Error> {
        self.instances(service, HealthQuery { passing_only: true, ..HealthQuery::default() }).await
    }

    /// Lists the instances of one service, each with its node, its checks and their sum, all pages.
    ///
    /// ```no_run
    /// # async fn run(client: lictor_client::Client) -> Result<(), lictor_client::Error> {
    /// let all = client.health().instances("web", Default::default()).await?.value;
    /// # drop(all);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn instances(&self, service: &str, query: HealthQuery) -> Result<Answer<Vec<v1::Instance>>, Error> {
        let HealthQuery { read, passing_only, tags, node_meta, filter, near, page_size } = query;
        let (options, service, page_token) = (read.wire(), service.to_owned(), String::new());
        let request = v1::HealthServiceListServiceInstancesRequest {
            options,
            service,
            passing_only,
            tags,
            node_meta,
            filter,
            near,
            page_size,
            page_token,
        };
        let send = |channel, request| async move { self.stub(channel).list_service_instances(request).await };
        gather(|page_token| {
            let call = self.pool.call(v1::HealthServiceListServiceInstancesRequest { page_token, ..request.clone() }, send);
            async move {
                let v1::HealthServiceListServiceInstancesResponse { meta, instances, next_page_token } = call.await?;
                Ok((instances, meta, next_page_token))
            }
        })
        .await
    }

    /// Lists checks of a node, of a service, in a status, or all; all pages. Of the query,
    /// `passing_only` and `tags` have no meaning here.
    ///
    /// ```no_run
    /// # async fn run(client: lictor_client::Client) -> Result<(), lictor_client::Error> {
    /// use lictor_client::v1::{HealthStatus, checks_target::Selection};
    ///
    /// let critical = Selection::Status(HealthStatus::Critical.into());
    /// let failing = client.health().checks(critical, Default::default()).await?.value;
    /// # drop(failing);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn checks(&self, selection: Selection, query: HealthQuery) -> Result<Answer<Vec<v1::Check>>, Error> {
        let HealthQuery { read, passing_only: _, tags: _, node_meta, filter, near, page_size } = query;
        let (options, page_token) = (read.wire(), String::new());
        let target = Some(v1::ChecksTarget { selection: Some(selection) });
        let request = v1::ListChecksRequest { options, target, node_meta, filter, near, page_size, page_token };
        let send = |channel, request| async move { self.stub(channel).list_checks(request).await };
        gather(|page_token| {
            let call = self.pool.call(v1::ListChecksRequest { page_token, ..request.clone() }, send);
            async move {
                let v1::ListChecksResponse { meta, checks, next_page_token } = call.await?;
                Ok((checks, meta, next_page_token))
            }
        })
        .await
    }

    fn stub(&self, channel: Channel) -> HealthServiceClient<Channel> {
        HealthServiceClient::new(channel).max_decoding_message_size(self.pool.message_bytes_max())
    }
}
