//! The agent over real consensus, with a prober played by the test.

mod afar;
mod definitions;
mod registration;
mod restart;
mod syncing;

use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

use state::probe::{Report, Request, Run};
use state::{CheckDefinition, NodeInput, NodeView, ServiceInput, Status};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::{Service, testing};

/// Long enough for the slowest machine, short enough to end a test that hangs.
const DEADLINE: Duration = Duration::from_secs(30);

/// The node that the agent under test speaks for; the service layer of the test has another.
const NODE: &str = "machine";

/// An agent under test.
struct Rig {
    service: Service,
    agent: Agent,
    requests: mpsc::Receiver<Request>,
    reports: mpsc::Sender<Report>,
    running: Option<(JoinHandle<()>, CancellationToken)>,
    results: Option<mpsc::Receiver<Report>>,
}

impl Rig {
    /// A running agent with nothing on disk.
    async fn new() -> Self {
        let mut rig = Rig::asleep(None, |_| {}).await;
        rig.run();
        rig
    }

    /// An agent that was not started.
    async fn asleep(data_dir: Option<PathBuf>, set_up: impl FnOnce(&mut AgentOptions)) -> Self {
        let service = testing::dev().await;
        let upstream = (service.consensus().clone(), service.hub().clone());
        Rig::over(service, upstream.into(), data_dir, set_up)
    }

    /// An agent that was not started, whose catalog is at `upstream`; the test looks for it in `service`.
    fn over(service: Service, upstream: Upstream, data_dir: Option<PathBuf>, set_up: impl FnOnce(&mut AgentOptions)) -> Self {
        let node = NodeInput { name: NODE.into(), address: "10.1.1.1".into(), datacenter: "dc1".into(), ..Default::default() };
        let mut options = AgentOptions::new(service.identity().clone(), node);
        options.data_dir = data_dir;
        set_up(&mut options);
        let (prober, requests) = mpsc::channel(1024);
        let (reports, results) = mpsc::channel(1024);
        let agent = Agent::new(options, upstream, prober).unwrap();
        Rig { service, agent, requests, reports, running: None, results: Some(results) }
    }

    fn run(&mut self) {
        let stop = CancellationToken::new();
        let results = self.results.take().expect("an agent is run once");
        self.running = Some((tokio::spawn(self.agent.clone().run(results, stop.clone())), stop));
    }

    /// Stops the agent in good order.
    async fn stop(mut self) {
        if let Some((task, stop)) = self.running.take() {
            stop.cancel();
            timeout(DEADLINE, task).await.expect("the agent stops").unwrap();
        }
    }

    async fn register(&self, definition: ServiceDefinition) {
        self.agent.register_service(&caller(), definition, false).await.unwrap();
    }

    /// What the catalog says about the agent's node.
    fn catalog(&self) -> Option<Arc<NodeView>> {
        self.service.consensus().tables().node(NODE).cloned()
    }

    fn catalog_check(&self, id: &str) -> Option<Arc<Check>> {
        self.catalog()?.checks.get(id).cloned()
    }

    fn check(&self, id: &str) -> Arc<Check> {
        self.agent.checks(&caller())[id].clone()
    }

    /// The number of the latest run that the prober was told of.
    async fn started(&mut self, check_id: &str) -> Run {
        timeout(DEADLINE, async {
            loop {
                match self.requests.recv().await.expect("the agent lives") {
                    Request::Start(probe) if &*probe.check_id == check_id => return probe.run,
                    _ => {}
                }
            }
        })
        .await
        .expect("the check is started")
    }

    async fn report(&self, check_id: &str, run: Run, status: Status, output: &str) {
        let report = Report { check_id: check_id.into(), run, status, output: output.into(), expired: false };
        self.reports.send(report).await.unwrap();
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if let Some((_, stop)) = &self.running {
            stop.cancel();
        }
    }
}

fn caller() -> Caller {
    Caller::default()
}

fn web() -> ServiceDefinition {
    let service = ServiceInput { id: "web1".into(), name: "web".into(), address: "10.2.2.2".into(), port: 80, ..Default::default() };
    ServiceDefinition { service, ..Default::default() }
}

fn with_checks(checks: impl IntoIterator<Item = CheckRegistration>) -> ServiceDefinition {
    ServiceDefinition { checks: checks.into_iter().collect(), ..web() }
}

fn http() -> CheckRegistration {
    let definition = CheckDefinition { http: Some("http://10.2.2.2/health".into()), interval_ms: Some(10_000), ..Default::default() };
    CheckRegistration { definition, ..Default::default() }
}

fn ttl(name: &str) -> CheckRegistration {
    let definition = CheckDefinition { ttl_ms: Some(30_000), ..Default::default() };
    CheckRegistration { name: name.into(), definition, ..Default::default() }
}

/// Waits until `reached` gives something.
async fn eventually<T>(what: &str, mut reached: impl FnMut() -> Option<T>) -> T {
    let waiting = async {
        loop {
            if let Some(value) = reached() {
                return value;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(DEADLINE, waiting).await.unwrap_or_else(|_| panic!("{what}: not reached"))
}

/// The error of something that must fail.
async fn refused<T: std::fmt::Debug>(work: impl Future<Output = Result<T, Error>>) -> Error {
    work.await.unwrap_err()
}
