use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};

use super::*;

const NOW: Duration = Duration::from_secs(60);

fn event(ltime: u64, id: u16) -> Event {
    let mut bytes = [0; 16];
    bytes[..2].copy_from_slice(&id.to_be_bytes());
    Event {
        id: bytes,
        ltime,
        name: "deploy".into(),
        payload: Vec::new(),
        node_filter: String::new(),
        service_filter: String::new(),
        tag_filter: String::new(),
    }
}

/// A member that has met others.
fn acquainted() -> Events {
    let mut events = Events::default();
    assert!(events.meet(&[], true));
    events
}

fn times(arrived: &[Arrived]) -> Vec<(u64, u64, bool)> {
    arrived.iter().map(|arrived| (arrived.number, arrived.event.ltime, arrived.news)).collect()
}

#[test]
fn an_event_is_taken_once_and_moves_the_clock() {
    let mut events = acquainted();
    assert!(events.take(&event(7, 1), Origin::Other));
    assert!(!events.take(&event(7, 1), Origin::Other), "the same again");
    assert!(events.take(&event(7, 2), Origin::Other), "another one of the same time");
    assert_eq!(events.tick(), 8);
}

#[test]
fn a_replayed_old_event_is_not_taken_again_and_all_is_bounded() {
    let mut events = acquainted();
    let last = 2 * SEEN_MAX as u64;
    for ltime in 1..=last {
        assert!(events.take(&event(ltime, 1), Origin::Other));
        events.arrive(NOW);
    }
    assert!(!events.take(&event(3, 1), Origin::Other), "it was seen and forgotten");
    assert_eq!(events.late(), 1, "which is counted");
    assert!(events.take(&event(last, 2), Origin::Other), "another one of the last time is new");
    assert_eq!(events.kept(NOW).count(), KEPT_FRESH, "what has just come is told in whole");
    let kept: Vec<u64> = events.kept(2 * NOW).map(|event| event.ltime).collect();
    assert_eq!((kept.len(), kept[0], kept[KEPT - 1]), (KEPT, last - KEPT as u64 + 1, last));
    assert_eq!((events.seen.len(), events.recent.len()), (SEEN_MAX, RECENT));
}

#[test]
fn a_storm_of_events_of_one_time_is_taken_once_however_often_it_is_told() {
    for (seed, fired) in [(1, 600), (2, SEEN_MAX as u16 + 900)] {
        let mut rng = SmallRng::seed_from_u64(seed);
        let mut events = acquainted();
        // Whoever has not heard the first of them when it fires gives the same time.
        let storm: Vec<Event> = (0..fired).map(|id| event(1 + u64::from(rng.random_bool(0.1)), id)).collect();
        let mut told: Vec<&Event> = storm.iter().chain(&storm).chain(&storm).collect();
        told.shuffle(&mut rng);
        let mut times = BTreeMap::new();
        for event in told {
            if events.take(event, Origin::Other) {
                *times.entry(event.id).or_insert(0) += 1;
            }
        }
        assert!(times.values().all(|times| *times == 1), "none of {fired} is taken twice");
        let missed = usize::from(fired) - times.len();
        assert!(missed == 0 || usize::from(fired) > SEEN_MAX, "{missed} of {fired} are missing");
        assert_eq!(missed > 0, events.late() > 0, "what is dropped is counted");
        assert!(events.seen.len() <= SEEN_MAX);
    }
}

#[test]
fn who_was_cut_off_for_long_is_heard_as_long_as_its_events_can_be_told_from_seen_ones() {
    let mut events = acquainted();
    assert!(events.take(&event(1_000_000, 1), Origin::Other));
    assert!(events.take(&event(5, 2), Origin::Other), "nothing was forgotten so far");
}

#[test]
fn what_comes_at_once_is_in_the_order_of_its_time_and_what_comes_late_has_a_later_number() {
    let mut events = acquainted();
    for (ltime, id) in [(5, 1), (3, 2), (3, 1)] {
        events.take(&event(ltime, id), Origin::Other);
    }
    let arrived = events.arrive(NOW);
    assert_eq!(times(&arrived), [(1, 3, true), (2, 3, true), (3, 5, true)]);
    assert_eq!([arrived[0].event.id, arrived[1].event.id], [event(3, 1).id, event(3, 2).id]);
    events.take(&event(4, 9), Origin::Other);
    assert_eq!(times(&events.arrive(NOW)), [(4, 4, true)]);
    assert_eq!(events.since(2), [arrived[2].clone(), events.since(3)[0].clone()]);
    assert_eq!(events.kept(NOW).map(|event| event.ltime).collect::<Vec<_>>(), [3, 3, 4, 5], "others are told in the order of time");
}

#[test]
fn events_from_before_the_first_meeting_are_history_however_they_come() {
    let mut events = Events::default();
    let own = Event { ltime: events.tick(), ..event(0, 7) };
    events.take(&own, Origin::Own);
    events.take(&event(3, 1), Origin::Other);
    assert_eq!(times(&events.arrive(NOW)), [(1, 1, true), (2, 3, false)], "told before it has met anybody");
    assert!(events.meet(&[event(9, 1), event(8, 1)], true) && !events.meet(&[event(50, 1)], true));
    assert_eq!(events.kept(NOW).count(), 0, "its own are none of the pool's business");
    for ltime in [9, 2, 10] {
        events.take(&event(ltime, 2), Origin::Other);
    }
    assert_eq!(times(&events.arrive(NOW)), [(3, 2, false), (4, 9, false), (5, 10, true)]);
    let mut restarted = Events::new(20);
    restarted.meet(&[], true);
    restarted.take(&event(20, 1), Origin::Other);
    restarted.take(&event(21, 1), Origin::Other);
    assert_eq!(times(&restarted.arrive(NOW)), [(1, 20, false), (2, 21, true)], "the life before may have acted on the first one");
}

#[test]
fn what_is_too_large_is_refused_with_the_bound() {
    let large = NewEvent { name: "a".into(), payload: vec![0; PAYLOAD_MAX + 1], ..NewEvent::default() };
    assert!(refuse(&large).unwrap().contains("at most 512"));
    assert!(refuse(&NewEvent::default()).unwrap().contains("needs a name"));
    assert_eq!(refuse(&NewEvent { name: "a".into(), ..NewEvent::default() }), None);
}
