//! What must be whole goes over TCP: one question and its answer a connection.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use net::{Network, Stream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::keyring::Keyring;
use crate::wire::{self, Dropped, FRAME_MAX, Kind, Mark, Question, Reply};

/// How long a connection may take to open.
const CONNECT: Duration = Duration::from_secs(2);

/// How long a question and its answer may take together.
const EXCHANGE: Duration = Duration::from_secs(10);

/// How long who has connected may take to say how much it is going to say.
const FIRST: Duration = Duration::from_secs(2);

/// As much of a question is read without asking whether there is room for more.
const SMALL: usize = 64 << 10;

/// Bytes of all questions together that are held beyond that, before it is known who sends them: two of the largest.
const HELD_MAX: usize = 2 * FRAME_MAX;

/// Room is taken in pieces of so many bytes, as they come.
const PIECE: usize = 64 << 10;

/// Room for questions that have not been opened yet: whoever has no key can't have more of it taken.
pub(crate) struct Room {
    pieces: Arc<Semaphore>,
}

impl Default for Room {
    fn default() -> Self {
        Room { pieces: Arc::new(Semaphore::new(HELD_MAX / PIECE)) }
    }
}

/// How a member seals and what pool it belongs to.
pub(crate) struct Envelope {
    pub(crate) label: u32,
    pub(crate) keyring: Option<Keyring>,
}

/// Asks the member at `address`. The refusal says what went wrong.
pub(crate) async fn ask(network: &Network, envelope: &Envelope, address: &str, question: &Question) -> Result<Reply, String> {
    let asked = async {
        let mut stream = network.connect(address, CONNECT).await.map_err(|error| error.to_string())?;
        let frame = wire::wrap(envelope.label, envelope.keyring.as_ref(), Kind::Question, &wire::encode(question));
        let kind = Kind::Reply(wire::mark(&frame));
        write(&mut stream, &frame).await.map_err(|error| error.to_string())?;
        let bytes = read(&mut stream).await.map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => "it closed the connection without an answer: is it sealed with another key?".to_owned(),
            _ => error.to_string(),
        })?;
        if let Ok(content) = wire::unwrap(envelope.label, envelope.keyring.as_ref(), kind, &bytes) {
            return wire::decode(&content).map_err(|_| "its answer can't be read".to_owned());
        }
        // Whoever can't open the question may say so without a seal.
        let content = wire::unwrap(envelope.label, None, kind, &bytes).map_err(|_| "its answer is sealed with another key".to_owned())?;
        match wire::decode(&content) {
            Ok(Reply::Refused(why)) => Ok(Reply::Refused(why)),
            _ => Err("its answer is not sealed, although this pool is".to_owned()),
        }
    };
    timeout(EXCHANGE, asked).await.unwrap_or_else(|_| Err(format!("no answer within {EXCHANGE:?}")))
}

/// A question that has come, or why it could not be read.
pub(crate) enum Asked {
    /// What is asked, and what its answer is bound to.
    Question(Question, Mark),
    /// Where it is meant for another pool or sealed otherwise: the bytes to refuse it with.
    Dropped(Dropped, Option<Vec<u8>>),
}

/// Reads the question of whoever has connected.
pub(crate) async fn question(envelope: &Envelope, pool: &str, room: &Room, stream: &mut Stream) -> io::Result<Asked> {
    let late = |_| io::Error::from(io::ErrorKind::TimedOut);
    let asked = async {
        let length = timeout(FIRST, stream.read_u32()).await.map_err(late)??;
        read_question(stream, length, room).await
    };
    let (bytes, _taken) = match timeout(EXCHANGE, asked).await.map_err(late)? {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::InvalidData => return Ok(Asked::Dropped(Dropped::Oversized, None)),
        Err(error) if error.kind() == io::ErrorKind::QuotaExceeded => return Ok(Asked::Dropped(Dropped::Crowded, None)),
        Err(error) if error.get_ref().is_some_and(|inner| inner.is::<CutShort>()) => return Ok(Asked::Dropped(Dropped::Malformed, None)),
        Err(error) => return Err(error),
    };
    let dropped = match wire::unwrap(envelope.label, envelope.keyring.as_ref(), Kind::Question, &bytes) {
        Ok(content) => match wire::decode(&content) {
            Ok(question) => return Ok(Asked::Question(question, wire::mark(&bytes))),
            Err(dropped) => dropped,
        },
        Err(dropped) => dropped,
    };
    let why = match dropped {
        Dropped::OtherPool => format!(
            "this is the pool `{pool}`, and the request is for another one; datacenters are joined to each other by their servers, with `lictor join -wan`"
        ),
        Dropped::WrongKey if envelope.keyring.is_some() => {
            format!("the pool `{pool}` is sealed, and the request with none of its keys; give the pool's key with `-encrypt`")
        }
        Dropped::WrongKey => {
            format!("the pool `{pool}` is not sealed, and the request is; start without `-encrypt`, or give it to every member")
        }
        Dropped::Malformed | Dropped::Oversized | Dropped::Replayed | Dropped::Crowded | Dropped::OutOfBounds(_) => {
            return Ok(Asked::Dropped(dropped, None));
        }
    };
    let label = wire::label_of(&bytes).unwrap_or(envelope.label);
    Ok(Asked::Dropped(dropped, Some(wire::wrap(label, None, Kind::Reply(Mark::default()), &wire::encode(&Reply::Refused(why))))))
}

