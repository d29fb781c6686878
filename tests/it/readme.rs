//! README.md and the recipes in docs/locks.md mean what they say: their `sh` blocks are run, in their order, in one
//! shell and one directory, beside a fresh `lictor agent -dev` at the usual ports. A block marked `text` is for
//! reading; no other mark is allowed, so that no command escapes.

use std::process::Command;

use harness::{Ran, Setup, binary, isolated, repository};

/// The first command that fails ends the script; one that `timeout` ends has done its duty.
const PREAMBLE: &str = "\
set -uo pipefail
trap 'status=$?; [ $status -eq 124 ] || exit $status' ERR
trap 'kill $(jobs -p) 2>/dev/null || true' EXIT";

#[test]
fn every_snippet_of_the_readme_works() {
    isolated("readme::every_snippet_of_the_readme_works", || follow("README.md"));
}

#[test]
fn every_recipe_for_an_election_works() {
    isolated("readme::every_recipe_for_an_election_works", || follow("docs/locks.md"));
}

/// Does what a document says.
fn follow(document: &str) {
    let text = std::fs::read_to_string(repository().join(document)).unwrap_or_else(|error| panic!("{document}: {error}"));
    let blocks = blocks(&text);
    let run: Vec<&str> = blocks.iter().filter(|(mark, _)| mark == "sh").map(|(_, body)| body.as_str()).collect();
    assert!(!run.is_empty(), "no `sh` block in {document}");
    for (mark, body) in &blocks {
        assert!(mark == "sh" || mark == "text", "a block is marked `{mark}`, which is neither `sh` nor `text`:\n{body}");
    }
    let node = Setup::dev().default_ports().start();
    let place = node.setup().home().join("bin");
    std::fs::create_dir(&place).unwrap();
    std::os::unix::fs::symlink(binary(), place.join("lictor")).unwrap();
    let path = format!("{}:{}", place.display(), std::env::var("PATH").unwrap());
    let script = format!("{PREAMBLE}\n{}", run.join("\n"));
    let mut command = Command::new("timeout");
    command.args(["120", "bash", "-x", "-c", &script]).env("PATH", path).current_dir(node.setup().home());
    let ran = Ran::with_input(command, "");
    println!("{}\n{}", ran.stdout, ran.stderr);
    ran.success();
}

/// The fenced blocks with their marks.
fn blocks(text: &str) -> Vec<(String, String)> {
    let mut blocks = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if let Some(mark) = line.strip_prefix("```") {
            let body: Vec<&str> = lines.by_ref().take_while(|line| !line.starts_with("```")).collect();
            blocks.push((mark.trim().to_owned(), body.join("\n")));
        }
    }
    blocks
}

#[test]
fn blocks_are_found_with_their_marks() {
    let text = "a\n```sh\none\ntwo\n```\nb\n```text\nthree\n```\n";
    assert_eq!(blocks(text), [("sh".into(), "one\ntwo".into()), ("text".into(), "three".to_owned())]);
}
