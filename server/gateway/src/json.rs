//! JSON out: a writer that appends to one buffer, and the shapes of the answers.
//!
//! Answers are written by hand, field by field, in the order in which people know them: nothing is
//! copied into an intermediate tree, and a list of a thousand instances is one pass.

pub(crate) mod agent;
pub(crate) mod catalog;
pub(crate) mod check;
pub(crate) mod kv;
mod pretty;
pub(crate) mod session;

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use state::Str;

pub(crate) use pretty::Indenter;

/// A buffer of JSON under construction. Commas are put where they belong by looking at what was
/// written last.
#[derive(Default)]
pub(crate) struct Json {
    pub(crate) out: Vec<u8>,
}

impl Json {
    pub(crate) fn new() -> Self {
        Json { out: Vec::with_capacity(256) }
    }

    pub(crate) fn with_capacity(bytes: usize) -> Self {
        Json { out: Vec::with_capacity(bytes) }
    }

    /// Puts a comma unless a value begins a list, an object, or follows a name.
    fn separate(&mut self) {
        if !matches!(self.out.last(), None | Some(b'{' | b'[' | b':' | b',' | b'\n')) {
            self.out.push(b',');
        }
    }

    pub(crate) fn object(&mut self, fields: impl FnOnce(&mut Json)) -> &mut Self {
        self.separate();
        self.out.push(b'{');
        fields(self);
        self.out.push(b'}');
        self
    }

    pub(crate) fn array(&mut self, items: impl FnOnce(&mut Json)) -> &mut Self {
        self.separate();
        self.out.push(b'[');
        items(self);
        self.out.push(b']');
        self
    }

    /// A name of ours, which needs no escapes.
    pub(crate) fn name(&mut self, name: &'static str) -> &mut Self {
        self.separate();
        self.out.push(b'"');
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
        self
    }

    /// A name that is data.
    pub(crate) fn key(&mut self, name: &str) -> &mut Self {
        self.text(name);
        self.out.push(b':');
        self
    }

    pub(crate) fn text(&mut self, text: &str) -> &mut Self {
        self.separate();
        self.out.push(b'"');
        escape(&mut self.out, text.as_bytes());
        self.out.push(b'"');
        self
    }

    /// Bytes that are text by custom; what is not UTF-8 is replaced.
    pub(crate) fn lossy(&mut self, bytes: &[u8]) -> &mut Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => self.text(text),
            Err(_) => self.text(&String::from_utf8_lossy(bytes)),
        }
    }

    pub(crate) fn number(&mut self, number: u64) -> &mut Self {
        self.separate();
        self.out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
        self
    }

    /// A number that may have a fraction; what is not a number becomes `null`.
    pub(crate) fn float(&mut self, number: f64) -> &mut Self {
        if !number.is_finite() {
            return self.raw("null");
        }
        let text = number.to_string();
        self.raw(&text)
    }

    pub(crate) fn flag(&mut self, flag: bool) -> &mut Self {
        self.raw(if flag { "true" } else { "false" })
    }

    /// A value that is JSON already.
    pub(crate) fn raw(&mut self, json: &str) -> &mut Self {
        self.separate();
        self.out.extend_from_slice(json.as_bytes());
        self
    }

    /// Bytes in base64; none are `null`.
    pub(crate) fn base64(&mut self, bytes: &[u8]) -> &mut Self {
        if bytes.is_empty() {
            return self.raw("null");
        }
        self.separate();
        self.out.push(b'"');
        let start = self.out.len();
        self.out.resize(start + bytes.len().div_ceil(3) * 4, 0);
        let written = STANDARD.encode_slice(bytes, &mut self.out[start..]).expect("the room was made for exactly this");
        debug_assert_eq!(start + written, self.out.len());
        self.out.push(b'"');
        self
    }

    pub(crate) fn texts(&mut self, texts: &[Str]) -> &mut Self {
        self.array(|json| {
            for text in texts {
                json.text(text);
            }
        })
    }

    pub(crate) fn pairs(&mut self, pairs: &BTreeMap<Str, Str>) -> &mut Self {
        self.object(|json| {
            for (key, value) in pairs {
                json.key(key).text(value);
            }
        })
    }

    /// An empty object after a name.
    pub(crate) fn nothing(&mut self) -> &mut Self {
        self.raw("{}")
    }
}

fn escape(out: &mut Vec<u8>, text: &[u8]) {
    let mut rest = text;
    while let Some(at) = rest.iter().position(|byte| *byte < 0x20 || matches!(byte, b'"' | b'\\' | 0x7f)) {
        out.extend_from_slice(&rest[..at]);
        match rest[at] {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            byte => out.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
        }
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commas_and_escapes_are_in_their_places() {
        let mut json = Json::new();
        json.object(|json| {
            json.name("a").array(|json| {
                json.number(1).text("x\"\\\n\u{1}é").flag(true).object(|_| ()).array(|_| ());
            });
            json.name("b").raw("null").name("c").base64(b"").name("d").base64(b"hi!!").key("e,").float(1.5);
        });
        let text = String::from_utf8(json.out).unwrap();
        assert_eq!(text, r#"{"a":[1,"x\"\\\n\u0001é",true,{},[]],"b":null,"c":null,"d":"aGkhIQ==","e,":1.5}"#);
        serde_json::from_str::<serde_json::Value>(&text).unwrap();
    }

    proptest::proptest! {
        #[test]
        fn any_text_reads_back(text in "\\PC*|[\\x00-\\x7f]*") {
            let mut json = Json::new();
            json.text(&text);
            proptest::prop_assert_eq!(serde_json::from_slice::<String>(&json.out).unwrap(), text);
        }
    }
}
