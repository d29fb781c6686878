//! Configuration text as a tree that remembers its lines: HCL, or JSON with the same keys.
//!
//! HCL is read as operators have written it for Consul for years, which is its first version:
//! quoted keys in blocks (`service_ttl { "*" = "0s" }`), optional commas, labels, heredocs, three
//! kinds of comments. Every key and value carries its line, so that a mistake can be shown.

use std::iter::Peekable;
use std::str::CharIndices;

/// Deepest nesting that is read; more is refused rather than risking the stack.
const DEPTH_MAX: usize = 64;

/// A value and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Node {
    /// Line of its first character, from 1.
    pub(crate) line: usize,
    /// The value.
    pub(crate) value: Value,
}

/// What a file can say.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    /// JSON's `null`: as if the key were not there.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Integer(i64),
    /// Any other number.
    Float(f64),
    /// A string or heredoc.
    Text(String),
    /// Values in brackets.
    List(Vec<Node>),
    /// A block or object. A key may stand there several times.
    Map(Vec<Field>),
}

impl Value {
    /// What it is, for people.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Value::Null => "null",
            Value::Bool(_) => "a boolean",
            Value::Integer(_) => "a number",
            Value::Float(_) => "a fraction",
            Value::Text(_) => "a string",
            Value::List(_) => "a list",
            Value::Map(_) => "a block",
        }
    }
}

/// A key with its value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Field {
    /// The key as it is written.
    pub(crate) key: String,
    /// Line of the key, from 1.
    pub(crate) line: usize,
    /// The value.
    pub(crate) value: Node,
}

/// Text that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SyntaxError {
    /// Where, from 1.
    pub(crate) line: usize,
    /// What is wrong.
    pub(crate) message: String,
}

/// Reads a whole file. Text that begins with `{` is JSON, anything else HCL.
pub(crate) fn parse(text: &str) -> Result<Vec<Field>, SyntaxError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let json = text.trim_start().starts_with('{');
    if json {
        serde_json::from_str::<serde::de::IgnoredAny>(text)
            .map_err(|error| SyntaxError { line: error.line().max(1), message: format!("not valid JSON: {error}") })?;
    }
    let mut parser = Parser { text, rest: text.char_indices().peekable(), line: 1 };
    if !json {
        return parser.fields(None, 0);
    }
    parser.blank()?;
    match parser.value(0)?.value {
        Value::Map(fields) => Ok(fields),
        _ => Err(parser.error("a file holds one JSON object")),
    }
}

struct Parser<'a> {
    text: &'a str,
    rest: Peekable<CharIndices<'a>>,
    line: usize,
}

impl<'a> Parser<'a> {
    /// Keys and values up to `end`, which is consumed, or up to the end of the text.
    fn fields(&mut self, end: Option<char>, depth: usize) -> Result<Vec<Field>, SyntaxError> {
        let opened = self.line;
        let mut fields = Vec::new();
        loop {
            self.blank()?;
            match (self.peek(), end) {
                (None, None) => return Ok(fields),
                (None, Some(end)) => return Err(self.error(format!("`{end}` is missing for the block that begins in line {opened}"))),
                (Some(found), Some(end)) if found == end => {
                    self.next();
                    return Ok(fields);
                }
                (Some(','), _) => {
                    self.next();
                }
                _ => fields.push(self.field(depth)?),
            }
        }
    }

    /// One key with its value: `key = value`, `key: value`, `key { … }` or `key "label" { … }`.
    fn field(&mut self, depth: usize) -> Result<Field, SyntaxError> {
        let line = self.line;
        let key = self.key()?;
        self.blank()?;
        let value = match self.peek() {
            Some('=' | ':') => {
                self.next();
                self.blank()?;
                self.value(depth + 1)?
            }
            Some('{') => self.value(depth + 1)?,
            Some('"') if depth < DEPTH_MAX => {
                let labelled = self.field(depth + 1)?;
                Node { line, value: Value::Map(vec![labelled]) }
            }
            _ => return Err(self.error(format!("`=` or `{{` is missing after `{key}`"))),
        };
        Ok(Field { key, line, value })
    }

