//! What goes over the wire: datagrams, and frames on a stream.
//!
//! Both begin with a magic byte, a version, and a digest of the pool's label, so that what was never
//! meant for this pool is dropped before anything of it is looked at. With a keyring the rest is
//! sealed and bound to these first bytes, and to what it is: a datagram, a question, or the answer to
//! one certain question. So what was recorded passes for nothing else.

use std::net::SocketAddr;
use std::sync::Arc;

use foca::{Incarnation, Member as Probed, ProbeNumber};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::coordinate::Coordinate;
use crate::event::Event;
use crate::keyring::Keyring;
use crate::member::{Id, Record, Status};

const MAGIC: u8 = 0x4c;
const PLAIN: u8 = 1;
const SEALED: u8 = 2;
const HEAD: usize = 6;

/// Largest datagram that is sent, in bytes: it fits the smallest usual MTU unfragmented.
pub(crate) const DATAGRAM_MAX: usize = 1400;

/// What is left in a datagram for the probing's own packet.
pub(crate) const PACKET_MAX: usize = DATAGRAM_MAX - HEAD - 28 - 120;

/// Largest frame on a stream, in bytes: the state of tens of thousands of members.
pub(crate) const FRAME_MAX: usize = 32 << 20;

/// What bytes are. A seal says so, and the bytes themselves need not.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Datagram,
    Question,
    /// The reply to the question with this mark.
    Reply(Mark),
}

/// What tells a sealed question from all others.
pub(crate) type Mark = [u8; MARK];

const MARK: usize = 12;

/// The mark of a question: the seal's nonce, which nobody draws twice.
pub(crate) fn mark(question: &[u8]) -> Mark {
    question.get(HEAD..HEAD + MARK).and_then(|nonce| nonce.try_into().ok()).unwrap_or_default()
}

impl Kind {
    /// What a seal is bound to.
    fn context(self, head: &[u8]) -> Vec<u8> {
        let mut context = head.to_vec();
        match self {
            Kind::Datagram => context.push(0),
            Kind::Question => context.push(1),
            Kind::Reply(mark) => {
                context.push(2);
                context.extend(mark);
            }
        }
        context
    }
}

/// One datagram.
#[derive(Serialize, Deserialize)]
pub(crate) struct Datagram<'p> {
    /// Where the sender is in the network.
    pub(crate) coordinate: Coordinate,
    /// The probing's packet.
    #[serde(borrow)]
    pub(crate) packet: &'p [u8],
}

/// What follows a [`Datagram`]. It comes last, so that a member that does not know it reads the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tail {
    /// How many datagrams this life of the sender had sent before: none is taken twice.
    pub(crate) count: u32,
    pub(crate) notice: Option<Notice>,
}

/// Something that a datagram says to its receiver alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Notice {
    /// The receiver is suspected in this incarnation.
    Suspected(Incarnation),
    /// Whoever was to be probed for the receiver has not answered so far. It ends a packet of no bytes, which does
    /// not say who sends it.
    Silent { number: ProbeNumber, by: Id },
}

/// News that ride on the probing's packets.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum News {
    Record(Arc<Record>),
    Event(Event),
    Suspicion(Suspicion),
}

/// Somebody has probed a member in vain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Suspicion {
    /// Who did not answer.
    pub(crate) of: Id,
    pub(crate) incarnation: Incarnation,
    /// Who has probed it.
    pub(crate) by: SocketAddr,
}

/// Everything that a member knows.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct State {
    /// Who sends it.
    pub(crate) from: Arc<Record>,
    /// The value that it goes by of what all members have in common.
    pub(crate) bond: Option<String>,
    /// It wants to be let in; otherwise it is in already.
    pub(crate) joining: bool,
    pub(crate) probed: Vec<Probed<Id>>,
    pub(crate) members: Vec<(Arc<Record>, Status, Option<Coordinate>)>,
    pub(crate) events: Vec<Event>,
    pub(crate) clock: u64,
}

/// A question on a stream.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Question {
    /// Here is what I know; what do you?
    Compare(Box<State>),
    /// Do something with your keys.
    Keys(KeyCommand),
    /// Are you there? Datagrams don't tell.
    Ping {
        /// The life that is meant.
        to: Id,
        /// In which incarnation it is suspected.
        suspected: Option<Incarnation>,
    },
}

/// Something to be done with keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum KeyCommand {
    List,
    Install(Vec<u8>),
    Use(Vec<u8>),
    Remove(Vec<u8>),
}

/// The answer to it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Reply {
    /// What I know.
    State(Box<State>),
    /// Why I won't.
    Refused(String),
    /// My keys, the one that seals first.
    Keys(Vec<Vec<u8>>),
    /// I am here.
    Pong,
}

