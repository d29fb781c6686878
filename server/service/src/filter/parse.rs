//! Reads the expression language, by descent with one step of look-ahead.
//!
//! ```text
//! or    = and { "or" and }          and = not { "and" not }
//! not   = "not" not | "(" or ")" | match
//! match = selector operator [ value ] | value [ "not" ] "in" selector
//! ```

use regex::RegexBuilder;

use super::expression::{Expression, Match, Operator};

/// Deepest nesting of brackets and negations.
const DEPTH_MAX: usize = 32;

/// Most conditions in one expression.
const MATCHES_MAX: usize = 128;

/// Most memory of one compiled regular expression, in bytes.
const REGEX_BYTES_MAX: usize = 256 * 1024;

/// The expression in `text`, or where and why reading stopped.
pub(super) fn parse(text: &str) -> Result<Expression, String> {
    let mut parser = Parser { text, at: 0, depth: 0, matches: 0 };
    let expression = parser.or()?;
    parser.blanks();
    if parser.at < text.len() { Err(parser.unexpected("`and`, `or` or the end")) } else { Ok(expression) }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
    matches: usize,
}

impl Parser<'_> {
    fn or(&mut self) -> Result<Expression, String> {
        self.list("or", Self::and, Expression::Or)
    }

    fn and(&mut self) -> Result<Expression, String> {
        self.list("and", Self::not, Expression::And)
    }

    fn list(
        &mut self,
        word: &str,
        part: fn(&mut Self) -> Result<Expression, String>,
        whole: fn(Vec<Expression>) -> Expression,
    ) -> Result<Expression, String> {
        let first = part(self)?;
        let mut parts = vec![first];
        while self.word(word) {
            parts.push(part(self)?);
        }
        match parts.len() {
            1 => parts.pop().ok_or_else(String::new),
            _ => Ok(whole(parts)),
        }
    }

    fn not(&mut self) -> Result<Expression, String> {
        if self.word("not") {
            return self.deeper(|parser| parser.not().map(|inner| Expression::Not(Box::new(inner))));
        }
        if !self.symbol("(") {
            return self.condition().map(Expression::Match);
        }
        self.deeper(|parser| {
            let inner = parser.or()?;
            if parser.symbol(")") { Ok(inner) } else { Err(parser.unexpected("`)`")) }
        })
    }

    fn deeper(&mut self, inner: impl FnOnce(&mut Self) -> Result<Expression, String>) -> Result<Expression, String> {
        if self.depth == DEPTH_MAX {
            return Err(format!("brackets and negations are nested deeper than {DEPTH_MAX}; simplify the expression"));
        }
        self.depth += 1;
        let result = inner(self);
        self.depth -= 1;
        result
    }

    fn condition(&mut self) -> Result<Match, String> {
        self.matches += 1;
        if self.matches > MATCHES_MAX {
            return Err(format!("there are more than {MATCHES_MAX} conditions; simplify the expression"));
        }
        if let Some(value) = self.literal()? {
            let operator = self.membership()?.ok_or_else(|| self.unexpected("`in` or `not in`"))?;
            return self.member(value, operator);
        }
        let selector = self.selector()?;
        if let Some(operator) = self.membership()? {
            return self.member(selector.join("."), operator);
        }
        let operator = self.operator()?;
        let value = match operator {
            Operator::IsEmpty | Operator::IsNotEmpty => String::new(),
            _ => self.value()?,
        };
        finish(selector, operator, value)
    }

    fn member(&mut self, value: String, operator: Operator) -> Result<Match, String> {
        let selector = self.selector()?;
        finish(selector, operator, value)
    }

    /// `in` or `not in`, if that is what comes.
    fn membership(&mut self) -> Result<Option<Operator>, String> {
        if self.word("in") {
            return Ok(Some(Operator::Contains));
        }
        let start = self.at;
        if self.word("not") && self.word("in") {
            return Ok(Some(Operator::NotContains));
        }
        self.at = start;
        Ok(None)
    }

    fn operator(&mut self) -> Result<Operator, String> {
        if self.symbol("==") {
            return Ok(Operator::Equal);
        }
        if self.symbol("!=") {
            return Ok(Operator::NotEqual);
        }
        if self.word("is") {
            let operator = if self.word("not") { Operator::IsNotEmpty } else { Operator::IsEmpty };
            return if self.word("empty") { Ok(operator) } else { Err(self.unexpected("`empty`")) };
        }
        let negated = self.word("not");
        if self.word("contains") {
            return Ok(if negated { Operator::NotContains } else { Operator::Contains });
        }
        if self.word("matches") {
            return Ok(if negated { Operator::NotMatches } else { Operator::Matches });
        }
        Err(self.unexpected("an operator such as `==` or `contains`"))
    }

    /// A literal, or bare words joined by dots.
    fn value(&mut self) -> Result<String, String> {
        match self.literal()? {
            Some(value) => Ok(value),
            None => self.selector().map(|steps| steps.join(".")),
        }
    }

    /// A quoted text or a number, if one comes.
    fn literal(&mut self) -> Result<Option<String>, String> {
        self.blanks();
        match self.peek() {
            Some(b'"') => self.quoted().map(Some),
            Some(b'`') => self.raw().map(Some),
            Some(b'-' | b'0'..=b'9') => self.number().map(Some),
            _ => Ok(None),
        }
    }

    fn selector(&mut self) -> Result<Vec<Box<str>>, String> {
        self.blanks();
        let mut steps = vec![self.identifier()?];
        loop {
            match self.peek() {
                Some(b'.') => {
                    self.at += 1;
                    steps.push(self.identifier()?);
                }
                Some(b'[') => {
                    self.at += 1;
                    let key = self.literal()?.ok_or_else(|| self.unexpected("a quoted key"))?;
                    steps.push(key.into());
                    if !self.symbol("]") {
                        return Err(self.unexpected("`]`"));
                    }
                }
                _ => return Ok(steps),
            }
        }
    }

    fn identifier(&mut self) -> Result<Box<str>, String> {
        let rest = &self.text.as_bytes()[self.at..];
        let len = rest.iter().take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'_').count();
        if !rest.first().is_some_and(u8::is_ascii_alphabetic) {
            return Err(self.unexpected("a selector or a value"));
        }
        let start = self.at;
        self.at += len;
        Ok(self.text[start..self.at].into())
    }

    fn number(&mut self) -> Result<String, String> {
        let rest = &self.text.as_bytes()[self.at..];
        let len = rest.iter().take_while(|byte| matches!(byte, b'-' | b'.' | b'0'..=b'9')).count();
        let found = &self.text[self.at..self.at + len];
        let whole = found.strip_prefix('-').unwrap_or(found);
        let (before, after) = whole.split_once('.').map_or((whole, None), |(before, after)| (before, Some(after)));
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if !digits(before) || after.is_some_and(|after| !digits(after)) {
            return Err(self.unexpected("a number"));
        }
        self.at += len;
        Ok(found.to_owned())
    }

    fn raw(&mut self) -> Result<String, String> {
        let rest = &self.text[self.at + 1..];
        let end = rest.find('`').ok_or_else(|| self.unexpected("a closing backtick"))?;
        self.at += end + 2;
        Ok(rest[..end].to_owned())
    }

    fn quoted(&mut self) -> Result<String, String> {
        let mut value = String::new();
        let mut chars = self.text[self.at + 1..].char_indices();
        while let Some((offset, c)) = chars.next() {
            match c {
                '"' => {
                    self.at += offset + 2;
                    return Ok(value);
                }
                '\\' => {
                    let escaped = chars.next().map(|(_, c)| c);
                    let hex = match escaped {
                        Some('u') => 4,
                        Some('x') => 2,
                        _ => 0,
                    };
                    let code: String = chars.by_ref().take(hex).map(|(_, c)| c).collect();
                    value.push(unescape(escaped, &code).ok_or_else(|| self.unexpected("a known escape in the quoted text"))?);
                }
                c => value.push(c),
            }
        }
        Err(self.unexpected("a closing quote"))
    }

    /// Takes `word` if it comes next as a whole word.
    fn word(&mut self, word: &str) -> bool {
        self.blanks();
        let rest = &self.text[self.at..];
        let boundary = |rest: &str| !rest.starts_with(|c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '['));
        match rest.strip_prefix(word) {
            Some(after) if boundary(after) => {
                self.at += word.len();
                true
            }
            _ => false,
        }
    }

    fn symbol(&mut self, symbol: &str) -> bool {
        self.blanks();
        let found = self.text[self.at..].starts_with(symbol);
        if found {
            self.at += symbol.len();
        }
        found
    }

    fn blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn unexpected(&self, wanted: &str) -> String {
        let rest = &self.text[self.at..];
        let found: String = rest.chars().take(20).collect();
        match found.is_empty() {
            true => format!("the expression ends at column {} where {wanted} is expected", self.at + 1),
            false => format!("column {}: found `{found}` where {wanted} is expected", self.at + 1),
        }
    }
}

fn finish(selector: Vec<Box<str>>, operator: Operator, value: String) -> Result<Match, String> {
    let regex = match operator {
        Operator::Matches | Operator::NotMatches => {
            let built = RegexBuilder::new(&value).size_limit(REGEX_BYTES_MAX).dfa_size_limit(REGEX_BYTES_MAX).build();
            Some(built.map_err(|error| format!("`{value}` is not a regular expression: {error}"))?)
        }
        _ => None,
    };
    Ok(Match { selector, operator, value: value.into(), regex })
}

fn unescape(escaped: Option<char>, hex: &str) -> Option<char> {
    match escaped? {
        c @ ('"' | '\\' | '\'') => Some(c),
        'n' => Some('\n'),
        'r' => Some('\r'),
        't' => Some('\t'),
        'u' if hex.len() == 4 => char::from_u32(u32::from_str_radix(hex, 16).ok()?),
        'x' if hex.len() == 2 => char::from_u32(u32::from_str_radix(hex, 16).ok()?).filter(char::is_ascii),
        _ => None,
    }
}
