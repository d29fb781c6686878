//! The binary under test.
//!
//! Cargo gives a test the path of its own package's binaries only, so the first test to ask builds
//! it: the same profile as the tests, all members selected as `cargo test` does, which leaves
//! little more than a link to be done. `LICTOR_BIN` names another binary, such as a release build.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use serde_json::Value;

/// The path of the binary under test.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| std::env::var_os("LICTOR_BIN").map(given).unwrap_or_else(build))
}

/// The root of the repository.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests lie in a folder of the repository")
}

fn given(path: std::ffi::OsString) -> PathBuf {
    let path = std::fs::canonicalize(&path).unwrap_or_else(|error| panic!("`LICTOR_BIN` is {}: {error}", path.display()));
    eprintln!("the binary under test is {}", path.display());
    path
}

fn build() -> PathBuf {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(repository()).args(["build", "--workspace", "--bin", "lictor", "--message-format=json-render-diagnostics"]);
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    let built = command.stderr(Stdio::inherit()).output().expect("cargo can be started");
    assert!(built.status.success(), "the binary under test does not build");
    let messages = String::from_utf8(built.stdout).expect("cargo speaks UTF-8");
    let executable = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()).find_map(|message| {
        let named = message["target"]["name"] == "lictor";
        message["executable"].as_str().filter(|_| named).map(PathBuf::from)
    });
    executable.expect("cargo tells where it put the binary")
}
