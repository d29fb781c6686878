//! What is shown: members' descriptions, and how the probing says that they are.

use std::net::SocketAddr;
use std::sync::Arc;

use metrics::counter;

use super::{Core, Output};
use crate::bounds::VERSION_MAX;
use crate::member::{Entry, Id, Record, Status};
use crate::news::MEMBERS_MAX;

impl Core {
    /// A member's newer description.
    pub(super) fn take_record(&mut self, record: Arc<Record>, hint: Option<Status>) {
        if record.name == self.me.name {
            return self.defend(&record);
        }
        if record.pruned {
            if self.entries.remove(&record.name).is_some() {
                self.outputs.push(Output::Changed);
            }
            return;
        }
        if let Some(twin) = self.twin(&record) {
            let (id, name, first, at) = (&record.node_id, &record.name, &twin.record.name, record.id.address);
            counter!("consul_gossip_name_conflicts").increment(1);
            tracing::warn!(
                "the node `{name}` at {at} uses the node id {id} of the living node `{first}`, which keeps it; was a data directory copied? remove its `lictor.json`, or give `-node-id`"
            );
            return;
        }
        let address = record.id.address;
        // Whoever lived at this address before under another name is gone; where it is not the same node, nobody has
        // said that it left.
        let former = |entry: &&Entry| entry.record.id.bump < record.id.bump && entry.record.name != record.name;
        let gone = |entry: &Entry| match entry.status {
            Status::Alive | Status::Leaving | Status::Failed if entry.record.node_id != record.node_id => Status::Failed,
            _ => Status::Left,
        };
        let former: Vec<(Arc<str>, Status)> =
            self.entries.at(address).filter(former).map(|entry| (entry.record.name.clone(), gone(entry))).collect();
        for (name, status) in former {
            self.set_status(&name, status);
        }
        let shown = self.entries.get(&record.name).map(|entry| entry.status).or(hint);
        let status = match (self.peers.is_up(address), record.leaving, shown) {
            (true, true, _) => Status::Leaving,
            (true, false, _) => Status::Alive,
            (false, true, _) => Status::Left,
            // Nobody has told yet that it is up: what others hold of it counts, or nothing.
            (false, false, Some(Status::Alive | Status::Leaving)) if hint.is_some() => Status::Failed,
            (false, false, Some(status)) => status,
            (false, false, None) => {
                if self.unseen.len() < MEMBERS_MAX {
                    self.unseen.insert(address, record);
                }
                return;
            }
        };
        if status == Status::Alive
            && let Some(bond) = self.bond.0.and_then(|name| record.tags.get(name))
        {
            self.meet(bond);
        }
        let name = record.name.clone();
        let since = self.entries.get(&name).filter(|entry| entry.status == status).map_or(self.now, |entry| entry.since);
        self.calls.described(&address);
        self.entries.insert(Entry { record, status, since });
        self.know_alive(&name, matches!(status, Status::Alive | Status::Leaving));
        self.outputs.push(Output::Changed);
    }

    /// Somebody says something of this member that it has not said itself.
    fn defend(&mut self, record: &Record) {
        if !record.is_same(&self.me) {
            counter!("consul_gossip_name_conflicts").increment(1);
            tracing::error!(address = %record.id.address, "another node uses this node's name `{}`; rename one of them", self.me.name);
            return;
        }
        if record.age() <= self.me.age() || self.me.leaving {
            return;
        }
        if record.node_id != self.me.node_id {
            tracing::warn!(address = %record.id.address, other = %record.node_id, "an earlier life at this node's address says that it is the later one; did the clock go back, or do two nodes advertise one address?");
        }
        if !self.inbox.lock().believes(record) {
            return;
        }
        if record.id.bump > self.me.id.bump || record.version >= VERSION_MAX {
            return self.outbid(record.id.bump);
        }
        let me = Arc::make_mut(&mut self.me);
        me.version = record.version.max(me.version) + 1;
        self.tell_of_me();
    }

    /// Begins another life, after one at this address that is said to have begun at `bump`: an earlier one had a
    /// later clock, or somebody has made it up.
    pub(super) fn outbid(&mut self, bump: u64) {
        let id = Id { bump: bump.max(self.me.id.bump).saturating_add(1), ..self.me.id };
        if self.me.leaving || self.probing.change_identity(id, &mut self.runtime).is_err() {
            return;
        }
        // A new life knows whom the old one knew, and goes on probing.
        let _ = self.probing.apply_many(std::iter::empty(), false, &mut self.runtime);
        let me = Arc::make_mut(&mut self.me);
        (me.id, me.version) = (id, 1);
        self.tell_of_me();
    }

    /// Somebody holds this life for dead, and took no word of it to say so.
    pub(super) fn return_from_the_dead(&mut self) {
        counter!("consul_gossip_refutations").increment(1);
        self.outbid(self.me.id.bump);
        self.settle(None);
    }

    /// Shows the members at `address` as they are now.
    pub(super) fn judge_address(&mut self, address: SocketAddr) {
        let up = self.peers.is_up(address);
        if up && let Some(record) = self.unseen.remove(&address) {
            self.take_record(record, None);
        }
        let here = self.entries.at(address).filter(|entry| entry.record.name != self.me.name);
        let newest = here.clone().map(|entry| entry.record.id.bump).max();
        let judged: Vec<(Arc<str>, Status)> = here
            .filter(|entry| Some(entry.record.id.bump) == newest)
            .map(|entry| {
                let status = match (up, entry.record.leaving) {
                    (true, false) => Status::Alive,
                    (true, true) => Status::Leaving,
                    (false, true) => Status::Left,
                    (false, false) => Status::Failed,
                };
                (entry.record.name.clone(), status)
            })
            .collect();
        for (name, status) in judged {
            self.set_status(&name, status);
        }
    }

    fn set_status(&mut self, name: &str, status: Status) {
        let Some(entry) = self.entries.get_mut(name) else { return };
        if entry.status == status {
            return;
        }
        tracing::info!(member = name, address = %entry.record.id.address, before = entry.status.as_str(), now = status.as_str(), "a member's state has changed");
        entry.status = status;
        entry.since = self.now;
        #[cfg(test)]
        if status == Status::Failed {
            self.failed.push(name.to_owned());
        }
        self.know_alive(name, matches!(status, Status::Alive | Status::Leaving));
        self.outputs.push(Output::Changed);
    }

    pub(super) fn know_alive(&mut self, name: &str, alive: bool) {
        if let Some(known) = self.inbox.lock().known.get_mut(name) {
            known.alive = alive;
        }
    }
}
