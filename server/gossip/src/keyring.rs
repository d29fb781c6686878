//! Keys that packets between members are sealed with (AES-GCM, NIST SP 800-38D).
//!
//! The first key seals; all of them open. So a key is changed in three steps that each may take
//! their time: install the new one everywhere, use it everywhere, remove the old one everywhere.

use aes_gcm::aead::AeadInPlace;
use aes_gcm::aead::generic_array::typenum::U12;
use aes_gcm::{AesGcm, KeyInit};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

/// Most keys in a ring.
const KEYS_MAX: usize = 16;

/// One key: 16, 24 or 32 bytes.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(Vec<u8>);

/// Why a key can't be one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadKey {
    /// It is not base64.
    #[error("a key is 16, 24 or 32 bytes in base64, as `lictor keygen` prints it: {0}")]
    NotBase64(String),
    /// It is too short or too long.
    #[error("a key has 16, 24 or 32 bytes, and this one has {0}; make one with `lictor keygen`")]
    Length(usize),
}

impl Key {
    /// Reads a key from base64.
    pub fn from_base64(text: &str) -> Result<Key, BadKey> {
        Key::from_bytes(STANDARD.decode(text.trim()).map_err(|error| BadKey::NotBase64(error.to_string()))?)
    }

    /// Takes bytes for a key.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Key, BadKey> {
        match bytes.len() {
            16 | 24 | 32 => Ok(Key(bytes)),
            other => Err(BadKey::Length(other)),
        }
    }

    /// A new key of 32 bytes.
    pub fn generate() -> Key {
        Key(rand::random::<[u8; 32]>().to_vec())
    }

    /// The key as base64.
    pub fn to_base64(&self) -> String {
        STANDARD.encode(&self.0)
    }

    fn cipher(&self) -> Cipher {
        let bound =
            |algorithm| LessSafeKey::new(UnboundKey::new(algorithm, &self.0).expect("the algorithm was chosen by the key's length"));
        match self.0.len() {
            16 => Cipher::Ring(Box::new(bound(&AES_128_GCM))),
            24 => Cipher::Aes192(Box::new(Aes192Gcm::new_from_slice(&self.0).expect("the key has 24 bytes"))),
            _ => Cipher::Ring(Box::new(bound(&AES_256_GCM))),
        }
    }
}

/// AES-GCM with a key of 192 bits, which `ring` does not have.
type Aes192Gcm = AesGcm<aes_gcm::aes::Aes192, U12>;

/// A key made ready.
enum Cipher {
    Ring(Box<LessSafeKey>),
    Aes192(Box<Aes192Gcm>),
}

impl Cipher {
    /// Seals `buffer` in place and puts the tag behind it.
    fn seal(&self, nonce: [u8; NONCE_LEN], context: &[u8], buffer: &mut Vec<u8>) {
        let sealed = match self {
            Cipher::Ring(key) => {
                key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(context), buffer).map_err(drop)
            }
            Cipher::Aes192(key) => key.encrypt_in_place(&nonce.into(), context, buffer).map_err(drop),
        };
        sealed.expect("a message is far below the cipher's bound");
    }

    /// Opens `buffer` in place and takes the tag off. `None` when it was sealed otherwise.
    fn open(&self, nonce: [u8; NONCE_LEN], context: &[u8], buffer: &mut Vec<u8>) -> Option<()> {
        match self {
            Cipher::Ring(key) => {
                let plain = key.open_in_place(Nonce::assume_unique_for_key(nonce), Aad::from(context), buffer).ok()?.len();
                buffer.truncate(plain);
                Some(())
            }
            Cipher::Aes192(key) => key.decrypt_in_place(&nonce.into(), context, buffer).ok(),
        }
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(..)")
    }
}

/// The keys of a member, the one that seals first.
#[derive(Clone, Debug)]
pub struct Keyring {
    keys: Vec<Key>,
}

impl Keyring {
    /// A ring of one key.
    pub fn new(primary: Key) -> Self {
        Keyring { keys: vec![primary] }
    }

    /// A ring of several, the one that seals first. `None` without any.
    pub fn from_keys(keys: Vec<Key>) -> Option<Self> {
        (!keys.is_empty()).then_some(Keyring { keys })
    }

    /// The keys, the one that seals first.
    pub fn keys(&self) -> &[Key] {
        &self.keys
    }

    /// Adds a key that opens. Adding one that is there changes nothing.
    pub fn install(&mut self, key: Key) -> Result<(), String> {
        if self.keys.contains(&key) {
            return Ok(());
        }
        if self.keys.len() == KEYS_MAX {
            return Err(format!("the ring holds {KEYS_MAX} keys already; remove one that is not used any more"));
        }
        self.keys.push(key);
        Ok(())
    }

