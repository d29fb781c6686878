//! Chance and time of a run: what the program takes from the system comes from the seed instead.
//!
//! Hash tables, ids, election timeouts and clocks draw on `getrandom` and `clock_gettime`. Both are defined
//! here in the C library's place, and answer the threads of a run by its seed and by its own clock. Every
//! other thread gets what the system says.

use std::cell::Cell;
use std::ffi::{c_int, c_uint, c_void};
use std::time::Duration;

use libc::{clockid_t, size_t, ssize_t, timespec};

/// When a run begins: any second will do that is not the first of the epoch.
const BEGUN: Duration = Duration::from_secs(1_700_000_000);

thread_local! {
    static DICE: Cell<Option<u64>> = const { Cell::new(None) };
    static CLOCK: Cell<Option<Duration>> = const { Cell::new(None) };
}

/// Runs `work` once for each seed, in a thread of its own whose chances are decided by it, as many at a time as
/// there are processors.
///
/// # Panics
///
/// Where `work` does, with the seed named.
pub fn decided_by<T: Send + 'static>(seeds: &[u64], work: impl Fn(u64) -> T + Clone + Send + 'static) -> Vec<T> {
    let at_a_time = std::thread::available_parallelism().map_or(1, usize::from);
    let run = |seed: u64| {
        let work = work.clone();
        let life = move || {
            DICE.set(Some(seed));
            set_clock(Duration::ZERO);
            work(seed)
        };
        (seed, std::thread::Builder::new().name(format!("seed {seed}")).spawn(life).expect("the system grants a thread"))
    };
    let mut results = Vec::new();
    for some in seeds.chunks(at_a_time) {
        let running: Vec<_> = some.iter().map(|seed| run(*seed)).collect();
        let ended = running.into_iter().map(|(seed, run)| {
            run.join().unwrap_or_else(|_| panic!("the run of seed {seed} has failed, and does again with `SEEDS={seed}`; above is where"))
        });
        results.extend(ended);
    }
    results
}

/// So much time has passed since the run began.
pub(crate) fn set_clock(elapsed: Duration) {
    CLOCK.set(Some(BEGUN + elapsed));
}

/// The next number of a sequence that one number decides (splitmix64: Steele, Lea, Flood 2014).
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Random bytes, in place of the system's.
///
/// # Safety
///
/// As `getrandom(2)`: `buffer` has room for `length` bytes.
#[unsafe(no_mangle)]
#[expect(unsafe_code, reason = "it stands for a function of the C library")]
pub unsafe extern "C" fn getrandom(buffer: *mut c_void, length: size_t, flags: c_uint) -> ssize_t {
    let Some(mut state) = DICE.try_with(Cell::get).ok().flatten() else {
        // SAFETY: the caller's promise is the system call's own condition.
        return unsafe { libc::syscall(libc::SYS_getrandom, buffer, length, flags) } as ssize_t;
    };
    // SAFETY: the caller promises room for so many bytes.
    let bytes = unsafe { std::slice::from_raw_parts_mut(buffer.cast::<u8>(), length) };
    for piece in bytes.chunks_mut(8) {
        piece.copy_from_slice(&next(&mut state).to_le_bytes()[..piece.len()]);
    }
    DICE.set(Some(state));
    length as ssize_t
}

/// The time, in place of the system's.
///
/// # Safety
///
/// As `clock_gettime(2)`: `time` can be written to.
#[unsafe(no_mangle)]
#[expect(unsafe_code, reason = "it stands for a function of the C library")]
pub unsafe extern "C" fn clock_gettime(clock: clockid_t, time: *mut timespec) -> c_int {
    let Some(now) = CLOCK.try_with(Cell::get).ok().flatten() else {
        // SAFETY: the caller's promise is the system call's own condition.
        return unsafe { libc::syscall(libc::SYS_clock_gettime, clock, time) } as c_int;
    };
    // SAFETY: the caller promises that it can be written to.
    unsafe { time.write(timespec { tv_sec: now.as_secs() as i64, tv_nsec: i64::from(now.subsec_nanos()) }) };
    0
}
