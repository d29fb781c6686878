//! How the process ends: who asked, who still runs, and how long they may take.
//!
//! An agent that leaves its cluster still answers until it has left: its servers need its vote to do without it.
//! Then everything else stops. The first SIGINT or SIGTERM asks every task to finish; the second ends the process at once.
//! SIGHUP does not end it (see `reload`). SIGPIPE is ignored, as in every Rust program.

use std::future::Future;
use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Why the process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// SIGINT.
    Interrupt,
    /// SIGTERM.
    Terminate,
    /// The agent was asked to leave over one of its faces.
    Leave,
    /// Something that everything depends on has failed.
    Failure,
}

/// The one way to stop the process, and the list of what has to stop. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    asked: CancellationToken,
    departed: CancellationToken,
    token: CancellationToken,
    tracker: TaskTracker,
    cause: Arc<OnceLock<Cause>>,
}

impl Shutdown {
    /// Nothing runs, nobody has asked.
    pub fn new() -> Self {
        Self::default()
    }

    /// The root of all tokens, cancelled once the agent has left its cluster, or need not. A task that must end later than others is given a token of its own.
    pub fn token(&self) -> &CancellationToken {
        &self.token
    }

    /// Where tasks are counted that the process waits for.
    pub fn tracker(&self) -> &TaskTracker {
        &self.tracker
    }

    /// Starts a task that the process waits for.
    pub fn spawn<F>(&self, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.tracker.spawn(task);
    }

    /// Asks the process to end. Only the first cause counts.
    pub fn request(&self, cause: Cause) {
        let _ = self.cause.set(cause);
        self.asked.cancel();
    }

    /// Asks the process to leave its cluster and to end, and waits until it has left.
    pub async fn depart(&self) {
        self.request(Cause::Leave);
        self.departed.cancelled().await;
    }

    /// The agent has left its cluster: whoever waits for that is answered.
    pub fn departed(&self) {
        self.departed.cancel();
    }

    /// Whether somebody has asked.
    pub fn is_requested(&self) -> bool {
        self.asked.is_cancelled()
    }

    /// Why, once somebody has asked.
    pub fn cause(&self) -> Option<Cause> {
        self.cause.get().copied()
    }

    /// Waits until somebody asks.
    pub async fn requested(&self) {
        self.asked.cancelled().await;
    }

    /// Stops everything and waits until every counted task has ended, or for `deadline`; says whether all have.
    pub async fn drain(&self, deadline: Duration) -> bool {
        self.token.cancel();
        self.tracker.close();
        tokio::time::timeout(deadline, self.tracker.wait()).await.is_ok()
    }

    /// Listens for signals until the process ends.
    pub fn listen(&self) -> io::Result<()> {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut hangup = signal(SignalKind::hangup())?;
        let shutdown = self.clone();
        // Not tracked: it has to outlive the others to hear the second signal.
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = interrupt.recv() => shutdown.signalled(Cause::Interrupt),
                    _ = terminate.recv() => shutdown.signalled(Cause::Terminate),
                    // Taken here so that it never ends the process; who reloads listens as well.
                    _ = hangup.recv() => {}
                }
            }
        });
        Ok(())
    }

    fn signalled(&self, cause: Cause) {
        if self.is_requested() {
            tracing::error!("second signal: the process ends at once");
            std::process::exit(1);
        }
        tracing::info!(?cause, "stopping; a second signal ends the process at once");
        self.request(cause);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_cause_counts_and_tasks_are_waited_for() {
        let shutdown = Shutdown::new();
        let token = shutdown.token().clone();
        shutdown.spawn(async move { token.cancelled().await });
        assert!(!shutdown.is_requested());
        shutdown.request(Cause::Terminate);
        shutdown.request(Cause::Interrupt);
        shutdown.requested().await;
        assert!(!shutdown.token().is_cancelled(), "the agent may have to leave its cluster first");
        assert_eq!(shutdown.cause(), Some(Cause::Terminate));
        assert!(shutdown.drain(Duration::from_secs(30)).await);
    }

    #[tokio::test]
    async fn a_signal_asks_to_stop() {
        let shutdown = Shutdown::new();
        shutdown.listen().unwrap();
        nix::sys::signal::raise(nix::sys::signal::Signal::SIGHUP).unwrap();
        nix::sys::signal::raise(nix::sys::signal::Signal::SIGTERM).unwrap();
        tokio::time::timeout(Duration::from_secs(30), shutdown.requested()).await.unwrap();
        assert_eq!(shutdown.cause(), Some(Cause::Terminate));
    }
}
