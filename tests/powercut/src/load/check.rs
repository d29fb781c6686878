//! What must be true after a cut.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, bail, ensure};
use state::Row;
use store::data_dir::DataDir;
use store::log;
use store::state_store::StateStore;

use crate::load::model::{self, Log, Write};
use crate::load::{data_root, identity, log_options, state_options};

/// What a directory holds, by its own recovery.
#[derive(Debug, Clone, Default)]
pub struct Survivor {
    log: Log,
    /// The rows are those of this index.
    applied: u64,
    /// The history begins here.
    history_floor: u64,
}

/// Recovers what a cut left in `dir` and checks it: it opens; the log is what it was after some write that is not
/// older than the last acknowledged one; the rows and the history are exactly those of an index that is not older
/// than the last one persisted; and nothing was purged that the rows do not include.
///
/// `before` is what the directory held when the run began, and `marks` is what it had told
/// before the cut, by itself or by several processes one after the other.
///
/// # Errors
///
/// What is not true.
pub fn check(dir: &Path, before: &Survivor, marks: &str) -> anyhow::Result<Survivor> {
    let survivor = recover(dir)?;
    let promises = Promises::of(before, marks)?;
    promises.check_log(&survivor.log)?;
    ensure!(
        promises.rows.contains(&(survivor.applied, survivor.history_floor)),
        "the rows are those of {} with a history from {}, but promised was one of {:?}",
        survivor.applied,
        survivor.history_floor,
        promises.rows
    );
    ensure!(survivor.log.purged.unwrap_or(0) <= survivor.applied, "purged further than persisted");
    ensure!(survivor.applied <= survivor.log.last(), "the rows are ahead of the log");
    Ok(survivor)
}

/// What the runs had said before the cut.
#[derive(Debug)]
struct Promises {
    /// The log when the last run began.
    log: Log,
    submitted: Vec<Write>,
    acknowledged: usize,
    /// The index of the rows and the beginning of the history: the last certain pair, and one that was under way.
    rows: Vec<(u64, u64)>,
}

impl Promises {
    fn of(before: &Survivor, marks: &str) -> anyhow::Result<Self> {
        let rows = vec![(before.applied, before.history_floor)];
        let mut promises = Self { log: before.log.clone(), submitted: Vec::new(), acknowledged: 0, rows };
        // The last line may be incomplete, as the cut may have been in the middle of writing it.
        let whole = marks.rfind('\n').map_or("", |end| &marks[..end]);
        whole.lines().try_for_each(|line| promises.hear(line).with_context(|| format!("the mark `{line}`")))?;
        Ok(promises)
    }

    fn hear(&mut self, line: &str) -> anyhow::Result<()> {
        let words: Vec<&str> = line.split(' ').collect();
        let numbers: Vec<u64> = words[1..].iter().filter_map(|word| word.parse().ok()).collect();
        match (words[0], &numbers[..]) {
            ("submit", _) => self.submitted.push(Write::parse(&words[1..]).context("there is no such write")?),
            ("acknowledged", &[number]) => self.acknowledged = self.acknowledged.max(number as usize + 1),
            ("persist", &[index, floor]) => self.rows.push((index, floor)),
            ("persisted", &[index, floor]) => self.rows = vec![(index, floor)],
            ("found", &[last, term, vote, purged, index, floor]) => self.restart([last, term, vote, purged], (index, floor))?,
            _ => bail!("it is none"),
        }
        Ok(())
    }

    /// A run began with what it found: from now on that is certain.
    fn restart(&mut self, summary: [u64; 4], rows: (u64, u64)) -> anyhow::Result<()> {
        let found = self.moments().find(|log| log.summary() == summary);
        self.log = found.context("the run found a log that could not be there")?;
        ensure!(self.rows.contains(&rows), "the run found rows that could not be there");
        (self.submitted, self.acknowledged, self.rows) = (Vec::new(), 0, vec![rows]);
        Ok(())
    }

    /// Every state that the log may be in: that of the last acknowledgement, and those of the writes since then.
    fn moments(&self) -> impl Iterator<Item = Log> {
        let mut log = self.log.clone();
        let (certain, possible) = self.submitted.split_at(self.acknowledged);
        certain.iter().for_each(|write| log.apply(*write));
        std::iter::once(log.clone()).chain(possible.iter().map(move |write| {
            log.apply(*write);
            log.clone()
        }))
    }

    fn check_log(&self, found: &Log) -> anyhow::Result<()> {
        let acknowledged = self.moments().next();
        ensure!(
            self.moments().any(|log| log == *found),
            "the log is that of no moment since the last acknowledgement: found {found:?}, acknowledged {acknowledged:?}"
        );
        Ok(())
    }
}

/// Opens `dir` as a server does, and reads everything.
fn recover(dir: &Path) -> anyhow::Result<Survivor> {
    let data = DataDir::open(&data_root(dir), &identity())?;
    let log = recover_log(&data.log())?;
    let (applied, history_floor) = recover_rows(&data.state())?;
    Ok(Survivor { log, applied, history_floor })
}

fn recover_log(dir: &Path) -> anyhow::Result<Log> {
    let (log, recovered) = log::open(dir, log_options())?;
    let number = |bytes: &[u8]| bytes.try_into().map(u64::from_be_bytes);
    let mut found = Log {
        vote: recovered.vote.as_deref().map(number).transpose()?,
        purged: recovered.purged.as_ref().map(|(upto, _)| *upto),
        ..Log::default()
    };
    for entry in log.reader().read(0..u64::MAX)? {
        ensure!(entry.payload == model::payload(entry.index, entry.term), "entry {} has another payload", entry.index);
        found.entries.insert(entry.index, entry.term);
    }
    ensure!(recovered.last == found.entries.last_key_value().map(|(index, term)| (*index, *term)), "the last entry is another");
    if let Some((upto, mark)) = &recovered.purged {
        ensure!(number(mark)? == *upto, "the purge mark of {upto} is another");
    }
    if let Some(committed) = recovered.committed.as_deref().map(number).transpose()? {
        ensure!(committed <= found.last(), "the commit mark {committed} is ahead of the log, which ends at {}", found.last());
    }
    Ok(found)
}

fn recover_rows(dir: &Path) -> anyhow::Result<(u64, u64)> {
    let store = StateStore::open(dir, state_options())?;
    let mut rows = BTreeMap::new();
    let loaded = store.load(|row| {
        if let Row::Kv(entry) = row {
            rows.insert(entry.key().to_vec(), (entry.modify_index().0, entry.value().to_vec()));
        }
    })?;
    let Some(meta) = loaded.meta else {
        ensure!(rows.is_empty() && loaded.history.is_empty(), "there are rows, but nothing says of which index");
        return Ok((0, 0));
    };
    let applied = u64::from_be_bytes(meta[..].try_into()?);
    ensure!(rows == model::rows(applied), "the rows are not those of {applied}");
    let expected = model::history(loaded.history_floor.max(1) - 1, applied);
    ensure!(
        format!("{:?}", loaded.history.iter().collect::<Vec<_>>()) == format!("{:?}", expected.iter().collect::<Vec<_>>()),
        "the history from {} is not that up to {applied}",
        loaded.history_floor
    );
    Ok((applied, loaded.history_floor))
}
