//! A test alone with a network, a table of mounts and a table of processes of its own.
//!
//! There the usual ports are free, whatever runs on this machine, and a small disk can be mounted
//! without anybody seeing it; what it starts ends with it, whoever forgets it. Whoever is not root becomes root in a user namespace, as far as the
//! kernel lets everybody do that.

use std::process::Command;

use crate::binary::binary;
use crate::tool::tool;

const INSIDE: &str = "LICTOR_TEST_ISOLATED";

/// Runs the body of the test named `test` (its path without the crate) isolated: starts this test
/// binary again for that test alone, inside, and fails if it fails there.
pub fn isolated(test: &str, body: impl FnOnce()) {
    if std::env::var(INSIDE).is_ok_and(|inside| inside == test) {
        let up = Command::new(tool("ip")).args(["link", "set", "lo", "up"]).status().expect("ip can be started");
        assert!(up.success(), "the loopback device of the private network cannot be switched on");
        return body();
    }
    for name in ["ip", "curl", "dig", "mount"] {
        tool(name);
    }
    let mut command = Command::new(tool("unshare"));
    if !nix::unistd::geteuid().is_root() {
        command.arg("--map-root-user");
    }
    command
        .args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--"])
        .arg(std::env::current_exe().expect("the test binary has a path"));
    command.args([test, "--exact", "--nocapture", "--include-ignored"]).env(INSIDE, test).env("LICTOR_BIN", binary());
    let output = command.output().expect("unshare can be started");
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{stdout}");
    eprintln!("{stderr}");
    assert!(
        output.status.success() && stdout.contains("1 passed"),
        "`{test}` fails in namespaces of its own; if the lines above speak of `unshare`, \
         this user may not make namespaces: run as root or allow unprivileged user namespaces"
    );
}
