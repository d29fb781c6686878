//! What the kernel says of processes: processor time and memory.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage, setrlimit};

/// Clock ticks a second in `/proc`, the same on every Linux that Rust's targets run on.
const TICKS: f64 = 100.0;

/// A server that is measured. It is killed when this is dropped.
pub(crate) struct Process {
    child: Child,
}

impl Process {
    /// Starts a command with its output in a file.
    pub(crate) fn start(command: &mut Command, log: &Path) -> Result<Process> {
        let file = fs::File::create(log).with_context(|| format!("cannot create `{}`", log.display()))?;
        let child = command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file).spawn();
        let child = child.with_context(|| format!("cannot start `{}`", command.get_program().display()))?;
        Ok(Process { child })
    }

    /// Fails when the process has ended by itself.
    pub(crate) fn expect_running(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("the server has ended: {status}"),
        }
    }

    /// Ends it as a crash does, without any warning.
    pub(crate) fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Seconds of processor time so far, of all threads.
    pub(crate) fn cpu(&self) -> Result<f64> {
        let stat = self.proc("stat")?;
        let behind_name = stat.rsplit_once(')').context("`/proc` is not as documented")?.1;
        let ticks: Vec<f64> = behind_name.split_whitespace().skip(11).take(2).filter_map(|n| n.parse().ok()).collect();
        Ok(ticks.iter().sum::<f64>() / TICKS)
    }

    /// Resident memory now, in bytes.
    pub(crate) fn memory(&self) -> Result<Memory> {
        let status = self.proc("status")?;
        let field = |name: &str| -> Result<u64> {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).with_context(|| format!("no `{name}` in `/proc`"))?;
            Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
        };
        Ok(Memory { resident: field("VmRSS:")?, own: field("RssAnon:")? })
    }

    /// The most resident memory so far, or since [`Process::forget_peak`], in bytes.
    pub(crate) fn peak(&self) -> Result<u64> {
        let status = self.proc("status")?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no `VmHWM:` in `/proc`")?;
        Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
    }

    /// Begins to look for the most resident memory anew.
    pub(crate) fn forget_peak(&self) -> Result<()> {
        let path = format!("/proc/{}/clear_refs", self.child.id());
        fs::write(&path, "5").with_context(|| format!("cannot write `{path}`"))
    }

    /// How it has ended, if it has.
    pub(crate) fn ended(&mut self) -> Result<Option<std::process::ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Waits until the process has used next to no processor time for a while.
    pub(crate) fn settle(&self, at_most: Duration) -> Result<()> {
        let deadline = Instant::now() + at_most;
        let mut quiet = 0;
        let mut before = self.cpu()?;
        while quiet < 3 && Instant::now() < deadline {
            sleep(Duration::from_millis(100));
            let now = self.cpu()?;
            quiet = if now - before <= 1.5 / TICKS { quiet + 1 } else { 0 };
            before = now;
        }
        Ok(())
    }

    fn proc(&self, file: &str) -> Result<String> {
        let path = format!("/proc/{}/{file}", self.child.id());
        fs::read_to_string(&path).with_context(|| format!("cannot read `{path}`"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended before; either way there is nothing left to do.
        let _ = self.kill();
    }
}

/// Resident memory, in bytes.
#[derive(Clone, Copy)]
pub(crate) struct Memory {
    /// All of it, with the pages of mapped files that the kernel may drop.
    pub(crate) resident: u64,
    /// What is the process's own.
    pub(crate) own: u64,
}

/// Processor time in seconds, at a moment or between two.
#[derive(Clone, Copy, Default)]
pub(crate) struct Cpu {
    /// Of the server.
    pub(crate) server: f64,
    /// Of the load generator, which is this process.
    pub(crate) generator: f64,
    /// Of the whole machine.
    pub(crate) machine: f64,
}

impl Cpu {
    /// Processor time up to now; without a server, its part is zero.
    pub(crate) fn now(server: Option<&Process>) -> Result<Cpu> {
        let usage = getrusage(UsageWho::RUSAGE_SELF)?;
        let seconds = |time: nix::sys::time::TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
        Ok(Cpu {
            server: server.map_or(Ok(0.0), Process::cpu)?,
            generator: seconds(usage.user_time()) + seconds(usage.system_time()),
            machine: machine_cpu()?,
        })
    }

    /// What was used since an earlier moment.
    pub(crate) fn since(self, earlier: Cpu) -> Cpu {
        Cpu { server: self.server - earlier.server, generator: self.generator - earlier.generator, machine: self.machine - earlier.machine }
    }

    /// Adds another stretch of time.
    pub(crate) fn add(&mut self, more: Cpu) {
        self.server += more.server;
        self.generator += more.generator;
        self.machine += more.machine;
    }

    /// What neither the server nor the generator used: other programs, and interrupts.
    pub(crate) fn others(self) -> f64 {
        (self.machine - self.server - self.generator).max(0.0)
    }
}

/// Seconds that the processors were busy since the machine started.
fn machine_cpu() -> Result<f64> {
    let stat = fs::read_to_string("/proc/stat")?;
    let line = stat.lines().next().unwrap_or_default();
    let fields: Vec<f64> = line.split_whitespace().skip(1).take(8).filter_map(|n| n.parse().ok()).collect();
    let idle: f64 = fields.iter().skip(3).take(2).sum();
    Ok((fields.iter().sum::<f64>() - idle) / TICKS)
}

/// Lets this process, and those it starts, open as many files as the system allows; says how many.
pub(crate) fn raise_open_files() -> Result<u64> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    Ok(most)
}
