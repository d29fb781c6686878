//! Commands of the binary under test, run to their end.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::addresses::Addresses;
use crate::binary::binary;

/// A command that has ended.
#[derive(Clone, Debug)]
pub struct Ran {
    /// Exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
}

impl Ran {
    /// Runs `lictor` in `directory`, against the agent at `addresses`, until it ends.
    pub fn lictor(directory: &Path, addresses: Option<Addresses>, arguments: &[&str], input: &str) -> Self {
        let mut command = Command::new(binary());
        command.current_dir(directory).args(arguments);
        if let Some(Addresses { http, grpc, .. }) = addresses {
            command.env("LICTOR_GRPC_ADDR", grpc.to_string()).env("CONSUL_HTTP_ADDR", http.to_string());
        }
        Self::with_input(command, input)
    }

    /// Runs any command until it ends.
    pub fn with_input(mut command: Command, input: &str) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
        let mut stdin = child.stdin.take().expect("stdin is a pipe");
        let input = input.as_bytes().to_vec();
        // A command that reads nothing closes its end: not a fault of the test.
        let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
        let output = child.wait_with_output().expect("the command ends");
        writer.join().expect("the writer does not panic");
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ran { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    /// The same, once it has ended with exit code 0.
    #[track_caller]
    pub fn success(self) -> Self {
        self.exited(0)
    }

    /// The same, once the exit code is as expected.
    #[track_caller]
    pub fn exited(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self
    }

    /// What was written to standard output, as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("no JSON ({error}): {}", self.stdout))
    }
}