    /// Makes a key the one that seals.
    pub fn use_key(&mut self, key: &Key) -> Result<(), String> {
        let at = self.keys.iter().position(|known| known == key).ok_or("the key is not in the ring; install it first")?;
        let key = self.keys.remove(at);
        self.keys.insert(0, key);
        Ok(())
    }

    /// Takes a key out. The one that seals has to stay.
    pub fn remove(&mut self, key: &Key) -> Result<(), String> {
        if self.keys.first() == Some(key) {
            return Err("the key is the one that is used; use another one first".into());
        }
        self.keys.retain(|known| known != key);
        Ok(())
    }

    /// Seals `plain`, bound to `context`.
    pub(crate) fn seal(&self, plain: &[u8], context: &[u8]) -> Vec<u8> {
        let nonce: [u8; NONCE_LEN] = rand::random();
        let mut sealed = plain.to_vec();
        self.keys[0].cipher().seal(nonce, context, &mut sealed);
        let mut bytes = nonce.to_vec();
        bytes.append(&mut sealed);
        bytes
    }

    /// Opens what any of the keys has sealed.
    pub(crate) fn open(&self, bytes: &[u8], context: &[u8]) -> Option<Vec<u8>> {
        let (nonce, sealed) = bytes.split_at_checked(NONCE_LEN)?;
        let nonce: [u8; NONCE_LEN] = nonce.try_into().ok()?;
        self.keys.iter().find_map(|key| {
            let mut buffer = sealed.to_vec();
            key.cipher().open(nonce, context, &mut buffer)?;
            Some(buffer)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_changed_in_three_steps_without_a_gap() {
        let (old, new) = (Key::generate(), Key::from_bytes(vec![7; 16]).unwrap());
        let (mut a, mut b) = (Keyring::new(old.clone()), Keyring::new(old.clone()));
        let talk = |from: &Keyring, to: &Keyring| to.open(&from.seal(b"hello", b"x"), b"x").as_deref() == Some(b"hello");
        assert!(talk(&a, &b));
        a.install(new.clone()).unwrap();
        assert!(a.use_key(&Key::generate()).is_err());
        b.install(new.clone()).unwrap();
        a.use_key(&new).unwrap();
        assert!(talk(&a, &b) && talk(&b, &a));
        assert!(a.remove(&new).unwrap_err().contains("is used"));
        b.use_key(&new).unwrap();
        a.remove(&old).unwrap();
        assert!(talk(&a, &b) && talk(&b, &a));
        assert!(!talk(&Keyring::new(old), &a), "the old key opens nothing any more");
    }

    #[test]
    fn a_changed_byte_or_another_context_opens_nothing() {
        for length in [16, 24, 32] {
            let ring = Keyring::new(Key::from_bytes(vec![9; length]).unwrap());
            let sealed = ring.seal(b"hello", b"dc1");
            assert_eq!(ring.open(&sealed, b"dc1").as_deref(), Some(&b"hello"[..]), "a key of {length} bytes opens what it sealed");
            for at in 0..sealed.len() {
                let mut changed = sealed.clone();
                changed[at] ^= 1;
                assert_eq!(ring.open(&changed, b"dc1"), None);
            }
            assert_eq!(ring.open(&sealed, b"dc2"), None);
            assert_eq!(ring.open(b"short", b"dc1"), None);
        }
    }

    /// A vector that others agree on: case 10 of the annex of McGrew and Viega's submission of GCM to NIST.
    #[test]
    fn a_key_of_24_bytes_seals_as_the_standard_says() {
        let bytes =
            |hex: &str| -> Vec<u8> { (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect() };
        let key = Key::from_bytes(bytes("feffe9928665731c6d6a8f9467308308feffe9928665731c")).unwrap();
        let mut buffer = bytes(concat!(
            "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72",
            "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39",
        ));
        let nonce: [u8; NONCE_LEN] = bytes("cafebabefacedbaddecaf888").try_into().unwrap();
        let context = bytes("feedfacedeadbeeffeedfacedeadbeefabaddad2");
        key.cipher().seal(nonce, &context, &mut buffer);
        let sealed = concat!(
            "3980ca0b3c00e841eb06fac4872a2757859e1ceaa6efd984628593b40ca1e19c",
            "7d773d00c144c525ac619d18c84a3f4718e2448b2fe324d9ccda2710",
            "2519498e80f1478f37ba55bd6d27618c",
        );
        assert_eq!(buffer, bytes(sealed));
    }

    #[test]
    fn a_key_of_the_wrong_length_is_refused() {
        assert_eq!(Key::from_base64("AAAA").unwrap_err(), BadKey::Length(3));
        assert_eq!(Key::from_bytes(vec![0; 20]).unwrap_err(), BadKey::Length(20));
        assert!(matches!(Key::from_base64("???").unwrap_err(), BadKey::NotBase64(_)));
        let key = Key::generate();
        assert_eq!(Key::from_base64(&key.to_base64()).unwrap(), key);
    }
}