    fn key(&mut self) -> Result<String, SyntaxError> {
        match self.peek() {
            Some('"') => self.string(),
            Some(first) if first.is_alphabetic() || first == '_' => Ok(self.word().to_owned()),
            Some(other) => Err(self.error(format!("a key is expected, found `{other}`"))),
            None => Err(self.error("a key is expected, found the end of the file")),
        }
    }

    fn value(&mut self, depth: usize) -> Result<Node, SyntaxError> {
        if depth > DEPTH_MAX {
            return Err(self.error(format!("blocks are nested more than {DEPTH_MAX} deep")));
        }
        let line = self.line;
        let value = match self.peek() {
            Some('"') => Value::Text(self.string()?),
            Some('<') => Value::Text(self.heredoc()?),
            Some('[') => Value::List(self.list(depth)?),
            Some('{') => {
                self.next();
                Value::Map(self.fields(Some('}'), depth)?)
            }
            Some(first) if first.is_alphanumeric() || matches!(first, '-' | '+' | '.') => self.literal()?,
            Some(other) => return Err(self.error(format!("a value is expected, found `{other}`"))),
            None => return Err(self.error("a value is expected, found the end of the file")),
        };
        Ok(Node { line, value })
    }

    fn list(&mut self, depth: usize) -> Result<Vec<Node>, SyntaxError> {
        let opened = self.line;
        self.next();
        let mut items = Vec::new();
        loop {
            self.blank()?;
            match self.peek() {
                None => return Err(self.error(format!("`]` is missing for the list that begins in line {opened}"))),
                Some(']') => {
                    self.next();
                    return Ok(items);
                }
                Some(',') => {
                    self.next();
                }
                _ => items.push(self.value(depth + 1)?),
            }
        }
    }

    fn literal(&mut self) -> Result<Value, SyntaxError> {
        let word = self.word();
        let hex = |digits| i64::from_str_radix(digits, 16).ok();
        match word {
            "true" => Ok(Value::Bool(true)),
            "false" => Ok(Value::Bool(false)),
            "null" => Ok(Value::Null),
            _ => word
                .strip_prefix("0x")
                .and_then(hex)
                .or_else(|| word.parse().ok())
                .map(Value::Integer)
                .or_else(|| word.starts_with(|c: char| !c.is_alphabetic()).then(|| word.parse().ok()).flatten().map(Value::Float))
                .ok_or_else(|| self.error(format!("`{word}` is not a value; strings stand in double quotes"))),
        }
    }

