//! What no member would send: it is dropped for a reason, counted, told in the log, and disturbs nobody.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use foca::Member as Probed;
use metrics::{Counter, CounterFn, Gauge, Histogram, KeyName, Metadata, Recorder, SharedString, Unit};
use parking_lot::Mutex;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpStream, UdpSocket};

use crate::core::{Core, Output};
use crate::keyring::{Key, Keyring};
use crate::member::{Id, Record, Status};
use crate::tests::{address, options, start, status, until};
use crate::timing::Timing;
use crate::wire::{self, DATAGRAM_MAX, Dropped, FRAME_MAX, Kind, News, State};
use crate::{Options, Pool};

/// Counts what is counted on this thread, by name and reason.
#[derive(Clone, Default)]
struct Counts(Arc<Mutex<BTreeMap<String, u64>>>);

impl Counts {
    fn of(&self, name: &str) -> u64 {
        self.0.lock().get(name).copied().unwrap_or_default()
    }
}

struct Count(Counts, String);

impl CounterFn for Count {
    fn increment(&self, value: u64) {
        *self.0.0.lock().entry(self.1.clone()).or_default() += value;
    }

    fn absolute(&self, value: u64) {
        self.0.0.lock().insert(self.1.clone(), value);
    }
}

impl Recorder for Counts {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &metrics::Key, _: &Metadata<'_>) -> Counter {
        let labels: String = key.labels().map(|label| format!(" {}", label.value())).collect();
        Counter::from_arc(Arc::new(Count(self.clone(), format!("{}{labels}", key.name()))))
    }

    fn register_gauge(&self, _: &metrics::Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, _: &metrics::Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

/// What is logged on this thread.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn has(&self, text: &str) -> bool {
        String::from_utf8_lossy(&self.0.lock()).contains(text)
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Has this thread's counters and log kept until both guards are dropped.
fn listen<'c>(counts: &'c Counts, log: &Log) -> (metrics::LocalRecorderGuard<'c>, tracing::subscriber::DefaultGuard) {
    let log = log.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || log.clone()).finish();
    (metrics::set_default_local_recorder(counts), tracing::subscriber::set_default(subscriber))
}

async fn two_members(options: impl Fn(&str) -> Options) -> (Pool, Pool) {
    let (a, b) = (start(options("a")).await, start(options("b")).await);
    assert_eq!(b.join(&address(&a)).await.joined, 1);
    until("they see each other", || a.members().len() == 2).await;
    (a, b)
}

#[tokio::test]
async fn each_kind_of_bad_packet_is_counted_and_told_by_its_reason() {
    let (counts, log) = (Counts::default(), Log::default());
    let _guards = listen(&counts, &log);
    let ring = Keyring::new(Key::generate());
    let (a, _b) = two_members(|name| Options { keyring: Some(ring.clone()), ..options(name) }).await;
    let (ours, theirs) = (wire::digest("lan:dc1"), wire::digest("lan:dc2"));
    let sealed = |content: &[u8]| wire::wrap(ours, Some(&ring), Kind::Datagram, content);
    let packets = [
        ("malformed", b"GET / HTTP/1.1\r\n".to_vec()),
        ("malformed", b"L".to_vec()),
        ("malformed", sealed(b"\xff\xff\xff nonsense")),
        ("other_pool", wire::wrap(theirs, Some(&ring), Kind::Datagram, b"x")),
        ("wrong_key", wire::wrap(ours, None, Kind::Datagram, b"x")),
        ("wrong_key", wire::wrap(ours, Some(&Keyring::new(Key::generate())), Kind::Datagram, b"x")),
        ("oversized", sealed(&vec![0; DATAGRAM_MAX])),
    ];
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    for (reason, packet) in &packets {
        let name = format!("consul_gossip_dropped {reason}");
        let before = counts.of(&name);
        socket.send_to(packet, a.address()).await.unwrap();
        until("the datagram is counted", || counts.of(&name) == before + 1).await;
        assert!(log.has(&format!("reason=\"{reason}\"")), "{reason} is told in the log");
    }
    for (reason, frame) in [
        ("malformed", [&8u32.to_be_bytes()[..], b"L"].concat()),
        ("malformed", [&9u32.to_be_bytes()[..], b"LLLLLLLLL"].concat()),
        ("oversized", (FRAME_MAX as u32 + 1).to_be_bytes().to_vec()),
    ] {
        let name = format!("consul_gossip_dropped {reason}");
        let before = counts.of(&name);
        let mut stream = TcpStream::connect(a.address()).await.unwrap();
        stream.write_all(&frame).await.unwrap();
        drop(stream);
        until("the frame is counted", || counts.of(&name) == before + 1).await;
    }
    assert_eq!(status(&a, "b"), Some(crate::Status::Alive), "the pool is as it was");
}

