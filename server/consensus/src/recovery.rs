//! A new quorum from what is left of an old one.
//!
//! When a majority of the servers is gone for good, nobody can lead any more: those that are left must
//! not decide alone, because they cannot know what the others have promised. An operator can. Here a
//! data directory is read without being changed, so that the newest of several can be told, and then a
//! new membership is written as the next entry of its log. At its next start it is the quorum, or can
//! form it with the other survivors that were named.
//!
//! The newest log is the one that could have won an election against the others: whose last entry is
//! of the highest term and, of two such, has the highest index. Whatever was acknowledged is in a
//! majority of the logs; if one of that majority is left, its log is the newest or as new.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc;

use openraft::EntryPayload;
use store::data_dir::{DataDir, Identity};
use store::log::{LogEntry, LogOptions, LogReader, LogWrite};
use store::state_store;

use crate::encode;
use crate::error::{Error, chain};
use crate::fatal;
use crate::status::Peer;
use crate::types::{Member, Membership, StoredMembership, Vote};

/// Entries that are looked at together.
const ENTRIES_AT_ONCE: u64 = 1024;

/// Bytes of entries that are read together.
const BYTES_AT_ONCE: usize = 16 << 20;

/// A data directory that was left, locked as long as this lives. Nothing in it was changed.
pub struct Survivor {
    data: DataDir,
    path: PathBuf,
    /// The number of its server in the log.
    pub id: u64,
    /// The id of its node.
    pub node_id: String,
    /// The name of its node, if the newest membership names it.
    pub name: Option<String>,
    /// The latest term that it knows.
    pub term: u64,
    /// Term and index of the last entry of its log.
    pub last: (u64, u64),
    /// The last entry that it knew to be committed. More may be.
    pub committed: u64,
    /// The last entry that is in the state on disk.
    pub applied: u64,
    /// The servers of the quorum, by the newest membership that it holds.
    pub members: Vec<Peer>,
}

impl Survivor {
    /// Reads the data directory `path` of a server that does not run.
    pub fn read(path: &Path) -> Result<Survivor, Error> {
        let refused = |why: String| Error::Fatal(format!("`{}`: {why}", path.display()).into());
        if !path.join("lictor.json").is_file() {
            return Err(refused("it is not the data directory of a server; give the directory that holds `lictor.json`".into()));
        }
        let data = DataDir::open(path, &Identity::default()).map_err(fatal)?;
        let identity = data.identity().clone();
        let id = identity.raft_id.ok_or_else(|| refused("it belongs to an agent that keeps no log".into()))?;
        let (recovered, entries) = store::log::read_only(&data.log()).map_err(fatal)?;
        let mark = state_store::read_mark(&data.state()).map_err(fatal)?;
        let applied = mark.map(|mark| encode::applied_from_bytes(&mark)).transpose().map_err(fatal)?;
        let purged = recovered.purged.as_ref().map(|(_, mark)| encode::log_id_from_bytes(mark)).transpose().map_err(fatal)?;
        let vote = recovered.vote.as_deref().map(encode::vote_from_bytes).transpose().map_err(fatal)?;
        let committed = recovered.committed.as_deref().map(encode::log_id_from_bytes).transpose().map_err(fatal)?;
        let (at, mut membership) = applied.unwrap_or_else(|| (encode::log_id(0, 0), StoredMembership::default()));
        let upto = recovered.last.map_or(recovered.first, |(index, _)| index + 1);
        if let Some(newer) = latest_membership(&*entries, recovered.first..upto)? {
            membership = newer;
        }
        let position = |id: &crate::types::LogId| (id.leader_id.term, id.index);
        let logged = recovered.last.map(|(index, term)| (term, index));
        let last = [logged, purged.as_ref().map(position), Some(position(&at))].into_iter().flatten().max().unwrap_or_default();
        if last.1 == 0 || membership.membership().nodes().next().is_none() {
            return Err(refused("its server has never belonged to a quorum, so that there is nothing to recover".into()));
        }
        let voters: BTreeSet<u64> = membership.membership().voter_ids().collect();
        let peer = |(id, member): (&u64, &Member)| Peer {
            id: *id,
            name: member.name.clone(),
            address: member.address.clone(),
            voter: voters.contains(id),
        };
        let members: Vec<Peer> = membership.membership().nodes().map(peer).collect();
        Ok(Survivor {
            data,
            path: path.to_owned(),
            id,
            node_id: identity.node_id.unwrap_or_default(),
            name: members.iter().find(|peer| peer.id == id).map(|peer| peer.name.clone()),
            term: vote.map_or(0, |vote| vote.leader_id.term).max(last.0),
            last,
            committed: committed.map_or(0, |id| id.index).max(at.index),
            applied: at.index,
            members,
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the new membership will stand: term and index.
    pub fn next(&self) -> (u64, u64) {
        (self.term + 1, self.last.1 + 1)
    }

    /// Writes a new quorum of `members` into the log, this server among them. Durable when it returns.
    pub fn found_quorum(self, members: BTreeMap<u64, Member>) -> Result<(), Error> {
        let (term, index) = self.next();
        let voters: BTreeSet<u64> = members.keys().copied().collect();
        let membership = Membership::new(vec![voters], members).map_err(fatal)?;
        let payload = encode::payload_to_bytes(&EntryPayload::Membership(membership));
        let (log, recovered) = store::log::open(&self.data.log(), LogOptions::default()).map_err(fatal)?;
        let expected = recovered.last.map_or(recovered.first, |(index, _)| index + 1);
        if recovered.last.is_some() && expected != index {
            return Err(Error::Fatal(format!("the log goes on at {expected}, and not at {index} as when it was read").into()));
        }
        // A vote for itself that nobody else has given: it stands for election when it starts.
        let vote = encode::vote_to_bytes(&Vote::new(term, self.id));
        for write in [LogWrite::Vote(vote), LogWrite::Append(vec![LogEntry { index, term, payload }])] {
            let (sender, done) = mpsc::sync_channel(1);
            log.submit(
                write,
                Box::new(move |result: Result<(), Arc<store::Error>>| {
                    // Who waits for it is below.
                    let _ = sender.send(result);
                }),
            );
            done.recv().map_err(fatal)?.map_err(|error| Error::Fatal(chain(&*error).into()))?;
        }
        Ok(())
    }
}

/// The survivor whose log is the newest.
pub fn newest(survivors: &[Survivor]) -> Option<usize> {
    (0..survivors.len()).max_by_key(|at| (survivors[*at].last, survivors[*at].committed, std::cmp::Reverse(*at)))
}

/// The last membership among the entries of a log.
fn latest_membership(entries: &dyn LogReader, range: std::ops::Range<u64>) -> Result<Option<StoredMembership>, Error> {
    let (mut from, mut found) = (range.start, None);
    while from < range.end {
        let some = entries.read_limited(from..range.end.min(from + ENTRIES_AT_ONCE), BYTES_AT_ONCE).map_err(fatal)?;
        let Some(last) = some.last().map(|entry| entry.index) else { break };
        for entry in some {
            if !encode::is_membership(&entry.payload) {
                continue;
            }
            let entry = encode::entry_from_log(entry).map_err(fatal)?;
            if let EntryPayload::Membership(membership) = entry.payload {
                found = Some(StoredMembership::new(Some(entry.log_id), membership));
            }
        }
        from = last + 1;
    }
    Ok(found)
}
