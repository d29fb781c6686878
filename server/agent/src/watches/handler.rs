//! Does something about each change: one run at a time, with the newest state, none left out at the
//! end.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use checks::Tail;
use net::Network;
use process::Group;
use state::{CheckDefinition, Status};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin, Command};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use crate::watches::source::News;

/// How long a run may take, unless it is said otherwise.
pub(crate) const HANDLER_TIMEOUT: Duration = Duration::from_secs(5 * 60);

/// The pause before the first run after one that failed; it doubles with each failure.
const PAUSE_MIN: Duration = Duration::from_secs(1);

/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// Bytes of output kept of a run, for the log.
const OUTPUT_BYTES_MAX: usize = 4 * 1024;

/// How long the output of a program that has ended may still flow.
const LEFT_BEHIND: Duration = Duration::from_millis(250);

/// What is done.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// A program is run; the news are on its standard input, the index is in `CONSUL_INDEX`.
    Script {
        /// The program and its arguments; through a shell they are one line.
        args: Vec<String>,
        /// Whether a shell runs it.
        shell: bool,
        /// Its output is kept for the log instead of being passed on.
        quiet: bool,
    },
    /// A request is made; the news are its body, the index is in `X-Consul-Index`.
    Http(Box<CheckDefinition>),
}

/// Something that is done for each change.
pub(crate) struct Handler {
    network: Network,
    action: Action,
    timeout: Duration,
    running: Option<JoinHandle<anyhow::Result<()>>>,
    /// What the run under way, or the last one, was told.
    told: Option<News>,
    /// What no run has been told.
    waiting: Option<News>,
    failures: u32,
    not_before: Option<Instant>,
    runs: u64,
}

impl Handler {
    pub(crate) fn new(network: Network, action: Action, timeout: Duration) -> Self {
        Handler { network, action, timeout, running: None, told: None, waiting: None, failures: 0, not_before: None, runs: 0 }
    }

    /// Whether a run is under way or due.
    pub(crate) fn is_busy(&self) -> bool {
        self.running.is_some() || self.waiting.is_some()
    }

    /// Whether a run has ended.
    pub(crate) fn has_run(&self) -> bool {
        self.runs > 0
    }

    /// Hands over news; those that still wait are merged with them.
    pub(crate) fn offer(&mut self, news: News) {
        match &mut self.waiting {
            Some(waiting) => waiting.add(news),
            None => self.waiting = Some(news),
        }
    }

    /// Lets the run that has failed be repeated, with what has come since, and says after which pause.
    pub(crate) fn again(&mut self) -> Duration {
        if let Some(mut told) = self.told.take() {
            self.waiting.take().into_iter().for_each(|later| told.add(later));
            self.waiting = Some(told);
        }
        let pause = PAUSE_MAX.min(PAUSE_MIN * 2u32.saturating_pow(self.failures.saturating_sub(1).min(10)));
        self.not_before = Some(Instant::now() + pause);
        pause
    }

    /// Starts the run that is due, or waits for the end of the one under way. May be dropped and
    /// called again at any time. A run that fails is an error.
    pub(crate) async fn step(&mut self) -> anyhow::Result<()> {
        let Some(running) = &mut self.running else {
            if let Some(not_before) = self.not_before {
                tokio::time::sleep_until(not_before).await;
                self.not_before = None;
            }
            if let Some(news) = self.waiting.take() {
                self.told = Some(news.clone());
                self.running = Some(tokio::spawn(run(self.network.clone(), self.action.clone(), news, self.timeout)));
            }
            return Ok(());
        };
        let ended = running.await;
        self.running = None;
        self.runs += 1;
        let result = ended.context("the run of the handler was lost").and_then(|result| result);
        self.failures = if result.is_ok() { 0 } else { self.failures + 1 };
        result
    }
}

impl Drop for Handler {
    fn drop(&mut self) {
        if let Some(running) = &self.running {
            running.abort();
        }
    }
}

async fn run(network: Network, action: Action, news: News, length: Duration) -> anyhow::Result<()> {
    match action {
        Action::Script { args, shell, quiet } => script(&args, shell, quiet, &news, length).await,
        Action::Http(definition) => post(&network, *definition, &news).await,
    }
}

async fn post(network: &Network, mut definition: CheckDefinition, news: &News) -> anyhow::Result<()> {
    definition.headers.insert("X-Consul-Index".into(), vec![news.index.to_string().into()]);
    definition.headers.entry("Content-Type".into()).or_insert_with(|| vec!["application/json".into()]);
    definition.body = Some(news.text().into());
    match checks::request(network, &definition, OUTPUT_BYTES_MAX).await {
        (Status::Passing, _) => Ok(()),
        (_, said) => Err(anyhow!("the handler did not take it: {said}")),
    }
}

async fn script(args: &[String], shell: bool, quiet: bool, news: &News, length: Duration) -> anyhow::Result<()> {
    let name = args.join(" ");
    let mut command = if shell {
        let mut command = Command::new("/bin/sh");
        command.arg("-c").arg(&name);
        command
    } else {
        let (program, rest) = args.split_first().context("no program was given")?;
        let mut command = Command::new(program);
        command.args(rest);
        command
    };
    command.env("CONSUL_INDEX", news.index.to_string()).stdin(Stdio::piped()).kill_on_drop(true).process_group(0);
    if quiet {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
    }
    let mut child = command.spawn().with_context(|| format!("cannot run `{name}`"))?;
    let mut group = Group::of(&child);
    match timeout(length, finish(&mut child, news)).await {
        Ok(ended) => {
            // It has ended by itself; what it has left behind on purpose is left alone.
            group.spare();
            let (status, said) = ended.with_context(|| format!("cannot wait for `{name}`"))?;
            if !status.success() {
                bail!("handler `{name}` failed: {status}{said}");
            }
            Ok(())
        }
        Err(_) => {
            group.kill();
            let _ = child.wait().await;
            bail!("handler `{name}` took longer than {length:?} and was killed");
        }
    }
}

/// Feeds the program and waits for it. One that does not read its input is free to do so.
async fn finish(child: &mut Child, news: &News) -> anyhow::Result<(std::process::ExitStatus, String)> {
    let (stdin, mut stdout, mut stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (mut out, mut err) = (Tail::new(OUTPUT_BYTES_MAX), Tail::new(OUTPUT_BYTES_MAX));
    let status = {
        let mut talking =
            std::pin::pin!(async { tokio::join!(feed(stdin, news), drain(&mut stdout, &mut out), drain(&mut stderr, &mut err)) });
        let mut over = false;
        let status = loop {
            tokio::select! {
                status = child.wait() => break status?,
                _ = &mut talking, if !over => over = true,
            }
        };
        if !over {
            let _ = timeout(LEFT_BEHIND, talking).await;
        }
        status
    };
    let said = [out.into_text(), err.into_text()].concat();
    Ok((status, if said.is_empty() { said } else { format!("; it said: {}", said.trim_end()) }))
}

async fn feed(stdin: Option<ChildStdin>, news: &News) {
    if let Some(mut stdin) = stdin {
        let _ = stdin.write_all(format!("{}\n", news.text()).as_bytes()).await;
    }
}

async fn drain(output: &mut Option<impl AsyncRead + Unpin>, tail: &mut Tail) {
    let Some(output) = output else { return };
    let mut piece = vec![0; 4096];
    while let Ok(count @ 1..) = output.read(&mut piece).await {
        tail.push(&piece[..count]);
    }
}
