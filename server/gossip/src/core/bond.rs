//! What all members of a pool have in common, if they have it at all: the value of one tag.
//!
//! Two pools that were each whole before would become one by a single join, and everybody in it would take the
//! others for their own. So whoever has the tag goes by its value, whoever has it not by the first value that it
//! meets; and two that go by different values do not compare what they know. A member that gets its value only
//! later, beside others that go by another one, stays where it is and is compared with no more.

use std::time::Duration;

use super::Core;
use crate::member::{Entry, Record, Status};
use crate::wire::State;

/// How long after the last one who had a value has failed those who have none go by it. Then whoever is alive counts: the
/// servers may have been replaced by others.
pub(super) const KEPT: Duration = Duration::from_secs(120);

impl Core {
    /// Members have the tag `name` in common from now on.
    pub(crate) fn set_bond(&mut self, name: &'static str) {
        self.bond.0 = Some(name);
    }

    /// The value that this member goes by, if there is any.
    pub(crate) fn bond(&self) -> Option<String> {
        self.bond_but_for(|_| false)
    }

    /// The same, where it does not count what some members have.
    fn bond_but_for(&self, is_gone: impl Fn(&Record) -> bool) -> Option<String> {
        let name = self.bond.0?;
        let of = |record: &Record| record.tags.get(name).cloned();
        if let Some(own) = of(&self.me) {
            return Some(own);
        }
        let others = || self.entries.values().filter(|entry| !is_gone(&entry.record));
        // As long as somebody is there who has it, or may be back in a moment, the first value counts.
        let lasts = |entry: &&Entry| is_living(entry.status) || entry.status == Status::Failed && self.now - entry.since < KEPT;
        if let Some(met) = &self.bond.1
            && others().filter(lasts).any(|entry| of(&entry.record).as_ref() == Some(met))
        {
            return Some(met.clone());
        }
        others().filter(|entry| is_living(entry.status)).find_map(|entry| of(&entry.record))
    }

    /// The tag that all have in common, and the value that this member goes by.
    pub(crate) fn kinship(&self) -> Option<(&'static str, String)> {
        Some((self.bond.0?, self.bond()?))
    }

    /// Why what the member that sent `state` knows is none of this pool's business.
    pub(crate) fn refuse_stranger(&self, state: &State) -> Option<String> {
        let (name, there) = (self.bond.0?, state.bond.as_ref()?);
        // What only this member had, in an earlier life, is no reason either, nor is what nobody has any more.
        let mine = |record: &Record| record.name == self.me.name || record.id.address == self.me.id.address;
        let theirs = state.members.iter().filter(|(_, status, _)| is_living(*status)).map(|(record, ..)| record);
        if !theirs.chain([&state.from]).any(|record| !mine(record) && record.tags.get(name) == Some(there)) {
            return None;
        }
        // Whoever begins anew in its own place, with an empty disk, is not held to what it was before.
        let before = |record: &Record| record.name == state.from.name || record.id.address == state.from.id.address;
        let here = self.bond_but_for(before).filter(|here| here != there)?;
        Some(format!(
            "the node `{}` belongs to another {name}: `{there}`, and here is `{here}`; a server keeps to the {name} of its data, so to have it \
             here start it with an empty data directory",
            state.from.name
        ))
    }

    /// A member that has no value of its own goes by that of whom it meets first.
    pub(super) fn meet(&mut self, there: &str) {
        if self.bond.0.is_some() && self.bond().is_none() {
            self.bond.1 = Some(there.to_owned());
        }
    }
}

fn is_living(status: Status) -> bool {
    matches!(status, Status::Alive | Status::Leaving)
}
