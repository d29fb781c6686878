//! `ExecService`: programs run on many machines.
//!
//! The server that is asked keeps the run for as long as the caller listens, tells the members by an
//! event, and takes in what they bring. Nothing is stored: when the caller goes, the streams of the
//! members end, and with them the programs.

pub(crate) mod process;
pub mod work;
mod worker;

use std::collections::{BTreeSet, HashMap};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use proto::v1;
use proto::v1::exec_service_run_response::News;
use proto::v1::exec_service_server::ExecService;
use service::exec::Selection;
use service::{Error, Reason};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::{Request, Response, Status};

pub use worker::follow;

use crate::caller::open;
use crate::convert::common::{duration, write_to};
use crate::serve::Face;
use crate::status::{answer, invalid};

/// Most runs at a time on one server.
const RUNS_MAX: usize = 16;

/// Messages to the caller that may wait; then the members wait, and their programs.
const WAITING: usize = 64;

const BEGIN_WITHIN: Duration = Duration::from_secs(5);
const BEGIN_WITHIN_MAX: Duration = Duration::from_secs(60);
const TIMEOUT: Duration = Duration::from_secs(5 * 60);
const TIMEOUT_MAX: Duration = Duration::from_secs(60 * 60);

/// What a program may take beyond its timeout until its end is known.
const LATE: Duration = Duration::from_secs(15);

/// The runs that a server has under way. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Runs {
    open: Arc<parking_lot::Mutex<HashMap<[u8; 16], Run>>>,
}

/// One run, as those who work on it find it.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub(crate) args: Vec<String>,
    pub(crate) shell: bool,
    pub(crate) timeout: Duration,
    /// Who is meant and has not come yet.
    awaited: Arc<parking_lot::Mutex<BTreeSet<String>>>,
    /// What the members say.
    pub(crate) said: mpsc::Sender<(String, News)>,
    /// Cancelled when the caller has gone or the run is over.
    pub(crate) over: CancellationToken,
}

impl Run {
    /// Lets a member begin, once.
    pub(crate) fn admit(&self, node: &str) -> bool {
        self.awaited.lock().remove(node)
    }
}

/// Takes a run off the list when it is over.
struct Listed {
    runs: Runs,
    id: [u8; 16],
    _over: DropGuard,
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.runs.open.lock().remove(&self.id);
    }
}

impl Runs {
    /// The run with this id.
    pub(crate) fn get(&self, id: &[u8]) -> Option<Run> {
        self.open.lock().get(<&[u8; 16]>::try_from(id).ok()?).cloned()
    }

    fn list(&self, id: [u8; 16], run: Run) -> Result<Listed, Error> {
        let mut open = self.open.lock();
        if open.len() >= RUNS_MAX {
            let message = format!("{RUNS_MAX} runs are under way on this server, which is the limit; wait for one to end");
            return Err(Error::new(Reason::Overloaded, message).with("limit", RUNS_MAX));
        }
        let over = run.over.clone().drop_guard();
        open.insert(id, run);
        Ok(Listed { runs: self.clone(), id, _over: over })
    }
}

#[tonic::async_trait]
impl ExecService for Face {
    type RunStream = Pin<Box<dyn Stream<Item = Result<v1::ExecServiceRunResponse, Status>> + Send>>;

    async fn run(&self, request: Request<v1::ExecServiceRunRequest>) -> Result<Response<Self::RunStream>, Status> {
        answer(async {
            let (caller, request) = open(request)?;
            let v1::ExecServiceRunRequest { options, args, shell, node_filter, service_filter, tag_filter, begin_within, timeout } =
                request;
            self.service.check_datacenter(write_to(options).as_deref())?;
            let begin_within = within("begin_within", begin_within, BEGIN_WITHIN, BEGIN_WITHIN_MAX)?;
            let timeout = within("timeout", timeout, TIMEOUT, TIMEOUT_MAX)?;
            let selection = Selection { node: node_filter, service: service_filter, tag: tag_filter };
            let nodes = self.service.exec_nodes(&caller, &args, &selection)?;

            let (said, hears) = mpsc::channel(WAITING);
            let awaited = Arc::new(parking_lot::Mutex::new(nodes.iter().cloned().collect()));
            let run = Run { args, shell, timeout, awaited, said, over: CancellationToken::new() };
            let id = rand_id();
            let listed = self.options.runs.list(id, run.clone())?;
            self.service.exec_call(id, &selection)?;
            let (sender, receiver) = mpsc::channel(WAITING);
            let conduct = Conduct { run, nodes, begun: begin_within, hears, sender, stop: self.stop.clone() };
            tokio::spawn(async move {
                conduct.run().await;
                drop(listed);
            });
            let stream: Self::RunStream = Box::pin(ReceiverStream::new(receiver));
            Ok::<_, Error>(stream)
        })
        .await
    }
}

fn rand_id() -> [u8; 16] {
    rand::random()
}

fn within(field: &'static str, given: Option<prost_types::Duration>, usual: Duration, most: Duration) -> Result<Duration, Error> {
    let Some(given) = given else { return Ok(usual) };
    let length = duration(field, given)?;
    if length.is_zero() || length > most {
        return Err(invalid(field, format_args!("it is {length:?}, and must be between 0 and {most:?}")));
    }
    Ok(length)
}

/// What is needed to follow a run to its end.
struct Conduct {
    run: Run,
    nodes: Vec<String>,
    begun: Duration,
    hears: mpsc::Receiver<(String, News)>,
    sender: mpsc::Sender<Result<v1::ExecServiceRunResponse, Status>>,
    stop: CancellationToken,
}

impl Conduct {
    /// Passes on what the members say until all have ended, the time is up, or the caller has gone.
    async fn run(mut self) {
        let started = v1::ExecStarted { nodes: self.nodes.clone() };
        if !self.tell("", News::Started(started)).await {
            return;
        }
        let mut open: BTreeSet<String> = self.nodes.iter().cloned().collect();
        let begin = Instant::now() + self.begun;
        let end = begin + self.run.timeout + LATE;
        let mut looked = false;
        while !open.is_empty() {
            let deadline = if looked { end } else { begin };
            tokio::select! {
                () = self.sender.closed() => return,
                () = self.stop.cancelled() => return,
                said = self.hears.recv() => {
                    let Some((node, news)) = said else { return };
                    if matches!(news, News::Ended(_) | News::Refused(_) | News::Missing(_)) {
                        open.remove(&node);
                    }
                    if !self.tell(&node, news).await {
                        return;
                    }
                }
                () = tokio::time::sleep_until(deadline) => {
                    let late = if looked { std::mem::take(&mut open) } else { std::mem::take(&mut *self.run.awaited.lock()) };
                    let why = if looked { "it did not end in time" } else { "it did not begin in time" };
                    looked = true;
                    for node in late {
                        open.remove(&node);
                        if !self.tell(&node, News::Missing(v1::ExecMissing { why: why.into() })).await {
                            return;
                        }
                    }
                }
            }
        }
    }

    /// Whether the caller is still there.
    async fn tell(&self, node: &str, news: News) -> bool {
        let message = v1::ExecServiceRunResponse { node: node.to_owned(), news: Some(news) };
        self.sender.send(Ok(message)).await.is_ok()
    }
}
