//! The asked agent itself, and what is registered with it.

use std::time::Duration;

use proto::v1;
use proto::v1::agent_service_client::AgentServiceClient;
use tonic::transport::Channel;

use crate::error::Error;
use crate::pool::Pool;

/// Calls on the asked agent.
#[derive(Clone, Copy)]
pub struct Agent<'a> {
    pool: &'a Pool,
}

/// The log of an agent as it is written.
pub struct LogStream {
    stream: tonic::Streaming<v1::MonitorResponse>,
}

impl LogStream {
    /// The next line. `None` when the agent ends the stream.
    pub async fn next(&mut self) -> Result<Option<v1::MonitorResponse>, Error> {
        self.stream.message().await.map_err(|status| Error::from_status(&status, "the agent", std::time::Duration::ZERO))
    }
}

impl<'a> Agent<'a> {
    pub(crate) fn new(pool: &'a Pool) -> Self {
        Agent { pool }
    }

    /// Registers or replaces an instance with its checks.
    ///
    /// ```no_run
    /// # async fn run(client: lictor_client::Client) -> Result<(), lictor_client::Error> {
    /// use lictor_client::v1::{RegisterServiceRequest, Service};
    ///
    /// let service = Service { name: "web".into(), port: 80, ..Service::default() };
    /// let request = RegisterServiceRequest { service: Some(service), ..RegisterServiceRequest::default() };
    /// client.agent().register_service(request).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn register_service(&self, request: v1::RegisterServiceRequest) -> Result<v1::RegisterServiceResponse, Error> {
        let send = |channel, request| async move { self.stub(channel).register_service(request).await };
        self.pool.call(request, send).await
    }

    /// Removes an instance, by its id, with its checks.
    ///
    /// ```no_run
    /// # async fn run(client: lictor_client::Client) -> Result<(), lictor_client::Error> {
    /// client.agent().deregister_service("web").await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn deregister_service(&self, service_id: &str) -> Result<(), Error> {
        let request = v1::DeregisterServiceRequest { service_id: service_id.to_owned() };
        let send = |channel, request| async move { self.stub(channel).deregister_service(request).await };
        let v1::DeregisterServiceResponse {} = self.pool.call(request, send).await?;
        Ok(())
    }

    /// Lists the instances that are registered here. `filter` is an expression; empty takes all.
    ///
    /// ```no_run
    /// # async fn run(client: lictor_client::Client) -> Result<(), lictor_client::Error> {
    /// println!("{:?}", client.agent().services("").await?);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn services(&self, filter: &str) -> Result<Vec<v1::Service>, Error> {
        let request = v1::AgentServiceListServicesRequest { filter: filter.to_owned() };
        let send = |channel, request| async move { self.stub(channel).list_services(request).await };
        let v1::AgentServiceListServicesResponse { services } = self.pool.call(request, send).await?;
        Ok(services)
    }

    /// Lists the checks that are registered here. `filter` is an expression; empty takes all.
    ///
    /// ```no_run
    /// # async fn run(client: lictor_client::Client) -> Result<(), lictor_client::Error> {
    /// println!("{:?}", client.agent().checks("").await?);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn checks(&self, filter: &str) -> Result<Vec<v1::Check>, Error> {
        let request = v1::AgentServiceListChecksRequest { filter: filter.to_owned() };
        let send = |channel, request| async move { self.stub(channel).list_checks(request).await };
        let v1::AgentServiceListChecksResponse { checks } = self.pool.call(request, send).await?;
        Ok(checks)
    }

    /// Registers or replaces a check of this node, or with `service_id` of an instance here, and
    /// tells its id.
    ///
    /// ```no_run
    /// # async fn run(client: lictor_client::Client) -> Result<(), lictor_client::Error> {
    /// use lictor_client::v1::{CheckDefinition, CheckRegistration, TtlCheck, check_definition::Kind};
    ///
    /// let ttl = prost_types::Duration { seconds: 30, nanos: 0 };
    /// let definition = CheckDefinition { kind: Some(Kind::Ttl(TtlCheck { ttl: Some(ttl) })), ..CheckDefinition::default() };
    /// let check = CheckRegistration { check_id: "disk".into(), definition: Some(definition), ..CheckRegistration::default() };
    /// client.agent().register_check(check, "").await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn register_check(&self, check: v1::CheckRegistration, service_id: &str) -> Result<String, Error> {
        let request = v1::RegisterCheckRequest { check: Some(check), service_id: service_id.to_owned() };
        let send = |channel, request| async move { self.stub(channel).register_check(request).await };
        let v1::RegisterCheckResponse { check_id } = self.pool.call(request, send).await?;
        Ok(check_id)
    }

    /// Removes a check, by its id.
    ///
    /// ```no_run
    /// # async fn run(client: lictor_client::Client) -> Result<(), lictor_client::Error> {
    /// client.agent().deregister_check("disk").await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn deregister_check(&self, check_id: &str) -> Result<(), Error> {
        let request = v1::DeregisterCheckRequest { check_id: check_id.to_owned() };
        let send = |channel, request| async move { self.stub(channel).deregister_check(request).await };
        let v1::DeregisterCheckResponse {} = self.pool.call(request, send).await?;
        Ok(())
    }

    /// Reports the status of a TTL check, and tells how long the report is good for.
    ///
    /// ```no_run
    /// # async fn run(client: lictor_client::Client) -> Result<(), lictor_client::Error> {
    /// use lictor_client::v1::HealthStatus;
    /// client.agent().update_ttl("disk", HealthStatus::Passing, "40 % free").await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn update_ttl(&self, check_id: &str, status: v1::HealthStatus, output: &str) -> Result<Duration, Error> {
        let request = v1::UpdateTtlRequest { check_id: check_id.to_owned(), status: status.into(), output: output.to_owned() };
        let send = |channel, request| async move { self.stub(channel).update_ttl(request).await };
        let v1::UpdateTtlResponse { ttl } = self.pool.call(request, send).await?;
        let ttl = ttl.unwrap_or_default();
        ttl.try_into().map_err(|_| Error::Contract(format!("`{ttl:?}` is no length of time")))
    }

    /// Tells who this agent is and how it runs.
    ///
    /// ```no_run
    /// # async fn run(client: lictor_client::Client) -> Result<(), lictor_client::Error> {
    /// let info = client.agent().info().await?;
    /// println!("{} in {}", info.node, info.datacenter);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn info(&self) -> Result<v1::GetInfoResponse, Error> {
        let send = |channel, request| async move { self.stub(channel).get_info(request).await };
        self.pool.call(v1::GetInfoRequest {}, send).await
    }

    /// Tells what machine the agent runs on and how much of it is in use.
    ///
    /// ```no_run
    /// # async fn run(client: lictor_client::Client) -> Result<(), lictor_client::Error> {
    /// println!("{:?}", client.agent().host().await?.memory);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn host(&self) -> Result<v1::GetHostResponse, Error> {
        let send = |channel, request| async move { self.stub(channel).get_host(request).await };
        self.pool.call(v1::GetHostRequest {}, send).await
    }

    /// Every figure that the agent keeps, in Prometheus' text format.
    ///
    /// ```no_run
    /// # async fn run(client: lictor_client::Client) -> Result<(), lictor_client::Error> {
    /// println!("{}", client.agent().metrics().await?);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn metrics(&self) -> Result<String, Error> {
        let send = |channel, request| async move { self.stub(channel).get_metrics(request).await };
        let v1::GetMetricsResponse { text } = self.pool.call(v1::GetMetricsRequest {}, send).await?;
        Ok(text)
    }

    /// Lists the members of a gossip pool as this agent sees them.
    ///
    /// ```no_run
    /// # async fn run(client: lictor_client::Client) -> Result<(), lictor_client::Error> {
    /// use lictor_client::v1::Pool;
    /// println!("{:?}", client.agent().members(Pool::Lan).await?);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn members(&self, pool: v1::Pool) -> Result<Vec<v1::Member>, Error> {
        let request = v1::ListMembersRequest { pool: pool.into(), filter: String::new() };
        let send = |channel, request| async move { self.stub(channel).list_members(request).await };
        let v1::ListMembersResponse { members } = self.pool.call(request, send).await?;
        Ok(members)
    }

    /// Takes this node, or with `service_id` an instance on it, out of work or back into it.
    ///
    /// ```no_run
    /// # async fn run(client: lictor_client::Client) -> Result<(), lictor_client::Error> {
    /// client.agent().set_maintenance("web", true, "new disk").await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn set_maintenance(&self, service_id: &str, enabled: bool, reason: &str) -> Result<(), Error> {
        let request = v1::SetMaintenanceRequest { service_id: service_id.to_owned(), enabled, reason: reason.to_owned() };
        let send = |channel, request| async move { self.stub(channel).set_maintenance(request).await };
        let v1::SetMaintenanceResponse {} = self.pool.call(request, send).await?;
        Ok(())
    }

    /// Has the agent read its configuration again, and tells what is in force and what needs a restart.
    ///
    /// ```no_run
    /// # async fn run(client: lictor_client::Client) -> Result<(), lictor_client::Error> {
    /// println!("{:?}", client.agent().reload().await?.restart_needed);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn reload(&self) -> Result<v1::ReloadResponse, Error> {
        let send = |channel, request| async move { self.stub(channel).reload(request).await };
        self.pool.call(v1::ReloadRequest {}, send).await
    }

    /// The lines of the agent's log from now on, those of `level` and graver ones.
    ///
    /// ```no_run
    /// # async fn run(client: lictor_client::Client) -> Result<(), lictor_client::Error> {
    /// use lictor_client::v1::LogLevel;
    /// let mut log = client.agent().monitor(LogLevel::Debug).await?;
    /// while let Some(line) = log.next().await? {
    ///     println!("{}", line.message);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn monitor(&self, level: v1::LogLevel) -> Result<LogStream, Error> {
        let send = |channel, request| async move { self.stub(channel).monitor(request).await };
        let stream = self.pool.call(v1::MonitorRequest { level: level.into() }, send).await?;
        Ok(LogStream { stream })
    }

    /// Has the agent join a pool by way of its members at `addresses`, `host` or `host:port`.
    ///
    /// ```no_run
    /// # async fn run(client: lictor_client::Client) -> Result<(), lictor_client::Error> {
    /// use lictor_client::v1::Pool;
    /// println!("{:?}", client.agent().join(&["10.0.0.1".to_owned()], Pool::Lan).await?);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn join(&self, addresses: &[String], pool: v1::Pool) -> Result<v1::JoinResponse, Error> {
        let request = v1::JoinRequest { addresses: addresses.to_vec(), pool: pool.into() };
        let send = |channel, request| async move { self.stub(channel).join(request).await };
        self.pool.call(request, send).await
    }

    /// Has the agent leave its cluster and end.
    ///
    /// ```no_run
    /// # async fn run(client: lictor_client::Client) -> Result<(), lictor_client::Error> {
    /// client.agent().leave().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn leave(&self) -> Result<(), Error> {
        let send = |channel, request| async move { self.stub(channel).leave(request).await };
        let v1::LeaveResponse {} = self.pool.call(v1::LeaveRequest {}, send).await?;
        Ok(())
    }

    /// Declares a failed member to have left; with `prune`, has everybody forget it.
    ///
    /// ```no_run
    /// # async fn run(client: lictor_client::Client) -> Result<(), lictor_client::Error> {
    /// use lictor_client::v1::Pool;
    /// client.agent().force_leave("web-7", false, Pool::Lan).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn force_leave(&self, node: &str, prune: bool, pool: v1::Pool) -> Result<(), Error> {
        let request = v1::ForceLeaveRequest { node: node.to_owned(), prune, pool: pool.into() };
        let send = |channel, request| async move { self.stub(channel).force_leave(request).await };
        let v1::ForceLeaveResponse {} = self.pool.call(request, send).await?;
        Ok(())
    }

    /// Tells where the members of a pool are in the network, as a server of `datacenter` has heard it, or
    /// if that is empty the agent.
    ///
    /// ```no_run
    /// # async fn run(client: lictor_client::Client) -> Result<(), lictor_client::Error> {
    /// use lictor_client::v1::Pool;
    /// println!("{:?}", client.agent().coordinates(Pool::Lan, "").await?);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn coordinates(&self, pool: v1::Pool, datacenter: &str) -> Result<Vec<v1::Coordinate>, Error> {
        let send = |channel, request| async move { self.stub(channel).list_coordinates(request).await };
        let request = v1::ListCoordinatesRequest { pool: pool.into(), datacenter: datacenter.to_owned() };
        let v1::ListCoordinatesResponse { coordinates } = self.pool.call(request, send).await?;
        Ok(coordinates)
    }

    fn stub(&self, channel: Channel) -> AgentServiceClient<Channel> {
        AgentServiceClient::new(channel).max_decoding_message_size(self.pool.message_bytes_max())
    }
}
