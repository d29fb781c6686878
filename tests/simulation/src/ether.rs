//! A network that is made up: what is under way between machines, and when it arrives.
//!
//! Datagrams may be lost. Connections lose nothing, as TCP does not: what can't pass now is tried again
//! later. A machine that loses its power says nothing to anybody; its connections are found dead once it is
//! back. Time stands still unless [`Ether::advance`] is called.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

/// How long anything takes at least.
const LATENCY_MIN: Duration = Duration::from_micros(300);

/// How long anything takes at most, unless it is said otherwise.
pub(crate) const LATENCY_MAX: Duration = Duration::from_millis(8);

/// What can't pass is tried again after so long.
const RETRY: Duration = Duration::from_millis(200);

/// Bytes that may be under way or unread in one direction of a connection.
const WINDOW: usize = 1 << 20;

/// Datagrams that wait to be received; more are lost.
const DATAGRAMS: usize = 4096;

/// Ports from here on are given to whoever does not ask for one.
const EPHEMERAL: u16 = 49_152;

/// A machine, by its number.
pub(crate) type MachineId = usize;

/// One end of a connection: the connection's number, and which of its two sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct End {
    connection: u64,
    side: usize,
}

impl End {
    fn other(self) -> End {
        End { side: 1 - self.side, ..self }
    }
}

/// What has come to one end.
struct Side {
    machine: MachineId,
    address: SocketAddr,
    arrived: VecDeque<Bytes>,
    /// Sent to this end and not read there.
    unread: usize,
    /// Nothing more will come.
    finished: bool,
    reader: Option<Waker>,
    /// Whoever waits at the other end for room here.
    writer: Option<Waker>,
    /// Nothing sent to this end later arrives earlier.
    latest: Duration,
    /// Something could not pass: it is tried again then, and what came after it waits as well.
    held_until: Duration,
    /// Nobody has this end any more.
    dropped: bool,
}

struct Connection {
    sides: [Side; 2],
    /// It is dead, and whoever uses it learns of it.
    reset: bool,
}

struct Queue<T> {
    waiting: VecDeque<T>,
    waker: Option<Waker>,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Queue { waiting: VecDeque::new(), waker: None }
    }
}

impl<T> Queue<T> {
    fn push(&mut self, item: T) {
        self.waiting.push_back(item);
        wake(&mut self.waker);
    }

    fn poll(&mut self, waker: &Waker) -> Poll<T> {
        match self.waiting.pop_front() {
            Some(item) => Poll::Ready(item),
            None => {
                self.waker = Some(waker.clone());
                Poll::Pending
            }
        }
    }
}

/// Something on its way. The order is that of a heap's ties, which the number of each decides first.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Passing {
    Datagram { from: SocketAddr, to: SocketAddr, bytes: Bytes },
    Opening { end: End, to: SocketAddr },
    Bytes { to: End, bytes: Bytes },
    Finish { to: End },
}

/// How an attempt to connect stands.
enum Attempt {
    Waiting(Option<Waker>),
    Open,
    Refused,
}

#[derive(Default)]
struct State {
    now: Duration,
    numbered: u64,
    passing: BinaryHeap<Reverse<(Duration, u64, Passing)>>,
    connections: BTreeMap<u64, Connection>,
    attempts: BTreeMap<End, Attempt>,
    listeners: BTreeMap<SocketAddr, Queue<(End, SocketAddr)>>,
    sockets: BTreeMap<SocketAddr, Queue<(Bytes, SocketAddr)>>,
    cut: BTreeSet<(MachineId, MachineId)>,
    down: BTreeSet<MachineId>,
    loss: f64,
    latency_max: Duration,
    rng: Option<SmallRng>,
}

/// The network. Clones are the same one.
#[derive(Clone, Default)]
pub(crate) struct Ether {
    state: Arc<Mutex<State>>,
}

fn wake(waiting: &mut Option<Waker>) {
    if let Some(waker) = waiting.take() {
        waker.wake();
    }
}

/// Where a machine lives.
pub(crate) fn address_of(machine: MachineId) -> IpAddr {
    let [_, _, high, low] = (machine as u32 + 1).to_be_bytes();
    IpAddr::V4(Ipv4Addr::new(10, 0, high, low))
}

fn machine_at(address: IpAddr) -> MachineId {
    match address {
        IpAddr::V4(address) => u32::from_be_bytes(address.octets()) as usize - (10 << 24) - 1,
        IpAddr::V6(_) => unreachable!("every machine has an address of the fourth version"),
    }
}

