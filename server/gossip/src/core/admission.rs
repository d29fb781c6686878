//! Who is let in, and whose name, node id and address are whose.

use super::Core;
use crate::bounds;
use crate::member::{Entry, Record, Status};
use crate::wire::State;

impl Core {
    /// Why the member that sent `state` can't be let in. At one address lives one member at a time: who comes from
    /// the address of another one under its name or with its node id is its next life. Who has neither has taken
    /// an address that is not its own, unless nobody lives there any more.
    pub(crate) fn refuse(&self, state: &State) -> Option<String> {
        if let Some(why) = self.refuse_stranger(state) {
            return Some(why);
        }
        let new = &state.from;
        if let Some(wrong) = bounds::refuse(new, &mut self.inbox.lock().horizon) {
            return Some(format!("it describes itself with {wrong}"));
        }
        let living = |entry: &&Entry| matches!(entry.status, Status::Alive | Status::Leaving);
        let elsewhere = |entry: &&Entry| living(entry) && entry.record.id.address != new.id.address;
        if let Some(other) = self.entries.get(&new.name).filter(elsewhere)
            && other.record.node_id != new.node_id
        {
            let at = other.record.id.address;
            return Some(format!("the name `{}` belongs to a living node at {at}; give this node another with `-node`", new.name));
        }
        if let Some(twin) = self.twin(new) {
            let (id, name, at) = (&new.node_id, &twin.record.name, twin.record.id.address);
            return Some(format!(
                "the node id {id} belongs to the living node `{name}` at {at}; was a data directory copied? remove its `lictor.json`, or give `-node-id`"
            ));
        }
        let owner = self.entries.at(new.id.address).filter(living).find(|entry| !entry.record.is_namesake(new));
        owner.map(|owner| {
            let (at, name) = (new.id.address, &owner.record.name);
            format!("the address {at} belongs to the living node `{name}`; give this node its own with `-advertise`, or wait until `{name}` has failed if it is gone")
        })
    }

    /// A living member elsewhere that has the node id of `new` and another name.
    pub(super) fn twin<'e>(&'e self, new: &'e Record) -> Option<&'e Entry> {
        let other = |record: &Record| record.name != new.name && record.id.address != new.id.address;
        let living = |entry: &Entry| matches!(entry.status, Status::Alive | Status::Leaving);
        self.entries.of_node(&new.node_id).find(|entry| living(entry) && other(&entry.record))
    }

    /// Why whoever answers at this member's own address is not this member, nor could have been. An earlier version
    /// answers where this one refuses.
    pub(crate) fn recognize(&self, answered: &Record) -> Option<String> {
        (!answered.is_namesake(&self.me)).then(|| {
            let (at, name) = (self.me.id.address, &answered.name);
            format!("this node advertises {at}, where the node `{name}` lives; give it its own address with `-advertise`")
        })
    }
}
