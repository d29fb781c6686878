//! A running process of the binary under test.

use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use lictor_client::{Client, Options};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::addresses::Addresses;
use crate::cli::Ran;
use crate::dig::Dig;
use crate::http::{Http, Response};
use crate::log::Log;
use crate::setup::{Listen, Setup};
use crate::{PATIENCE, eventually};

/// One agent, from its start to the end of the test.
#[derive(Debug)]
pub struct Node {
    setup: Setup,
    child: Option<Child>,
    readers: Vec<JoinHandle<()>>,
    log: Log,
    /// Lines of the log that belong to processes before this one.
    earlier: usize,
    addresses: Option<Addresses>,
    ready_after: Duration,
    expected_errors: Vec<String>,
}

impl Node {
    /// A server on throw-away storage, ready.
    pub fn dev() -> Self {
        Setup::dev().start()
    }

    /// A durable server, ready.
    pub fn durable() -> Self {
        Setup::durable().start()
    }

    pub(crate) fn spawn(setup: Setup) -> Self {
        let (log, expected_errors) = (Log::default(), Vec::new());
        let ready_after = Duration::ZERO;
        let mut node = Node { setup, child: None, readers: Vec::new(), log, earlier: 0, addresses: None, ready_after, expected_errors };
        node.launch();
        node
    }

    pub(crate) fn start(setup: Setup) -> Self {
        let mut node = Self::spawn(setup);
        node.await_ready();
        node
    }

    fn launch(&mut self) {
        self.earlier = self.log.len();
        let mut command = Command::new(&self.setup.program);
        command.args(self.setup.command_line()).envs(self.setup.environment.iter().cloned());
        command.current_dir(self.setup.home()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let program = self.setup.program.display();
        let mut child = command.spawn().unwrap_or_else(|error| panic!("cannot start {program}: {error}"));
        self.readers.push(self.log.gather(child.stdout.take().expect("stdout is a pipe")));
        self.readers.push(self.log.gather(child.stderr.take().expect("stderr is a pipe")));
        self.child = Some(child);
    }

    /// Waits until the node says that it is ready.
    pub fn await_ready(&mut self) {
        let begun = Instant::now();
        loop {
            let lines = self.log.lines_after(self.earlier);
            if lines.iter().any(|line| line.contains("agent running!"))
                && let Some(addresses) = Addresses::read(&lines)
            {
                self.addresses = Some(addresses);
                self.ready_after = begun.elapsed();
                return;
            }
            if let Some(status) = self.child_mut().try_wait().unwrap() {
                self.gathered();
                panic!("the agent ended with {status} before it was ready:\n{}", self.log.text());
            }
            assert!(begun.elapsed() < PATIENCE, "the agent is not ready after {PATIENCE:?}:\n{}", self.log.text());
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// How long the last start took, from the call to the line that tells of it.
    pub fn ready_after(&self) -> Duration {
        self.ready_after
    }

    /// How it was started.
    pub fn setup(&self) -> &Setup {
        &self.setup
    }

    /// Changes how it is started the next time.
    pub fn set_up(&mut self, change: impl FnOnce(Setup) -> Setup) {
        self.setup = change(self.setup.clone());
    }

    /// Where it answers.
    pub fn addresses(&self) -> Addresses {
        self.addresses.expect("the node was ready once")
    }

    /// Everything that all its processes have written.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// The process id.
    pub fn pid(&self) -> i32 {
        self.child.as_ref().expect("the node runs").id() as i32
    }

    /// Lets the log contain errors with this text.
    pub fn expect_error(&mut self, text: &str) {
        self.expected_errors.push(text.into());
    }

    /// Its HTTP face.
    pub fn http(&self) -> Http {
        Http::new(self.addresses().http)
    }

    /// `GET path`, as it is given.
    pub fn get(&self, path: &str) -> Response {
        self.http().get(path)
    }

    /// `PUT path` with a body.
    pub fn put(&self, path: &str, body: impl AsRef<[u8]>) -> Response {
        self.http().put(path, body)
    }

    /// `DELETE path`.
    pub fn delete(&self, path: &str) -> Response {
        self.http().delete(path)
    }

    /// A client of its gRPC face, connected.
    pub async fn client(&self) -> Client {
        let patient = Options { request_timeout: PATIENCE, connect_timeout: PATIENCE, ..Options::default() };
        Client::connect_with(self.addresses().grpc, patient).await.expect("the node answers")
    }

    /// Asks its DNS face by `dig`, with `arguments` after the server's address.
    pub fn dig(&self, arguments: &[&str]) -> Dig {
        Dig::ask(self.addresses().dns, arguments)
    }

    /// Runs a command of the binary against this node.
    pub fn cli(&self, arguments: &[&str]) -> Ran {
        self.cli_with_input(arguments, "")
    }

    /// Runs a command of the binary against this node with something on its standard input.
    pub fn cli_with_input(&self, arguments: &[&str], input: &str) -> Ran {
        Ran::lictor(self.setup.home(), Some(self.addresses()), arguments, input)
    }

    /// Ends it as `kill -9` does.
    pub fn kill(&mut self) {
        self.signal(Signal::SIGKILL);
        self.exited();
    }

    /// Asks it to end, and waits until it has.
    pub fn stop(&mut self) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        self.exited()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal).expect("the node runs");
    }

    /// Waits until it has ended by itself.
    pub fn exited(&mut self) -> ExitStatus {
        let status = eventually!(PATIENCE, self.child_mut().try_wait().unwrap(), "the agent ends; its log:\n{}", self.log.text());
        self.child = None;
        self.gathered();
        status
    }

    /// Whether the process is there.
    pub fn is_running(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| child.try_wait().unwrap().is_none())
    }

