//! Arguments as people have written them for Consul for years, in the form that clap reads.
//!
//! Every flag may have one dash or two, `-flag=value` or `-flag value`; boolean ones stand alone or
//! with `=true`, `=false`; the last one of several counts. What follows the last flag is left
//! alone: `-` is standard input, `-5` is a value, and after `--` everything is.

use clap::{ArgAction, Command};

use crate::config::FLAGS_LATER;
use crate::nearest;

/// Arguments that clap reads as they were meant.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Normal {
    /// The arguments, sub-commands first, then flags, then `--` and the rest.
    pub(crate) args: Vec<String>,
    /// What the user should know.
    pub(crate) warnings: Vec<String>,
}

/// Arguments that cannot be read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Misuse {
    /// No command at all, or an unknown one: exit 127.
    NoCommand(Option<String>),
    /// A command that needs another one after it, by its path.
    Incomplete(Vec<String>),
    /// Anything else, in words.
    Flag(String),
}

/// Where positional values begin to hide flags.
enum Tail {
    /// Flags may stand anywhere.
    Open,
    /// After the first positional value everything is the command line of a child.
    Child,
    /// After the first positional value only known flags are flags: values may begin with a dash.
    Value,
}

/// Reads `given`, which does not hold the program's name.
pub(crate) fn normalise(given: &[String], root: &Command) -> Result<Normal, Misuse> {
    let mut reader = Reader { command: root, path: Vec::new(), flags: Vec::new(), values: Vec::new(), warnings: Vec::new() };
    let mut rest = given.iter();
    if given.first().is_some_and(|first| first == "help") {
        rest.next();
        reader.flags.push("--help".into());
    }
    while let Some(arg) = rest.next() {
        if arg == "--" {
            reader.values.extend(rest.by_ref().cloned());
        } else if looks_like_flag(arg) && reader.may_be_flag(arg) {
            reader.flag(arg, &mut rest)?;
        } else if reader.command.has_subcommands() {
            reader.descend(arg)?;
        } else {
            reader.values.push(arg.clone());
            if matches!(tail(&reader.path), Tail::Child) {
                reader.values.extend(rest.by_ref().cloned());
            }
        }
    }
    reader.finish()
}

/// A dash and a letter, or two dashes: not `-`, which is standard input, and not a number.
fn looks_like_flag(arg: &str) -> bool {
    let Some(name) = arg.strip_prefix('-') else { return false };
    let name = name.strip_prefix('-').unwrap_or(name);
    name.starts_with(|c: char| !c.is_ascii_digit() && c != '.') && !name.starts_with('-')
}

fn tail(path: &[String]) -> Tail {
    match path {
        [only] if ["watch", "lock", "lock-guard", "exec"].contains(&only.as_str()) => Tail::Child,
        [.., last] if last == "put" || last == "import" => Tail::Value,
        _ => Tail::Open,
    }
}

struct Reader<'a> {
    command: &'a Command,
    path: Vec<String>,
    flags: Vec<String>,
    values: Vec<String>,
    warnings: Vec<String>,
}

impl<'a> Reader<'a> {
    fn may_be_flag(&self, arg: &str) -> bool {
        let (name, _) = split(arg);
        self.values.is_empty() || !matches!(tail(&self.path), Tail::Value) || self.find(name).is_some()
    }

    fn flag(&mut self, arg: &str, rest: &mut std::slice::Iter<'_, String>) -> Result<(), Misuse> {
        let (name, value) = split(arg);
        match (name, self.path.as_slice()) {
            ("h" | "help", _) => {
                self.flags.push("--help".into());
                return Ok(());
            }
            ("v" | "version", []) => return self.descend("version"),
            _ => {}
        }
        let Some(kind) = self.find(name) else { return self.unknown(name, value, rest) };
        let flag = match kind {
            Kind::Value => {
                let value = value.map(str::to_owned).or_else(|| rest.next().cloned());
                let value = value.ok_or_else(|| Misuse::Flag(format!("flag `-{name}` needs a value")))?;
                format!("--{name}={value}")
            }
            Kind::Switch | Kind::Choice => {
                let on = value.map_or(Some(true), boolean);
                let on =
                    on.ok_or_else(|| Misuse::Flag(format!("flag `-{name}` is `true` or `false`, not `{}`", value.unwrap_or_default())))?;
                match (kind, on) {
                    (Kind::Choice, on) => format!("--{name}={on}"),
                    (_, true) => format!("--{name}"),
                    (_, false) => {
                        self.flags.retain(|flag| flag != &format!("--{name}"));
                        return Ok(());
                    }
                }
            }
        };
        self.flags.push(flag);
        Ok(())
    }

