//! Locks, under everything that is known to break them: holders that stop and go on, that are killed, leaders
//! that are, and many who wait.

mod election;
mod expiry;
mod holders;
mod queue;

/// A number that the big runs set: how much of it CI does is the default.
fn amount(name: &str, usual: usize) -> usize {
    std::env::var(name).ok().map_or(usual, |text| text.parse().unwrap_or_else(|_| panic!("`{name}` is a number")))
}
