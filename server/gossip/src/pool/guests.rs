//! Who is connected: nobody takes all the places.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;

use super::CONNECTIONS_EACH;

/// How many connections there are from each address.
#[derive(Clone, Default)]
pub(super) struct Guests {
    counts: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// A connection, until it is dropped.
pub(super) struct Guest {
    guests: Guests,
    from: IpAddr,
}

impl Guests {
    /// One more from there; `None` when that would be too many.
    pub(super) fn enter(&self, from: IpAddr) -> Option<Guest> {
        let mut counts = self.counts.lock();
        let count = counts.entry(from).or_default();
        (*count < CONNECTIONS_EACH).then(|| {
            *count += 1;
            Guest { guests: self.clone(), from }
        })
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let mut counts = self.guests.counts.lock();
        if let Some(count) = counts.get_mut(&self.from) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.from);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_has_its_part_and_others_have_theirs() {
        let (guests, one, other) = (Guests::default(), IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let mut there: Vec<Guest> = (0..CONNECTIONS_EACH).map(|_| guests.enter(one).unwrap()).collect();
        assert!(guests.enter(one).is_none() && guests.enter(other).is_some());
        there.pop();
        assert!(guests.enter(one).is_some(), "a place is free again");
        drop(there);
        assert!(guests.counts.lock().is_empty(), "nothing is kept of who has gone");
    }
}
