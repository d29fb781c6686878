//! The task that keeps a session alive: one renewal at a time, each counted from when it was sent.

use std::sync::Arc;
use std::time::Duration;

use proto::v1;
use proto::v1::session_service_client::SessionServiceClient;
use proto::v1::session_service_keep_alive_response::State;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;

use crate::error::Error;
use crate::lease::{Lease, Lost};
use crate::pool::Pool;
use crate::read::write_options;

/// The pause before a server is asked again, after one could not renew.
const RETRY: Duration = Duration::from_millis(200);

pub(super) struct Keeper {
    pub(super) pool: Arc<Pool>,
    pub(super) id: String,
    pub(super) datacenter: String,
    pub(super) lease: Lease,
    pub(super) ttl: Duration,
}

impl Keeper {
    /// Renews until the lease is lost.
    pub(super) async fn run(self) {
        loop {
            let at = self.pool.preferred();
            let error = tokio::select! {
                error = self.connection(at) => error,
                _ = self.lease.lost() => return,
            };
            if !error.is_transient() {
                self.lease.lose(Lost::Ended(error.message()));
                return;
            }
            self.pool.move_on(at);
            sleep(RETRY.mul_f64(0.5 + rand::random::<f64>())).await;
        }
    }

    /// Renews on one connection, until it breaks or the session has ended.
    async fn connection(&self, at: usize) -> Error {
        let place = self.pool.lease(at);
        // One request is under way at a time.
        let (requests, queue) = mpsc::channel(1);
        let request = self.pool.request(ReceiverStream::new(queue));
        let mut stub = SessionServiceClient::new(place.channel());
        let mut due = self.lease.clock().now();
        let opened = async {
            let opened = timeout(self.patience(), stub.keep_alive(request)).await;
            opened.unwrap_or_else(|_| Err(tonic::Status::unavailable("no answer in time"))).map(tonic::Response::into_inner)
        };
        let mut answers = match opened.await {
            Ok(answers) => answers,
            Err(status) => return self.broken(at, &place, &status),
        };
        loop {
            tokio::select! {
                () = self.lease.clock().sleep_until(due) => {}
                early = answers.message() => match early {
                    Ok(Some(answer)) => {
                        // Only the end of the session is told without being asked for.
                        if let Some(State::Ended(ended)) = answer.state {
                            return self.ended(ended);
                        }
                        continue;
                    }
                    Ok(None) => return Error::Interrupted("the server ended the stream".into()),
                    Err(status) => return self.broken(at, &place, &status),
                },
            }
            let sent = self.lease.clock().now();
            let options = write_options(&self.datacenter);
            if requests.send(v1::SessionServiceKeepAliveRequest { session_id: self.id.clone(), options }).await.is_err() {
                return Error::Interrupted("the server ended the stream".into());
            }
            let answer = timeout(self.patience(), answers.message()).await;
            match answer.unwrap_or_else(|_| Err(tonic::Status::unavailable("no answer in time"))) {
                Ok(Some(answer)) => match answer.state {
                    Some(State::Renewed(renewed)) => {
                        self.lease.renewed(sent, renewed.valid_for.and_then(|valid_for| valid_for.try_into().ok()));
                        due = sent + self.ttl / 3;
                    }
                    Some(State::Ended(ended)) => return self.ended(ended),
                    None => return Error::Contract("an answer to a renewal says nothing".into()),
                },
                Ok(None) => return Error::Interrupted("the server ended the stream".into()),
                Err(status) => return self.broken(at, &place, &status),
            }
        }
    }

    /// How long one answer is waited for: so that two more attempts fit into the TTL.
    fn patience(&self) -> Duration {
        self.ttl / 5
    }

    fn ended(&self, ended: v1::SessionEnded) -> Error {
        let message = if ended.message.is_empty() { "the session has ended".to_owned() } else { ended.message };
        self.lease.lose(Lost::Ended(message.clone()));
        Error::Lost(Lost::Ended(message))
    }

    /// A connection that does not answer may be dead without knowing it: the next attempt takes another.
    fn broken(&self, at: usize, place: &crate::pool::Lease, status: &tonic::Status) -> Error {
        self.pool.retire(at, place);
        self.pool.error(at, status)
    }
}
