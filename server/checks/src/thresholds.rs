//! How many results in a row it takes to change a status.
//!
//! The first result counts at once: a check that was just registered needs no patience to leave the
//! status that it was given.

use state::{CheckDefinition, Status};

/// Counts results in a row against the thresholds of a definition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thresholds {
    before_passing: u32,
    before_warning: u32,
    before_critical: u32,
    successes: u32,
    failures: u32,
}

impl Thresholds {
    /// Thresholds of a definition; the warning threshold defaults to the critical one.
    pub fn new(definition: &CheckDefinition) -> Self {
        let before_critical = definition.failures_before_critical;
        let before_warning = match definition.failures_before_warning {
            0 => before_critical,
            own => own,
        };
        let before_passing = definition.success_before_passing;
        Thresholds { before_passing, before_warning, before_critical, successes: before_passing, failures: before_critical }
    }

    /// Takes a result and says which status follows; `None` while it takes more of them. A warning
    /// counts as a success, because the thing works.
    pub fn take(&mut self, result: Status) -> Option<Status> {
        if result == Status::Critical {
            self.failures = self.failures.saturating_add(1);
            self.successes = 0;
            return match self.failures {
                failures if failures >= self.before_critical => Some(Status::Critical),
                failures if failures >= self.before_warning => Some(Status::Warning),
                _ => None,
            };
        }
        self.successes = self.successes.saturating_add(1);
        self.failures = 0;
        (self.successes >= self.before_passing).then_some(result)
    }
}

#[cfg(test)]
mod tests {
    use state::Status::{Critical, Passing, Warning};

    use super::*;

    /// What follows from `results`, one after the other.
    fn check(thresholds: (u32, u32, u32), results: &[Status], expect: &[Option<Status>]) {
        let (success_before_passing, failures_before_warning, failures_before_critical) = thresholds;
        let definition =
            CheckDefinition { success_before_passing, failures_before_warning, failures_before_critical, ..Default::default() };
        let mut thresholds = Thresholds::new(&definition);
        let taken: Vec<_> = results.iter().map(|result| thresholds.take(*result)).collect();
        assert_eq!(taken, expect, "{definition:?}");
    }

    #[test]
    fn without_thresholds_every_result_counts() {
        check((0, 0, 0), &[Passing, Critical, Warning, Critical], &[Some(Passing), Some(Critical), Some(Warning), Some(Critical)]);
        check((1, 1, 1), &[Passing, Critical, Passing], &[Some(Passing), Some(Critical), Some(Passing)]);
    }

    #[test]
    fn the_first_result_counts_whatever_the_thresholds() {
        check((3, 3, 3), &[Passing], &[Some(Passing)]);
        check((3, 3, 3), &[Critical], &[Some(Critical)]);
    }

    #[test]
    fn a_status_is_left_after_so_many_in_a_row() {
        check((0, 0, 3), &[Passing, Critical, Critical, Critical], &[Some(Passing), None, None, Some(Critical)]);
        check((3, 0, 0), &[Critical, Passing, Passing, Passing], &[Some(Critical), None, None, Some(Passing)]);
    }

    #[test]
    fn a_result_of_the_other_kind_starts_the_count_anew() {
        let results = [Passing, Critical, Critical, Passing, Critical, Critical, Critical];
        check((0, 0, 3), &results, &[Some(Passing), None, None, Some(Passing), None, None, Some(Critical)]);
    }

    #[test]
    fn warning_comes_before_critical() {
        let results = [Passing, Critical, Critical, Critical];
        check((0, 1, 3), &results, &[Some(Passing), Some(Warning), Some(Warning), Some(Critical)]);
        check((0, 2, 3), &results, &[Some(Passing), None, Some(Warning), Some(Critical)]);
    }

    #[test]
    fn a_warning_is_a_success() {
        check((2, 0, 2), &[Critical, Warning, Warning, Critical], &[Some(Critical), None, Some(Warning), None]);
    }
}
