//! The clock by which a holder decides for itself that it holds no more.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

/// Tells how much time has passed. What a session relies on: it never goes back, and it goes on
/// while the program is stopped and while the machine sleeps.
///
/// Tests bring their own; programs use [`SystemClock`].
pub trait Clock: Send + Sync + 'static {
    /// The time since some fixed moment.
    fn now(&self) -> Duration;

    /// Waits until `now` is at least `until`.
    fn sleep_until(&self, until: Duration) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;
}

/// The clock of the machine: that since its start where the system has one, which counts the time in
/// which the machine slept.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

/// The longest sleep before the clock is looked at again: timers stand still while a machine sleeps.
const LOOK: Duration = Duration::from_millis(500);

impl SystemClock {
    /// The clock, to be shared.
    pub fn shared() -> Arc<dyn Clock> {
        Arc::new(SystemClock)
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Duration {
        passed()
    }

    fn sleep_until(&self, until: Duration) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async move {
            while let Some(rest) = until.checked_sub(passed()).filter(|rest| !rest.is_zero()) {
                tokio::time::sleep(rest.min(LOOK)).await;
            }
        })
    }
}

#[cfg(target_os = "linux")]
fn passed() -> Duration {
    use nix::time::{ClockId, clock_gettime};
    let now = clock_gettime(ClockId::CLOCK_BOOTTIME).expect("every Linux that this runs on has this clock");
    now.into()
}

#[cfg(not(target_os = "linux"))]
fn passed() -> Duration {
    static BEGUN: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    BEGUN.get_or_init(std::time::Instant::now).elapsed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_goes_on_and_sleeps_at_least_as_long_as_asked() {
        let clock = SystemClock;
        let begun = clock.now();
        let until = begun + Duration::from_millis(20);
        clock.sleep_until(until).await;
        assert!(clock.now() >= until);
    }
}
