//! What a node has written, line by line, while it writes.

use std::io::{BufRead, BufReader, Read};
use std::sync::{Arc, Mutex};
use std::thread;

/// The lines of a process, gathered by threads that end with it. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Log {
    lines: Arc<Mutex<Vec<String>>>,
}

impl Log {
    /// Gathers the lines of `from` until it ends.
    pub(crate) fn gather(&self, from: impl Read + Send + 'static) -> thread::JoinHandle<()> {
        let log = self.clone();
        thread::spawn(move || {
            for line in BufReader::new(from).split(b'\n').map_while(Result::ok) {
                log.lines.lock().unwrap().push(String::from_utf8_lossy(&line).into_owned());
            }
        })
    }

    /// What there is so far.
    pub fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }

    /// The lines after the first `skip`.
    pub fn lines_after(&self, skip: usize) -> Vec<String> {
        self.lines.lock().unwrap().get(skip..).unwrap_or_default().to_vec()
    }

    /// How many lines there are.
    pub fn len(&self) -> usize {
        self.lines.lock().unwrap().len()
    }

    /// Whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether a line contains `text`.
    pub fn contains(&self, text: &str) -> bool {
        self.lines.lock().unwrap().iter().any(|line| line.contains(text))
    }

    /// Everything as one text.
    pub fn text(&self) -> String {
        self.lines().join("\n")
    }

    /// The lines that tell of a fault: logged as an error, or a panic.
    pub fn errors(&self) -> Vec<String> {
        let mut lines = self.lines();
        lines.retain(|line| is_error(line));
        lines
    }
}

fn is_error(line: &str) -> bool {
    let level = |word: &str| matches!(word.trim_matches(|c: char| !c.is_ascii_alphabetic()), "ERROR" | "ERR");
    line.contains("panicked at") || line.contains("\"level\":\"ERROR\"") || line.split_whitespace().take(4).any(level)
}