/// Sends the answer to the question with this mark.
pub(crate) async fn answer(envelope: &Envelope, stream: &mut Stream, mark: Mark, reply: &Reply) -> io::Result<()> {
    let frame = wire::wrap(envelope.label, envelope.keyring.as_ref(), Kind::Reply(mark), &wire::encode(reply));
    answer_bytes(stream, &frame).await
}

/// Sends bytes that are made up already.
pub(crate) async fn answer_bytes(stream: &mut Stream, frame: &[u8]) -> io::Result<()> {
    timeout(EXCHANGE, write(stream, frame)).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

async fn write(stream: &mut Stream, frame: &[u8]) -> io::Result<()> {
    let length = u32::try_from(frame.len()).ok().filter(|length| *length as usize <= FRAME_MAX);
    let length = length.ok_or_else(|| io::Error::other("the pool has become too large to be compared at once"))?;
    stream.write_all(&length.to_be_bytes()).await?;
    stream.write_all(frame).await?;
    stream.flush().await
}

async fn read(stream: &mut Stream) -> io::Result<Vec<u8>> {
    let length = stream.read_u32().await?;
    read_frame(stream, length).await
}

async fn read_frame(stream: &mut Stream, length: u32) -> io::Result<Vec<u8>> {
    let length = bounded(length)?;
    let mut bytes = Vec::new();
    read_up_to(stream, length, &mut bytes).await?;
    Ok(bytes)
}

fn bounded(length: u32) -> io::Result<usize> {
    let length = length as usize;
    if length > FRAME_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a frame of {length} bytes, and at most {FRAME_MAX} are taken")));
    }
    Ok(length)
}

/// Reads until there are `length` bytes. Memory is taken as bytes come, not as they are promised.
async fn read_up_to(stream: &mut Stream, length: usize, bytes: &mut Vec<u8>) -> io::Result<()> {
    let missing = length - bytes.len();
    stream.take(missing as u64).read_to_end(bytes).await?;
    if bytes.len() < length { Err(io::Error::new(io::ErrorKind::UnexpectedEof, CutShort)) } else { Ok(()) }
}

/// A question, and the room that it takes.
async fn read_question(stream: &mut Stream, length: u32, room: &Room) -> io::Result<(Vec<u8>, Option<OwnedSemaphorePermit>)> {
    let length = bounded(length)?;
    let mut bytes = Vec::new();
    read_up_to(stream, length.min(SMALL), &mut bytes).await?;
    let mut taken: Option<OwnedSemaphorePermit> = None;
    while bytes.len() < length {
        let piece = timeout(FIRST, room.pieces.clone().acquire_owned()).await;
        let piece = piece.map_err(|_| io::Error::from(io::ErrorKind::QuotaExceeded))?.expect("nobody closes it");
        match &mut taken {
            Some(taken) => taken.merge(piece),
            None => taken = Some(piece),
        }
        read_up_to(stream, length.min(bytes.len() + PIECE), &mut bytes).await?;
    }
    Ok((bytes, taken))
}

/// A frame that is not whole.
#[derive(Debug, thiserror::Error)]
#[error("the frame was cut short")]
struct CutShort;

#[cfg(test)]
mod tests {
    use tokio::io::DuplexStream;

    use super::*;
    use crate::keyring::Key;
    use crate::wire::KeyCommand;

    fn frame(envelope: &Envelope, key: usize) -> Vec<u8> {
        let question = wire::encode(&Question::Keys(KeyCommand::Install(vec![0; key])));
        let frame = wire::wrap(envelope.label, envelope.keyring.as_ref(), Kind::Question, &question);
        [&(frame.len() as u32).to_be_bytes()[..], &frame].concat()
    }

    #[tokio::test]
    async fn what_strangers_send_takes_bounded_room_and_small_questions_need_none() {
        const PIECES: usize = 4;
        let envelope = Arc::new(Envelope { label: 7, keyring: Some(crate::keyring::Keyring::new(Key::generate())) });
        let room = Arc::new(Room { pieces: Arc::new(Semaphore::new(PIECES)) });
        let asked = |room: &Arc<Room>| -> (DuplexStream, tokio::task::JoinHandle<io::Result<Asked>>) {
            let (near, far) = tokio::io::duplex(PIECE);
            let (envelope, room) = (envelope.clone(), room.clone());
            (near, tokio::spawn(async move { question(&envelope, "lan:dc1", &room, &mut (Box::new(far) as Stream)).await }))
        };
        let (mut stranger, held) = asked(&room);
        let promised = [&(FRAME_MAX as u32).to_be_bytes()[..], &vec![0; SMALL + (PIECES - 1) * PIECE + 1]].concat();
        stranger.write_all(&promised).await.unwrap();
        while room.pieces.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        let (mut small, answer) = asked(&room);
        small.write_all(&frame(&envelope, 100)).await.unwrap();
        assert!(matches!(answer.await.unwrap(), Ok(Asked::Question(..))), "a small question needs no room");
        let (mut large, answer) = asked(&room);
        let bytes = frame(&envelope, SMALL + PIECE);
        let written = tokio::spawn(async move { large.write_all(&bytes).await.map(|()| large) });
        drop(stranger);
        assert!(matches!(held.await.unwrap(), Ok(Asked::Dropped(Dropped::Malformed, None))));
        let _large = written.await.unwrap().unwrap();
        assert!(matches!(answer.await.unwrap(), Ok(Asked::Question(..))), "there is room for a large one when the stranger has gone");
        assert_eq!(room.pieces.available_permits(), PIECES, "all room is free again");
    }
}
