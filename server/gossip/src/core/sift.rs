//! Leaves out of a packet what the probing knows already.

use bytes::Buf;
use foca::{Codec, Header, Member as Probed, Message, PostcardCodec};
use std::borrow::Cow;

use crate::bounds::{self, Horizon};
use crate::member::Id;
use crate::peers::Peers;

/// A packet without the updates that say nothing new.
pub(super) struct Sifted<'p> {
    pub(super) header: Header<Id>,
    pub(super) packet: Cow<'p, [u8]>,
    /// The updates that are left, but those of this member.
    pub(super) new: Vec<Probed<Id>>,
    /// The latest life that somebody says is here.
    pub(super) here: u64,
    /// What was wrong with something that was left out.
    pub(super) refused: Option<&'static str>,
}

/// Reads a packet of the probing: a header, the number of updates, the updates, and news (foca documents
/// it so). `None` when it is none.
pub(super) fn sift<'p>(packet: &'p [u8], me: Id, peers: &Peers, horizon: &mut Horizon) -> Option<Sifted<'p>> {
    let mut codec = PostcardCodec;
    let mut rest = packet;
    let header: Header<Id> = codec.decode_header(&mut rest).ok()?;
    if matches!(header.message, Message::Broadcast | Message::Announce) || rest.len() < 2 {
        return Some(Sifted { header, packet: Cow::Borrowed(packet), new: Vec::new(), here: me.bump, refused: None });
    }
    let mut kept = Vec::with_capacity(packet.len());
    kept.extend(&packet[..packet.len() - rest.len()]);
    let tally = kept.len();
    kept.extend([0, 0]);
    let (mut new, mut left, mut here, mut refused) = (Vec::new(), 0u16, me.bump, None);
    for _ in 0..rest.get_u16() {
        let before = rest;
        let update: Probed<Id> = codec.decode_member(&mut rest).ok()?;
        let mine = update.id().address == me.address;
        if !mine && peers.covers(&update) {
            continue;
        }
        let wrong = bounds::refuse_id(update.id(), horizon).or_else(|| peers.refuse(update.id().address).filter(|_| !mine));
        refused = wrong.or(refused);
        if wrong.is_none() && mine {
            here = here.max(update.id().bump);
        }
        // Of later lives at this address, this one knows better.
        if wrong.is_none() && (!mine || update.id().bump <= me.bump) {
            kept.extend(&before[..before.len() - rest.len()]);
            left += 1;
            if !mine {
                new.push(update);
            }
        }
    }
    kept[tally..tally + 2].copy_from_slice(&left.to_be_bytes());
    kept.extend(rest);
    Some(Sifted { header, packet: Cow::Owned(kept), new, here, refused })
}
