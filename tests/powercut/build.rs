//! Compiles the shim, a library to preload. It is no part of any other program, so it is built by itself: linked
//! into a test it would replace that test's own file operations.

use std::env;
use std::path::PathBuf;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=src/shim.rs");
    println!("cargo::rerun-if-changed=src/record.rs");
    let variable = |name| env::var_os(name).unwrap_or_else(|| panic!("cargo sets `{name}` for build scripts"));
    let shim = PathBuf::from(variable("OUT_DIR")).join("libpowercut_shim.so");
    let status = Command::new(variable("RUSTC"))
        .args(["--edition=2024", "--crate-name=powercut_shim", "--crate-type=cdylib", "-Copt-level=2", "-Cpanic=abort"])
        .args(["src/shim.rs", "-o"])
        .arg(&shim)
        .status();
    match status {
        Ok(status) if status.success() => println!("cargo::rustc-env=POWERCUT_SHIM={}", shim.display()),
        other => panic!("cannot compile `src/shim.rs`: {other:?}"),
    }
}
