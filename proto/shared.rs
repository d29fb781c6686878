//! One change, many watches: its bytes are made once, and only what differs is added to each.
//!
//! A message in Protocol Buffers is the sequence of its fields, so a message may be sent as two
//! pieces: a *head*, which is small and made for one watch, and a *body*, which is large and shared
//! by all. [`Encoded`] is such a message and [`Codec`] is what every server here encodes with; a
//! client cannot tell the difference.

use std::fmt;
use std::marker::PhantomData;

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint};
use tonic::Status;
use tonic::codec::{BufferSettings, EncodeBuf, Encoder};
use tonic_prost::ProstDecoder;

use crate::v1;

/// A message of type `M` that is encoded already, in two pieces.
///
/// Cloning is cheap and shares the bytes.
pub struct Encoded<M> {
    head: Bytes,
    body: Bytes,
    message: PhantomData<fn() -> M>,
}

impl<M: Message> Encoded<M> {
    /// Encodes a whole message, for one that is sent once.
    pub fn whole(message: &M) -> Self {
        Self::new(Bytes::new(), message.encode_to_vec().into())
    }

    /// Joins a message in which only some fields are set with the encoding of the others.
    ///
    /// The body is the encoding of a message of the same type, and sets no field that `head` sets.
    pub fn joined(head: &M, body: Bytes) -> Self {
        Self::new(head.encode_to_vec().into(), body)
    }
}

impl<M> Encoded<M> {
    fn new(head: Bytes, body: Bytes) -> Self {
        Self { head, body, message: PhantomData }
    }

    /// The size of the message, in bytes.
    pub fn encoded_len(&self) -> usize {
        self.head.len() + self.body.len()
    }

    /// Puts the message inside another one, which has it as its only field.
    ///
    /// The body stays shared: the simple watch streams send what `WatchService.Watch` sends.
    pub fn wrapped<W: Wraps<M>>(self) -> Encoded<W> {
        let length = self.encoded_len() as u64;
        let mut head = BytesMut::with_capacity(2 + encoded_len_varint(length) + self.head.len());
        encode_key(W::TAG, WireType::LengthDelimited, &mut head);
        encode_varint(length, &mut head);
        head.put_slice(&self.head);
        Encoded::new(head.freeze(), self.body)
    }
}

impl<M> Clone for Encoded<M> {
    fn clone(&self) -> Self {
        Self::new(self.head.clone(), self.body.clone())
    }
}

impl<M> fmt::Debug for Encoded<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encoded").field("head", &self.head.len()).field("body", &self.body.len()).finish()
    }
}

/// A message that consists of one message of type `M`.
pub trait Wraps<M> {
    /// Number of the field that holds it.
    const TAG: u32;
}

macro_rules! wraps_watch_response {
    ($($wrapper:ident),*) => {
        $(impl Wraps<v1::WatchResponse> for v1::$wrapper {
            const TAG: u32 = 1;
        })*
    };
}

wraps_watch_response!(KvServiceWatchResponse, WatchServicesResponse, WatchNodesResponse, WatchServiceResponse);

/// What a server may answer with: a message, or one that is [`Encoded`] already.
pub trait Reply: Send + 'static {
    /// Writes the encoding of the whole message.
    fn write(self, buffer: &mut EncodeBuf<'_>);

    /// How much memory a call sets aside for its messages, and how many bytes it gathers before
    /// it sends.
    fn buffers() -> BufferSettings;
}

impl<M: Message + 'static> Reply for M {
    fn write(self, buffer: &mut EncodeBuf<'_>) {
        self.encode(buffer).expect("the buffer grows as needed");
    }

    /// Most messages are small, and a call lives shortly: to set aside the usual 8 KiB on each side of
    /// it costs more than to grow for those that are larger.
    fn buffers() -> BufferSettings {
        BufferSettings::new(1024, 32 * 1024)
    }
}

impl<M: 'static> Reply for Encoded<M> {
    fn write(self, buffer: &mut EncodeBuf<'_>) {
        buffer.put_slice(&self.head);
        buffer.put_slice(&self.body);
    }

    /// A watch mostly waits, and there are many: it sets aside little, and grows when it must.
    fn buffers() -> BufferSettings {
        BufferSettings::new(512, 32 * 1024)
    }
}

/// The codec of every server: decodes requests of type `Q`, encodes replies of type `R`.
pub struct Codec<R, Q>(PhantomData<fn() -> (R, Q)>);

impl<R, Q> Default for Codec<R, Q> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<R, Q> fmt::Debug for Codec<R, Q> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Codec")
    }
}

impl<R: Reply, Q: Message + Default + 'static> tonic::codec::Codec for Codec<R, Q> {
    type Encode = R;
    type Decode = Q;
    type Encoder = ReplyEncoder<R>;
    type Decoder = ProstDecoder<Q>;

    fn encoder(&mut self) -> Self::Encoder {
        ReplyEncoder(PhantomData)
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstDecoder::new(R::buffers())
    }
}

/// Encodes replies of type `R`.
pub struct ReplyEncoder<R>(PhantomData<fn() -> R>);

impl<R> fmt::Debug for ReplyEncoder<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReplyEncoder")
    }
}

impl<R: Reply> Encoder for ReplyEncoder<R> {
    type Item = R;
    type Error = Status;

    fn encode(&mut self, reply: R, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        reply.write(buffer);
        Ok(())
    }

    fn buffer_settings(&self) -> BufferSettings {
        R::buffers()
    }
}

#[cfg(test)]
mod tests;
