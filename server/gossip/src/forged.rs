//! What is made up: descriptions, lives and clocks that no member has. None of it is believed, and what could be
//! true is put right by the member that it was said of.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use foca::{Codec, Header, Member as Probed, Message, PostcardCodec};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use crate::bounds::{self, BUMP_MAX, Horizon, VERSION_MAX};
use crate::coordinate::Coordinate;
use crate::core::{Core, Output};
use crate::event::{Event, NewEvent};
use crate::member::{Id, Record, Status};
use crate::timing::Timing;
use crate::wire::{self, Datagram, Dropped, Kind, News, Question, State, Tail};

/// When the made-up members have begun: some day in 2026.
const BEGUN: u64 = 1_790_000_000_000;

const NOW: Duration = Duration::from_secs(60);

fn record(number: u8) -> Record {
    let id = Id { address: SocketAddr::from(([10, 0, 0, number], 8301)), bump: BEGUN };
    let (name, node_id) = (format!("n{number}").into(), format!("id{number}").into());
    Record { name, node_id, id, version: 1, tags: BTreeMap::new(), leaving: false, pruned: false }
}

fn core(number: u8) -> Core {
    Core::new(record(number), Timing::lan(), "lan:dc1", None, 0, u64::from(number))
}

/// Two members that know each other.
fn acquainted() -> (Core, Core) {
    let (mut one, mut two) = (core(1), core(2));
    one.merge(NOW, two.state(true));
    two.merge(NOW, one.state(false));
    one.outputs();
    two.outputs();
    (one, two)
}

/// What a comparison carries that says `record` of somebody.
fn told(by: &Core, record: Record) -> State {
    State { members: vec![(Arc::new(record), Status::Alive, None)], probed: Vec::new(), ..by.state(false) }
}

/// A datagram that says such news, as whoever is in the pool can make it.
fn datagram(from: &Record, to: &Core, count: u32, news: &News) -> Vec<u8> {
    let header = Header { src: from.id, src_incarnation: 0, dst: to.state(false).from.id, message: Message::Broadcast };
    let mut packet = Vec::new();
    PostcardCodec.encode_header(&header, &mut packet).unwrap();
    let bytes = wire::encode(news);
    packet.extend((bytes.len() as u16).to_be_bytes());
    packet.extend(bytes);
    let mut content = wire::encode(&Datagram { coordinate: Coordinate::default(), packet: &packet });
    content.extend(wire::encode(&Tail { count, notice: None }));
    wire::wrap(wire::digest("lan:dc1"), None, Kind::Datagram, &content)
}

fn forged() -> Vec<(&'static str, Record)> {
    let named = |name: &str| Record { name: name.into(), ..record(9) };
    let at = |address: &str| Record { id: Id { address: address.parse().unwrap(), bump: BEGUN }, ..record(9) };
    let begun = |number, bump| Record { id: Id { bump, ..record(number).id }, ..record(number) };
    vec![
        ("no name", named("")),
        ("a name that paints the terminal", named("a\nb\x1b[31m")),
        ("a name with a blank", named("a b")),
        ("a long name", named(&"n".repeat(600))),
        ("large tags", Record { tags: BTreeMap::from([("k".into(), "v".repeat(100_000))]), ..record(9) }),
        ("a tag with a line end", Record { tags: BTreeMap::from([("k".into(), "a\nb".into())]), ..record(9) }),
        ("no address", at("0.0.0.0:8301")),
        ("no port", at("10.0.0.9:0")),
        ("everybody's address", at("224.0.0.1:8301")),
        ("a life that ends the numbers", begun(2, u64::MAX)),
        ("a life of the next week", begun(2, BEGUN + 7 * 24 * 3600 * 1000)),
        ("a version that ends the numbers", Record { version: u64::MAX, leaving: true, ..record(2) }),
    ]
}