    /// A flag that the command does not have: one of Consul's that is not built, or a slip.
    fn unknown(&mut self, name: &str, value: Option<&str>, rest: &mut std::slice::Iter<'_, String>) -> Result<(), Misuse> {
        let agent = matches!(self.path.as_slice(), [only] if only == "agent");
        match FLAGS_LATER.iter().find(|later| agent && later.name == name) {
            Some(later) if later.fatal => {
                Err(Misuse::Flag(format!("flag `-{name}` is not part of this version; remove it to start without what it asks for")))
            }
            Some(later) => {
                if later.value && value.is_none() {
                    rest.next();
                }
                self.warnings.push(format!("flag `-{name}` is not part of this version and is ignored"));
                Ok(())
            }
            None => {
                let known: Vec<&str> = self.command.get_arguments().flat_map(names).collect();
                let hint = nearest::hint(name, known, |near| format!("-{near}"));
                let of = self.path.join(" ");
                let place = if of.is_empty() { String::new() } else { format!(" of `{of}`") };
                Err(Misuse::Flag(format!("unknown flag `-{name}`{place}{hint}")))
            }
        }
    }

    fn descend(&mut self, name: &str) -> Result<(), Misuse> {
        match self.command.find_subcommand(name) {
            Some(command) => {
                self.path.push(command.get_name().to_owned());
                self.command = command;
                Ok(())
            }
            None => {
                let known = self.command.get_subcommands().map(Command::get_name);
                let hint = nearest::hint(name, known, str::to_owned);
                let full = self.path.iter().map(String::as_str).chain([name]).collect::<Vec<_>>().join(" ");
                Err(Misuse::NoCommand(Some(format!("unknown command `{full}`{hint}"))))
            }
        }
    }

    fn finish(self) -> Result<Normal, Misuse> {
        let asks_for_help = self.flags.iter().any(|flag| flag == "--help");
        if self.command.has_subcommands() && !asks_for_help {
            return Err(if self.path.is_empty() { Misuse::NoCommand(None) } else { Misuse::Incomplete(self.path) });
        }
        let mut args = self.path;
        if asks_for_help {
            args.push("--help".into());
        } else {
            args.extend(self.flags);
            if !self.values.is_empty() {
                args.push("--".into());
                args.extend(self.values);
            }
        }
        Ok(Normal { args, warnings: self.warnings })
    }

    fn find(&self, name: &str) -> Option<Kind> {
        let arg = self.command.get_arguments().find(|arg| names(arg).contains(&name))?;
        let optional_value = arg.get_num_args().is_some_and(|range| range.min_values() == 0);
        Some(match arg.get_action() {
            ArgAction::SetTrue => Kind::Switch,
            _ if optional_value => Kind::Choice,
            _ => Kind::Value,
        })
    }
}

/// How a flag takes its value.
#[derive(Clone, Copy)]
enum Kind {
    /// `-flag value` or `-flag=value`.
    Value,
    /// On or absent.
    Switch,
    /// On, off or absent.
    Choice,
}

fn names(arg: &clap::Arg) -> Vec<&str> {
    let aliases = arg.get_all_aliases().unwrap_or_default();
    arg.get_long().into_iter().chain(aliases).collect()
}

/// Name and value of a flag, without its dashes.
fn split(arg: &str) -> (&str, Option<&str>) {
    let bare = arg.trim_start_matches('-');
    bare.split_once('=').map_or((bare, None), |(name, value)| (name, Some(value)))
}

fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::cli::Cli;

    fn read(line: &[&str]) -> Result<Vec<String>, Misuse> {
        let mut root = Cli::command();
        root.build();
        let given: Vec<String> = line.iter().map(|&arg| arg.to_owned()).collect();
        normalise(&given, &root).map(|normal| normal.args)
    }

    #[test]
    fn flags_are_read_as_they_are_meant() {
        let cases: &[(&[&str], &[&str])] = &[
            (&["agent", "-dev"], &["agent", "--dev=true"]),
            (&["agent", "--dev"], &["agent", "--dev=true"]),
            (&["agent", "-dev=false", "-server=1"], &["agent", "--dev=false", "--server=true"]),
            (&["agent", "-data-dir", "/x", "--node=a"], &["agent", "--data-dir=/x", "--node=a"]),
            (&["agent", "-http-port", "-1", "-grpc-port=-1"], &["agent", "--http-port=-1", "--grpc-port=-1"]),
            (&["agent", "-config-dir=/a", "-config-file", "/b"], &["agent", "--config-dir=/a", "--config-file=/b"]),
            (&["kv", "get", "-recurse", "a/b"], &["kv", "get", "--recurse", "--", "a/b"]),
            (&["kv", "get", "a/b", "-recurse"], &["kv", "get", "--recurse", "--", "a/b"]),
            (&["kv", "get", "-recurse", "-recurse=false", "a"], &["kv", "get", "--", "a"]),
            (&["kv", "put", "k", "-"], &["kv", "put", "--", "k", "-"]),
            (&["kv", "put", "k", "-5"], &["kv", "put", "--", "k", "-5"]),
            (&["kv", "put", "k", "-----BEGIN KEY-----"], &["kv", "put", "--", "k", "-----BEGIN KEY-----"]),
            (&["kv", "put", "k", "-not-a-flag"], &["kv", "put", "--", "k", "-not-a-flag"]),
            (&["kv", "put", "-cas", "k", "v", "-modify-index=3"], &["kv", "put", "--cas", "--modify-index=3", "--", "k", "v"]),
            (&["kv", "put", "--", "-k", "--"], &["kv", "put", "--", "-k", "--"]),
            (&["kv", "put", "k", "a=b"], &["kv", "put", "--", "k", "a=b"]),
            (&["kv", "put", "-token", "-cas", "k"], &["kv", "put", "--token=-cas", "--", "k"]),
            (&["kv", "put", "-session=", "k", ""], &["kv", "put", "--session=", "--", "k", ""]),
            (
                &["watch", "-type=key", "-key", "k", "./run", "-v", "--", "-key"],
                &["watch", "--type=key", "--key=k", "--", "./run", "-v", "--", "-key"],
            ),
            (&["-version"], &["version"]),
            (&["--version"], &["version"]),
            (&["kv", "-h"], &["kv", "--help"]),
            (&["help", "kv", "get"], &["kv", "get", "--help"]),
            (&["-help"], &["--help"]),
        ];
        for (line, expected) in cases {
            assert_eq!(read(line).unwrap_or_else(|misuse| panic!("{line:?}: {misuse:?}")), *expected, "{line:?}");
        }
    }

    #[test]
    fn misuse_is_told_with_the_nearest_word() {
        let flag = |text: &str| Misuse::Flag(text.into());
        let cases: &[(&[&str], Misuse)] = &[
            (&["agent", "-datadir=/x"], flag("unknown flag `-datadir` of `agent`; did you mean `-data-dir`?")),
            (&["agent", "-dve"], flag("unknown flag `-dve` of `agent`; did you mean `-dev`?")),
            (&["kv", "get", "k", "-recursive"], flag("unknown flag `-recursive` of `kv get`; did you mean `-recurse`?")),
            (&["kv", "get", "-quux", "k"], flag("unknown flag `-quux` of `kv get`")),
            (&["agent", "-data-dir"], flag("flag `-data-dir` needs a value")),
            (&["agent", "-dev=maybe"], flag("flag `-dev` is `true` or `false`, not `maybe`")),
            (
                &["agent", "-https-port=abc"],
                flag("flag `-https-port` is not part of this version; remove it to start without what it asks for"),
            ),
            (&["kv", "gte"], Misuse::NoCommand(Some("unknown command `kv gte`; did you mean `get`?".into()))),
            (&["agnet"], Misuse::NoCommand(Some("unknown command `agnet`; did you mean `agent`?".into()))),
            (&[], Misuse::NoCommand(None)),
            (&["kv"], Misuse::Incomplete(vec!["kv".into()])),
        ];
        for (line, expected) in cases {
            assert_eq!(read(line).unwrap_err(), *expected, "{line:?}");
        }
    }

    #[test]
    fn flags_that_do_no_harm_are_ignored_with_a_warning() {
        let mut root = Cli::command();
        root.build();
        let given = ["agent", "-ui", "-raft-protocol", "3", "-dev"].map(str::to_owned);
        let normal = normalise(&given, &root).unwrap();
        assert_eq!(normal.args, ["agent", "--dev=true"]);
        assert_eq!(normal.warnings.len(), 2);
    }
}
