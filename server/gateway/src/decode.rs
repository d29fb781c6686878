//! JSON in, by the rules that Consul's clients are used to.
//!
//! Field names are compared without case, unknown fields are refused by name, `null` leaves a field
//! at its default, and what follows the first value is not looked at. An object is emptied field by
//! field; what is left at the end is what nobody knows.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};
use state::Str;

use crate::duration;

/// An object that is being taken apart. Errors are texts without the prefix that each endpoint
/// puts before them.
pub(crate) struct Object {
    fields: Map<String, Value>,
}

/// The first value in `body`.
pub(crate) fn parse(body: &[u8]) -> Result<Value, String> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Err("EOF".into());
    }
    Value::deserialize(&mut serde_json::Deserializer::from_slice(body)).map_err(|error| match error.is_eof() {
        true => "unexpected EOF".into(),
        false => format!("json: {error}"),
    })
}

impl Object {
    /// The object in `body`.
    pub(crate) fn parse(body: &[u8]) -> Result<Object, String> {
        Object::from_value(parse(body)?, "body")
    }

    pub(crate) fn from_value(value: Value, name: &str) -> Result<Object, String> {
        match value {
            Value::Object(fields) => Ok(Object { fields }),
            Value::Null => Ok(Object { fields: Map::new() }),
            other => Err(mismatch(&other, name, "object")),
        }
    }

    /// Takes a field out, unless it is absent or `null`.
    pub(crate) fn take(&mut self, name: &str) -> Option<Value> {
        let mut found = self.fields.remove(name);
        while let Some(alias) = self.fields.keys().find(|key| key.eq_ignore_ascii_case(name)).cloned() {
            let other = self.fields.remove(&alias);
            found = found.or(other);
        }
        found.filter(|value| !value.is_null())
    }

    /// Lets a field be known by an older name as well.
    pub(crate) fn alias(&mut self, old: &str, name: &str) {
        if let Some(value) = self.take(old) {
            self.fields.entry(name).or_insert(value);
        }
    }

    pub(crate) fn text(&mut self, name: &str) -> Result<Str, String> {
        match self.take(name) {
            None => Ok("".into()),
            Some(Value::String(text)) => Ok(text.into()),
            Some(other) => Err(mismatch(&other, name, "string")),
        }
    }

    /// A text that counts as absent when it is empty.
    pub(crate) fn some_text(&mut self, name: &str) -> Result<Option<Str>, String> {
        Ok(Some(self.text(name)?).filter(|text| !text.is_empty()))
    }

    pub(crate) fn flag(&mut self, name: &str) -> Result<bool, String> {
        Ok(self.some_flag(name)?.unwrap_or_default())
    }

    pub(crate) fn some_flag(&mut self, name: &str) -> Result<Option<bool>, String> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(flag)),
            Some(other) => Err(mismatch(&other, name, "bool")),
        }
    }

    pub(crate) fn number(&mut self, name: &str) -> Result<u64, String> {
        match self.take(name) {
            None => Ok(0),
            Some(value) => value.as_u64().ok_or_else(|| mismatch(&value, name, "uint64")),
        }
    }

    pub(crate) fn small_number(&mut self, name: &str) -> Result<u32, String> {
        let number = self.number(name)?;
        u32::try_from(number).map_err(|_| mismatch(&number.into(), name, "uint32"))
    }

    pub(crate) fn texts(&mut self, name: &str) -> Result<Vec<Str>, String> {
        self.take(name).map_or(Ok(Vec::new()), |value| texts(value, name))
    }

    pub(crate) fn pairs(&mut self, name: &str) -> Result<BTreeMap<Str, Str>, String> {
        let Some(object) = self.object(name)? else { return Ok(BTreeMap::new()) };
        let pair = |(key, value): (String, Value)| match value {
            Value::String(text) => Ok((key.into(), text.into())),
            Value::Null => Ok((key.into(), "".into())),
            other => Err(mismatch(&other, name, "string")),
        };
        object.fields.into_iter().map(pair).collect()
    }

    pub(crate) fn object(&mut self, name: &str) -> Result<Option<Object>, String> {
        self.take(name).map(|value| Object::from_value(value, name)).transpose()
    }

    pub(crate) fn objects(&mut self, name: &str) -> Result<Vec<Object>, String> {
        match self.take(name) {
            None => Ok(Vec::new()),
            Some(Value::Array(items)) => items.into_iter().map(|item| Object::from_value(item, name)).collect(),
            Some(other) => Err(mismatch(&other, name, "array")),
        }
    }

    /// Every field with its value.
    pub(crate) fn into_fields(self) -> impl Iterator<Item = (String, Value)> {
        self.fields.into_iter()
    }

    /// A duration in milliseconds: a text like `10s`, or a number of nanoseconds. Zero and the
    /// empty text count as absent. What is shorter than a millisecond counts as one.
    pub(crate) fn duration_ms(&mut self, name: &str) -> Result<Option<u64>, String> {
        let nanos = match self.take(name) {
            None => return Ok(None),
            Some(Value::String(text)) if text.is_empty() => return Ok(None),
            Some(Value::String(text)) => {
                let parsed = duration::parse(&text).ok_or_else(|| format!("time: invalid duration \"{text}\" in field {name}"))?;
                parsed.as_nanos() as f64
            }
            Some(value) => value.as_f64().ok_or_else(|| mismatch(&value, name, "duration"))?,
        };
        Ok((nanos > 0.0).then(|| (nanos / 1e6).max(1.0) as u64))
    }

    /// Takes a field of the service mesh, which nothing here implements; it may be sent as long as
    /// it says nothing.
    pub(crate) fn must_say_nothing(&mut self, name: &str) -> Result<(), String> {
        match self.take(name) {
            Some(value) if !says_nothing(&value) => Err(format!("field {name} is not supported by this build; leave it out")),
            _ => Ok(()),
        }
    }

    /// Refuses namespaces and partitions unless they are empty.
    pub(crate) fn no_enterprise(&mut self) -> Result<(), String> {
        for (name, feature) in [("Namespace", "Namespaces are"), ("Partition", "Partitions are")] {
            if !self.text(name)?.is_empty() {
                return Err(format!("Invalid field: \"{name}\" - {feature} a Consul Enterprise feature"));
            }
        }
        Ok(())
    }

    /// Refuses what nobody has taken.
    pub(crate) fn finish(self) -> Result<(), String> {
        match self.fields.keys().next() {
            None => Ok(()),
            Some(name) => Err(format!("json: unknown field \"{name}\"")),
        }
    }
}