/// Why bytes were dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dropped {
    /// Not of this protocol, cut short, or damaged.
    Malformed,
    /// Of another pool.
    OtherPool,
    /// Sealed with a key that is not in the ring, or not sealed although it must be, or the reverse.
    WrongKey,
    /// Larger than anything that members send.
    Oversized,
    /// It came before.
    Replayed,
    /// There are too many connections from there already.
    Crowded,
    /// It says what no member would, such as this; the rest of it was taken.
    OutOfBounds(&'static str),
}

impl Dropped {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Dropped::Malformed => "malformed",
            Dropped::OtherPool => "other_pool",
            Dropped::WrongKey => "wrong_key",
            Dropped::Oversized => "oversized",
            Dropped::Replayed => "replayed",
            Dropped::Crowded => "crowded",
            Dropped::OutOfBounds(_) => "out_of_bounds",
        }
    }

    /// What more there is to say of it.
    pub(crate) fn detail(self) -> &'static str {
        match self {
            Dropped::OutOfBounds(what) => what,
            _ => "",
        }
    }
}

/// A digest of the pool's label (FNV-1a).
pub(crate) fn digest(label: &str) -> u32 {
    label.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

/// The label of the pool that `bytes` were meant for.
pub(crate) fn label_of(bytes: &[u8]) -> Option<u32> {
    let label: [u8; 4] = bytes.get(2..HEAD)?.try_into().ok()?;
    Some(u32::from_be_bytes(label))
}

/// Puts `content` between the protocol's head and, with a keyring, a seal.
pub(crate) fn wrap(label: u32, keyring: Option<&Keyring>, kind: Kind, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![MAGIC, if keyring.is_some() { SEALED } else { PLAIN }];
    bytes.extend(label.to_be_bytes());
    match keyring {
        None => bytes.extend(content),
        Some(keyring) => {
            let sealed = keyring.seal(content, &kind.context(&bytes));
            bytes.extend(sealed);
        }
    }
    bytes
}

/// The reverse of [`wrap`].
pub(crate) fn unwrap(label: u32, keyring: Option<&Keyring>, kind: Kind, bytes: &[u8]) -> Result<Vec<u8>, Dropped> {
    let (head, content) = bytes.split_at_checked(HEAD).ok_or(Dropped::Malformed)?;
    if head[0] != MAGIC || !matches!(head[1], PLAIN | SEALED) {
        return Err(Dropped::Malformed);
    }
    if head[2..] != label.to_be_bytes() {
        return Err(Dropped::OtherPool);
    }
    match (keyring, head[1]) {
        (None, PLAIN) => Ok(content.to_vec()),
        (Some(keyring), SEALED) => keyring.open(content, &kind.context(head)).ok_or(Dropped::WrongKey),
        _ => Err(Dropped::WrongKey),
    }
}

pub(crate) fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    postcard::to_allocvec(value).expect("plain data in memory can always be encoded")
}

pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Dropped> {
    postcard::from_bytes(bytes).map_err(|_| Dropped::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyring::Key;

    #[test]
    fn what_is_not_for_this_pool_is_told_apart() {
        let (ours, theirs) = (digest("lan:dc1"), digest("lan:dc2"));
        let ring = Keyring::new(Key::generate());
        let wrap = |label, keyring: Option<&Keyring>, content: &[u8]| super::wrap(label, keyring, Kind::Datagram, content);
        let unwrap = |label, keyring: Option<&Keyring>, bytes: &[u8]| super::unwrap(label, keyring, Kind::Datagram, bytes);
        assert_eq!(unwrap(ours, None, &wrap(ours, None, b"x")).unwrap(), b"x");
        assert_eq!(unwrap(ours, Some(&ring), &wrap(ours, Some(&ring), b"x")).unwrap(), b"x");
        assert_eq!(unwrap(ours, None, &wrap(theirs, None, b"x")), Err(Dropped::OtherPool));
        assert_eq!(unwrap(ours, Some(&ring), &wrap(ours, None, b"x")), Err(Dropped::WrongKey));
        assert_eq!(unwrap(ours, None, &wrap(ours, Some(&ring), b"x")), Err(Dropped::WrongKey));
        assert_eq!(unwrap(ours, None, b"GET / HTTP/1.1"), Err(Dropped::Malformed));
        assert_eq!(unwrap(ours, None, b"L"), Err(Dropped::Malformed));
    }

    #[test]
    fn what_was_recorded_passes_for_nothing_else() {
        let (label, ring) = (digest("lan:dc1"), Keyring::new(Key::generate()));
        let seal = |kind| wrap(label, Some(&ring), kind, b"x");
        let questions = [seal(Kind::Question), seal(Kind::Question)];
        let kinds = [Kind::Datagram, Kind::Question, Kind::Reply(mark(&questions[0])), Kind::Reply(mark(&questions[1]))];
        for (at, sealed) in kinds.iter().map(|kind| seal(*kind)).enumerate() {
            for (other, kind) in kinds.iter().enumerate() {
                let read = unwrap(label, Some(&ring), *kind, &sealed);
                assert_eq!(read.is_ok(), at == other, "{:?} read as {kind:?}", kinds[at]);
            }
        }
    }
}