impl Ether {
    pub(crate) fn new(seed: u64) -> Self {
        let ether = Ether::default();
        {
            let mut state = ether.state.lock();
            state.rng = Some(SmallRng::seed_from_u64(seed));
            state.latency_max = LATENCY_MAX;
        }
        ether
    }

    /// Moves the clock, and has everything arrive that is due.
    pub(crate) fn advance(&self, now: Duration) {
        let mut state = self.state.lock();
        while let Some(Reverse((due, _, _))) = state.passing.peek() {
            if *due > now {
                break;
            }
            let Some(Reverse((due, _, passing))) = state.passing.pop() else { break };
            state.now = state.now.max(due);
            state.arrive(passing);
        }
        state.now = now;
    }

    /// Has this part of all datagrams be lost.
    pub(crate) fn set_loss(&self, loss: f64) {
        self.state.lock().loss = loss;
    }

    /// Has anything be under way for so long at most. What leaves later may arrive earlier, but on a connection.
    pub(crate) fn set_latency_max(&self, most: Duration) {
        self.state.lock().latency_max = most;
    }

    /// Whether nothing passes between two machines any more.
    pub(crate) fn set_cut(&self, a: MachineId, b: MachineId, cut: bool) {
        let pair = (a.min(b), a.max(b));
        let mut state = self.state.lock();
        if cut {
            state.cut.insert(pair)
        } else {
            state.cut.remove(&pair)
        };
    }

    /// The machine has no power from now on: nothing leaves it, and nothing arrives.
    pub(crate) fn power_off(&self, machine: MachineId) {
        self.state.lock().down.insert(machine);
    }

    /// The machine has power again, and has forgotten its connections.
    pub(crate) fn power_on(&self, machine: MachineId) {
        let mut state = self.state.lock();
        state.down.remove(&machine);
        let is_its = |address: &SocketAddr| machine_at(address.ip()) == machine;
        state.listeners.retain(|address, _| !is_its(address));
        state.sockets.retain(|address, _| !is_its(address));
        state.connections.retain(|_, connection| {
            let lost = connection.sides.iter().any(|side| side.machine == machine);
            if lost {
                connection.break_off();
            }
            !lost
        });
    }

    /// Listens; port 0 is any free one.
    pub(crate) fn listen(&self, machine: MachineId, port: u16) -> io::Result<SocketAddr> {
        let mut state = self.state.lock();
        let address = SocketAddr::new(address_of(machine), if port == 0 { state.free_port() } else { port });
        if state.listeners.contains_key(&address) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        state.listeners.insert(address, Queue::default());
        Ok(address)
    }

