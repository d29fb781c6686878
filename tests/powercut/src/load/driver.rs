//! The load itself.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};

use anyhow::{Context, ensure};
use store::data_dir::DataDir;
use store::log::{self, LogEntry, LogHandle, LogWrite};
use store::state_store::{Persist, StateStore};

use crate::MARKS;
use crate::image::Chance;
use crate::load::model::{self, Write};
use crate::load::{data_root, identity, log_options, state_options};

/// Writes that may be unacknowledged at a time.
const IN_FLIGHT_MAX: u64 = 16;

/// Goes on from what `dir` holds and does `steps` random things to it, telling each in the marks.
///
/// # Errors
///
/// The first thing that fails.
pub fn drive(dir: &Path, seed: u64, steps: u64) -> anyhow::Result<()> {
    let marks = OpenOptions::new().create(true).append(true).open(dir.join(MARKS))?;
    let data = DataDir::open(&data_root(dir), &identity())?;
    let (log, recovered) = log::open(&data.log(), log_options())?;
    let store = StateStore::open(&data.state(), state_options())?;
    let loaded = store.load(|_| ())?;
    let applied = loaded.meta.as_ref().map_or(Ok(0), |meta| meta[..].try_into().map(u64::from_be_bytes))?;
    let purged = recovered.purged.map(|(upto, _)| upto);
    let number = |mark: Option<bytes::Bytes>| mark.map_or(Ok(0), |mark| mark[..].try_into().map(u64::from_be_bytes));
    let (vote, committed) = (number(recovered.vote)?, number(recovered.committed)?);
    let (last, term) = recovered.last.unwrap_or((purged.unwrap_or(0), 0));
    ensure!(purged.unwrap_or(0) <= applied, "purged up to {purged:?}, but the rows are those of {applied}");
    ensure!(applied <= last, "the rows are those of {applied}, but the log ends at {last}");
    let found = format!("found {last} {term} {vote} {} {applied} {}", purged.unwrap_or(0), loaded.history_floor);
    writeln_whole(&marks, &found)?;

    let (sender, acks) = mpsc::channel();
    let driver = Driver {
        chance: Chance::new(seed),
        marks: Arc::new(marks),
        log,
        store,
        acks,
        sender,
        submitted: 0,
        acknowledged: 0,
        term: term.max(vote) + 1,
        last,
        committed: committed.max(applied),
        applied,
        history_floor: loaded.history_floor,
        purged: purged.unwrap_or(0),
    };
    driver.run(steps)
}

struct Driver {
    chance: Chance,
    marks: Arc<File>,
    log: LogHandle,
    store: StateStore,
    acks: Receiver<Result<(), String>>,
    sender: Sender<Result<(), String>>,
    submitted: u64,
    acknowledged: u64,
    term: u64,
    /// The last index submitted.
    last: u64,
    /// No entry up to here is ever truncated.
    committed: u64,
    /// The rows at rest are those of this index.
    applied: u64,
    history_floor: u64,
    purged: u64,
}

impl Driver {
    fn run(mut self, steps: u64) -> anyhow::Result<()> {
        for _ in 0..steps {
            match self.chance.below(20) {
                0 => {
                    self.term += 1;
                    self.submit(Write::Vote { number: self.term })?;
                }
                1 => self.truncate()?,
                2 => self.commit()?,
                3 => self.persist()?,
                4 => self.purge()?,
                _ => self.append()?,
            }
        }
        self.settle(0)
    }

    fn append(&mut self) -> anyhow::Result<()> {
        let count = 1 + self.chance.below(5);
        let first = self.last + 1;
        self.last += count;
        self.submit(Write::Append { first, count, term: self.term })
    }

    fn truncate(&mut self) -> anyhow::Result<()> {
        let after = self.committed + self.chance.below(self.last - self.committed + 1);
        self.last = after;
        self.term += 1;
        self.submit(Write::Truncate { after })
    }

    /// Waits for everything in flight and declares it committed.
    fn commit(&mut self) -> anyhow::Result<()> {
        self.settle(0)?;
        self.committed = self.last;
        let mark = self.committed.to_be_bytes().to_vec();
        self.log.submit(LogWrite::Committed(mark.into()), Box::new(|_| ()));
        Ok(())
    }

    /// Brings the rows up to the commit mark, by a transaction or, now and then, by replacing all of them.
    fn persist(&mut self) -> anyhow::Result<()> {
        let (from, to) = (self.applied, self.committed);
        let replace = self.chance.below(6) == 0;
        // What was replaced has no history; what follows has one from there on.
        self.history_floor = if replace { to + 1 } else { self.history_floor.max(model::history_floor(to)) };
        let (history_floor, meta) = (self.history_floor, to.to_be_bytes());
        self.tell(&format!("persist {to} {history_floor}"))?;
        if replace {
            self.store.replace(model::all_rows(to).into_iter().map(Ok), history_floor, &meta)?;
        } else {
            let history = model::history(from, to);
            self.store.persist(Persist { rows: model::touched(from, to), history: &history, history_floor, meta: &meta })?;
        }
        self.tell(&format!("persisted {to} {history_floor}"))?;
        self.applied = to;
        Ok(())
    }

    /// Purges no further than the rows at rest.
    fn purge(&mut self) -> anyhow::Result<()> {
        if self.applied > self.purged {
            self.purged += 1 + self.chance.below(self.applied - self.purged);
            self.submit(Write::Purge { upto: self.purged })?;
        }
        Ok(())
    }

    fn submit(&mut self, write: Write) -> anyhow::Result<()> {
        self.settle(IN_FLIGHT_MAX)?;
        let number = self.submitted;
        self.submitted += 1;
        self.tell(&format!("submit {}", write.line()))?;
        let (marks, sender) = (Arc::clone(&self.marks), self.sender.clone());
        let done = move |outcome: Result<(), Arc<store::Error>>| {
            let told = match outcome {
                Ok(()) => writeln_whole(&marks, &format!("acknowledged {number}")).map_err(|e| e.to_string()),
                Err(error) => Err(error.to_string()),
            };
            // The driver has stopped only if it has failed already.
            let _ = sender.send(told);
        };
        self.log.submit(log_write(write), Box::new(done));
        Ok(())
    }

    /// Waits until at most `in_flight` writes are unacknowledged.
    fn settle(&mut self, in_flight: u64) -> anyhow::Result<()> {
        while self.submitted - self.acknowledged > in_flight {
            self.acks.recv()?.map_err(anyhow::Error::msg)?;
            self.acknowledged += 1;
        }
        Ok(())
    }

    fn tell(&self, line: &str) -> anyhow::Result<()> {
        writeln_whole(&self.marks, line).context("writing the marks")
    }
}

/// One line, one write: lines of two threads do not mix.
fn writeln_whole(mut file: &File, line: &str) -> std::io::Result<()> {
    file.write_all(format!("{line}\n").as_bytes())
}

fn log_write(write: Write) -> LogWrite {
    match write {
        Write::Append { first, count, term } => {
            LogWrite::Append((first..first + count).map(|index| LogEntry { index, term, payload: model::payload(index, term) }).collect())
        }
        Write::Truncate { after } => LogWrite::Truncate { after: Some(after) },
        Write::Purge { upto } => LogWrite::Purge { upto, mark: upto.to_be_bytes().to_vec().into() },
        Write::Vote { number } => LogWrite::Vote(number.to_be_bytes().to_vec().into()),
    }
}
