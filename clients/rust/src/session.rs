//! Sessions: the calls, and one that is kept alive.

mod keeper;
mod kept;

use std::sync::Arc;
use std::time::Duration;

use proto::v1;
use proto::v1::session_service_client::SessionServiceClient;

use crate::error::Error;
use crate::pages::gather;
use crate::pool::Pool;
use crate::read::{Answer, ReadOptions, write_options};

pub use kept::{Session, SessionOptions};

/// Calls on sessions.
#[derive(Clone, Copy)]
pub struct Sessions<'a> {
    pool: &'a Arc<Pool>,
}

/// A session that was renewed.
#[derive(Clone, Debug)]
pub struct Renewed {
    /// The session.
    pub session: v1::Session,
    /// For how long it lives from when the renewal was *sent*; `None` if it never expires.
    pub valid_for: Option<Duration>,
}

impl<'a> Sessions<'a> {
    pub(crate) fn new(pool: &'a Arc<Pool>) -> Self {
        Sessions { pool }
    }

    /// Begins a session.
    ///
    /// ```no_run
    /// # async fn run(client: lictor_client::Client) -> Result<(), lictor_client::Error> {
    /// use lictor_client::v1::SessionServiceCreateRequest;
    /// let asked = SessionServiceCreateRequest { name: "worker".into(), ..Default::default() };
    /// println!("{}", client.sessions().create(asked).await?.id);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn create(&self, session: v1::SessionServiceCreateRequest) -> Result<v1::Session, Error> {
        let send = |channel, request| async move { SessionServiceClient::new(channel).create(request).await };
        let v1::SessionServiceCreateResponse { meta: _, session } = self.pool.call(session, send).await?;
        session.ok_or_else(|| Error::Contract("the answer has no session".into()))
    }

    /// Ends a session and releases what it holds; says whether it existed.
    pub async fn destroy(&self, session_id: &str, datacenter: &str) -> Result<bool, Error> {
        destroy(self.pool, session_id, datacenter).await
    }

    /// Keeps a session alive for its TTL from now. Errors: `UNKNOWN_SESSION` when it has ended.
    pub async fn renew(&self, session_id: &str, datacenter: &str) -> Result<Renewed, Error> {
        let request = v1::SessionServiceRenewRequest { options: write_options(datacenter), session_id: session_id.to_owned() };
        let send = |channel, request| async move { SessionServiceClient::new(channel).renew(request).await };
        let v1::SessionServiceRenewResponse { meta: _, session, valid_for } = self.pool.call(request, send).await?;
        let session = session.ok_or_else(|| Error::Contract("the answer has no session".into()))?;
        Ok(Renewed { session, valid_for: valid_for.and_then(|length| length.try_into().ok()) })
    }

    /// Reads one session; `None` when it does not exist, or exists no more.
    pub async fn get(&self, session_id: &str, read: &ReadOptions) -> Result<Option<v1::Session>, Error> {
        let request = v1::SessionServiceGetRequest { options: read.wire(), session_id: session_id.to_owned() };
        let send = |channel, request| async move { SessionServiceClient::new(channel).get(request).await };
        let v1::SessionServiceGetResponse { meta: _, session } = self.pool.call(request, send).await?;
        Ok(session)
    }

    /// Lists the sessions, all pages; only those of `node`, unless it is empty.
    pub async fn list(&self, node: &str, read: &ReadOptions) -> Result<Answer<Vec<v1::Session>>, Error> {
        gather(|page_token| async move {
            let request = v1::SessionServiceListRequest { options: read.wire(), node: node.to_owned(), page_size: 0, page_token };
            let send = |channel, request| async move { SessionServiceClient::new(channel).list(request).await };
            let v1::SessionServiceListResponse { meta, sessions, next_page_token } = self.pool.call(request, send).await?;
            Ok((sessions, meta, next_page_token))
        })
        .await
    }
}

async fn destroy(pool: &Pool, session_id: &str, datacenter: &str) -> Result<bool, Error> {
    let request = v1::SessionServiceDestroyRequest { options: write_options(datacenter), session_id: session_id.to_owned() };
    let send = |channel, request| async move { SessionServiceClient::new(channel).destroy(request).await };
    let v1::SessionServiceDestroyResponse { meta: _, destroyed } = pool.call(request, send).await?;
    Ok(destroyed)
}
