//! Leaves out of a packet what the probing knows already.

use bytes::Buf;
use foca::{Codec, Header, Member as Probed, Message, PostcardCodec};
use std::borrow::Cow;
use std::net::SocketAddr;

use crate::member::Id;
use crate::peers::Peers;

/// A packet without the updates that say nothing new.
pub(super) struct Sifted<'p> {
    pub(super) header: Header<Id>,
    pub(super) packet: Cow<'p, [u8]>,
    /// The updates that are left, but those of this member.
    pub(super) new: Vec<Probed<Id>>,
}

/// Reads a packet of the probing: a header, the number of updates, the updates, and news (foca documents
/// it so). `None` when it is none.
pub(super) fn sift<'p>(packet: &'p [u8], me: SocketAddr, peers: &Peers) -> Option<Sifted<'p>> {
    let mut codec = PostcardCodec;
    let mut rest = packet;
    let header: Header<Id> = codec.decode_header(&mut rest).ok()?;
    if matches!(header.message, Message::Broadcast | Message::Announce) || rest.len() < 2 {
        return Some(Sifted { header, packet: Cow::Borrowed(packet), new: Vec::new() });
    }
    let mut kept = Vec::with_capacity(packet.len());
    kept.extend(&packet[..packet.len() - rest.len()]);
    let tally = kept.len();
    kept.extend([0, 0]);
    let (mut new, mut left) = (Vec::new(), 0u16);
    for _ in 0..rest.get_u16() {
        let before = rest;
        let update: Probed<Id> = codec.decode_member(&mut rest).ok()?;
        let mine = update.id().address == me;
        if mine || !peers.covers(&update) {
            kept.extend(&before[..before.len() - rest.len()]);
            left += 1;
            if !mine {
                new.push(update);
            }
        }
    }
    kept[tally..tally + 2].copy_from_slice(&left.to_be_bytes());
    kept.extend(rest);
    Some(Sifted { header, packet: Cow::Owned(kept), new })
}
