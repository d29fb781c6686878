//! Events to every agent of the datacenter.

use proto::v1;
use proto::v1::event_service_client::EventServiceClient;

use crate::error::Error;
use crate::pool::Pool;

/// Calls on events.
#[derive(Clone, Copy)]
pub struct Events<'a> {
    pool: &'a Pool,
}

/// A stream of events as they come.
pub struct EventStream {
    stream: tonic::Streaming<v1::EventServiceSubscribeResponse>,
}

impl EventStream {
    /// The next event, and whether some before it may have been missed. `None` when the agent ends
    /// the stream.
    pub async fn next(&mut self) -> Result<Option<(v1::Event, bool)>, Error> {
        let next = self.stream.message().await.map_err(|status| Error::from_status(&status, "the agent", std::time::Duration::ZERO))?;
        Ok(next.and_then(|response| Some((response.event?, response.gap))))
    }
}

impl<'a> Events<'a> {
    pub(crate) fn new(pool: &'a Pool) -> Self {
        Events { pool }
    }

    /// Fires an event, and tells it as every agent gets it.
    ///
    /// ```no_run
    /// # async fn run(client: lictor_client::Client) -> Result<(), lictor_client::Error> {
    /// use lictor_client::v1::EventServiceFireRequest;
    /// let deploy = EventServiceFireRequest { name: "deploy".into(), payload: "v42".into(), ..Default::default() };
    /// println!("{:?}", client.events().fire(deploy).await?);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn fire(&self, event: v1::EventServiceFireRequest) -> Result<v1::Event, Error> {
        let send = |channel, request| async move { EventServiceClient::new(channel).fire(request).await };
        let v1::EventServiceFireResponse { event } = self.pool.call(event, send).await?;
        event.ok_or_else(|| Error::Contract("the answer has no event".into()))
    }

    /// Lists the latest events that concern the agent, or a server of `datacenter` unless that is empty,
    /// by Lamport time; only those called `name`, unless it is empty.
    pub async fn list(&self, name: &str, datacenter: &str) -> Result<Vec<v1::Event>, Error> {
        Ok(self.listed(name, datacenter).await?.events)
    }

    /// The same with the id of the event that came last, after which [`Events::subscribe`] goes on without a gap.
    pub async fn listed(&self, name: &str, datacenter: &str) -> Result<v1::EventServiceListResponse, Error> {
        let request = v1::EventServiceListRequest { name: name.to_owned(), datacenter: datacenter.to_owned() };
        let send = |channel, request| async move { EventServiceClient::new(channel).list(request).await };
        self.pool.call(request, send).await
    }

    /// Events from now on, or from after the event `after_id`, as they come to the agent, or to a server of
    /// `datacenter` unless that is empty.
    pub async fn subscribe(&self, name: &str, after_id: &str, datacenter: &str) -> Result<EventStream, Error> {
        let (name, after_id, datacenter) = (name.to_owned(), after_id.to_owned(), datacenter.to_owned());
        let request = v1::EventServiceSubscribeRequest { name, after_id, datacenter };
        let send = |channel, request| async move { EventServiceClient::new(channel).subscribe(request).await };
        let stream = self.pool.stream(request, send).await?;
        Ok(EventStream { stream })
    }
}