#[test]
fn what_no_member_can_say_of_itself_is_not_believed_and_disturbs_nobody() {
    let (mut one, mut two) = acquainted();
    let before = one.members();
    for (at, (what, forged)) in forged().into_iter().enumerate() {
        one.merge(NOW, told(&two, forged.clone()));
        assert!(one.refused().is_some(), "{what} is noticed in a comparison");
        if wire::encode(&forged).len() < 900 {
            let bytes = datagram(&record(2), &one, at as u32, &News::Record(Arc::new(forged.clone())));
            assert!(matches!(one.datagram(NOW, &bytes), Err(Dropped::OutOfBounds(_))), "{what} is noticed in a datagram");
        }
        let joining = State { from: Arc::new(forged), joining: true, ..core(9).state(true) };
        assert!(one.refuse(&joining).is_some_and(|why| why.starts_with("it describes itself with")), "{what} is not let in");
        one.refused();
    }
    assert_eq!(one.members(), before, "nothing of it is shown");
    two.set_tags(NOW, BTreeMap::from([("role".into(), "node".into())])).unwrap();
    one.merge(NOW, two.state(false));
    assert_eq!(one.members()[1].tags["role"], "node", "the member itself is believed as ever");
    assert_eq!((one.members()[1].status, one.refused()), (Status::Alive, None));
}

#[test]
fn what_could_be_true_is_put_right_by_the_member_that_it_was_said_of() {
    for (bump, version) in [(BEGUN, 7), (BEGUN, VERSION_MAX), (BEGUN + 3_600_000, 1), (BEGUN + 3_600_000, VERSION_MAX)] {
        let (mut one, mut two) = acquainted();
        let wrong = Record { version, tags: BTreeMap::from([("role".into(), "node".into())]), ..record(2) };
        one.merge(NOW, told(&two, Record { id: Id { bump, ..wrong.id }, ..wrong }));
        assert_eq!(one.members()[1].tags["role"], "node", "it is within the bounds");
        two.merge(NOW, one.state(false));
        one.merge(NOW, two.state(false));
        assert!(one.members()[1].tags.is_empty(), "life {bump}, version {version}");
        assert_eq!(one.members()[1].status, Status::Alive);
    }
}

#[test]
fn a_life_that_only_the_probing_is_told_of_is_put_right_as_well() {
    let (mut one, mut two) = acquainted();
    let forged = Id { bump: BEGUN + 3_600_000, ..record(2).id };
    for member in [&mut one, &mut two] {
        let state = State { probed: vec![Probed::alive(forged)], ..core(7).state(true) };
        member.merge(NOW, state);
    }
    one.merge(NOW, two.state(false));
    let own = two.state(false).from.id;
    assert!(own.bump > forged.bump, "it has begun another life");
    let held = one.state(false).probed.into_iter().find(|held| held.id().address == own.address);
    assert_eq!(held.map(|held| *held.id()), Some(own));
}

#[test]
fn a_forged_clock_stops_no_events() {
    let (mut one, mut two) = acquainted();
    one.merge(NOW, State { clock: u64::MAX - 3, ..two.state(false) });
    assert!(one.refused().is_some());
    let event = Event { id: [1; 16], ltime: u64::MAX - 3, ..fire(&mut two, "x") };
    one.merge(NOW, State { events: vec![event], ..two.state(false) });
    assert!(one.refused().is_some());
    let fired: Vec<Event> = (0..8).map(|at| fire(if at % 2 == 0 { &mut one } else { &mut two }, "deploy")).collect();
    one.merge(NOW, two.state(false));
    two.merge(NOW, one.state(false));
    for member in [&one, &two] {
        let kept = kept(member);
        assert!(fired.iter().all(|event| kept.contains(event)), "all of them are here: {kept:?}");
        assert!(member.clock() < 100);
    }
    // A clock that was at its end already, from a file of a version that took it: nothing begins again at 0.
    let mut old = Core::new(record(3), Timing::lan(), "lan:dc1", None, u64::MAX - 1, 3);
    let times: Vec<u64> = (0..3).map(|_| fire(&mut old, "late").ltime).collect();
    assert_eq!(times, [u64::MAX; 3]);
}

fn fire(core: &mut Core, name: &str) -> Event {
    core.fire(NOW, NewEvent { name: name.into(), ..NewEvent::default() }).unwrap()
}

