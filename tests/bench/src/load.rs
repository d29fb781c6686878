//! A stretch of load: when it warms up, when it counts, and what it found.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use crate::histogram::Histogram;
use crate::process::{Cpu, Process};

/// How long load is put on.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    /// Load that is not counted, before the rest.
    pub(crate) warm: Duration,
    /// Load that is counted.
    pub(crate) run: Duration,
    /// Ends earlier, after this many operations that count.
    pub(crate) operations_max: u64,
}

impl Plan {
    /// Load for a time, after a tenth of it (0.3 s at least) to warm up.
    pub(crate) fn lasting(run: Duration) -> Plan {
        Plan { warm: (run / 10).max(Duration::from_millis(300)), run, operations_max: u64::MAX }
    }

    /// A number of operations, all of them counted, in ten minutes at most.
    pub(crate) fn counting(operations_max: u64) -> Plan {
        Plan { warm: Duration::ZERO, run: Duration::from_secs(600), operations_max }
    }
}

/// What a stretch of load found.
#[derive(Clone, Default)]
pub(crate) struct Load {
    /// Operations that were answered well.
    pub(crate) operations: u64,
    /// Seconds that counted.
    pub(crate) seconds: f64,
    /// From the moment a request was handed over until its whole answer was there.
    pub(crate) latency: Histogram,
    /// Processor time.
    pub(crate) cpu: Cpu,
    /// Bytes of answers, where the row counts them.
    pub(crate) bytes: u64,
    /// Operations that were never answered and tried again, where the transport may lose them.
    pub(crate) lost: u64,
}

impl Load {
    /// Operations a second.
    pub(crate) fn rate(&self) -> f64 {
        if self.seconds > 0.0 { self.operations as f64 / self.seconds } else { 0.0 }
    }
}

/// Decides what counts.
pub(crate) struct Recorder<'a> {
    plan: Plan,
    server: Option<&'a Process>,
    began: Instant,
    counting_since: Option<(Instant, Cpu)>,
    load: Load,
}

impl<'a> Recorder<'a> {
    /// Begins now. Processor time is that of `server`.
    pub(crate) fn begin(plan: Plan, server: Option<&'a Process>) -> Recorder<'a> {
        Recorder { plan, server, began: Instant::now(), counting_since: None, load: Load::default() }
    }

    /// One operation was answered.
    pub(crate) fn done(&mut self, since: Instant, now: Instant) {
        if self.counting_since.is_some() {
            self.load.operations += 1;
            self.load.latency.record(now - since);
        }
    }

    /// Bytes of an answer came in.
    pub(crate) fn received(&mut self, bytes: usize) {
        if self.counting_since.is_some() {
            self.load.bytes += bytes as u64;
        }
    }

    /// One operation was given up.
    pub(crate) fn lost(&mut self) {
        if self.counting_since.is_some() {
            self.load.lost += 1;
        }
    }

    /// Whether the load goes on. To be asked often, for this is also where counting begins.
    pub(crate) fn goes_on(&mut self, now: Instant) -> Result<bool> {
        match self.counting_since {
            None if now - self.began < self.plan.warm => Ok(true),
            None => {
                self.counting_since = Some((now, Cpu::now(self.server)?));
                Ok(true)
            }
            Some((since, _)) => Ok(now - since < self.plan.run && self.load.operations < self.plan.operations_max),
        }
    }

    /// What was found. Fails when nothing was answered at all.
    pub(crate) fn finish(mut self) -> Result<Load> {
        if let Some((since, cpu)) = self.counting_since {
            self.load.seconds = since.elapsed().as_secs_f64();
            self.load.cpu = Cpu::now(self.server)?.since(cpu);
        }
        ensure!(self.load.operations > 0, "no operation was answered in {:.1} s", self.began.elapsed().as_secs_f64());
        Ok(self.load)
    }
}

/// Waits for many sockets at once; each has a token, which is its place in the caller's list.
pub(crate) struct Poller {
    epoll: Epoll,
    events: Vec<EpollEvent>,
}

impl Poller {
    /// With no socket yet.
    pub(crate) fn new() -> Result<Poller> {
        Ok(Poller { epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?, events: vec![EpollEvent::empty(); 256] })
    }

    /// Waits for a socket to become readable.
    pub(crate) fn add(&self, socket: impl AsFd, token: usize) -> Result<()> {
        Ok(self.epoll.add(socket, EpollEvent::new(EpollFlags::EPOLLIN, token as u64))?)
    }

    /// Waits for a socket to become writable as well, or no longer.
    pub(crate) fn also_writable(&self, socket: impl AsFd, token: usize, writable: bool) -> Result<()> {
        let flags = if writable { EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT } else { EpollFlags::EPOLLIN };
        Ok(self.epoll.modify(socket, &mut EpollEvent::new(flags, token as u64))?)
    }

    /// Waits until a socket is ready, at most `limit`, and says how many are. Their tokens are
    /// `token(0)`, `token(1)` and so on.
    pub(crate) fn wait(&mut self, limit: Duration) -> Result<usize> {
        let millis = u16::try_from(limit.as_millis()).unwrap_or(u16::MAX);
        match self.epoll.wait(&mut self.events, EpollTimeout::from(millis)) {
            Err(nix::errno::Errno::EINTR) => Ok(0),
            ready => Ok(ready?),
        }
    }

    /// The token of one of the sockets that the last wait found ready.
    pub(crate) fn token(&self, at: usize) -> usize {
        self.events[at].data() as usize
    }
}
