//! The task that runs all checks: requests in, probes out, reports back.

use std::collections::VecDeque;
use std::time::Duration;

use net::Network;
use state::Str;
use state::probe::{Report, Request, Run};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::lanes::{Lane, Lanes};
use crate::schedule::{Due, Errand, Finding, Schedule};

/// Reports that may wait for the agent before no more checks are run.
const OUTBOX_MAX: usize = 1024;

/// How checks are run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Most probes under way at once; each holds a connection. Three quarters at most go to targets
    /// that are slow to answer.
    pub probes_at_once: usize,
    /// What they go through.
    pub network: Network,
}

impl Default for Options {
    fn default() -> Self {
        Options { probes_at_once: 1024, network: Network::host() }
    }
}

/// Runs checks.
///
/// All checks share one task and one list of deadlines; a probe is a task of its own only while it is
/// under way. Requests are always taken, also while reports wait to be taken, so that whoever takes
/// the reports may send requests.
pub struct Prober {
    options: Options,
    schedule: Schedule,
    lanes: Lanes<Errand>,
    under_way: JoinSet<Done>,
    outbox: VecDeque<Report>,
}

/// A probe that has ended.
struct Done {
    check_id: Str,
    run: Run,
    lane: Lane,
    finding: Finding,
    took: Duration,
}

impl Prober {
    /// Runs what is asked for until `stop`, or until nobody asks any more. Probes under way are then
    /// broken off.
    pub async fn start(requests: mpsc::Receiver<Request>, reports: mpsc::Sender<Report>, options: Options, stop: CancellationToken) {
        let prober = Prober {
            lanes: Lanes::new(options.probes_at_once),
            options,
            schedule: Schedule::default(),
            under_way: JoinSet::new(),
            outbox: VecDeque::new(),
        };
        tracing::debug!(probes_at_once = prober.options.probes_at_once, "checks are run");
        tokio::select! {
            () = stop.cancelled() => {}
            () = prober.run(requests, reports) => {}
        }
    }

    async fn run(mut self, mut requests: mpsc::Receiver<Request>, reports: mpsc::Sender<Report>) {
        loop {
            self.spawn_probes();
            let next = self.schedule.next();
            let room = self.outbox.len() < OUTBOX_MAX;
            tokio::select! {
                request = requests.recv() => match request {
                    Some(request) => self.take(request),
                    None => return,
                },
                permit = reports.reserve(), if !self.outbox.is_empty() => match (permit, self.outbox.pop_front()) {
                    (Ok(permit), Some(report)) => permit.send(report),
                    _ => return,
                },
                Some(done) = self.under_way.join_next(), if room => match done {
                    Ok(done) => self.finish(done),
                    Err(error) => tracing::error!("a probe has failed in itself: {error}"),
                },
                () = until(next), if room => self.take_due(),
            }
        }
    }

    fn take(&mut self, request: Request) {
        let now = Instant::now();
        match request {
            Request::Start(probe) => self.schedule.start(*probe, now, rand::random()),
            Request::Renew { check_id, run } => self.schedule.renew(&check_id, run, now),
            Request::Stop { check_id, run } => self.schedule.stop(&check_id, run),
        }
    }

    fn take_due(&mut self) {
        let now = Instant::now();
        while let Some(due) = self.schedule.due(now) {
            match due {
                Due::Report(report) => self.outbox.push_back(report),
                Due::Probe(errand) => self.lanes.push(errand.lane, errand),
            }
        }
    }

    fn spawn_probes(&mut self) {
        while let Some((lane, errand)) = self.lanes.enter() {
            if !self.schedule.runs(&errand.check_id, errand.run) {
                self.lanes.leave(lane);
                continue;
            }
            let network = self.options.network.clone();
            self.under_way.spawn(async move {
                let began = Instant::now();
                let finding = errand.target.probe(&network).await;
                Done { check_id: errand.check_id, run: errand.run, lane, finding, took: began.elapsed() }
            });
        }
    }

    fn finish(&mut self, done: Done) {
        self.lanes.leave(done.lane);
        let report = self.schedule.finish(done.check_id, done.run, done.finding, done.took, Instant::now());
        self.outbox.extend(report);
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}
