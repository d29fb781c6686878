//! Finds configuration files and reads them into trees.

use std::fs;
use std::path::{Path, PathBuf};

use crate::config::findings::Place;
use crate::config::flags::AgentFlags;
use crate::config::raw::{Raw, Source};
use crate::config::read::Findings;
use crate::config::text;

/// Reads what `-config-file` and `-config-dir` name, in the order of the command line. What cannot
/// be read is among the findings.
pub(crate) fn sources(flags: &AgentFlags, findings: &Findings) -> Vec<Source> {
    read_all(&flags.config_paths, flags.config_format.as_deref(), findings)
}

/// Reads files, and directories by their `.hcl` and `.json` files, name-sorted.
pub(crate) fn read_all(paths: &[PathBuf], format: Option<&str>, findings: &Findings) -> Vec<Source> {
    if let Some(other) = format.filter(|format| !matches!(*format, "hcl" | "json")) {
        findings.error(format!("`-config-format` is `hcl` or `json`, not `{other}`"));
    }
    paths.iter().flat_map(|path| files(path, format.is_some(), findings)).filter_map(|file| read(&file, findings)).collect()
}

/// Adds a fragment that was given with `-hcl`.
pub(crate) fn fragment(number: usize, fragment: &str, raw: &mut Raw, findings: &Findings) {
    let name = format!("-hcl fragment {}", number + 1);
    if let Some(source) = parse(name, fragment, findings) {
        raw.read(&source, findings);
    }
}

/// The files that `path` stands for: itself, or those of a directory.
fn files(path: &Path, any_extension: bool, findings: &Findings) -> Vec<PathBuf> {
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => in_directory(path, any_extension, findings),
        Ok(_) if any_extension || is_configuration(path) => vec![path.to_owned()],
        Ok(_) => {
            findings.error(format!(
                "configuration file `{}` ends neither in `.hcl` nor in `.json`; rename it or give `-config-format`",
                path.display()
            ));
            Vec::new()
        }
        Err(error) => {
            findings.error(format!("cannot read configuration `{}`: {error}", path.display()));
            Vec::new()
        }
    }
}

fn in_directory(path: &Path, any_extension: bool, findings: &Findings) -> Vec<PathBuf> {
    let entries = match fs::read_dir(path).and_then(Iterator::collect::<Result<Vec<_>, _>>) {
        Ok(entries) => entries,
        Err(error) => {
            findings.error(format!("cannot read configuration directory `{}`: {error}", path.display()));
            return Vec::new();
        }
    };
    let mut files: Vec<PathBuf> = entries.into_iter().map(|entry| entry.path()).filter(|path| path.is_file()).collect();
    files.sort();
    files.retain(|file| {
        let wanted = any_extension || is_configuration(file);
        if !wanted {
            findings.warn(format!("`{}` is skipped: it ends neither in `.hcl` nor in `.json`", file.display()));
        }
        wanted
    });
    files
}

fn is_configuration(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "hcl" || extension == "json")
}

fn read(path: &Path, findings: &Findings) -> Option<Source> {
    let name = path.display().to_string();
    match fs::read_to_string(path) {
        Ok(text) => parse(name, &text, findings),
        Err(error) => {
            findings.error(format!("cannot read configuration file `{name}`: {error}"));
            None
        }
    }
}

/// Reads one text, or says what is wrong with it.
pub(crate) fn parse(name: String, text: &str, findings: &Findings) -> Option<Source> {
    match text::parse(text) {
        Ok(fields) => Some(Source { name, fields }),
        Err(error) => {
            findings.error_at(Place { file: name, line: error.line }, None, error.message);
            None
        }
    }
}
