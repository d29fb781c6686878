//! The shape of an expression: how it is checked, asked and printed.

use std::fmt;

use regex::Regex;

use super::select::{Selectable, Selected, Value};

/// A tree of conditions. Lists hold at least two.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Expression {
    Or(Vec<Expression>),
    And(Vec<Expression>),
    Not(Box<Expression>),
    Match(Match),
}

/// One condition on one field.
#[derive(Clone, Debug)]
pub(super) struct Match {
    /// The field; never empty.
    pub(super) selector: Vec<Box<str>>,
    pub(super) operator: Operator,
    /// What the field is compared with; empty for the two that ask for emptiness.
    pub(super) value: Box<str>,
    /// The value as a regular expression, where the operator wants one.
    pub(super) regex: Option<Regex>,
}

/// Two matches are equal when they print alike.
impl PartialEq for Match {
    fn eq(&self, other: &Self) -> bool {
        (&self.selector, self.operator, &self.value) == (&other.selector, other.operator, &other.value)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    Equal,
    NotEqual,
    Contains,
    NotContains,
    IsEmpty,
    IsNotEmpty,
    Matches,
    NotMatches,
}

impl Operator {
    /// The operator without its negation, and whether it was negated.
    fn positive(self) -> (Operator, bool) {
        match self {
            Operator::NotEqual => (Operator::Equal, true),
            Operator::NotContains => (Operator::Contains, true),
            Operator::IsNotEmpty => (Operator::IsEmpty, true),
            Operator::NotMatches => (Operator::Matches, true),
            positive => (positive, false),
        }
    }
}

/// What an example row shows at a place, given the first step and the rest of it.
type Example = fn(&str, &[Box<str>]) -> Option<Selected<'static>>;

impl Expression {
    /// Whether every selector exists and fits its operator and value; the text says which does not.
    pub(super) fn check(&self, example: Example) -> Result<(), String> {
        match self {
            Expression::Or(parts) | Expression::And(parts) => parts.iter().try_for_each(|part| part.check(example)),
            Expression::Not(inner) => inner.check(example),
            Expression::Match(condition) => condition.check(example),
        }
    }

    pub(super) fn holds<T: Selectable>(&self, row: &T) -> bool {
        match self {
            Expression::Or(parts) => parts.iter().any(|part| part.holds(row)),
            Expression::And(parts) => parts.iter().all(|part| part.holds(row)),
            Expression::Not(inner) => !inner.holds(row),
            Expression::Match(condition) => condition.holds(row),
        }
    }
}

impl Match {
    fn check(&self, example: Example) -> Result<(), String> {
        let (head, rest) = self.selector.split_first().ok_or("a selector is missing")?;
        let found = example(head, rest).ok_or_else(|| format!("Selector \"{}\" is not valid", self.selector.join(".")))?;
        match found {
            Selected::One(value) => self.check_value(&value),
            Selected::Any(values) => values.iter().try_for_each(|value| self.check_value(value)),
        }
    }

    fn check_value(&self, example: &Value<'_>) -> Result<(), String> {
        let (operator, _) = self.operator.positive();
        let fits = match example {
            Value::Absent => true,
            Value::Text(_) => true,
            Value::Number(_) | Value::Flag(_) => operator == Operator::Equal,
            Value::Texts(_) | Value::Pairs(_) | Value::Addresses(_) => matches!(operator, Operator::Contains | Operator::IsEmpty),
            Value::Length(_) => operator == Operator::IsEmpty,
        };
        let selector = self.selector.join(".");
        if !fits {
            return Err(format!("the operator in `{self}` can't be used with \"{selector}\", which is {}", example.describe()));
        }
        let comparable = match example {
            Value::Number(_) => self.value.parse::<f64>().is_ok(),
            Value::Flag(_) => flag(&self.value).is_some(),
            _ => true,
        };
        if comparable {
            Ok(())
        } else {
            Err(format!("\"{}\" can't be compared with \"{selector}\", which is {}", self.value, example.describe()))
        }
    }

