//! What is wrong with a configuration, each mistake with its place: file, line and key.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;

/// Where something stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file, or the fragment of the command line, as messages call it.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// Where it stands; unset when it comes from a flag, or is something that is missing.
    pub place: Option<Place>,
    /// The key at fault, as a path such as `ports.http`, if it is about one.
    pub field: Option<String>,
    /// What is wrong, and what to do.
    pub text: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Some(place) => write!(f, "{place}: {}", self.text),
            None => f.write_str(&self.text),
        }
    }
}

/// What is wrong with the configuration so far, and what is merely worth saying.
#[derive(Default)]
pub(crate) struct Findings {
    /// The agent does not start with these.
    errors: RefCell<Vec<Mistake>>,
    /// The agent starts and says these.
    warnings: RefCell<Vec<String>>,
    /// Where each key was set last, by its path.
    places: RefCell<BTreeMap<String, Place>>,
}

impl Findings {
    /// Adds an error. One that names a key between backticks is told with the place where that key is
    /// set, if a file sets it.
    pub(crate) fn error(&self, text: impl Into<String>) {
        let text = text.into();
        let places = self.places.borrow();
        let named = text.split('`').skip(1).step_by(2);
        let found = named.filter_map(|key| places.get_key_value(key)).next();
        let (field, place) = found.map(|(key, place)| (key.clone(), place.clone())).unzip();
        self.errors.borrow_mut().push(Mistake { place, field, text });
    }

    /// Adds an error about what stands at a place.
    pub(crate) fn error_at(&self, place: Place, field: Option<String>, text: impl Into<String>) {
        self.errors.borrow_mut().push(Mistake { place: Some(place), field, text: text.into() });
    }

    /// Adds a warning.
    pub(crate) fn warn(&self, text: impl Into<String>) {
        self.warnings.borrow_mut().push(text.into());
    }

    /// Takes note of where a key is set.
    pub(crate) fn note(&self, key: String, place: Place) {
        self.places.borrow_mut().insert(key, place);
    }

    /// The errors, the warnings.
    pub(crate) fn into_parts(self) -> (Vec<Mistake>, Vec<String>) {
        (self.errors.into_inner(), self.warnings.into_inner())
    }

    /// The errors in words.
    pub(crate) fn into_errors(self) -> Vec<String> {
        self.errors.into_inner().iter().map(Mistake::to_string).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_about_a_key_is_told_with_the_place_that_set_it() {
        let findings = Findings::default();
        findings.note("datacenter".into(), Place { file: "a.hcl".into(), line: 7 });
        findings.error("`datacenter` must be short, not `x`");
        findings.error("`node_id` is a UUID");
        let (errors, _) = findings.into_parts();
        assert_eq!(errors[0].to_string(), "a.hcl:7: `datacenter` must be short, not `x`");
        assert_eq!(errors[0].field.as_deref(), Some("datacenter"));
        assert_eq!((errors[1].to_string().as_str(), &errors[1].place), ("`node_id` is a UUID", &None));
    }
}
