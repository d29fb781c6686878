//! Expressions that choose rows of an answer: `Service.Meta.env == "prod" and "v2" in Service.Tags`.
//!
//! An expression is parsed once, checked once against the kind of row that it will see
//! ([`Filter::compile`]), and then asked about each row. Selectors are the field names of the JSON
//! answer. Size, nesting and regular expressions are bounded, so that nobody can make a server
//! work long by asking in a clever way.

mod expression;
mod parse;
mod rows;
mod select;
mod services;
#[cfg(test)]
mod tests;

use std::fmt;

pub use rows::ServiceNode;
pub use select::{Selectable, Selected, Value};

use crate::error::{Error, Reason};
use expression::Expression;

/// Longest expression, in bytes.
const TEXT_BYTES_MAX: usize = 8 * 1024;

/// A condition on rows, ready to be asked.
#[derive(Clone, Debug, PartialEq)]
pub struct Filter {
    expression: Expression,
}

impl Filter {
    /// Reads an expression. Refusal: `INVALID_FILTER`, with the place where reading stopped.
    pub fn parse(text: &str) -> Result<Filter, Error> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(invalid(format!("the expression has {} bytes, the limit is {TEXT_BYTES_MAX}", text.len())));
        }
        parse::parse(text).map(|expression| Filter { expression }).map_err(invalid)
    }

    /// Reads an expression and makes sure that it makes sense for rows of kind `T`: every selector
    /// names a field, every operator fits it, every value can be compared with it.
    pub fn compile<T: Selectable>(text: &str) -> Result<Filter, Error> {
        let filter = Filter::parse(text)?;
        filter.check::<T>()?;
        Ok(filter)
    }

    /// Makes sure that the filter makes sense for rows of kind `T`.
    pub fn check<T: Selectable>(&self) -> Result<(), Error> {
        self.expression.check(T::example).map_err(invalid)
    }

    /// Whether `row` is chosen. A condition that does not fit the row does not hold.
    pub fn matches<T: Selectable>(&self, row: &T) -> bool {
        self.expression.holds(row)
    }
}

/// Prints the expression in a form that reads back as itself.
impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.expression.fmt(f)
    }
}

fn invalid(what: String) -> Error {
    Error::new(Reason::InvalidFilter, what)
}
