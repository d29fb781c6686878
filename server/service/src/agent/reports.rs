//! The results of checks, taken as they come, and the timers that they set.

use std::time::Duration;

use state::Str;
use state::probe::Report;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::Agent;
use super::storage::Batch;

/// Most results taken in one go.
const REPORTS_AT_ONCE: usize = 256;

/// How long statuses are collected before they are written to disk. A crash loses no more than that,
/// and each check finds its status again with its next run.
const SAVE_DELAY: Duration = Duration::from_secs(1);

impl Agent {
    /// Takes results and fires timers until `stop`, then saves the statuses.
    pub(super) async fn take_reports(&self, mut results: mpsc::Receiver<Report>, stop: &CancellationToken) {
        let mut batch = Vec::with_capacity(REPORTS_AT_ONCE);
        let mut save_at: Option<Instant> = None;
        let mut open = true;
        loop {
            let timer = self.inner.local.lock().next_timer();
            tokio::select! {
                () = stop.cancelled() => break,
                taken = results.recv_many(&mut batch, REPORTS_AT_ONCE), if open => {
                    open = taken > 0;
                    self.take(batch.drain(..));
                }
                () = self.inner.timer_set.notified() => {}
                () = until(timer) => self.fire_timers().await,
                () = until(save_at) => {
                    self.save_statuses().await;
                    save_at = None;
                }
            }
            if save_at.is_none() && self.inner.local.lock().has_unsaved() {
                save_at = Some(Instant::now() + SAVE_DELAY);
            }
        }
        self.save_statuses().await;
    }

    fn take(&self, reports: impl Iterator<Item = Report>) {
        let now = Instant::now();
        let mut local = self.inner.local.lock();
        let mut push = false;
        for report in reports {
            push |= local.take_report(report, now, rand::random()).push;
        }
        if push {
            self.inner.changed.notify_one();
        }
    }

    async fn fire_timers(&self) {
        let (changed, reaped) = self.inner.local.lock().take_due(Instant::now());
        for (service_id, check_id) in reaped {
            self.reap(service_id, &check_id).await;
        }
        if changed.push {
            self.inner.changed.notify_one();
        }
    }

    /// Removes an instance whose check has been critical for as long as its definition allows, from
    /// one second up. It happens when that time is over, where Consul looks every half minute. The
    /// time counts over a restart, after which the check has the chance to show that it is well again.
    async fn reap(&self, service_id: Str, check_id: &Str) {
        tracing::info!(%service_id, %check_id, "the check was critical for too long: its service is deregistered");
        let id = service_id.clone();
        if let Err(error) = self.in_order(move |agent| agent.drop_service(id)).await {
            tracing::warn!(%service_id, "the service could not be deregistered: {error}");
        }
    }

    /// Writes the statuses that changed to disk, in turn with registrations, which write the same
    /// files.
    async fn save_statuses(&self) {
        let _turn = self.inner.registering.lock().await;
        let checks = self.inner.local.lock().take_unsaved();
        if checks.is_empty() {
            return;
        }
        let ids: Vec<Str> = checks.iter().map(|check| check.row.id.clone()).collect();
        if let Err(error) = self.store(Batch { checks, ..Batch::default() }).await {
            tracing::warn!("the statuses of {} checks could not be saved, and will be tried again: {error}", ids.len());
            self.inner.local.lock().mark_unsaved(ids);
        }
    }
}

/// Sleeps until then; for ever when there is no such time.
async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}