#[tokio::test]
async fn a_member_that_is_not_let_in_is_counted_and_named() {
    let (counts, log) = (Counts::default(), Log::default());
    let _guards = listen(&counts, &log);
    let a = start(options("a")).await;
    let twin = start(Options { node_id: "another".into(), ..options("a") }).await;
    assert_eq!(twin.join(&address(&a)).await.joined, 0);
    let copy = start(Options { node_id: "id-of-a".into(), ..options("b") }).await;
    assert_eq!(copy.join(&address(&a)).await.joined, 0);
    assert_eq!(counts.of("consul_gossip_joins_refused"), 2);
    assert!(log.has("the name `a` belongs to a living node") && log.has("the node id id-of-a belongs to the living node `a`"));
}

fn id(number: u16) -> Id {
    Id { address: SocketAddr::from(([10, 0, 0, number as u8], 8301)), bump: 1 }
}

fn record(number: u16) -> Record {
    let name = format!("n{number}").into();
    Record { name, node_id: format!("id{number}").into(), id: id(number), version: 1, tags: BTreeMap::new(), leaving: false, pruned: false }
}

fn core(number: u16, keyring: Option<Keyring>) -> Core {
    Core::new(record(number), Timing::lan(), "lan:dc1", keyring, 0, u64::from(number))
}

/// Two members that know each other, and a datagram that the second one sends the first.
fn acquainted(keyring: Option<Keyring>) -> (Core, Core, Vec<u8>) {
    let (mut one, mut other) = (core(1, keyring.clone()), core(2, keyring));
    let now = Duration::from_secs(1);
    let state = other.state(true);
    one.merge(now, state);
    other.merge(now, one.state(false));
    one.outputs();
    other.outputs();
    let mut sent = Vec::new();
    let mut at = now;
    while sent.is_empty() {
        at = other.next().unwrap().max(at);
        other.tick(at);
        sent = datagrams(&mut other);
    }
    (one, other, sent.swap_remove(0))
}

fn datagrams(core: &mut Core) -> Vec<Vec<u8>> {
    core.outputs().into_iter().filter_map(|output| if let Output::Send(_, bytes) = output { Some(bytes) } else { None }).collect()
}

#[test]
fn a_datagram_that_is_cut_or_changed_says_nothing() {
    let ring = Keyring::new(Key::from_bytes(vec![3; 24]).unwrap());
    let (mut one, _, datagram) = acquainted(Some(ring));
    let before = one.members();
    let now = Duration::from_secs(5);
    for length in 0..datagram.len() {
        assert!(one.datagram(now, &datagram[..length]).is_err(), "the first {length} bytes");
    }
    for at in 0..datagram.len() {
        let mut changed = datagram.clone();
        changed[at] ^= 0x10;
        assert!(one.datagram(now, &changed).is_err(), "byte {at} changed");
    }
    assert_eq!((datagrams(&mut one).len(), one.members()), (0, before), "nothing is answered, nobody has changed");
    assert_eq!(one.datagram(now, &datagram), Ok(()), "whole, it is taken");
    assert_eq!(datagrams(&mut one).len(), 1, "and answered");
    let (mut open, _, datagram) = acquainted(None);
    let lengths: BTreeSet<usize> = (0..datagram.len()).filter(|length| open.datagram(now, &datagram[..*length]).is_ok()).collect();
    // Without a seal only what has a length of its own is noticed: here, that the tail may be missing as a whole.
    assert!(lengths.len() <= 1, "{lengths:?} of {}", datagram.len());
    assert_eq!(open.datagram(now, &[&datagram[..], b"more"].concat()), Ok(()), "what a later version may add is not read");
}

