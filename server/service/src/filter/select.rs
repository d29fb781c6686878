//! How a filter looks into a row.

use std::collections::BTreeMap;

use state::{ServiceAddress, Str};

/// What stands at one place of a row.
#[derive(Clone, Copy, Debug)]
pub enum Value<'a> {
    /// A map that has no such key.
    Absent,
    /// A text.
    Text(&'a str),
    /// A whole number.
    Number(u64),
    /// True or false.
    Flag(bool),
    /// A list of texts.
    Texts(&'a [Str]),
    /// Texts by key.
    Pairs(&'a BTreeMap<Str, Str>),
    /// Addresses by key.
    Addresses(&'a BTreeMap<Str, ServiceAddress>),
    /// A list that can only be asked for emptiness.
    Length(usize),
}

impl Value<'_> {
    pub(super) fn is_empty(&self) -> bool {
        match self {
            Value::Absent => true,
            Value::Text(text) => text.is_empty(),
            Value::Texts(texts) => texts.is_empty(),
            Value::Pairs(pairs) => pairs.is_empty(),
            Value::Addresses(addresses) => addresses.is_empty(),
            Value::Length(length) => *length == 0,
            Value::Number(_) | Value::Flag(_) => false,
        }
    }

    pub(super) fn describe(&self) -> &'static str {
        match self {
            Value::Absent | Value::Text(_) => "a text",
            Value::Number(_) => "a number",
            Value::Flag(_) => "true or false",
            Value::Texts(_) => "a list of texts",
            Value::Pairs(_) | Value::Addresses(_) => "a map",
            Value::Length(_) => "a list",
        }
    }
}

/// What a selector leads to.
#[derive(Clone, Debug)]
pub enum Selected<'a> {
    /// One place.
    One(Value<'a>),
    /// The same place in each element of a list: a condition holds if it holds for one of them.
    Any(Vec<Value<'a>>),
}

/// A row that a filter can look into.
pub trait Selectable {
    /// What stands at the place that `head` and then `rest` lead to; `None` when rows of this kind
    /// have no such place.
    fn select<'a>(&'a self, head: &str, rest: &[Box<str>]) -> Option<Selected<'a>>;

    /// The same for an example row, whose maps are empty and whose lists have one element: by it
    /// filters are checked before there is any row.
    fn example(head: &str, rest: &[Box<str>]) -> Option<Selected<'static>>
    where
        Self: Sized;
}