/// The texts of a list.
pub(crate) fn texts(value: Value, name: &str) -> Result<Vec<Str>, String> {
    let text = |item: Value| match item {
        Value::String(text) => Ok(text.into()),
        Value::Null => Ok("".into()),
        other => Err(mismatch(&other, name, "string")),
    };
    match value {
        Value::Array(items) => items.into_iter().map(text).collect(),
        other => Err(mismatch(&other, name, "array of strings")),
    }
}

fn mismatch(value: &Value, name: &str, wanted: &str) -> String {
    let found = match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    format!("json: cannot unmarshal {found} into field {name} of type {wanted}")
}

fn says_nothing(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Bool(true) => false,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.iter().all(says_nothing),
        Value::Object(fields) => fields.values().all(says_nothing),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(text: &str) -> Object {
        Object::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn names_are_compared_without_case_and_null_is_absent() {
        let mut fields = object(r#"{"naMe":"x","PORT":7,"tags":["a"],"Meta":{"k":"v"},"ID":null,"On":true}"#);
        assert_eq!(&*fields.text("Name").unwrap(), "x");
        assert_eq!(fields.number("Port").unwrap(), 7);
        assert_eq!(fields.texts("Tags").unwrap(), ["a".into()]);
        assert_eq!(fields.pairs("Meta").unwrap().len(), 1);
        assert_eq!(&*fields.text("ID").unwrap(), "");
        assert!(fields.flag("On").unwrap());
        fields.finish().unwrap();
    }

    #[test]
    fn unknown_fields_and_wrong_types_are_named() {
        assert_eq!(object(r#"{"Foo":1}"#).finish(), Err("json: unknown field \"Foo\"".into()));
        let error = object(r#"{"Port":"x"}"#).number("Port").unwrap_err();
        assert_eq!(error, "json: cannot unmarshal string into field Port of type uint64");
        assert!(object(r#"{"Port":-1}"#).number("Port").is_err());
        assert!(object(r#"{"Port":4294967296}"#).small_number("Port").is_err());
    }

    #[test]
    fn broken_bodies_say_how() {
        let error = |text: &str| Object::parse(text.as_bytes()).map(drop).unwrap_err();
        assert_eq!(error(""), "EOF");
        assert_eq!(error(" \n"), "EOF");
        assert_eq!(error(r#"{"a":"#), "unexpected EOF");
        assert!(error("[1]").contains("cannot unmarshal array"));
        assert!(error("{]").starts_with("json: "));
        assert!(error(&"[".repeat(100_000)).contains("recursion"));
        Object::parse(br#"{} trailing"#).unwrap();
    }

    #[test]
    fn durations_are_texts_or_nanoseconds() {
        let read = |text: &str| object(&format!(r#"{{"T":{text}}}"#)).duration_ms("T");
        assert_eq!(read(r#""10s""#), Ok(Some(10_000)));
        assert_eq!(read("10000000000"), Ok(Some(10_000)));
        assert_eq!(read("1.5e9"), Ok(Some(1_500)));
        assert_eq!(read(r#""5us""#), Ok(Some(1)));
        assert_eq!(read(r#""""#), Ok(None));
        assert_eq!(read("0"), Ok(None));
        assert!(read(r#""soon""#).is_err());
        assert!(read("true").is_err());
    }

    #[test]
    fn fields_of_the_mesh_may_be_sent_empty() {
        let check = |text: &str| object(&format!(r#"{{"Proxy":{text}}}"#)).must_say_nothing("Proxy");
        assert_eq!(check(r#"{"Mode":"","Expose":{},"MeshGateway":{"Mode":""}}"#), Ok(()));
        assert!(check(r#"{"Mode":"transparent"}"#).is_err());
    }
}
