//! Machines of their own for real processes: network namespaces on one switch, between which links can be cut.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use harness::{Setup, binary, tool};

/// Hosts on one switch, which the test is connected to as well.
pub(crate) struct Hosts {
    count: usize,
}

fn ip(arguments: &str) {
    call("ip", arguments);
}

fn call(program: &str, arguments: &str) {
    let output = Command::new(tool(program)).args(arguments.split(' ')).output().expect("the program can be started");
    assert!(output.status.success(), "`{program} {arguments}`: {}", String::from_utf8_lossy(&output.stderr));
}

/// Where a host is reached.
pub(crate) fn address(host: usize) -> String {
    format!("10.77.0.{}", 10 + host)
}

/// The words that start a program on a host. It takes the place of the first of them, so that a signal reaches it.
pub(crate) fn on(host: usize, program: &Path) -> Vec<OsString> {
    vec![tool("ip").into(), "netns".into(), "exec".into(), format!("host{host}").into(), program.into()]
}

impl Hosts {
    /// Makes them, in the network namespace that the test has for itself.
    pub(crate) fn new(count: usize) -> Hosts {
        // Names of namespaces are files here, and no other test is to see them.
        call("mount", "-t tmpfs tmpfs /run");
        ip("link add switch type bridge");
        ip("addr add 10.77.0.1/24 dev switch");
        ip("link set switch up");
        for host in 0..count {
            ip(&format!("netns add host{host}"));
            ip(&format!("link add port{host} type veth peer name eth0 netns host{host}"));
            ip(&format!("link set port{host} master switch up"));
            ip(&format!("-n host{host} addr add {}/24 dev eth0", address(host)));
            ip(&format!("-n host{host} link set lo up"));
            ip(&format!("-n host{host} link set eth0 up"));
        }
        Hosts { count }
    }

    /// An agent on a host.
    pub(crate) fn agent(&self, host: usize) -> Setup {
        let setup = Setup::bare();
        let program = setup.home().join("on-host");
        let words: Vec<String> = on(host, binary()).iter().map(|word| word.to_string_lossy().into_owned()).collect();
        let script = format!("#!/bin/sh\nexec {} \"$@\"\n", words.join(" "));
        fs::write(&program, script).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let data = setup.home().join("data");
        let here = address(host);
        setup
            .program(program)
            .flag(format!("-node=host{host}"))
            .flag(format!("-data-dir={}", data.display()))
            .and(format!("-bind={here}"))
            .and(format!("-client={here}"))
            .and("-serf-lan-port=8301")
    }

    /// From now on what two hosts send each other arrives nowhere, and nobody tells them.
    pub(crate) fn cut(&self, a: usize, b: usize) {
        for (from, to) in [(a, b), (b, a)] {
            ip(&format!("-n host{from} neigh replace {} lladdr 02:00:00:00:00:99 dev eth0 nud permanent", address(to)));
        }
    }

    /// Takes back what [`Hosts::cut`] did.
    pub(crate) fn mend(&self, a: usize, b: usize) {
        for (from, to) in [(a, b), (b, a)] {
            ip(&format!("-n host{from} neigh del {} dev eth0", address(to)));
        }
    }

    /// From now on a host gets no more than so many kilobits a second over its link.
    pub(crate) fn slow(&self, host: usize, kilobits: usize) {
        call("tc", &format!("qdisc add dev port{host} root tbf rate {kilobits}kbit burst 16kb latency 400ms"));
    }

    /// Bytes that have come to a host over its link so far.
    pub(crate) fn received(&self, host: usize) -> u64 {
        // Seen from the switch, what it sends is what the host gets.
        let port = format!("port{host}");
        let output = Command::new(tool("ip")).args(["-j", "-s", "link", "show", "dev", &port]).output().expect("ip can be started");
        let told: serde_json::Value = serde_json::from_slice(&output.stdout).expect("ip prints JSON");
        told[0]["stats64"]["tx"]["bytes"].as_u64().expect("ip counts bytes")
    }

    /// All but one.
    pub(crate) fn others(&self, host: usize) -> impl Iterator<Item = usize> {
        (0..self.count).filter(move |other| *other != host)
    }
}
