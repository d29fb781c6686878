//! When each check is to be run, and what follows from its results; without a clock of its own.
//!
//! A check is asked at a fixed rate, counted from its first probe. If it is still being asked when
//! it is due again, it is asked once more as soon as the answer is there, and the rate starts anew.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use state::deadlines::Deadlines;
use state::probe::{Probe, Report, Run};
use state::{Status, Str};
use tokio::time::Instant;

use crate::lanes::Lane;
use crate::target::Target;
use crate::thresholds::Thresholds;

/// Longest time before the first probe of a check, whatever its interval.
const FIRST_PROBE_WITHIN: Duration = Duration::from_secs(10);

/// Shortest time between two probes.
const INTERVAL_MIN: Duration = Duration::from_secs(1);

/// A target that takes longer than this is slow.
const SLOW_AFTER: Duration = Duration::from_secs(1);

/// What a check is due for.
#[derive(Debug)]
pub(crate) enum Due {
    /// Its target is to be asked.
    Probe(Errand),
    /// Nobody reported in time.
    Report(Report),
}

/// A probe to be made.
#[derive(Clone, Debug)]
pub(crate) struct Errand {
    pub(crate) check_id: Str,
    pub(crate) run: Run,
    pub(crate) target: Arc<Target>,
    pub(crate) lane: Lane,
}

/// What came of a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    /// The verdict on this probe alone.
    pub(crate) status: Status,
    /// What was found, in words for people.
    pub(crate) output: Str,
}

/// Every check that is run here.
#[derive(Default)]
pub(crate) struct Schedule {
    checks: HashMap<Str, Entry>,
    deadlines: Deadlines<Instant, Str>,
}

struct Entry {
    run: Run,
    kind: Kind,
}

enum Kind {
    Ttl { ttl: Duration },
    Polled(Polled),
}

struct Polled {
    interval: Duration,
    target: Arc<Target>,
    thresholds: Thresholds,
    lane: Lane,
    asking: bool,
    due_again: bool,
}

impl Schedule {
    /// Runs a check from `now` on. The first probe comes after `chance` (in `0..1`) of its interval,
    /// so that many checks registered together do not all run together.
    pub(crate) fn start(&mut self, probe: Probe, now: Instant, chance: f64) {
        if self.checks.get(&probe.check_id).is_some_and(|entry| entry.run >= probe.run) {
            return;
        }
        let definition = &probe.definition;
        let (kind, first) = match definition.ttl_ms {
            Some(ttl_ms) => {
                let ttl = Duration::from_millis(ttl_ms);
                (Kind::Ttl { ttl }, now + ttl)
            }
            None => {
                let interval = Duration::from_millis(definition.interval_ms.unwrap_or_default()).max(INTERVAL_MIN);
                let thresholds = Thresholds::new(definition);
                let target = Arc::new(Target::new(definition, probe.output_bytes_max));
                let polled = Polled { interval, target, thresholds, lane: Lane::Quick, asking: false, due_again: false };
                (Kind::Polled(polled), now + interval.min(FIRST_PROBE_WITHIN).mul_f64(chance))
            }
        };
        self.deadlines.set(probe.check_id.clone(), first);
        self.checks.insert(probe.check_id, Entry { run: probe.run, kind });
    }

    /// A TTL check was heard of.
    pub(crate) fn renew(&mut self, check_id: &Str, run: Run, now: Instant) {
        if let Some(entry) = self.checks.get_mut(check_id).filter(|entry| entry.run < run)
            && let Kind::Ttl { ttl } = entry.kind
        {
            entry.run = run;
            self.deadlines.set(check_id.clone(), now + ttl);
        }
    }

    /// Runs a check no more, unless it was started under a later number.
    pub(crate) fn stop(&mut self, check_id: &Str, run: Run) {
        if self.checks.get(check_id).is_some_and(|entry| entry.run < run) {
            self.checks.remove(check_id);
            self.deadlines.remove(check_id);
        }
    }

