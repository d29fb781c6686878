//! Which of the waiting probes runs next, when not all can run at once.
//!
//! Targets that hang hold a place for the length of their timeout. They are kept to three quarters of
//! the places, so that any number of them leaves room for those that answer.

use std::collections::VecDeque;

/// How fast a target answered last time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    /// At once, or it was never asked.
    Quick,
    /// It took long, or did not answer.
    Slow,
}

/// Places and those who wait for one.
#[derive(Debug)]
pub(crate) struct Lanes<T> {
    places: usize,
    slow_places: usize,
    running: usize,
    slow_running: usize,
    quick: VecDeque<T>,
    slow: VecDeque<T>,
}

impl<T> Lanes<T> {
    /// So many places; at least two.
    pub(crate) fn new(places: usize) -> Self {
        let places = places.max(2);
        let slow_places = (places * 3 / 4).max(1);
        Lanes { places, slow_places, running: 0, slow_running: 0, quick: VecDeque::new(), slow: VecDeque::new() }
    }

    /// Waits for a place.
    pub(crate) fn push(&mut self, lane: Lane, item: T) {
        match lane {
            Lane::Quick => self.quick.push_back(item),
            Lane::Slow => self.slow.push_back(item),
        }
    }

    /// Takes who may run now; the place is theirs until [`Lanes::leave`].
    pub(crate) fn enter(&mut self) -> Option<(Lane, T)> {
        if self.running >= self.places {
            return None;
        }
        let next = match self.quick.pop_front() {
            Some(item) => (Lane::Quick, item),
            None if self.slow_running < self.slow_places => (Lane::Slow, self.slow.pop_front()?),
            None => return None,
        };
        self.running += 1;
        self.slow_running += usize::from(next.0 == Lane::Slow);
        Some(next)
    }

    /// Gives a place back.
    pub(crate) fn leave(&mut self, lane: Lane) {
        self.running -= 1;
        self.slow_running -= usize::from(lane == Lane::Slow);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_ones_never_take_every_place() {
        let mut lanes = Lanes::new(4);
        (0..10).for_each(|item| lanes.push(Lane::Slow, item));
        let entered: Vec<_> = std::iter::from_fn(|| lanes.enter()).collect();
        assert_eq!(entered, [(Lane::Slow, 0), (Lane::Slow, 1), (Lane::Slow, 2)]);
        lanes.push(Lane::Quick, 100);
        lanes.push(Lane::Quick, 101);
        assert_eq!(lanes.enter(), Some((Lane::Quick, 100)));
        assert_eq!(lanes.enter(), None, "all four places are taken");
        lanes.leave(Lane::Slow);
        assert_eq!(lanes.enter(), Some((Lane::Quick, 101)), "who answers fast goes first");
        lanes.leave(Lane::Quick);
        assert_eq!(lanes.enter(), Some((Lane::Slow, 3)));
    }
}
