//! Network coordinates: points whose distance tells the round-trip time between two members.
//!
//! Vivaldi (Dabek, Cox, Kaashoek, Morris 2004) with a height for the access link, the adjustment
//! term of Lee et al. (2010) for what no space can show, and gravity (Ledlie, Gardner, Seltzer 2007)
//! against drift. Every probe that is answered moves both ends a little.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Dimensions of the space.
pub(crate) const DIMENSIONS: usize = 8;

/// How far one observation may move the estimate of the error, and the position.
const ERROR_WEIGHT: f64 = 0.25;
const POSITION_WEIGHT: f64 = 0.25;

/// The estimate of the error that a member begins with, and the worst.
const ERROR_MAX: f64 = 1.5;

/// The least height, in seconds.
const HEIGHT_MIN: f64 = 1.0e-5;

/// Observations that the adjustment looks back over.
const ADJUSTMENT_WINDOW: usize = 20;

/// The distance, in seconds, at which the pull to the origin equals a full step.
const GRAVITY_RHO: f64 = 150.0;

/// The longest round trip that is believed.
const RTT_MAX: Duration = Duration::from_secs(10);

/// Below this two points are the same one.
const ZERO: f64 = 1.0e-6;

/// A member's place. All lengths are in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Coordinate {
    /// The place in the space.
    pub vec: [f64; DIMENSIONS],
    /// How sure the member is of it: 0 is certain, 1.5 is not at all.
    pub error: f64,
    /// What is added to distances by this member's round trips as they were.
    pub adjustment: f64,
    /// The access link, which every path goes through.
    pub height: f64,
}

impl Default for Coordinate {
    fn default() -> Self {
        Coordinate { vec: [0.0; DIMENSIONS], error: ERROR_MAX, adjustment: 0.0, height: HEIGHT_MIN }
    }
}

impl Coordinate {
    /// The estimated round-trip time between two members.
    pub fn distance(&self, other: &Coordinate) -> Duration {
        let raw = self.raw_distance(other);
        let adjusted = raw + self.adjustment + other.adjustment;
        Duration::from_secs_f64(if adjusted > 0.0 { adjusted } else { raw })
    }

    fn raw_distance(&self, other: &Coordinate) -> f64 {
        norm(&difference(&self.vec, &other.vec)) + self.height + other.height
    }

    /// Whether every number in it is one.
    pub(crate) fn is_valid(&self) -> bool {
        self.vec.iter().chain([&self.error, &self.adjustment, &self.height]).all(|number| number.is_finite() && number.abs() < 1.0e4)
            && self.height >= 0.0
            && self.error >= 0.0
    }
}

/// One member's own coordinate, and what it needs to move it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Vivaldi {
    pub(crate) at: Coordinate,
    samples: VecDeque<f64>,
}

impl Vivaldi {
    /// A round trip of `rtt` to a member at `other` was seen. `chance` gives a direction where there
    /// is none.
    pub(crate) fn observe(&mut self, other: &Coordinate, rtt: Duration, chance: impl FnMut() -> f64) {
        if !other.is_valid() || rtt > RTT_MAX {
            return;
        }
        let rtt = rtt.as_secs_f64().max(ZERO);
        self.approach(other, rtt, chance);
        self.adjust(other, rtt);
        self.fall();
        if !self.at.is_valid() {
            *self = Vivaldi::default();
        }
    }

    fn approach(&mut self, other: &Coordinate, rtt: f64, chance: impl FnMut() -> f64) {
        let distance = self.at.raw_distance(other);
        let wrong = (distance - rtt).abs() / rtt;
        let total = (self.at.error + other.error).max(ZERO);
        let weight = self.at.error / total;
        self.at.error = (ERROR_WEIGHT * weight * wrong + self.at.error * (1.0 - ERROR_WEIGHT * weight)).min(ERROR_MAX);
        let force = POSITION_WEIGHT * weight * (rtt - distance);
        let (direction, length) = unit(&self.at.vec, &other.vec, chance);
        for (place, step) in self.at.vec.iter_mut().zip(direction) {
            *place += step * force;
        }
        if length > ZERO {
            self.at.height = ((self.at.height + other.height) * force / length + self.at.height).max(HEIGHT_MIN);
        }
    }

    /// Half the mean of what the space got wrong lately.
    fn adjust(&mut self, other: &Coordinate, rtt: f64) {
        self.samples.push_back(rtt - self.at.raw_distance(other));
        if self.samples.len() > ADJUSTMENT_WINDOW {
            self.samples.pop_front();
        }
        self.at.adjustment = self.samples.iter().sum::<f64>() / (2.0 * ADJUSTMENT_WINDOW as f64);
    }

    /// Towards the origin, so that the whole cloud does not drift away.
    fn fall(&mut self) {
        let away = norm(&self.at.vec);
        if away > ZERO {
            let pull = (away / GRAVITY_RHO).powi(2);
            for place in &mut self.at.vec {
                *place -= *place / away * pull;
            }
        }
    }
}

fn difference(a: &[f64; DIMENSIONS], b: &[f64; DIMENSIONS]) -> [f64; DIMENSIONS] {
    std::array::from_fn(|n| a[n] - b[n])
}

fn norm(vec: &[f64; DIMENSIONS]) -> f64 {
    vec.iter().map(|number| number * number).sum::<f64>().sqrt()
}

/// The direction from `b` to `a`, any one when they are the same, and how far it is.
fn unit(a: &[f64; DIMENSIONS], b: &[f64; DIMENSIONS], mut chance: impl FnMut() -> f64) -> ([f64; DIMENSIONS], f64) {
    let vec = difference(a, b);
    let length = norm(&vec);
    if length > ZERO {
        return (vec.map(|number| number / length), length);
    }
    let vec: [f64; DIMENSIONS] = std::array::from_fn(|_| chance() - 0.5);
    let random = norm(&vec).max(ZERO);
    (vec.map(|number| number / random), 0.0)
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};

    use super::*;

    #[test]
    fn distances_come_to_tell_round_trips() {
        let mut rng = rand::rngs::SmallRng::seed_from_u64(7);
        // Three sites: a few milliseconds inside one, far more between them.
        let place = |n: usize| [0.0, 40.0, 110.0][n % 3] + (n / 3) as f64 * 0.2;
        let rtt = |a: usize, b: usize| Duration::from_secs_f64(((place(a) - place(b)).abs() + 1.0) / 1000.0);
        let mut members: Vec<Vivaldi> = (0..30).map(|_| Vivaldi::default()).collect();
        for _ in 0..20_000 {
            let (a, b) = (rng.random_range(0..30), rng.random_range(0..30));
            if a != b {
                let other = members[b].at;
                members[a].observe(&other, rtt(a, b), || rng.random());
            }
        }
        let mut wrong = Vec::new();
        for a in 0..30 {
            for b in 0..a {
                let (told, real) = (members[a].at.distance(&members[b].at).as_secs_f64(), rtt(a, b).as_secs_f64());
                wrong.push((told - real).abs() / real);
            }
        }
        wrong.sort_by(f64::total_cmp);
        assert!(wrong[wrong.len() / 2] < 0.15, "half are within 15 %: {}", wrong[wrong.len() / 2]);
    }

    #[test]
    fn nonsense_from_another_member_moves_nothing() {
        let mut mine = Vivaldi::default();
        let before = mine.at;
        mine.observe(&Coordinate { height: f64::NAN, ..Coordinate::default() }, Duration::from_millis(3), || 0.1);
        mine.observe(&Coordinate::default(), Duration::from_secs(60), || 0.1);
        assert_eq!(mine.at, before);
    }
}