    /// Whether a check is still run under this number.
    pub(crate) fn runs(&self, check_id: &Str, run: Run) -> bool {
        self.checks.get(check_id).is_some_and(|entry| entry.run == run)
    }

    /// When something is due next.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.deadlines.next()
    }

    /// Takes what is due at `now`.
    pub(crate) fn due(&mut self, now: Instant) -> Option<Due> {
        loop {
            let check_id = self.deadlines.due(now)?;
            let Some(entry) = self.checks.get_mut(&check_id) else { continue };
            match &mut entry.kind {
                Kind::Ttl { .. } => {
                    let report = Report { check_id, run: entry.run, status: Status::Critical, output: "".into(), expired: true };
                    return Some(Due::Report(report));
                }
                Kind::Polled(polled) if polled.asking => polled.due_again = true,
                Kind::Polled(polled) => {
                    polled.asking = true;
                    self.deadlines.set(check_id.clone(), now + polled.interval);
                    return Some(Due::Probe(Errand { check_id, run: entry.run, target: polled.target.clone(), lane: polled.lane }));
                }
            }
        }
    }

    /// Takes what came of a probe that took so long. Says what is to be reported, if anything: no
    /// check that was replaced meanwhile, and no status that needs more results of its kind.
    pub(crate) fn finish(&mut self, check_id: Str, run: Run, finding: Finding, took: Duration, now: Instant) -> Option<Report> {
        let entry = self.checks.get_mut(&check_id).filter(|entry| entry.run == run)?;
        let Kind::Polled(polled) = &mut entry.kind else { return None };
        polled.asking = false;
        polled.lane = if took > SLOW_AFTER { Lane::Slow } else { Lane::Quick };
        if std::mem::take(&mut polled.due_again) {
            self.deadlines.set(check_id.clone(), now);
        }
        let status = polled.thresholds.take(finding.status)?;
        Some(Report { check_id, run, status, output: finding.output, expired: false })
    }
}

#[cfg(test)]
mod tests {
    use state::CheckDefinition;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn http(check_id: &str, run: u64, interval_ms: u64) -> Probe {
        let definition = CheckDefinition {
            http: Some("http://127.0.0.1:1/".into()),
            interval_ms: Some(interval_ms),
            failures_before_critical: 2,
            ..Default::default()
        };
        Probe { check_id: check_id.into(), run: Run(run), definition, output_bytes_max: 100 }
    }

    fn ttl(check_id: &str, run: u64, ttl_ms: u64) -> Probe {
        let definition = CheckDefinition { ttl_ms: Some(ttl_ms), ..Default::default() };
        Probe { check_id: check_id.into(), run: Run(run), definition, output_bytes_max: 100 }
    }

    fn finding(status: Status) -> Finding {
        Finding { status, output: "said".into() }
    }

    fn probed(due: Option<Due>) -> Option<Run> {
        match due {
            Some(Due::Probe(errand)) => Some(errand.run),
            Some(Due::Report(report)) => panic!("{report:?} instead of a probe"),
            None => None,
        }
    }

    #[test]
    fn a_check_is_asked_at_a_fixed_rate_after_a_part_of_its_interval() {
        let begin = Instant::now();
        let mut schedule = Schedule::default();
        schedule.start(http("web", 1, 4000), begin, 0.25);
        assert_eq!(schedule.next(), Some(begin + SECOND));
        assert_eq!(probed(schedule.due(begin)), None);
        assert_eq!(probed(schedule.due(begin + SECOND)), Some(Run(1)));
        schedule.finish("web".into(), Run(1), finding(Status::Passing), SECOND / 2, begin + SECOND * 2);
        assert_eq!(schedule.next(), Some(begin + SECOND * 5));
    }

