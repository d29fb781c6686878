//! Requests of the rows: templates in which a few digits change.

use prost::Message;
use proto::v1;

use crate::grpc::Call;
use crate::http1::Ask;

/// Digits of the number in a key.
const DIGITS: usize = 7;

/// The key with this number. All keys have the same length.
pub(crate) fn key(number: u64) -> String {
    format!("bench/{number:0DIGITS$}")
}

/// A value of this many bytes, at least 8; the first eight digits change from write to write, so that
/// no server finds that nothing has changed.
fn value(bytes: usize) -> Vec<u8> {
    let mut value = b"00000000".to_vec();
    value.extend((8..bytes).map(|at| b'a' + (at * 7 % 23) as u8));
    value
}

/// Which key comes next.
#[derive(Clone, Copy)]
pub(crate) enum Keys {
    /// Each in turn, beginning with 0.
    InTurn,
    /// Any of this many, evenly.
    AnyOf(u64),
}

/// A request whose key, and value if it has one, change from one to the next, in place.
pub(crate) struct Template {
    path: &'static str,
    bytes: Vec<u8>,
    key_at: usize,
    value_at: Option<usize>,
    keys: Keys,
    count: u64,
    random: u64,
    answer_bytes_min: usize,
}

impl Template {
    /// Around a request for key 0.
    fn new(path: &'static str, bytes: Vec<u8>, with_value: Option<&[u8]>, keys: Keys) -> Template {
        let find = |part: &[u8]| bytes.windows(part.len()).position(|window| window == part);
        let key_at = find(key(0).as_bytes()).expect("the request holds its key") + key(0).len() - DIGITS;
        let value_at = with_value.map(|value| find(value).expect("the request holds its value"));
        Template { path, bytes, key_at, value_at, keys, count: 0, random: 0x9e37_79b9_7f4a_7c15, answer_bytes_min: 1 }
    }

    /// Durable puts to Lictor.
    pub(crate) fn lictor_put(value_bytes: usize, keys: Keys) -> Template {
        let value = value(value_bytes);
        let request = v1::PutRequest { key: key(0).into(), value: value.clone().into(), ..Default::default() };
        Template::new("/lictor.v1.KvService/Put", request.encode_to_vec(), Some(&value), keys)
    }

    /// Linearizable gets from Lictor, of values of at least this many bytes.
    pub(crate) fn lictor_get(keys: Keys, value_bytes: usize) -> Template {
        let options = v1::ReadOptions { consistency: v1::Consistency::Linearizable.into(), ..Default::default() };
        let request = v1::GetRequest { options: Some(options), key: key(0).into() };
        Template::new("/lictor.v1.KvService/Get", request.encode_to_vec(), None, keys).answered_with(value_bytes)
    }

    /// Durable puts to etcd.
    pub(crate) fn etcd_put(value_bytes: usize, keys: Keys) -> Template {
        let value = value(value_bytes);
        let request = crate::etcd::PutRequest { key: key(0).into(), value: value.clone() };
        Template::new(crate::etcd::PUT, request.encode_to_vec(), Some(&value), keys)
    }

    /// Linearizable gets from etcd, which is what it does unless told otherwise.
    pub(crate) fn etcd_get(keys: Keys, value_bytes: usize) -> Template {
        let request = crate::etcd::RangeRequest { key: key(0).into() };
        Template::new(crate::etcd::RANGE, request.encode_to_vec(), None, keys).answered_with(value_bytes)
    }

    /// Linearizable gets over HTTP. A value is answered in JSON as Base64, four bytes for three.
    pub(crate) fn http_get(keys: Keys, value_bytes: usize) -> Template {
        let request = format!("GET /v1/kv/{}?consistent HTTP/1.1\r\nHost: localhost\r\n\r\n", key(0));
        Template::new("/v1/kv", request.into_bytes(), None, keys).answered_with(value_bytes * 4 / 3)
    }

    fn answered_with(self, answer_bytes_min: usize) -> Template {
        Template { answer_bytes_min, ..self }
    }

    fn advance(&mut self) -> &[u8] {
        let number = match self.keys {
            Keys::InTurn => self.count,
            Keys::AnyOf(keys) => self.draw() % keys,
        };
        self.count += 1;
        decimal(&mut self.bytes[self.key_at..self.key_at + DIGITS], number);
        if let Some(at) = self.value_at {
            decimal(&mut self.bytes[at..at + 8], self.count);
        }
        &self.bytes
    }

    /// The next number of xorshift.
    fn draw(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }
}

impl Call for Template {
    fn path(&self) -> &'static str {
        self.path
    }

    fn request(&mut self) -> &[u8] {
        self.advance()
    }

    fn answer_bytes_min(&self) -> usize {
        self.answer_bytes_min
    }
}

impl Ask for Template {
    fn request(&mut self) -> &[u8] {
        self.advance()
    }

    fn answer_bytes_min(&self) -> usize {
        self.answer_bytes_min
    }
}

/// One request over and over.
pub(crate) struct Same {
    /// The request, whole.
    pub(crate) request: Vec<u8>,
    /// Least size of a good answer's body.
    pub(crate) answer_bytes_min: usize,
}

impl Ask for Same {
    fn request(&mut self) -> &[u8] {
        &self.request
    }

    fn answer_bytes_min(&self) -> usize {
        self.answer_bytes_min
    }
}

/// Writes a number with leading zeros, or the last digits of one that is too large.
fn decimal(place: &mut [u8], mut number: u64) {
    for digit in place.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_request_of_a_template_is_valid_and_its_own() {
        let mut puts = Template::lictor_put(256, Keys::InTurn);
        let decoded = |bytes: &[u8]| v1::PutRequest::decode(bytes).unwrap();
        let first = decoded(puts.advance());
        let second = decoded(puts.advance());
        assert_eq!((first.key, second.key), (key(0).into(), key(1).into()));
        assert_eq!((first.value.len(), second.value.len()), (256, 256));
        assert_ne!(first.value, second.value);
    }

    #[test]
    fn random_keys_stay_in_their_range_and_differ() {
        let mut gets = Template::lictor_get(Keys::AnyOf(1000), 1);
        let keys: std::collections::BTreeSet<_> = (0..1000).map(|_| v1::GetRequest::decode(gets.advance()).unwrap().key).collect();
        assert!(keys.len() > 500);
        assert!(keys.iter().all(|found| *found < key(1000)));
    }
}
