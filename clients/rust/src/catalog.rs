//! What runs where.

use std::collections::HashMap;

use proto::v1;
use proto::v1::catalog_service_client::CatalogServiceClient;
use tonic::transport::Channel;

use crate::error::Error;
use crate::pages::gather;
use crate::pool::Pool;
use crate::read::{Answer, ReadOptions};

/// Calls on nodes, services and instances.
#[derive(Clone, Copy)]
pub struct Catalog<'a> {
    pool: &'a Pool,
}

/// Which rows of the catalog are wanted.
///
/// ```
/// use lictor_client::CatalogQuery;
/// let in_rack_a = CatalogQuery { filter: r#"Meta.rack == "a""#.into(), ..CatalogQuery::default() };
/// # let _ = in_rack_a;
/// ```
#[derive(Clone, Debug, Default)]
pub struct CatalogQuery {
    /// How to read.
    pub read: ReadOptions,
    /// Tags that an instance must have, all of them; only for instances.
    pub tags: Vec<String>,
    /// Facts that a node must have in its meta, all of them.
    pub node_meta: HashMap<String, String>,
    /// Expression over the fields of a row; empty takes all.
    pub filter: String,
    /// Node to sort by, the closest first; only for nodes and instances.
    pub near: String,
    /// Most rows in one page; 0 leaves it to the server.
    pub page_size: u32,
}

impl<'a> Catalog<'a> {
    pub(crate) fn new(pool: &'a Pool) -> Self {
        Catalog { pool }
    }