    /// Starts it again where it was, ready, with the data that it left.
    pub fn restart(&mut self) {
        self.restart_unready();
        self.await_ready();
    }

    /// Starts it again where it was, without waiting for anything.
    pub fn restart_unready(&mut self) {
        if self.child.is_some() {
            self.kill();
        }
        if let (Some(addresses), Listen::Own(_)) = (self.addresses, self.setup.listen) {
            self.setup.listen = Listen::Again(addresses);
        }
        self.launch();
    }

    /// Stops its clock: it neither answers nor ends. A thread that is at work stops only when it is
    /// interrupted, so this waits for all of them.
    pub fn pause(&self) {
        self.signal(Signal::SIGSTOP);
        eventually!(PATIENCE, self.is_stopped(), "each thread has stopped");
    }

    fn is_stopped(&self) -> bool {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.pid())).expect("the node runs");
        let state = |path: std::path::PathBuf| std::fs::read_to_string(path.join("stat")).unwrap_or_default();
        // The name before the state may hold anything.
        threads.flatten().all(|thread| state(thread.path()).rsplit_once(") ").is_some_and(|(_, state)| state.starts_with('T')))
    }

    /// Lets it go on.
    pub fn resume(&self) {
        self.signal(Signal::SIGCONT);
    }

    fn child_mut(&mut self) -> &mut Child {
        self.child.as_mut().expect("the node runs")
    }

    /// Waits until everything that the process wrote is in the log.
    fn gathered(&mut self) {
        for reader in self.readers.drain(..) {
            reader.join().expect("a reader does not panic");
        }
    }

    fn unexpected_errors(&self) -> Vec<String> {
        let mut errors = self.log.errors();
        errors.retain(|line| !self.expected_errors.iter().any(|text| line.contains(text)));
        errors
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
            self.gathered();
        }
        if std::thread::panicking() {
            let lines = self.log.lines();
            let last = &lines[lines.len().saturating_sub(60)..];
            eprintln!("the last of the log of the agent:\n{}", last.join("\n"));
            return;
        }
        let errors = self.unexpected_errors();
        assert!(errors.is_empty(), "the agent logged errors that nobody expected:\n{}", errors.join("\n"));
    }
}
