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
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The tree without its lines, for comparison.
    fn plain(fields: &[Field]) -> serde_json::Value {
        fn value(node: &Node) -> serde_json::Value {
            match &node.value {
                Value::Null => serde_json::Value::Null,
                Value::Bool(b) => (*b).into(),
                Value::Integer(n) => (*n).into(),
                Value::Float(n) => (*n).into(),
                Value::Text(s) => s.as_str().into(),
                Value::List(items) => items.iter().map(value).collect(),
                Value::Map(fields) => plain(fields),
            }
        }
        fields.iter().map(|field| (field.key.clone(), value(&field.value))).collect()
    }

    #[test]
    fn hcl_and_json_say_the_same() {
        let hcl = r#"
            # a comment
            server = true        // another
            data_dir = "/var/lib/lictor"  /* and
            one more */
            ports { http = 8500, dns = -1 }
            dns_config { service_ttl { "*" = "10s", "web" = "0s" } }
            recursors = ["10.0.0.1", "10.0.0.2",]
            service "web" { port = 0x50 }
            rate = 1.5
        "#;
        let json = r#"{"server": true, "data_dir": "/var/lib/lictor", "ports": {"http": 8500, "dns": -1},
            "dns_config": {"service_ttl": {"*": "10s", "web": "0s"}}, "recursors": ["10.0.0.1", "10.0.0.2"],
            "service": {"web": {"port": 80}}, "rate": 1.5}"#;
        assert_eq!(plain(&parse(hcl).unwrap()), plain(&parse(json).unwrap()));
    }

    #[test]
    fn every_key_knows_its_line() {
        let fields = parse("a = 1\n\nb {\n  c = \"x\"\n}\n").unwrap();
        assert_eq!((fields[0].line, fields[1].line), (1, 3));
        let Value::Map(inner) = &fields[1].value.value else { panic!("a block") };
        assert_eq!((inner[0].line, inner[0].value.line), (4, 4));
    }

    #[test]
    fn strings_keep_their_characters() {
        let cases = [
            (r#"k = "a\tb\n\"q\" \\ \/""#, "a\tb\n\"q\" \\ /"),
            (r#"k = "é \u00e9 \ud83d\ude00""#, "é é \u{1f600}"),
            ("k = <<EOF\n one\n two\nEOF\n", " one\n two\n"),
            ("k = <<-EOF\n    one\n      two\n    EOF\n", "one\n  two\n"),
            (r#"k = "{{ GetInterfaceIP \"eth0\" }}""#, "{{ GetInterfaceIP \"eth0\" }}"),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text).unwrap()[0].value.value, Value::Text(expected.into()), "{text}");
        }
    }

    #[test]
    fn mistakes_are_told_with_their_line() {
        let cases = [
            ("a = 1\nb = ", 2, "a value is expected"),
            ("a = 1\nb c\n", 2, "is missing after `b`"),
            ("a = yes", 1, "`yes` is not a value"),
            ("\na = \"open\n", 2, "closing quote"),
            ("a {\n b = 1\n", 3, "block that begins in line 1"),
            ("a = [1,\n", 2, "list that begins in line 1"),
            ("/* open\n", 1, "`*/`"),
            ("{\n \"a\": 1,\n}", 3, "not valid JSON"),
            ("a = <<EOF\nopen", 1, "`EOF`"),
            ("a = \"\\q\"", 1, "unknown escape"),
        ];
        for (text, line, part) in cases {
            let error = parse(text).unwrap_err();
            assert_eq!(error.line, line, "{text}: {error:?}");
            assert!(error.message.contains(part), "{text}: {error:?}");
        }
    }

    #[test]
    fn nesting_is_bounded() {
        let deep = format!("a = {}", "[".repeat(100_000));
        assert!(parse(&deep).unwrap_err().message.contains("deep"));
        let labels = format!("a {}", "\"b\" ".repeat(100_000));
        assert!(parse(&labels).is_err());
    }

    proptest! {
        #[test]
        fn any_text_gives_an_answer(text in "[a-c={}\\[\\]\",\\\\<>\n 0-9u/*#-]{0,60}") {
            let _ = parse(&text);
        }

        #[test]
        fn json_reads_as_serde_reads_it(map in proptest::collection::btree_map(".{0,8}", ".{0,16}", 0..6)) {
            let text = serde_json::to_string(&map).unwrap();
            prop_assert_eq!(plain(&parse(&text).unwrap()), serde_json::to_value(&map).unwrap());
        }
    }
}
