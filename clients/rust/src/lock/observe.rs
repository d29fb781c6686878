//! Following who holds a lock, across lost connections.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use proto::v1;
use proto::v1::lock_service_client::LockServiceClient;
use tokio::time::sleep;
use tonic::Streaming;

use crate::error::Error;
use crate::pool::Pool;

/// The pause before a server is asked again, after the connection was lost; twice as long each time.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// Follows who holds a lock or the slots of a semaphore.
pub struct LockObserver {
    pool: Arc<Pool>,
    request: v1::LockServiceObserveRequest,
    stream: Option<Streaming<v1::LockServiceObserveResponse>>,
    told: Option<Vec<(Bytes, u64, Bytes)>>,
    pause: Duration,
}

impl LockObserver {
    pub(crate) fn new(pool: Arc<Pool>, key: Bytes, semaphore: bool) -> Self {
        let request = v1::LockServiceObserveRequest { options: None, key, semaphore };
        LockObserver { pool, request, stream: None, told: None, pause: PAUSE_MIN }
    }

    /// Who holds it now, at first; then after each change. Nobody is an empty answer. May be dropped and
    /// called again at any time.
    ///
    /// Errors: a refusal that no retry can help, such as `KEY_TOO_LONG`.
    pub async fn next(&mut self) -> Result<Vec<v1::LockHolder>, Error> {
        loop {
            match self.message().await {
                Ok(holders) => {
                    self.pause = PAUSE_MIN;
                    let now = holders.iter().map(|holder| (holder.key.clone(), holder.fencing_token, holder.value.clone())).collect();
                    if self.told.replace(now) != self.told {
                        return Ok(holders);
                    }
                }
                Err(error) if error.is_transient() => {
                    self.stream = None;
                    sleep(self.pause.mul_f64(0.5 + rand::random::<f64>() / 2.0)).await;
                    self.pause = (self.pause * 2).min(PAUSE_MAX);
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn message(&mut self) -> Result<Vec<v1::LockHolder>, Error> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            None => {
                let send = |channel, request| async move { LockServiceClient::new(channel).observe(request).await };
                let stream = self.pool.stream(self.request.clone(), send).await?;
                self.stream.insert(stream)
            }
        };
        let message = stream.message().await.map_err(|status| Error::from_status(&status, "the server", Duration::ZERO))?;
        message.map(|message| message.holders).ok_or_else(|| Error::Interrupted("the server ended the stream".into()))
    }
}
