//! What is remembered of a run from outside, and what must hold of it at any time.

use std::collections::BTreeMap;
use std::sync::Arc;

use consensus::ChangeSink;
use parking_lot::Mutex;
use service::watch::Hub;
use state::{ChangeBatch, LogIndex};

/// What all servers of a run have done together.
#[derive(Default)]
pub struct Record {
    /// What the command at each index has changed, and who applied it first.
    applied: BTreeMap<u64, (String, String)>,
    /// Who led in each term.
    led: BTreeMap<u64, u64>,
    /// Writes that were acknowledged: key and value.
    acknowledged: BTreeMap<String, String>,
    /// What must never be and was.
    broken: Vec<String>,
}

impl Record {
    /// The server `who` has applied a command.
    fn apply(&mut self, who: &str, batch: &ChangeBatch) {
        let changes = format!("{:?}", batch.changes);
        let (first, known) = self.applied.entry(batch.index.0).or_insert_with(|| (who.to_owned(), changes.clone()));
        if *known != changes {
            self.broken.push(format!("at index {} `{who}` has applied {changes}, and `{first}` {known}", batch.index.0));
        }
    }

    /// The server of this number says that it leads.
    pub(crate) fn lead(&mut self, term: u64, id: u64) {
        let first = *self.led.entry(term).or_insert(id);
        if first != id {
            self.broken.push(format!("both {first} and {id} lead in term {term}"));
        }
    }

    pub(crate) fn acknowledge(&mut self, key: String, value: String) {
        self.acknowledged.insert(key, value);
    }

    /// What was acknowledged.
    pub fn acknowledged(&self) -> &BTreeMap<String, String> {
        &self.acknowledged
    }

    /// How many commands have changed something.
    pub fn commands(&self) -> usize {
        self.applied.len()
    }

    /// How many terms had a leader.
    pub fn terms(&self) -> usize {
        self.led.len()
    }

    /// What must never be and was.
    pub fn broken(&self) -> &[String] {
        &self.broken
    }
}

/// Notes what a server applies, and passes it on to the server's watches.
pub(crate) struct Witness {
    pub(crate) who: String,
    pub(crate) record: Arc<Mutex<Record>>,
    pub(crate) hub: Arc<Hub>,
}

impl ChangeSink for Witness {
    fn restore(&self, history: Vec<Arc<ChangeBatch>>, complete_from: LogIndex, applied: LogIndex) {
        self.hub.restore(history, complete_from, applied);
    }

    fn publish(&self, batch: Arc<ChangeBatch>) {
        self.record.lock().apply(&self.who, &batch);
        self.hub.publish(batch);
    }

    fn advance(&self, applied: LogIndex) {
        self.hub.advance(applied);
    }

    fn reset(&self, applied: LogIndex) {
        self.hub.reset(applied);
    }
}