/// Everything that has come.
fn kept(core: &Core) -> Vec<Event> {
    core.events_since(0).0.into_iter().map(|arrived| (*arrived.event).clone()).collect()
}

/// What was told since the last call.
fn events(core: &mut Core) -> Vec<String> {
    core.outputs()
        .into_iter()
        .filter_map(|output| if let Output::Event(arrived) = output { arrived.news.then(|| arrived.event.name.clone()) } else { None })
        .collect()
}

#[test]
fn events_from_before_a_first_meeting_are_history_and_those_of_a_separation_are_news() {
    let (mut one, mut two) = acquainted();
    fire(&mut one, "yesterday");
    two.merge(NOW, one.state(false));
    assert_eq!(events(&mut two), ["yesterday"], "the two know each other");
    let mut late = core(3);
    fire(&mut late, "alone");
    late.outputs();
    one.outputs();
    let asked = late.state(true);
    one.merge(NOW, asked);
    late.merge(NOW, one.state(false));
    assert_eq!((events(&mut one), events(&mut late)), (vec![], vec![]), "neither acts on what the other one did before");
    assert!(kept(&late).iter().any(|event| event.name == "yesterday"), "it is in the history");
    // Both are cut off from each other for a while.
    fire(&mut late, "meanwhile");
    one.merge(NOW, State { joining: true, ..late.state(true) });
    assert_eq!(events(&mut one), ["meanwhile"], "this one was missed, and is made up for; what was before the meeting is not");
}

#[test]
fn events_from_before_a_first_meeting_are_history_in_datagrams_as_well() {
    let (mut one, mut two) = acquainted();
    let fired: Vec<Event> = (0..300).map(|_| fire(&mut one, "yesterday")).collect();
    let mut late = core(3);
    one.merge(NOW, late.state(true));
    let told = |event: &Event, to: &Core, count| datagram(&record(1), to, count, &News::Event(event.clone()));
    late.datagram(NOW, &told(&fired[1], &late, 1)).unwrap();
    assert!(events(&mut late).is_empty(), "it has come before the answer of who was asked");
    late.merge(NOW, one.state(false));
    for (at, event) in fired.iter().enumerate() {
        late.datagram(NOW, &told(event, &late, 2 + at as u32)).unwrap();
    }
    assert!(events(&mut late).is_empty(), "those that are told no more in comparisons are on their way yet");
    let new = fire(&mut one, "today");
    late.datagram(NOW, &told(&new, &late, 1000)).unwrap();
    assert_eq!(events(&mut late), ["today"]);
    two.merge(NOW, one.state(false));
    assert!(events(&mut two).contains(&"today".to_owned()));
}

#[test]
fn events_that_nobody_is_there_for_wait_in_no_queue_and_the_queue_is_bounded() {
    let mut alone = core(1);
    for _ in 0..5000 {
        fire(&mut alone, "deploy");
    }
    let room = alone.make_room();
    let (mut one, _two) = acquainted();
    assert!(room >= one.make_room(), "nothing waits: {room}");
    let large = NewEvent { name: "deploy".into(), payload: vec![7; 512], ..NewEvent::default() };
    let refusal = (0..5000).find_map(|_| one.fire(NOW, large.clone()).err());
    assert!(matches!(refusal, Some(crate::Error::Busy(why)) if why.contains("fire it again")));
    one.outputs();
    let other = Event { id: [9; 16], ..fire(&mut core(2), "other") };
    one.datagram(NOW, &datagram(&record(2), &one, 9, &News::Event(other))).unwrap();
    let outputs = one.outputs();
    assert!(outputs.iter().any(|output| matches!(output, Output::Event(arrived) if arrived.news && arrived.event.name == "other")));
    assert!(outputs.iter().any(|output| matches!(output, Output::EventsDropped { held: 1, .. })), "it is here, and not passed on");
}

