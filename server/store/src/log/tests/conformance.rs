//! What every log must do, whatever it is kept in.

use std::sync::mpsc;

use super::*;

/// Runs `test` on a log in files and on a log in memory.
fn on_each(test: impl Fn(&LogHandle)) {
    let dir = tempfile::tempdir().unwrap();
    test(&reopen(dir.path()).0);
    test(&LogHandle::in_memory());
}

#[test]
fn entries_are_readable_once_they_are_acknowledged() {
    on_each(|log| {
        append(log, entries(1..4));
        append(log, entries(4..6));
        assert_eq!(log.reader().read(1..6).unwrap(), entries(1..6));
        assert_eq!(log.reader().read(2..4).unwrap(), entries(2..4));
        assert_eq!(log.reader().read(0..100).unwrap(), entries(1..6));
        assert_eq!(log.reader().read(6..9).unwrap(), []);
    });
}

#[test]
fn a_read_stops_at_its_limit_but_returns_at_least_one_entry() {
    on_each(|log| {
        append(log, (1..9).map(|index| entry(index, 1, &[7; 100])).collect());
        let count = |limit| log.reader().read_limited(1..9, limit).unwrap().len();
        assert_eq!((count(0), count(100), count(250), count(usize::MAX)), (1, 1, 2, 8));
    });
}

#[test]
fn an_empty_payload_and_index_zero_are_kept() {
    on_each(|log| {
        append(log, vec![entry(0, 0, b""), entry(1, 3, b"")]);
        assert_eq!(log.reader().read(0..9).unwrap(), [entry(0, 0, b""), entry(1, 3, b"")]);
    });
}

#[test]
fn truncated_entries_are_replaced_by_what_follows() {
    on_each(|log| {
        append(log, entries(1..10));
        write(log, LogWrite::Truncate { after: Some(4) }).unwrap();
        assert_eq!(log.reader().read(0..20).unwrap(), entries(1..5));
        append(log, vec![entry(5, 2, b"another")]);
        assert_eq!(log.reader().read(4..20).unwrap(), [entries(4..5), vec![entry(5, 2, b"another")]].concat());
        write(log, LogWrite::Truncate { after: None }).unwrap();
        assert_eq!(log.reader().read(0..20).unwrap(), []);
        append(log, entries(0..2));
        assert_eq!(log.reader().read(0..20).unwrap(), entries(0..2));
    });
}

#[test]
fn purged_entries_are_gone_and_a_purge_may_pass_the_end() {
    on_each(|log| {
        append(log, entries(1..10));
        write(log, purge(4)).unwrap();
        assert_eq!(log.reader().read(0..20).unwrap(), entries(5..10));
        write(log, purge(2)).unwrap();
        assert_eq!(log.reader().read(0..20).unwrap(), entries(5..10));
        write(log, purge(50)).unwrap();
        assert_eq!(log.reader().read(0..99).unwrap(), []);
        append(log, entries(51..53));
        assert_eq!(log.reader().read(0..99).unwrap(), entries(51..53));
    });
}

#[test]
fn a_hole_is_refused_and_ends_the_log() {
    on_each(|log| {
        append(log, entries(1..3));
        let refused = write(log, LogWrite::Append(entries(4..5))).unwrap_err();
        assert!(refused.contains("entry 4 was appended where entry 3 is next"), "{refused}");
        assert_eq!(write(log, LogWrite::Append(entries(3..4))).unwrap_err(), refused);
        assert_eq!(log.reader().read(0..9).unwrap(), entries(1..3));
    });
}

#[test]
fn a_purged_index_cannot_be_appended_again() {
    on_each(|log| {
        write(log, purge(10)).unwrap();
        let refused = write(log, LogWrite::Append(entries(10..11))).unwrap_err();
        assert!(refused.contains("after it was purged"), "{refused}");
    });
}

#[test]
fn callbacks_run_in_the_order_of_submission() {
    on_each(|log| {
        let (sender, receiver) = mpsc::channel();
        for index in 0..500 {
            let sender = sender.clone();
            let done = Box::new(move |outcome: Result<(), _>| sender.send((index, outcome.is_ok())).unwrap());
            log.submit(LogWrite::Append(entries(index..index + 1)), done);
        }
        let order: Vec<_> = receiver.iter().take(500).collect();
        assert_eq!(order, (0..500).map(|index| (index, true)).collect::<Vec<_>>());
    });
}

#[test]
fn a_callback_may_submit_the_next_write() {
    on_each(|log| {
        let (sender, receiver) = mpsc::channel();
        let next = log.clone();
        let chained = Box::new(move |_| next.submit(purge(1), Box::new(move |o| sender.send(o.is_ok()).unwrap())));
        log.submit(LogWrite::Append(entries(1..4)), chained);
        assert!(receiver.recv().unwrap());
        assert_eq!(log.reader().read(0..9).unwrap(), entries(2..4));
    });
}

#[test]
fn a_purged_log_in_memory_holds_nothing() {
    let log = LogHandle::in_memory();
    for index in 0..10_000 {
        append(&log, entries(index..index + 1));
        if index % 100 == 99 {
            write(&log, purge(index)).unwrap();
        }
    }
    assert_eq!(log.reader().read(0..20_000).unwrap(), []);
}
