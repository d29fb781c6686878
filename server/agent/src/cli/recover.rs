//! `lictor recover`: a new quorum from the data directories that are left.
//!
//! It works on directories of servers that do not run, says what each holds, which of them has the
//! newest log and why, and what would be written where. It writes only when it is told to.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use consensus::recovery::{Survivor, newest};
use consensus::{Member, Peer};

use crate::cli::output::{Table, print_line};

/// Make a new quorum from the data directories that are left of an old one
///
/// For the case that most servers are lost for good. Stop every server that is left, and give their
/// data directories. Nothing is changed without `-write`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Recover {
    /// A data directory that is left; may be given several times
    #[arg(long, value_name = "DIR")]
    data_dir: Vec<PathBuf>,
    /// The same, without a flag
    #[arg(value_name = "DIR")]
    directories: Vec<PathBuf>,
    /// A server of the new quorum and where its peers reach it from now on; its data directory must be
    /// among those given. Without it, the server with the newest log is the quorum
    #[arg(long, value_name = "NAME=HOST:PORT")]
    address: Vec<String>,
    /// Write the new quorum into the newest log
    #[arg(long)]
    write: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

impl Recover {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let directories: Vec<&PathBuf> = self.data_dir.iter().chain(&self.directories).collect();
        if directories.is_empty() {
            bail!("give the data directory of each server that is left");
        }
        expect_distinct(&directories)?;
        let mut survivors = Vec::new();
        for directory in directories {
            survivors.push(Survivor::read(directory).map_err(|error| unreadable(directory, error))?);
        }
        show(&survivors)?;
        let chosen = newest(&survivors).context("there is nothing to recover from")?;
        expect_one_cluster(&survivors, chosen)?;
        say_why(&survivors, chosen)?;
        let quorum = quorum(&survivors, chosen, &self.address)?;
        say_what(&survivors, chosen, &quorum)?;
        if !self.write {
            print_line("\nNothing was changed. Do it with `-write`.")?;
            return Ok(ExitCode::SUCCESS);
        }
        if !self.yes && !agreed()? {
            print_line("Nothing was changed.")?;
            return Ok(ExitCode::FAILURE);
        }
        let server = survivors.swap_remove(chosen);
        let (name, path) = (called(&server), server.path().display().to_string());
        server.found_quorum(quorum).with_context(|| format!("`{path}` could not be written"))?;
        print_line(format_args!("\nDone. Start {name} with `-data-dir={path}`; then start the others, and let them join it."))?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Refuses a directory that is given twice, by whatever names.
fn expect_distinct(directories: &[&PathBuf]) -> anyhow::Result<()> {
    let mut seen = BTreeSet::new();
    for directory in directories {
        // What cannot be found is told of when it is read.
        let real = directory.canonicalize().unwrap_or_else(|_| (*directory).clone());
        if !seen.insert(real) {
            bail!("`{}` is given twice; give the data directory of each server once", directory.display());
        }
    }
    Ok(())
}

/// Refuses directories that do not belong together: a copy of one that is there, that of another cluster, or that of a
/// server that was taken out of the quorum, which may lack what was acknowledged since.
fn expect_one_cluster(survivors: &[Survivor], chosen: usize) -> anyhow::Result<()> {
    let server = &survivors[chosen];
    for (at, other) in survivors.iter().enumerate().filter(|(at, _)| *at != chosen) {
        if let Some(same) = survivors[..at].iter().find(|same| same.id == other.id) {
            let (one, two) = (same.path().display(), other.path().display());
            bail!("`{one}` and `{two}` both hold the data of server {}: one is a copy; give the one that was used last", other.id);
        }
        if !server.members.iter().any(|peer| peer.id == other.id) {
            bail!(
                "`{}` does not belong to it: by `{}`, which has the newest log, the quorum was {}, without server {}. It holds another \
                 cluster's data, or its server was taken out; give directories of one cluster only",
                other.path().display(),
                server.path().display(),
                list(&server.members),
                other.id
            );
        }
    }
    Ok(())
}

/// What is wrong with a directory. No server stops of it: none runs.
fn unreadable(directory: &Path, error: consensus::Error) -> anyhow::Error {
    let named = format!("`{}`", directory.display());
    match error {
        consensus::Error::Fatal(why) if why.starts_with(&named) => anyhow::anyhow!("cannot recover from {why}"),
        consensus::Error::Fatal(why) => anyhow::anyhow!("cannot recover from {named}: {why}"),
        other => anyhow::Error::new(other).context(format!("cannot recover from {named}")),
    }
}

fn called(server: &Survivor) -> String {
    server.name.clone().unwrap_or_else(|| format!("server {}", server.id))
}

fn show(survivors: &[Survivor]) -> anyhow::Result<()> {
    let mut table = Table::new(["Node", "ID", "Term", "Last entry", "Committed", "Applied", "Directory"]);
    for server in survivors {
        let (term, index) = server.last;
        table.row([
            called(server),
            server.id.to_string(),
            server.term.to_string(),
            format!("{index} of term {term}"),
            format!("{} or later", server.committed),
            server.applied.to_string(),
            server.path().display().to_string(),
        ]);
    }
    Ok(print_line(table.to_string().trim_end())?)
}

fn say_why(survivors: &[Survivor], chosen: usize) -> anyhow::Result<()> {
    let server = &survivors[chosen];
    let (term, index) = server.last;
    let voters = server.members.iter().filter(|peer| peer.voter).count();
    let left = server.members.iter().filter(|peer| peer.voter && survivors.iter().any(|other| other.id == peer.id)).count();
    print_line(format_args!("\nThe quorum was: {}.", list(&server.members)))?;
    print_line(format_args!(
        "{} has the newest log: it ends with entry {index} of term {term}, and no other one here ends with a later one.",
        called(server)
    ))?;
    match left > voters / 2 {
        true => print_line(
            "Most of the quorum is left: started as they are, with their addresses known, they elect a leader by themselves and nothing needs to be recovered.",
        )?,
        false => print_line(format_args!(
            "Of {voters} voters {left} {} left. What was acknowledged in the last moments may have been on the lost ones only if this one was behind.",
            if left == 1 { "is" } else { "are" }
        ))?,
    }
    Ok(())
}

fn list(members: &[Peer]) -> String {
    let member = |peer: &Peer| format!("{} ({}, {}{})", peer.name, peer.id, peer.address, if peer.voter { "" } else { ", without a vote" });
    members.iter().map(member).collect::<Vec<_>>().join(", ")
}

/// The servers of the new quorum.
fn quorum(survivors: &[Survivor], chosen: usize, addresses: &[String]) -> anyhow::Result<BTreeMap<u64, Member>> {
    let server = &survivors[chosen];
    let known = |id: u64| server.members.iter().find(|peer| peer.id == id);
    let mut quorum = BTreeMap::new();
    for text in addresses {
        let (name, address) =
            text.split_once('=').with_context(|| format!("`-address {text}`: write a server's name, `=`, and `host:port`"))?;
        let port = address.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?)));
        if !port.is_some_and(|(host, port)| !host.is_empty() && port != 0) {
            bail!("`-address {text}`: `{address}` is not `host:port`");
        }
        let here = |other: &&Survivor| known(other.id).is_some_and(|peer| peer.name == name) || other.name.as_deref() == Some(name);
        let named = survivors.iter().find(here).with_context(|| {
            format!("`-address {text}`: the data directory of `{name}` is not among those given; start it empty instead, and let it join")
        })?;
        quorum.insert(named.id, Member { name: name.to_owned(), address: address.to_owned() });
    }
    if let Entry::Vacant(place) = quorum.entry(server.id) {
        let peer = known(server.id).with_context(|| {
            format!("its own quorum does not name server {}; say where it is with `-address NAME=HOST:PORT`", server.id)
        })?;
        place.insert(Member { name: peer.name.clone(), address: peer.address.clone() });
    }
    Ok(quorum)
}

