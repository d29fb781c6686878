//! Programs of the system that users have and tests need.

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;

use crate::cli::Ran;

/// Which Debian package holds a program.
const PACKAGES: [(&str, &str); 6] = [
    ("check_file_age", "monitoring-plugins-basic"),
    ("curl", "curl"),
    ("dig", "dnsutils"),
    ("ip", "iproute2"),
    ("unshare", "util-linux"),
    ("mount", "mount"),
];

/// Where the program is. One that is missing is installed if that can be done without asking, as
/// root on Debian; otherwise the test fails and says what to install.
pub fn tool(name: &str) -> PathBuf {
    static FOUND: Mutex<Option<HashMap<String, PathBuf>>> = Mutex::new(None);
    let mut found = FOUND.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let found = found.get_or_insert_default();
    if let Some(path) = found.get(name) {
        return path.clone();
    }
    let path = look_up(name).or_else(|| install(name)).unwrap_or_else(|| missing(name));
    found.insert(name.to_owned(), path.clone());
    path
}

/// Runs a shell script and gives what came of it.
pub fn run(script: &str) -> Ran {
    let mut command = Command::new("bash");
    command.args(["-c", script]);
    Ran::with_input(command, "")
}

fn look_up(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/lib/nagios/plugins", "/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(system).map(|directory| directory.join(name)).find(|path| path.is_file())
}

fn package(name: &str) -> &str {
    PACKAGES.iter().find(|(program, _)| *program == name).map_or(name, |(_, package)| package)
}

fn install(name: &str) -> Option<PathBuf> {
    if !nix::unistd::geteuid().is_root() || look_up("apt-get").is_none() {
        return None;
    }
    let package = package(name);
    eprintln!("installing `{package}` for `{name}`");
    let quiet = "DEBIAN_FRONTEND=noninteractive apt-get -qq -o Acquire::Retries=3";
    run(&format!("{quiet} update && {quiet} install -y --no-install-recommends {package}"));
    look_up(name)
}

fn missing(name: &str) -> ! {
    panic!("`{name}` is needed and not installed; on Debian: apt-get install {}", package(name))
}
