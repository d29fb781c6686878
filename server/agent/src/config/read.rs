//! Takes values out of a configuration tree by key, and knows which keys nobody asked for.
//!
//! A mistake does not end the reading: all of a file's mistakes are collected, each with file and
//! line, so that one start is enough to see them.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::config::duration;
pub(crate) use crate::config::findings::Findings;
use crate::config::findings::Place;
use crate::config::text::{Field, Node, Value};
use crate::nearest;

/// A key that is Consul's and that this version does not act on.
#[derive(Clone, Copy)]
pub(crate) struct Later {
    /// The key.
    pub(crate) key: &'static str,
    /// Refuses to start when it is set; otherwise it is ignored with a warning.
    pub(crate) fatal: bool,
}

/// One section of one file, whose keys are taken out one by one.
pub(crate) struct Reader<'a> {
    file: &'a str,
    /// Key path of this section, with a dot at its end; empty at the top.
    path: String,
    fields: Vec<&'a Field>,
    asked: Vec<&'static str>,
    /// Compare keys without their underscores: `ServiceID` is `service_id`.
    camel: bool,
    findings: &'a Findings,
}

impl<'a> Reader<'a> {
    /// A reader of a whole file.
    pub(crate) fn new(file: &'a str, fields: &'a [Field], findings: &'a Findings) -> Self {
        Reader { file, path: String::new(), fields: fields.iter().collect(), asked: Vec::new(), camel: false, findings }
    }

    /// Accepts keys written in camel case too, here and below.
    pub(crate) fn accept_camel_case(&mut self) {
        self.camel = true;
    }

    /// Adds an error about this section.
    pub(crate) fn refuse(&self, text: &str) {
        self.findings.error_at(self.place(), None, text);
    }

    /// Where this section stands.
    pub(crate) fn place(&self) -> Place {
        self.at(self.fields.first().map_or(1, |field| field.line))
    }

    fn at(&self, line: usize) -> Place {
        Place { file: self.file.to_owned(), line }
    }

    /// A string; a number or boolean stands for its text.
    pub(crate) fn text(&mut self, key: &'static str) -> Option<String> {
        self.scalar(key, "a string", as_text)
    }

    /// `true` or `false`.
    pub(crate) fn flag(&mut self, key: &'static str) -> Option<bool> {
        self.scalar(key, "`true` or `false`", |value| match value {
            Value::Bool(flag) => Some(*flag),
            Value::Text(text) => text.parse().ok(),
            _ => None,
        })
    }

    /// A whole number that fits `T`.
    pub(crate) fn number<T: TryFrom<i64>>(&mut self, key: &'static str) -> Option<T> {
        self.scalar(key, "a whole number in its range", |value| match value {
            Value::Integer(number) => T::try_from(*number).ok(),
            Value::Text(text) => text.parse::<i64>().ok().and_then(|number| T::try_from(number).ok()),
            _ => None,
        })
    }

    /// A duration such as `10s`.
    pub(crate) fn duration(&mut self, key: &'static str) -> Option<Duration> {
        self.scalar(key, "a duration such as `10s` or `1h30m`", |value| match value {
            Value::Text(text) => duration::parse(text),
            Value::Integer(0) => Some(Duration::ZERO),
            _ => None,
        })
    }

    /// A duration in whole milliseconds, from 1 to `most`.
    pub(crate) fn millis(&mut self, key: &'static str, most: u64) -> Option<u64> {
        let wanted = format!("a duration from `1ms` to `{}`", humantime::format_duration(Duration::from_millis(most)));
        self.scalar(key, &wanted, |value| {
            let Value::Text(text) = value else { return None };
            u64::try_from(duration::parse(text)?.as_millis()).ok().filter(|millis| (1..=most).contains(millis))
        })
    }

    /// A list of strings; one string is a list of one.
    pub(crate) fn texts(&mut self, key: &'static str) -> Vec<String> {
        let mut texts = Vec::new();
        for field in self.take(key) {
            match &field.value.value {
                Value::Null => {}
                Value::List(items) => texts.extend(items.iter().filter_map(|item| self.expect(key, item, "a list of strings", as_text))),
                _ => texts.extend(self.expect(key, &field.value, "a list of strings", as_text)),
            }
        }
        texts
    }

    /// Pairs of strings.
    pub(crate) fn pairs(&mut self, key: &'static str) -> BTreeMap<String, String> {
        self.entries(key).into_iter().filter_map(|(name, node)| Some((name, self.expect(key, node, "a string", as_text)?))).collect()
    }

    /// Durations by name.
    pub(crate) fn durations(&mut self, key: &'static str) -> BTreeMap<String, Duration> {
        let read = |value: &Value| as_text(value).and_then(|text| duration::parse(&text));
        self.entries(key)
            .into_iter()
            .filter_map(|(name, node)| Some((name, self.expect(key, node, "a duration such as `10s`", read)?)))
            .collect()
    }