    #[test]
    fn a_long_interval_does_not_hold_the_first_probe_back() {
        let begin = Instant::now();
        let mut schedule = Schedule::default();
        schedule.start(http("web", 1, 3_600_000), begin, 0.999);
        assert!(schedule.next() <= Some(begin + FIRST_PROBE_WITHIN));
    }

    #[test]
    fn a_check_is_never_asked_twice_at_once_and_makes_up_for_it_once() {
        let begin = Instant::now();
        let mut schedule = Schedule::default();
        schedule.start(http("web", 1, 1000), begin, 0.0);
        assert_eq!(probed(schedule.due(begin)), Some(Run(1)));
        assert_eq!(probed(schedule.due(begin + SECOND * 3)), None, "it is still being asked");
        schedule.finish("web".into(), Run(1), finding(Status::Passing), SECOND * 4, begin + SECOND * 4);
        assert_eq!(probed(schedule.due(begin + SECOND * 4)), Some(Run(1)));
        assert_eq!(schedule.next(), Some(begin + SECOND * 5));
    }

    #[test]
    fn results_are_reported_once_the_thresholds_allow_it() {
        let begin = Instant::now();
        let mut schedule = Schedule::default();
        schedule.start(http("web", 1, 1000), begin, 0.0);
        let mut take = |status| schedule.finish("web".into(), Run(1), finding(status), SECOND, begin).map(|report| report.status);
        assert_eq!(take(Status::Passing), Some(Status::Passing));
        assert_eq!(take(Status::Critical), None);
        assert_eq!(take(Status::Critical), Some(Status::Critical));
    }

    #[test]
    fn what_was_replaced_or_stopped_reports_no_more() {
        let begin = Instant::now();
        let mut schedule = Schedule::default();
        schedule.start(http("web", 1, 1000), begin, 0.0);
        schedule.start(http("web", 3, 1000), begin, 0.0);
        assert_eq!(schedule.finish("web".into(), Run(1), finding(Status::Passing), SECOND, begin), None);
        schedule.stop(&"web".into(), Run(2));
        assert!(schedule.next().is_some(), "the removal was of an older registration");
        schedule.start(http("web", 2, 1000), begin, 0.0);
        assert!(schedule.finish("web".into(), Run(3), finding(Status::Passing), SECOND, begin).is_some());
        schedule.stop(&"web".into(), Run(4));
        assert_eq!(schedule.next(), None);
        assert_eq!(schedule.finish("web".into(), Run(3), finding(Status::Passing), SECOND, begin), None);
    }

    #[test]
    fn a_ttl_runs_out_once_unless_it_is_renewed() {
        let begin = Instant::now();
        let mut schedule = Schedule::default();
        schedule.start(ttl("job", 1, 2000), begin, 0.5);
        schedule.renew(&"job".into(), Run(2), begin + SECOND);
        assert!(schedule.due(begin + SECOND * 2).is_none());
        match schedule.due(begin + SECOND * 3) {
            Some(Due::Report(report)) => assert_eq!((report.run, report.status, report.expired), (Run(2), Status::Critical, true)),
            other => panic!("{other:?}"),
        }
        assert!(schedule.due(begin + SECOND * 100).is_none());
        schedule.renew(&"job".into(), Run(3), begin + SECOND * 100);
        assert!(schedule.due(begin + SECOND * 102).is_some());
    }

    #[test]
    fn a_target_that_took_long_waits_in_the_slow_lane() {
        let begin = Instant::now();
        let mut schedule = Schedule::default();
        schedule.start(http("web", 1, 1000), begin, 0.0);
        assert!(schedule.due(begin).is_some());
        schedule.finish("web".into(), Run(1), finding(Status::Critical), SECOND * 10, begin + SECOND * 10);
        match schedule.due(begin + SECOND * 11) {
            Some(Due::Probe(errand)) => assert_eq!(errand.lane, Lane::Slow),
            other => panic!("{other:?}"),
        }
    }
}