#[test]
fn a_datagram_that_comes_again_is_dropped_and_a_dead_member_stays_dead() {
    let (mut one, mut other, ping) = acquainted(None);
    let now = Duration::from_secs(5);
    assert_eq!(one.datagram(now, &ping), Ok(()));
    assert_eq!(datagrams(&mut one).len(), 1, "the probe is answered");
    assert_eq!(one.datagram(now, &ping), Err(Dropped::Replayed));
    assert_eq!(datagrams(&mut one).len(), 0, "once");
    // It records everything that the other one says, and says it again and again when that one is gone.
    let mut heard = vec![ping];
    let mut at = now;
    for _ in 0..40 {
        at += Duration::from_millis(250);
        for (from, to) in [(true, false), (false, true)] {
            let said = {
                let core = if from { &mut one } else { &mut other };
                core.tick(at);
                datagrams(core)
            };
            for datagram in said {
                let core = if to { &mut one } else { &mut other };
                assert_eq!(core.datagram(at, &datagram), Ok(()));
                if to {
                    heard.push(datagram);
                }
            }
        }
    }
    assert!(heard.len() > 5, "there is something to repeat");
    for _ in 0..200 {
        at += Duration::from_millis(250);
        one.tick(at);
        for datagram in &heard {
            assert_eq!(one.datagram(at, datagram), Err(Dropped::Replayed));
        }
    }
    let failed = one.members().into_iter().filter(|member| member.status == Status::Failed).count();
    assert_eq!(failed, 1, "old answers keep nobody alive");
}

#[test]
fn news_of_a_living_member_s_name_by_another_node_are_not_believed() {
    let counts = Counts::default();
    let (mut one, mut other, _) = acquainted(None);
    let impostor = |number: u16| Record { node_id: "another".into(), version: 9, id: id(7), ..record(number) };
    metrics::with_local_recorder(&counts, || {
        for number in [1, 2] {
            // The third one believes it, and tells it on.
            let mut third = core(7, None);
            third.merge(Duration::from_secs(1), other.state(true));
            let mut state = third.state(false);
            state.members = vec![(Arc::new(impostor(number)), Status::Alive, None)];
            one.merge(Duration::from_secs(2), state);
        }
    });
    assert_eq!(counts.of("consul_gossip_name_conflicts"), 2);
    let names: Vec<(String, String)> = one.members().into_iter().map(|member| (member.name, member.node_id)).collect();
    let expected = [("n1", "id1"), ("n2", "id2"), ("n7", "id7")].map(|(name, id)| (name.to_owned(), id.to_owned()));
    assert_eq!(names, expected, "each name stays with its node");
    assert!(wire::decode::<News>(b"\x09").is_err(), "news of a kind that nobody knows are none");
    other.outputs();
}

#[test]
fn who_is_up_under_another_ones_name_is_asked_less_and_less_and_keeps_nobody_from_being_asked() {
    let (mut one, _, _) = acquainted(None);
    // The seventh uses the name of the second, and the eighth came while no news did.
    let impostor = Record { name: record(2).name, ..record(7) };
    let (from, probed) = (Arc::new(impostor.clone()), vec![Probed::alive(id(8))]);
    let state = State { from, probed, members: Vec::new(), ..core(7, None).state(false) };
    let counts = Counts::default();
    metrics::with_local_recorder(&counts, || one.merge(Duration::from_secs(2), state.clone()));
    assert_eq!(counts.of("consul_gossip_name_conflicts"), 1);
    let mut asked: BTreeMap<SocketAddr, Vec<u64>> = BTreeMap::new();
    for second in 2..3600 {
        let now = Duration::from_secs(second);
        for call in one.calls(now) {
            asked.entry(call.to).or_default().push(second);
            if call.to == impostor.id.address {
                one.merge(now, state.clone());
            }
        }
    }
    let times = |number| asked.get(&id(number).address).cloned().unwrap_or_default();
    assert!(times(7).len() > 10 && times(7).len() < 25, "within an hour at {:?}", times(7));
    assert!(times(8)[0] < 5, "the other one is asked at once: {:?}", times(8));
    let before = one.calls(Duration::from_secs(4000)).len();
    assert_eq!(before, 1, "they take turns");
    one.merge(Duration::from_secs(4000), core(8, None).state(false));
    let described = one.members().iter().any(|member| member.name == "n8" && member.status == Status::Alive);
    assert!(described, "who describes itself is shown");
    let later: BTreeSet<SocketAddr> = (4001..8000).flat_map(|second| one.calls(Duration::from_secs(second))).map(|call| call.to).collect();
    assert_eq!(later, BTreeSet::from([impostor.id.address]), "and not asked any more");
}