#[test]
fn of_two_that_come_with_one_name_the_first_is_let_in() {
    let mut one = core(1);
    let named = |number: u8| Record { name: "n5".into(), ..record(number) };
    let asked = |number| State { from: Arc::new(named(number)), joining: true, ..core(number).state(true) };
    let (first, second) = (asked(5), asked(6));
    assert_eq!(one.refuse(&first), None);
    one.merge(NOW, first);
    assert!(one.refuse(&second).is_some_and(|why| why.contains("belongs to a living node at 10.0.0.5:8301")));
}

#[test]
fn of_two_dead_ones_with_one_name_the_later_one_is_shown_and_a_living_one_before_both() {
    let (mut one, mut two) = acquainted();
    let dead = |number: u8, bump| Record { name: "n5".into(), id: Id { bump, ..record(number).id }, ..record(number) };
    let gone = |record: Record| (Arc::new(record), Status::Failed, None);
    let state = |by: &Core, record| State { members: vec![gone(record)], probed: Vec::new(), ..by.state(false) };
    one.merge(NOW, state(&two, dead(5, BEGUN + 2)));
    two.merge(NOW, state(&one, dead(6, BEGUN + 1)));
    let shown = |core: &Core| core.members().into_iter().find(|member| member.name == "n5").map(|member| (member.node_id, member.status));
    for round in 0..4 {
        two.merge(NOW, one.state(false));
        one.merge(NOW, two.state(false));
        for core in [&one, &two] {
            assert_eq!(shown(core), Some(("id5".to_owned(), Status::Failed)), "round {round}");
        }
    }
    // Its clock is behind, and it is there.
    let living = Core::new(dead(7, BEGUN), Timing::lan(), "lan:dc1", None, 0, 7);
    assert_eq!(one.refuse(&living.state(true)), None);
    one.merge(NOW, living.state(true));
    two.merge(NOW, one.state(false));
    two.merge(NOW, living.state(false));
    for core in [&one, &two] {
        assert_eq!(shown(core), Some(("id7".to_owned(), Status::Alive)));
    }
}

/// Every description that a member holds could have been said by a member.
fn is_sane(core: &Core) -> bool {
    let state = core.state(false);
    let mut horizon = Horizon::new(BUMP_MAX);
    let sane = |id: &Id| bounds::refuse_id(id, &mut Horizon::new(BEGUN + 10 * 24 * 3600 * 1000)).is_none();
    state.members.iter().all(|(record, ..)| bounds::refuse(record, &mut horizon).is_none())
        && state.probed.iter().all(|held| sane(held.id()))
}

#[test]
fn arbitrary_frames_and_datagrams_neither_panic_nor_enter_the_table() {
    let mut rng = SmallRng::seed_from_u64(14);
    let (mut one, mut two) = acquainted();
    fire(&mut two, "deploy");
    let frame = wire::encode(&Question::Compare(Box::new(two.state(true))));
    let bytes = datagram(&record(2), &one, 0, &News::Record(Arc::new(Record { version: 3, ..record(2) })));
    let mut understood = 0;
    for _ in 0..20_000 {
        let mut frame = frame.clone();
        spoil(&mut frame, 0, &mut rng);
        if let Ok(Question::Compare(state)) = wire::decode(&frame) {
            understood += 1;
            if one.refuse(&state).is_none() {
                one.merge(NOW, *state);
            }
        }
        let mut bytes = bytes.clone();
        // The head is the pool's: what is spoiled there never gets further.
        spoil(&mut bytes, 6, &mut rng);
        let _ = one.datagram(NOW, &bytes);
        one.outputs();
        one.refused();
    }
    assert!(understood > 1000, "{understood} frames can be read, and say something else than was meant");
    assert!(is_sane(&one), "{:?}", one.members());
}

fn spoil(bytes: &mut Vec<u8>, from: usize, rng: &mut SmallRng) {
    for _ in 0..rng.random_range(1..6) {
        let at = rng.random_range(from..bytes.len());
        match rng.random_range(0..4) {
            0 => bytes[at] = rng.random(),
            1 => bytes[at] ^= 1 << rng.random_range(0..8),
            2 => bytes.insert(at, rng.random()),
            _ => {
                bytes.remove(at);
            }
        }
    }
}