    fn holds<T: Selectable>(&self, row: &T) -> bool {
        let Some((head, rest)) = self.selector.split_first() else { return false };
        match row.select(head, rest) {
            Some(Selected::One(value)) => self.holds_for(&value),
            Some(Selected::Any(values)) => values.iter().any(|value| self.holds_for(value)),
            None => false,
        }
    }

    fn holds_for(&self, value: &Value<'_>) -> bool {
        let (operator, negated) = self.operator.positive();
        let holds = match operator {
            Operator::Equal => self.equals(value),
            Operator::Contains => self.is_contained(value),
            Operator::IsEmpty => value.is_empty(),
            _ => match (value, &self.regex) {
                (Value::Text(text), Some(regex)) => regex.is_match(text),
                _ => false,
            },
        };
        holds != negated
    }

    fn equals(&self, value: &Value<'_>) -> bool {
        match value {
            Value::Text(text) => **text == *self.value,
            Value::Number(number) => match self.value.parse::<u64>() {
                Ok(wanted) => wanted == *number,
                Err(_) => self.value.parse::<f64>().is_ok_and(|wanted| wanted == *number as f64),
            },
            Value::Flag(flag_value) => flag(&self.value) == Some(*flag_value),
            _ => false,
        }
    }

    fn is_contained(&self, value: &Value<'_>) -> bool {
        match value {
            Value::Text(text) => text.contains(&*self.value),
            Value::Texts(texts) => texts.iter().any(|text| **text == *self.value),
            Value::Pairs(pairs) => pairs.contains_key(&*self.value),
            Value::Addresses(addresses) => addresses.contains_key(&*self.value),
            _ => false,
        }
    }
}

fn flag(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Expression::Or(parts) => join(f, parts, " or ", |part| matches!(part, Expression::Or(_))),
            Expression::And(parts) => join(f, parts, " and ", |part| matches!(part, Expression::Or(_) | Expression::And(_))),
            Expression::Not(inner) if matches!(**inner, Expression::Or(_) | Expression::And(_)) => write!(f, "not ({inner})"),
            Expression::Not(inner) => write!(f, "not {inner}"),
            Expression::Match(condition) => write!(f, "{condition}"),
        }
    }
}

fn join(f: &mut fmt::Formatter<'_>, parts: &[Expression], word: &str, bracketed: fn(&Expression) -> bool) -> fmt::Result {
    for (position, part) in parts.iter().enumerate() {
        if position > 0 {
            f.write_str(word)?;
        }
        if bracketed(part) { write!(f, "({part})")? } else { write!(f, "{part}")? }
    }
    Ok(())
}

impl fmt::Display for Match {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, step) in self.selector.iter().enumerate() {
            match (position, is_identifier(step)) {
                (0, _) => f.write_str(step)?,
                (_, true) => write!(f, ".{step}")?,
                (_, false) => write!(f, "[{}]", Quoted(step))?,
            }
        }
        let value = Quoted(&self.value);
        match self.operator {
            Operator::Equal => write!(f, " == {value}"),
            Operator::NotEqual => write!(f, " != {value}"),
            Operator::Contains => write!(f, " contains {value}"),
            Operator::NotContains => write!(f, " not contains {value}"),
            Operator::IsEmpty => f.write_str(" is empty"),
            Operator::IsNotEmpty => f.write_str(" is not empty"),
            Operator::Matches => write!(f, " matches {value}"),
            Operator::NotMatches => write!(f, " not matches {value}"),
        }
    }
}

/// Whether a step of a selector can be written after a dot.
pub(super) fn is_identifier(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_alphabetic()) && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"")?;
        for c in self.0.chars() {
            match c {
                '"' => f.write_str("\\\"")?,
                '\\' => f.write_str("\\\\")?,
                '\n' => f.write_str("\\n")?,
                '\r' => f.write_str("\\r")?,
                '\t' => f.write_str("\\t")?,
                c if c.is_control() => write!(f, "\\u{:04x}", c as u32)?,
                c => write!(f, "{c}")?,
            }
        }
        f.write_str("\"")
    }
}
