//! Pieces come together again to the same rows, and two states that differ little share most of them.

use std::collections::HashSet;

use state::{Compare, KvWrite, LockAction, LogIndex, Operation, Row, Tables};

use super::*;

fn put(tables: &mut Tables, index: u64, key: usize, value: &[u8]) {
    let write = KvWrite::Set {
        key: format!("k/{key:06}").as_bytes().into(),
        value: value.into(),
        flags: 0,
        compare: Compare::Any,
        lock: LockAction::Keep,
    };
    let command = state::Command { at: state::Millis(1), operation: Operation::Kv(write) };
    state::apply(tables, LogIndex(index), &command, &mut state::Effects::default());
}

/// A state of `keys` keys with values of many lengths.
fn filled(keys: usize) -> Tables {
    let mut tables = Tables::default();
    for key in 0..keys {
        let value = vec![key as u8; 100 + key * 7919 % 3000];
        put(&mut tables, key as u64 + 1, key, &value);
    }
    tables
}

fn text(rows: impl Iterator<Item = Row>) -> Vec<String> {
    rows.map(|row| format!("{row:?}")).collect()
}

fn names(pieces: &[Piece]) -> HashSet<Name> {
    pieces.iter().map(|piece| piece.name).collect()
}

#[test]
fn pieces_have_bounds_and_come_together_again() {
    let tables = filled(4000);
    let pieces = of(&tables);
    let (last, all_but_last) = pieces.split_last().unwrap();
    assert!(all_but_last.iter().all(|piece| (BYTES_MIN as u64..BYTES_MAX as u64 + 4000).contains(&piece.bytes)), "{pieces:?}");
    assert!(last.bytes < BYTES_MAX as u64 + 4000);
    assert!((10..70).contains(&pieces.len()), "{} pieces of six megabytes", pieces.len());
    let places: Vec<u32> = (0..pieces.len() as u32).collect();
    let mut found = Vec::new();
    let mut at = pieces.iter();
    select(&tables, &pieces, &places, |some| {
        let bytes = join(&some);
        assert_eq!(Name::of(&bytes), at.next().unwrap().name);
        found.extend(rows(bytes.into()).unwrap());
        true
    });
    assert_eq!(text(found.into_iter()), text(tables.rows()));
}

#[test]
fn only_what_is_wanted_is_selected() {
    let tables = filled(4000);
    let pieces = of(&tables);
    let mut found = Vec::new();
    select(&tables, &pieces, &[1, 4], |some| {
        found.push(Name::of(&join(&some)));
        true
    });
    assert_eq!(found, [pieces[1].name, pieces[4].name]);
    let mut asked = 0;
    select(&tables, &pieces, &[0, 1, 2], |_| {
        asked += 1;
        false
    });
    assert_eq!(asked, 1, "it stops when nobody takes them");
}

#[test]
fn states_that_differ_in_few_rows_share_the_other_pieces() {
    let before = filled(4000);
    let mut after = before.clone();
    put(&mut after, 5000, 2000, b"another");
    put(&mut after, 5001, 90_000, b"new");
    let (old, new) = (of(&before), of(&after));
    let other = names(&new).difference(&names(&old)).count();
    assert!((1..=5).contains(&other), "{other} of {} are new: the numbers, two rows, and their neighbours at most", new.len());
}

#[test]
fn what_arrived_is_kept_over_a_restart_if_it_is_still_what_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("arriving");
    let arrived = Arrived::on_disk(place.clone());
    let bodies = [b"one".to_vec(), b"two".to_vec(), b"three".to_vec(), b"four".to_vec()];
    let called: Vec<Name> = bodies.iter().map(|body| Name::of(body)).collect();
    assert!(arrived.keep(&called.iter().copied().collect()).unwrap().is_empty(), "nothing was there");
    for (name, body) in called.iter().zip(&bodies) {
        arrived.put(*name, body.clone()).unwrap();
    }
    let file = |at: usize| place.join(called[at].to_string());
    std::fs::write(file(1), b"twi").unwrap();
    std::fs::write(file(2), b"").unwrap();
    std::fs::write(place.join("stray"), b"x").unwrap();

    let again = Arrived::on_disk(place.clone());
    let wanted: HashSet<Name> = called[..3].iter().copied().collect();
    assert_eq!(again.keep(&wanted).unwrap(), HashSet::from([called[0]]), "one bit flipped, one cut, one not wanted");
    assert_eq!(std::fs::read_dir(&place).unwrap().count(), 1, "nothing else takes room");
    assert_eq!(again.get(called[0]).unwrap().as_deref(), Some(&b"one"[..]));
    assert_eq!(again.get(called[1]).unwrap(), None);
    again.clear().unwrap();
    assert!(!place.exists());
    again.clear().unwrap();
}

#[test]
fn what_is_no_piece_is_refused() {
    for bytes in [&b"1234567"[..], &[9, 0, 0, 0, 0, 0, 0, 0, 1], &[255; 20], &[1, 0, 0, 0, 0, 0, 0, 0, 255]] {
        assert!(rows(Bytes::copy_from_slice(bytes)).is_err(), "{bytes:?}");
    }
}