    /// Writes a node, and what is given of one instance and of checks, in one step.
    ///
    /// ```no_run
    /// # async fn run(client: lictor_client::Client) -> Result<(), lictor_client::Error> {
    /// use lictor_client::v1::{Node, RegisterRequest, Service};
    ///
    /// let node = Node { name: "printer".into(), address: "10.0.0.9".into(), ..Node::default() };
    /// let service = Service { name: "ipp".into(), port: 631, ..Service::default() };
    /// let request = RegisterRequest { node: Some(node), service: Some(service), ..RegisterRequest::default() };
    /// client.catalog().register(request).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn register(&self, request: v1::RegisterRequest) -> Result<Answer<()>, Error> {
        let send = |channel, request| async move { self.stub(channel).register(request).await };
        let v1::RegisterResponse { meta } = self.pool.call(request, send).await?;
        Answer::new((), meta)
    }

    /// Removes a check, an instance with its checks, or a node with everything on it; the value
    /// tells whether there was something to remove.
    ///
    /// ```no_run
    /// # async fn run(client: lictor_client::Client) -> Result<(), lictor_client::Error> {
    /// use lictor_client::v1::DeregisterRequest;
    /// let request = DeregisterRequest { node: "printer".into(), ..DeregisterRequest::default() };
    /// client.catalog().deregister(request).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn deregister(&self, request: v1::DeregisterRequest) -> Result<Answer<bool>, Error> {
        let send = |channel, request| async move { self.stub(channel).deregister(request).await };
        let v1::DeregisterResponse { meta, deregistered } = self.pool.call(request, send).await?;
        Answer::new(deregistered, meta)
    }

    /// Lists the known datacenters, the local one first.
    ///
    /// ```no_run
    /// # async fn run(client: lictor_client::Client) -> Result<(), lictor_client::Error> {
    /// println!("{:?}", client.catalog().datacenters().await?.value);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn datacenters(&self) -> Result<Answer<Vec<String>>, Error> {
        let send = |channel, request| async move { self.stub(channel).list_datacenters(request).await };
        let v1::ListDatacentersResponse { meta, datacenters } = self.pool.call(v1::ListDatacentersRequest {}, send).await?;
        Answer::new(datacenters, meta)
    }

    /// Lists nodes by name, all pages.
    ///
    /// ```no_run
    /// # async fn run(client: lictor_client::Client) -> Result<(), lictor_client::Error> {
    /// for node in client.catalog().nodes(Default::default()).await?.value {
    ///     println!("{} {}", node.name, node.address);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn nodes(&self, query: CatalogQuery) -> Result<Answer<Vec<v1::Node>>, Error> {
        let CatalogQuery { read, tags: _, node_meta, filter, near, page_size } = query;
        let request = v1::ListNodesRequest { options: read.wire(), node_meta, filter, near, page_size, page_token: String::new() };
        let send = |channel, request| async move { self.stub(channel).list_nodes(request).await };
        gather(|page_token| {
            let call = self.pool.call(v1::ListNodesRequest { page_token, ..request.clone() }, send);
            async move {
                let v1::ListNodesResponse { meta, nodes, next_page_token } = call.await?;
                Ok((nodes, meta, next_page_token))
            }
        })
        .await
    }

    /// Lists services by name, with the tags of their instances, all pages.
    ///
    /// ```no_run
    /// # async fn run(client: lictor_client::Client) -> Result<(), lictor_client::Error> {
    /// for service in client.catalog().services(Default::default()).await?.value {
    ///     println!("{} {:?}", service.name, service.tags);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn services(&self, query: CatalogQuery) -> Result<Answer<Vec<v1::ServiceSummary>>, Error> {
        let CatalogQuery { read, tags: _, node_meta, filter, near: _, page_size } = query;
        let request = v1::ListServicesRequest { options: read.wire(), node_meta, filter, page_size, page_token: String::new() };
        let send = |channel, request| async move { self.stub(channel).list_services(request).await };
        gather(|page_token| {
            let call = self.pool.call(v1::ListServicesRequest { page_token, ..request.clone() }, send);
            async move {
                let v1::ListServicesResponse { meta, services, next_page_token } = call.await?;
                Ok((services, meta, next_page_token))
            }
        })
        .await
    }

    /// Lists the instances of one service whatever their health, all pages.
    ///
    /// ```no_run
    /// # async fn run(client: lictor_client::Client) -> Result<(), lictor_client::Error> {
    /// let instances = client.catalog().instances("web", Default::default()).await?.value;
    /// # drop(instances);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn instances(&self, service: &str, query: CatalogQuery) -> Result<Answer<Vec<v1::Instance>>, Error> {
        let CatalogQuery { read, tags, node_meta, filter, near, page_size } = query;
        let (options, service, page_token) = (read.wire(), service.to_owned(), String::new());
        let request = v1::ListServiceInstancesRequest { options, service, tags, node_meta, filter, near, page_size, page_token };
        let send = |channel, request| async move { self.stub(channel).list_service_instances(request).await };
        gather(|page_token| {
            let call = self.pool.call(v1::ListServiceInstancesRequest { page_token, ..request.clone() }, send);
            async move {
                let v1::ListServiceInstancesResponse { meta, instances, next_page_token } = call.await?;
                Ok((instances, meta, next_page_token))
            }
        })
        .await
    }

    /// Reads one node by its name, with the instances and checks on it. In the value, `node` is
    /// unset when it does not exist.
    ///
    /// ```no_run
    /// # async fn run(client: lictor_client::Client) -> Result<(), lictor_client::Error> {
    /// let answer = client.catalog().node("printer", &Default::default()).await?;
    /// println!("{} instances", answer.value.services.len());
    /// # Ok(())
    /// # }
    /// ```
    pub async fn node(&self, name: &str, read: &ReadOptions) -> Result<Answer<v1::GetNodeResponse>, Error> {
        let node = Some(v1::get_node_request::Node::Name(name.to_owned()));
        let request = v1::GetNodeRequest { options: read.wire(), node, filter: String::new() };
        let send = |channel, request| async move { self.stub(channel).get_node(request).await };
        let mut response: v1::GetNodeResponse = self.pool.call(request, send).await?;
        let meta = response.meta.take();
        Answer::new(response, meta)
    }

    fn stub(&self, channel: Channel) -> CatalogServiceClient<Channel> {
        CatalogServiceClient::new(channel).max_decoding_message_size(self.pool.message_bytes_max())
    }
}