    /// A run of the characters that keys and numbers are made of.
    fn word(&mut self) -> &'a str {
        let start = self.position();
        while self.peek().is_some_and(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '+')) {
            self.next();
        }
        &self.text[start..self.position()]
    }

    fn string(&mut self) -> Result<String, SyntaxError> {
        let opened = self.line;
        self.next();
        let mut text = String::new();
        loop {
            match self.next() {
                Some('"') => return Ok(text),
                Some('\\') => text.push(self.escape()?),
                Some('\n') | None => {
                    return Err(SyntaxError { line: opened, message: "the closing quote of a string is missing".into() });
                }
                Some(other) => text.push(other),
            }
        }
    }

    fn escape(&mut self) -> Result<char, SyntaxError> {
        match self.next() {
            Some('n') => Ok('\n'),
            Some('t') => Ok('\t'),
            Some('r') => Ok('\r'),
            Some('b') => Ok('\u{8}'),
            Some('f') => Ok('\u{c}'),
            Some(same @ ('"' | '\\' | '/')) => Ok(same),
            Some('u') => self.unicode(),
            _ => Err(self.error("unknown escape in a string; a backslash itself is written `\\\\`")),
        }
    }

    /// What follows `\u`: four hexadecimal digits, twice for characters beyond the first plane.
    fn unicode(&mut self) -> Result<char, SyntaxError> {
        let first = self.hex4()?;
        let code = if (0xd800..0xdc00).contains(&first) && self.next() == Some('\\') && self.next() == Some('u') {
            0x10000 + ((first - 0xd800) << 10) + (self.hex4()?.wrapping_sub(0xdc00) & 0x3ff)
        } else {
            first
        };
        char::from_u32(code).ok_or_else(|| self.error("`\\u` does not name a character"))
    }

    fn hex4(&mut self) -> Result<u32, SyntaxError> {
        (0..4).try_fold(0, |code, _| {
            let digit = self.next().and_then(|c| c.to_digit(16)).ok_or_else(|| self.error("`\\u` needs four hexadecimal digits"))?;
            Ok(code * 16 + digit)
        })
    }

    /// `<<END … END`; with `<<-END` the common indentation is taken off.
    fn heredoc(&mut self) -> Result<String, SyntaxError> {
        let opened = self.line;
        let missing = |marker: &str| SyntaxError { line: opened, message: format!("the line `{marker}` that ends a heredoc is missing") };
        self.next();
        if self.next() != Some('<') {
            return Err(self.error("a heredoc begins with `<<` and a word"));
        }
        let start = self.position();
        let (first, _) = self.text[start..].split_once('\n').ok_or_else(|| missing("…"))?;
        let indented = first.starts_with('-');
        let marker = first.trim_start_matches('-').trim();
        self.skip_line();
        let mut lines = Vec::new();
        loop {
            let start = self.position();
            if start >= self.text.len() || marker.is_empty() {
                return Err(missing(marker));
            }
            self.skip_line();
            let line = self.text[start..self.position()].trim_end_matches('\n').trim_end_matches('\r');
            if line.trim() == marker {
                break;
            }
            lines.push(line);
        }
        let indent = |line: &&str| line.len() - line.trim_start().len();
        let cut = if indented { lines.iter().filter(|line| !line.trim().is_empty()).map(indent).min().unwrap_or(0) } else { 0 };
        Ok(lines.iter().map(|line| format!("{}\n", line.get(cut..).unwrap_or(""))).collect())
    }

    /// Skips white space and comments.
    fn blank(&mut self) -> Result<(), SyntaxError> {
        loop {
            match self.peek() {
                Some(c) if c.is_whitespace() => {
                    self.next();
                }
                Some('#') => self.skip_line(),
                Some('/') => {
                    let opened = self.line;
                    self.next();
                    match self.next() {
                        Some('/') => self.skip_line(),
                        Some('*') => self.skip_comment(opened)?,
                        _ => return Err(self.error("a comment begins with `#`, `//` or `/*`")),
                    }
                }
                _ => return Ok(()),
            }
        }
    }

    fn skip_comment(&mut self, opened: usize) -> Result<(), SyntaxError> {
        loop {
            match self.next() {
                Some('*') if self.peek() == Some('/') => {
                    self.next();
                    return Ok(());
                }
                Some(_) => {}
                None => return Err(SyntaxError { line: opened, message: "the `*/` of a comment is missing".into() }),
            }
        }
    }

    fn skip_line(&mut self) {
        while self.next().is_some_and(|c| c != '\n') {}
    }

    fn peek(&mut self) -> Option<char> {
        self.rest.peek().map(|&(_, c)| c)
    }

    fn next(&mut self) -> Option<char> {
        let (_, c) = self.rest.next()?;
        if c == '\n' {
            self.line += 1;
        }
        Some(c)
    }

    fn position(&mut self) -> usize {
        self.rest.peek().map_or(self.text.len(), |&(at, _)| at)
    }

    fn error(&self, message: impl Into<String>) -> SyntaxError {
        SyntaxError { line: self.line, message: message.into() }
    }
}

#[cfg(test)]
mod tests;
