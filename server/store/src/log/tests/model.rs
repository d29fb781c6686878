//! Random writes and restarts, against a log that is a map.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    Append { count: u64, len: usize },
    Truncate { back: u64 },
    TruncateAll,
    Purge { ahead: i64 },
    Vote(u8),
    Committed(u8),
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (1..8u64, prop_oneof![0..64usize, 0..3_000usize, Just(20_000)]).prop_map(|(count, len)| Step::Append { count, len }),
        2 => (0..12u64).prop_map(|back| Step::Truncate { back }),
        1 => Just(Step::TruncateAll),
        2 => (-12..6i64).prop_map(|ahead| Step::Purge { ahead }),
        2 => any::<u8>().prop_map(Step::Vote),
        2 => any::<u8>().prop_map(Step::Committed),
        2 => Just(Step::Reopen),
    ]
}

#[derive(Debug, Default)]
struct Model {
    entries: BTreeMap<u64, (u64, Bytes)>,
    vote: Option<Bytes>,
    committed: Option<Bytes>,
    purged: Option<(u64, Bytes)>,
    term: u64,
}

impl Model {
    fn next(&self) -> u64 {
        let after_purge = self.purged.as_ref().map_or(0, |(upto, _)| upto + 1);
        self.entries.last_key_value().map_or(after_purge, |(index, _)| index + 1)
    }

    fn append(&mut self, count: u64, len: usize) -> LogWrite {
        self.term += 1;
        let new: Vec<_> =
            (self.next()..self.next() + count).map(|index| entry(index, self.term, &vec![(index + self.term) as u8; len])).collect();
        self.entries.extend(new.iter().map(|e| (e.index, (e.term, e.payload.clone()))));
        LogWrite::Append(new)
    }

    fn truncate(&mut self, after: Option<u64>) -> LogWrite {
        self.entries.retain(|index, _| after.is_some_and(|after| *index <= after));
        LogWrite::Truncate { after }
    }

    fn purge(&mut self, upto: u64) -> LogWrite {
        self.entries.retain(|index, _| *index > upto);
        let mark = Bytes::from(format!("{upto} in {}", self.term));
        if self.purged.as_ref().is_none_or(|(purged, _)| *purged <= upto) {
            self.purged = Some((upto, mark.clone()));
        }
        LogWrite::Purge { upto, mark }
    }

    fn held(&self) -> Vec<LogEntry> {
        let entries = self.entries.iter();
        entries.map(|(index, (term, payload))| LogEntry { index: *index, term: *term, payload: payload.clone() }).collect()
    }

    fn check_recovered(&self, recovered: &Recovered) {
        assert_eq!(recovered.vote, self.vote);
        assert_eq!(recovered.committed, self.committed);
        assert_eq!(recovered.purged, self.purged);
        assert_eq!(recovered.last, self.entries.last_key_value().map(|(index, (term, _))| (*index, *term)));
        assert_eq!(recovered.tail, None);
        if let Some((first, _)) = self.entries.first_key_value() {
            assert_eq!(recovered.first, *first);
        }
    }

    /// The write that `step` stands for, or `None` for a restart.
    fn plan(&mut self, step: &Step) -> Option<LogWrite> {
        Some(match step {
            Step::Append { count, len } => self.append(*count, *len),
            Step::Truncate { back } => {
                let after = self.next().checked_sub(back + 1);
                self.truncate(after)
            }
            Step::TruncateAll => self.truncate(None),
            Step::Purge { ahead } => {
                let upto = self.next().saturating_add_signed(*ahead);
                self.purge(upto)
            }
            Step::Vote(vote) => {
                self.vote = Some(vec![*vote; 9].into());
                LogWrite::Vote(vec![*vote; 9].into())
            }
            Step::Committed(mark) => {
                self.committed = Some(vec![*mark; 5].into());
                LogWrite::Committed(vec![*mark; 5].into())
            }
            Step::Reopen => return None,
        })
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_writes_and_restarts_equal_the_model(steps in prop::collection::vec(step(), 1..60)) {
        let dir = tempfile::tempdir().unwrap();
        let (mut log, _) = reopen(dir.path());
        let mut model = Model::default();
        for step in &steps {
            match model.plan(step) {
                Some(planned) => write(&log, planned).unwrap(),
                None => {
                    drop(log);
                    let (again, recovered) = reopen(dir.path());
                    model.check_recovered(&recovered);
                    log = again;
                }
            }
            assert_eq!(log.reader().read(0..u64::MAX).unwrap(), model.held());
        }
        drop(log);
        let (log, recovered) = reopen(dir.path());
        model.check_recovered(&recovered);
        assert_eq!(log.reader().read(0..u64::MAX).unwrap(), model.held());
    }

    #[test]
    fn arbitrary_bytes_in_a_segment_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..4096)) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("0000000000000001-0000000000000007.wal"), bytes).unwrap();
        let _ = open(dir.path(), small());
    }

    #[test]
    fn arbitrary_records_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut rest = &bytes[..];
        while let Some((_, len)) = crate::log::frame::parse(rest) {
            rest = &rest[len..];
        }
    }
}