fn say_what(survivors: &[Survivor], chosen: usize, quorum: &BTreeMap<u64, Member>) -> anyhow::Result<()> {
    let server = &survivors[chosen];
    let (term, index) = server.next();
    let members: Vec<String> = quorum.iter().map(|(id, member)| format!("{} ({id}, {})", member.name, member.address)).collect();
    print_line(format_args!("\nTo be written into `{}`:", server.path().display()))?;
    print_line(format_args!("  entry {index} of term {term}: the quorum is {}", members.join(", ")))?;
    print_line(format_args!("  the vote of {} for itself in term {term}", called(server)))?;
    print_line("Every entry that is there stays; once it leads, all of them count as committed.")?;
    let out: Vec<String> =
        server.members.iter().filter(|peer| !quorum.contains_key(&peer.id)).map(|peer| format!("{} ({})", peer.name, peer.id)).collect();
    if !out.is_empty() {
        print_line(format_args!(
            "No longer part of it: {}. Never start them with their old data directories again; started with empty ones they may join.",
            out.join(", ")
        ))?;
    }
    Ok(())
}

fn agreed() -> anyhow::Result<bool> {
    let input = std::io::stdin();
    if !input.is_terminal() {
        bail!("nobody can be asked here; add `-yes` to write without a question");
    }
    let mut out = std::io::stdout();
    write!(out, "\nWrite it? Type `yes`: ")?;
    out.flush()?;
    let mut answer = String::new();
    input.lock().read_line(&mut answer)?;
    Ok(answer.trim() == "yes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_is_none_is_named_once_and_no_server_is_said_to_stop() {
        let empty = tempfile::tempdir().unwrap();
        let named = format!("`{}`", empty.path().display());
        let refused = Survivor::read(empty.path()).map_err(|error| unreadable(empty.path(), error));
        let text = refused.err().expect("an empty directory is no server's").to_string();
        assert!(text.starts_with(&format!("cannot recover from {named}: it is not the data directory")), "{text}");
        assert!(text.matches(&named).count() == 1 && !text.contains("stops"), "{text}");
    }
}