    /// Lists of strings by name.
    pub(crate) fn lists(&mut self, key: &'static str) -> BTreeMap<String, Vec<String>> {
        let read = |value: &Value| match value {
            Value::List(items) => items.iter().map(|item| as_text(&item.value)).collect(),
            other => as_text(other).map(|text| vec![text]),
        };
        self.entries(key).into_iter().filter_map(|(name, node)| Some((name, self.expect(key, node, "a list of strings", read)?))).collect()
    }

    /// Names with the values under them, for maps whose keys are free.
    fn entries(&mut self, key: &'static str) -> Vec<(String, &'a Node)> {
        self.maps(key).into_iter().flat_map(|(_, fields)| fields.iter().map(|field| (field.key.clone(), &field.value))).collect()
    }

    /// Reads the section `key` wherever it stands; several blocks of that name are read in turn.
    /// Keys that `read` does not ask for are unknown.
    pub(crate) fn sections(&mut self, key: &'static str, later: &[Later], mut read: impl FnMut(&mut Reader<'a>)) {
        for (_, fields) in self.maps(key) {
            let mut section = self.below(key, fields);
            read(&mut section);
            section.finish(later);
        }
    }

    /// Reads maps from names to sections, such as `tagged_addresses { lan { … } }`.
    pub(crate) fn named_sections(&mut self, key: &'static str, mut read: impl FnMut(&str, &mut Reader<'a>)) {
        for (name, node) in self.entries(key) {
            if let Value::Map(fields) = &node.value {
                let mut section = self.below(key, fields);
                read(&name, &mut section);
                section.finish(&[]);
            } else {
                self.mismatch(key, node, "a block");
            }
        }
    }

    /// Refuses what nobody asked for, and what belongs to Consul but not to this version.
    pub(crate) fn finish(self, later: &[Later]) {
        for field in &self.fields {
            if self.asked.iter().any(|key| self.same(&field.key, key)) || field.key.starts_with("//") {
                continue;
            }
            let place = self.at(field.line);
            let key = format!("{}{}", self.path, field.key);
            match later.iter().find(|later| self.same(&field.key, later.key)) {
                Some(_) if is_off(&field.value.value) => {}
                Some(later) if later.fatal => {
                    let text = format!("`{key}` is not part of this version; remove it to start without what it asks for");
                    self.findings.error_at(place, Some(key), text);
                }
                Some(_) => self.findings.warn(format!("{place}: `{key}` is not part of this version and is ignored")),
                None => {
                    let known = self.asked.iter().copied().chain(later.iter().map(|later| later.key));
                    let hint = nearest::hint(&field.key, known, |near| format!("{}{near}", self.path));
                    let text = format!("unknown key `{key}`{hint}");
                    self.findings.error_at(place, Some(key), text);
                }
            }
        }
    }

    fn scalar<T>(&mut self, key: &'static str, wanted: &str, read: impl Fn(&Value) -> Option<T>) -> Option<T> {
        let found = self.take(key);
        if let [first, .., last] = found.as_slice() {
            let path = format!("{}{key}", self.path);
            let text = format!("`{path}` is given a second time; line {} has it already", first.line);
            self.findings.error_at(self.at(last.line), Some(path), text);
        }
        let node = &found.last()?.value;
        if node.value == Value::Null {
            return None;
        }
        self.expect(key, node, wanted, read)
    }

    fn expect<T>(&self, key: &str, node: &Node, wanted: &str, read: impl Fn(&Value) -> Option<T>) -> Option<T> {
        let value = read(&node.value);
        if value.is_none() {
            self.mismatch(key, node, wanted);
        }
        value
    }

    fn mismatch(&self, key: &str, node: &Node, wanted: &str) {
        let found = as_text(&node.value).map_or_else(|| node.value.kind().to_owned(), |text| format!("`{text}`"));
        let path = format!("{}{key}", self.path);
        let text = format!("`{path}` needs {wanted}, found {found}");
        self.findings.error_at(self.at(node.line), Some(path), text);
    }

    /// The blocks under `key`: repeated, or one, or a list of them.
    fn maps(&mut self, key: &'static str) -> Vec<(usize, &'a [Field])> {
        let mut maps = Vec::new();
        for field in self.take(key) {
            let nodes: &'a [Node] = match &field.value.value {
                Value::List(items) => items,
                _ => std::slice::from_ref(&field.value),
            };
            for node in nodes {
                match &node.value {
                    Value::Map(fields) => maps.push((node.line, fields.as_slice())),
                    Value::Null => {}
                    _ => self.mismatch(key, node, "a block"),
                }
            }
        }
        maps
    }

    fn below(&self, key: &str, fields: &'a [Field]) -> Reader<'a> {
        Reader {
            file: self.file,
            path: format!("{}{key}.", self.path),
            fields: fields.iter().collect(),
            asked: Vec::new(),
            camel: self.camel,
            findings: self.findings,
        }
    }

    fn take(&mut self, key: &'static str) -> Vec<&'a Field> {
        self.asked.push(key);
        let found: Vec<&'a Field> = self.fields.iter().copied().filter(|field| self.same(&field.key, key)).collect();
        if let Some(last) = found.last() {
            self.findings.note(format!("{}{key}", self.path), self.at(last.line));
        }
        found
    }

    fn same(&self, written: &str, key: &str) -> bool {
        if self.camel { written.replace('_', "").eq_ignore_ascii_case(&key.replace('_', "")) } else { written.eq_ignore_ascii_case(key) }
    }
}

fn as_text(value: &Value) -> Option<String> {
    match value {
        Value::Text(text) => Some(text.clone()),
        Value::Integer(number) => Some(number.to_string()),
        Value::Float(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        _ => None,
    }
}

/// Whether a value asks for nothing, so that a feature that is absent need not be mentioned.
fn is_off(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Text(text) => text.is_empty(),
        Value::List(items) => items.is_empty(),
        Value::Map(fields) => match fields.iter().find(|field| field.key.eq_ignore_ascii_case("enabled")) {
            Some(enabled) => enabled.value.value == Value::Bool(false),
            None => fields.iter().all(|field| is_off(&field.value.value)),
        },
        Value::Bool(true) | Value::Integer(_) | Value::Float(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::text;

    fn findings(hcl: &str, later: &[Later], read: impl FnOnce(&mut Reader<'_>)) -> (Vec<String>, Vec<String>) {
        let fields = text::parse(hcl).unwrap();
        let findings = Findings::default();
        let mut reader = Reader::new("a.hcl", &fields, &findings);
        read(&mut reader);
        reader.finish(later);
        {
            let (errors, warnings) = findings.into_parts();
            (errors.iter().map(ToString::to_string).collect(), warnings)
        }
    }

    #[test]
    fn an_unknown_key_is_told_with_line_and_neighbour() {
        let (errors, _) = findings("a = 1\n\nprots { http = 1 }\nports {\n  htp = 2\n}\n", &[], |reader| {
            reader.number::<u16>("a");
            reader.sections("ports", &[], |ports| {
                ports.number::<u16>("http");
            });
        });
        assert_eq!(
            errors,
            ["a.hcl:5: unknown key `ports.htp`; did you mean `ports.http`?", "a.hcl:3: unknown key `prots`; did you mean `ports`?"]
        );
    }

    #[test]
    fn values_of_the_wrong_kind_are_told_with_line() {
        let (errors, _) = findings("a = \"x\"\nb = 70000\nc = 10\nd = 5\nd = 6\ne { k = [1, {}] }", &[], |reader| {
            reader.flag("a");
            reader.number::<u16>("b");
            reader.duration("c");
            reader.text("d");
            reader.lists("e");
        });
        let parts = [
            "a.hcl:1: `a` needs `true` or `false`, found `x`",
            "a.hcl:2: `b` needs",
            "a.hcl:3: `c` needs a duration",
            "a.hcl:5: `d` is given a second time; line 4",
            "a.hcl:6: `e` needs a list",
        ];
        for (error, part) in errors.iter().zip(parts) {
            assert!(error.contains(part), "{error}");
        }
        assert_eq!(errors.len(), parts.len());
    }

    #[test]
    fn what_comes_later_is_refused_or_ignored_but_never_in_silence() {
        let later = [Later { key: "acl", fatal: true }, Later { key: "enable_debug", fatal: false }];
        let (errors, warnings) = findings("acl { enabled = true }\nenable_debug = true", &later, |_| ());
        assert!(errors[0].contains("a.hcl:1: `acl` is not part of this version"), "{errors:?}");
        assert!(warnings[0].contains("a.hcl:2: `enable_debug`"), "{warnings:?}");
        let off = findings("acl { enabled = false\n default_policy = \"allow\" }\nenable_debug = false", &later, |_| ());
        assert_eq!(off, (vec![], vec![]));
    }

    #[test]
    fn lists_append_and_blocks_repeat() {
        let (errors, _) = findings("r = \"a\"\nr = [\"b\", \"c\"]\ns { k = 1 }\ns { k = 2 }\nt = [{ k = 3 }]", &[], |reader| {
            assert_eq!(reader.texts("r"), ["a", "b", "c"]);
            let mut seen = Vec::new();
            reader.sections("s", &[], |s| seen.extend(s.number::<i64>("k")));
            reader.sections("t", &[], |t| seen.extend(t.number::<i64>("k")));
            assert_eq!(seen, [1, 2, 3]);
        });
        assert_eq!(errors, [] as [&str; 0]);
    }
}