    /// The next connection to a listener.
    pub(crate) fn poll_accept(&self, at: SocketAddr, waker: &Waker) -> Poll<io::Result<(End, SocketAddr)>> {
        match self.state.lock().listeners.get_mut(&at) {
            Some(queue) => queue.poll(waker).map(Ok),
            None => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    pub(crate) fn stop_listening(&self, at: SocketAddr) {
        let mut state = self.state.lock();
        if !state.down.contains(&machine_at(at.ip())) {
            state.listeners.remove(&at);
        }
    }

    /// Opens a socket for datagrams.
    pub(crate) fn open_socket(&self, machine: MachineId, port: u16) -> io::Result<SocketAddr> {
        let mut state = self.state.lock();
        let address = SocketAddr::new(address_of(machine), if port == 0 { state.free_port() } else { port });
        if state.sockets.contains_key(&address) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        state.sockets.insert(address, Queue::default());
        Ok(address)
    }

    pub(crate) fn close_socket(&self, at: SocketAddr) {
        let mut state = self.state.lock();
        if !state.down.contains(&machine_at(at.ip())) {
            state.sockets.remove(&at);
        }
    }

    pub(crate) fn send(&self, from: SocketAddr, to: SocketAddr, bytes: &[u8]) {
        let mut state = self.state.lock();
        let lost = state.chance() < state.loss;
        if !lost {
            state.pass(Passing::Datagram { from, to, bytes: Bytes::copy_from_slice(bytes) });
        }
    }

    /// Whether a datagram has come; `waker` is told when one does.
    pub(crate) fn poll_readable(&self, at: SocketAddr, waker: &Waker) -> Poll<io::Result<()>> {
        match self.state.lock().sockets.get_mut(&at) {
            Some(queue) if queue.waiting.is_empty() => {
                queue.waker = Some(waker.clone());
                Poll::Pending
            }
            Some(_) => Poll::Ready(Ok(())),
            None => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    /// The next datagram that has come.
    pub(crate) fn try_receive(&self, at: SocketAddr) -> io::Result<(Bytes, SocketAddr)> {
        let mut state = self.state.lock();
        let queue = state.sockets.get_mut(&at).ok_or(io::ErrorKind::NotConnected)?;
        queue.waiting.pop_front().ok_or(io::ErrorKind::WouldBlock.into())
    }

    /// Begins to connect.
    pub(crate) fn connect(&self, from: MachineId, to: SocketAddr) -> End {
        let mut state = self.state.lock();
        state.numbered += 1;
        let end = End { connection: state.numbered, side: 0 };
        let own = SocketAddr::new(address_of(from), state.free_port());
        let side = |machine, address| Side {
            machine,
            address,
            arrived: VecDeque::new(),
            unread: 0,
            finished: false,
            reader: None,
            writer: None,
            latest: Duration::ZERO,
            held_until: Duration::ZERO,
            dropped: false,
        };
        let sides = [side(from, own), side(machine_at(to.ip()), to)];
        state.connections.insert(end.connection, Connection { sides, reset: false });
        state.attempts.insert(end, Attempt::Waiting(None));
        state.pass(Passing::Opening { end, to });
        end
    }

    pub(crate) fn poll_connected(&self, end: End, waker: &Waker) -> Poll<io::Result<()>> {
        let mut state = self.state.lock();
        match state.attempts.get_mut(&end) {
            Some(Attempt::Waiting(waiting)) => {
                *waiting = Some(waker.clone());
                return Poll::Pending;
            }
            Some(Attempt::Open) => {
                state.attempts.remove(&end);
                return Poll::Ready(Ok(()));
            }
            Some(Attempt::Refused) | None => {}
        }
        state.attempts.remove(&end);
        Poll::Ready(Err(io::ErrorKind::ConnectionRefused.into()))
    }

    pub(crate) fn poll_read(&self, end: End, room: usize, waker: &Waker) -> Poll<io::Result<Bytes>> {
        let mut state = self.state.lock();
        let Some(connection) = state.connections.get_mut(&end.connection) else { return Poll::Ready(Ok(Bytes::new())) };
        if connection.reset {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        let side = &mut connection.sides[end.side];
        let Some(mut piece) = side.arrived.pop_front() else {
            if side.finished {
                return Poll::Ready(Ok(Bytes::new()));
            }
            side.reader = Some(waker.clone());
            return Poll::Pending;
        };
        let taken = piece.split_to(room.min(piece.len()));
        if !piece.is_empty() {
            side.arrived.push_front(piece);
        }
        side.unread -= taken.len();
        wake(&mut side.writer);
        Poll::Ready(Ok(taken))
    }

    pub(crate) fn poll_write(&self, end: End, bytes: &[u8], waker: &Waker) -> Poll<io::Result<usize>> {
        let mut state = self.state.lock();
        let to = end.other();
        let Some(connection) = state.connections.get_mut(&end.connection).filter(|connection| !connection.reset) else {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        };
        let side = &mut connection.sides[to.side];
        let room = WINDOW - side.unread;
        if room == 0 {
            side.writer = Some(waker.clone());
            return Poll::Pending;
        }
        let taken = room.min(bytes.len());
        side.unread += taken;
        state.pass(Passing::Bytes { to, bytes: Bytes::copy_from_slice(&bytes[..taken]) });
        Poll::Ready(Ok(taken))
    }

    /// Says that nothing more is sent.
    pub(crate) fn finish(&self, end: End) {
        self.state.lock().pass(Passing::Finish { to: end.other() });
    }

    /// Whoever had this end has dropped it.
    pub(crate) fn close(&self, end: End) {
        let mut state = self.state.lock();
        state.attempts.remove(&end);
        if let Some(connection) = state.connections.get_mut(&end.connection) {
            connection.sides[end.side].dropped = true;
        }
        state.pass(Passing::Finish { to: end.other() });
    }
}

impl Connection {
    fn break_off(&mut self) {
        self.reset = true;
        for side in &mut self.sides {
            wake(&mut side.reader);
            wake(&mut side.writer);
        }
    }
}

impl State {
    fn chance(&mut self) -> f64 {
        self.rng.as_mut().map_or(1.0, |rng| rng.random())
    }

    fn free_port(&mut self) -> u16 {
        self.numbered += 1;
        EPHEMERAL + (self.numbered % u64::from(u16::MAX - EPHEMERAL)) as u16
    }

    /// Who sends, and to whom. Nobody, when the connection has been forgotten.
    fn route(&self, passing: &Passing) -> Option<(MachineId, MachineId)> {
        match passing {
            Passing::Datagram { from, to, .. } => Some((machine_at(from.ip()), machine_at(to.ip()))),
            Passing::Opening { end, to } => Some((self.connections.get(&end.connection)?.sides[0].machine, machine_at(to.ip()))),
            Passing::Bytes { to, .. } | Passing::Finish { to } => {
                let sides = &self.connections.get(&to.connection)?.sides;
                Some((sides[to.other().side].machine, sides[to.side].machine))
            }
        }
    }

    /// The end that something is on its way to. Nobody's, for datagrams.
    fn end_of(passing: &Passing) -> Option<End> {
        match passing {
            Passing::Datagram { .. } => None,
            Passing::Opening { end, .. } => Some(end.other()),
            Passing::Bytes { to, .. } | Passing::Finish { to } => Some(*to),
        }
    }

    fn side_of(&self, passing: &Passing) -> Option<&Side> {
        let end = Self::end_of(passing)?;
        Some(&self.connections.get(&end.connection)?.sides[end.side])
    }

    fn side_of_mut(&mut self, passing: &Passing) -> Option<&mut Side> {
        let end = Self::end_of(passing)?;
        Some(&mut self.connections.get_mut(&end.connection)?.sides[end.side])
    }

    /// Sends something on its way, unless its sender has no power.
    fn pass(&mut self, passing: Passing) {
        let Some((from, _)) = self.route(&passing) else { return };
        if self.down.contains(&from) {
            return;
        }
        let delay = LATENCY_MIN + self.latency_max.saturating_sub(LATENCY_MIN).mul_f64(self.chance());
        let mut due = self.now + delay;
        if let Passing::Bytes { to, .. } | Passing::Finish { to } = &passing
            && let Some(connection) = self.connections.get_mut(&to.connection)
        {
            let latest = &mut connection.sides[to.side].latest;
            due = due.max(*latest);
            *latest = due;
        }
        self.push(due, passing);
    }

    fn push(&mut self, due: Duration, passing: Passing) {
        self.numbered += 1;
        self.passing.push(Reverse((due, self.numbered, passing)));
    }

    fn arrive(&mut self, passing: Passing) {
        let Some((from, to)) = self.route(&passing) else { return };
        let passable = !self.down.contains(&to) && !self.cut.contains(&(from.min(to), from.max(to)));
        let again = match self.side_of(&passing) {
            None if passable => None,
            None => return,
            Some(side) if passable && side.held_until <= self.now => None,
            Some(side) if side.held_until > self.now => Some(side.held_until),
            Some(_) => Some(self.now + RETRY),
        };
        if let Some(again) = again {
            if let Some(side) = self.side_of_mut(&passing) {
                side.held_until = again;
            }
            return self.push(again, passing);
        }
        match passing {
            Passing::Datagram { from, to, bytes } => {
                if let Some(queue) = self.sockets.get_mut(&to).filter(|queue| queue.waiting.len() < DATAGRAMS) {
                    queue.push((bytes, from));
                }
            }
            Passing::Opening { end, to } => self.open(end, to),
            Passing::Bytes { to, bytes } => {
                if let Some(connection) = self.connections.get_mut(&to.connection) {
                    let side = &mut connection.sides[to.side];
                    if side.dropped {
                        return connection.break_off();
                    }
                    side.arrived.push_back(bytes);
                    wake(&mut side.reader);
                }
            }
            Passing::Finish { to } => self.finish(to),
        }
    }

    fn open(&mut self, end: End, to: SocketAddr) {
        // Whoever wanted it may have given up.
        let Some(attempt) = self.attempts.get_mut(&end) else { return };
        let from = self.connections.get(&end.connection).map(|connection| connection.sides[0].address);
        let before = match (self.listeners.get_mut(&to), from) {
            (Some(queue), Some(from)) => {
                queue.push((end.other(), from));
                std::mem::replace(attempt, Attempt::Open)
            }
            _ => std::mem::replace(attempt, Attempt::Refused),
        };
        if let Attempt::Waiting(Some(waker)) = before {
            waker.wake();
        }
    }

    fn finish(&mut self, to: End) {
        let Some(connection) = self.connections.get_mut(&to.connection) else { return };
        let side = &mut connection.sides[to.side];
        side.finished = true;
        wake(&mut side.reader);
        if connection.sides.iter().all(|side| side.finished) {
            self.connections.remove(&to.connection);
        }
    }
}
