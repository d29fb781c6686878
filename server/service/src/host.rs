//! The machine that the agent runs on: memory, processors, disk, system. Read when somebody asks.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::sys::statvfs::statvfs;
use nix::sys::utsname::uname;

use crate::error::Error;
use crate::{Caller, Right, Service};

/// What the machine is, and how much of it is in use. What can't be found out is empty or 0, and named
/// among the errors.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Host {
    /// Memory.
    pub memory: Memory,
    /// One for each processor that the system schedules on.
    pub processors: Vec<Processor>,
    /// The system.
    pub system: System,
    /// The file system that holds the data of the agent.
    pub disk: Disk,
    /// When this was looked at, in nanoseconds since the Unix epoch.
    pub collected_ns: u64,
    /// What could not be found out.
    pub errors: Vec<String>,
}

/// Memory, in bytes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Memory {
    /// What there is.
    pub total: u64,
    /// What programs can have without swapping.
    pub available: u64,
    /// What nobody uses.
    pub free: u64,
    /// What the cache of blocks holds.
    pub buffers: u64,
    /// What the cache of files holds.
    pub cached: u64,
    /// What was used lately.
    pub active: u64,
    /// What was not.
    pub inactive: u64,
    /// What is shared.
    pub shared: u64,
    /// Swap space.
    pub swap_total: u64,
    /// Swap space that nobody uses.
    pub swap_free: u64,
}

impl Memory {
    /// What programs use.
    pub fn used(&self) -> u64 {
        self.total.saturating_sub(self.free + self.buffers + self.cached)
    }
}

/// A processor.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Processor {
    /// Its number.
    pub number: u64,
    /// Who made it.
    pub vendor: String,
    /// What it is.
    pub model: String,
    /// How fast it is.
    pub mhz: f64,
    /// The package that it is in.
    pub package: String,
    /// The core that it is a part of.
    pub core: String,
}

/// The system.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct System {
    /// The name of the machine.
    pub host_name: String,
    /// Seconds since it was started.
    pub uptime_s: u64,
    /// When it was started, in seconds since the Unix epoch.
    pub boot_time_s: u64,
    /// How many processes there are.
    pub processes: u64,
    /// The distribution, such as `debian`.
    pub platform: String,
    /// The distribution that it is made from.
    pub platform_family: String,
    /// Its version.
    pub platform_version: String,
    /// The version of the kernel.
    pub kernel_version: String,
    /// The kind of processor that the kernel is for.
    pub architecture: String,
}

/// A file system.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Disk {
    /// The directory that was asked about.
    pub path: String,
    /// Its size in bytes.
    pub total: u64,
    /// Bytes that this process may still write.
    pub free: u64,
    /// Bytes in use.
    pub used: u64,
    /// How many files it can hold.
    pub inodes_total: u64,
    /// How many more files it can hold.
    pub inodes_free: u64,
}

impl Service {
    /// Looks at the machine. Reads a few small files of the kernel.
    pub fn host(&self, caller: &Caller) -> Result<Host, Error> {
        self.authorize(caller, Right::OperatorRead)?;
        let data_dir = self.agent().data_dir();
        Ok(look(data_dir.as_deref().unwrap_or(Path::new("/"))))
    }
}

fn look(data_dir: &Path) -> Host {
    let mut errors = Vec::new();
    let mut read = |path: &str| {
        fs::read_to_string(path).unwrap_or_else(|error| {
            errors.push(format!("`{path}`: {error}"));
            String::new()
        })
    };
    let memory = memory(&read("/proc/meminfo"));
    let processors = processors(&read("/proc/cpuinfo"));
    let system = system(&read("/proc/uptime"), &read("/etc/os-release"));
    let disk = disk(data_dir).unwrap_or_else(|error| {
        errors.push(format!("`{}`: {error}", data_dir.display()));
        Disk::default()
    });
    let collected = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Host { memory, processors, system, disk, collected_ns: u64::try_from(collected.as_nanos()).unwrap_or(u64::MAX), errors }
}

fn memory(text: &str) -> Memory {
    let bytes = |name: &str| -> u64 {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let kib: u64 = line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or_default();
        kib * 1024
    };
    Memory {
        total: bytes("MemTotal"),
        available: bytes("MemAvailable"),
        free: bytes("MemFree"),
        buffers: bytes("Buffers"),
        cached: bytes("Cached") + bytes("SReclaimable"),
        active: bytes("Active"),
        inactive: bytes("Inactive"),
        shared: bytes("Shmem"),
        swap_total: bytes("SwapTotal"),
        swap_free: bytes("SwapFree"),
    }
}

fn processors(text: &str) -> Vec<Processor> {
    let blocks = text.split("\n\n").filter(|block| block.contains("processor"));
    let processor = |block: &str| {
        let value = |name: &str| {
            let pair = |line: &str| line.split_once(':').map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned()));
            block.lines().filter_map(pair).find(|(key, _)| key == name).map(|(_, value)| value).unwrap_or_default()
        };
        Processor {
            number: value("processor").parse().unwrap_or_default(),
            vendor: value("vendor_id"),
            model: value("model name"),
            mhz: value("cpu MHz").parse().unwrap_or_default(),
            package: value("physical id"),
            core: value("core id"),
        }
    };
    blocks.map(processor).collect()
}

fn system(uptime: &str, release: &str) -> System {
    let kernel = uname().ok();
    let part = |of: fn(&nix::sys::utsname::UtsName) -> &std::ffi::OsStr| {
        kernel.as_ref().map(|kernel| of(kernel).to_string_lossy().into_owned()).unwrap_or_default()
    };
    let value = |name: &str| {
        let line = release.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        line.unwrap_or_default().trim_matches('"').to_owned()
    };
    let uptime_s = uptime.split(['.', ' ']).next().and_then(|text| text.parse().ok()).unwrap_or_default();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let number = |name: std::ffi::OsString| name.to_str().is_some_and(|name| name.bytes().all(|b| b.is_ascii_digit()));
    let processes = fs::read_dir("/proc").map(|entries| entries.flatten().filter(|entry| number(entry.file_name())).count());
    System {
        host_name: part(|kernel| kernel.nodename()),
        uptime_s,
        boot_time_s: now.saturating_sub(Duration::from_secs(uptime_s)).as_secs(),
        processes: processes.unwrap_or_default() as u64,
        platform: value("ID"),
        platform_family: Some(value("ID_LIKE")).filter(|like| !like.is_empty()).unwrap_or_else(|| value("ID")),
        platform_version: value("VERSION_ID"),
        kernel_version: part(|kernel| kernel.release()),
        architecture: part(|kernel| kernel.machine()),
    }
}

fn disk(path: &Path) -> nix::Result<Disk> {
    let found = statvfs(path)?;
    let block = found.fragment_size();
    let (total, free) = (found.blocks() * block, found.blocks_free() * block);
    Ok(Disk {
        path: path.display().to_string(),
        total,
        free: found.blocks_available() * block,
        used: total.saturating_sub(free),
        inodes_total: found.files(),
        inodes_free: found.files_free(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_memory_processors_and_a_disk() {
        let host = look(Path::new("/"));
        assert_eq!(host.errors, [] as [&str; 0]);
        assert!(host.memory.total > host.memory.used() && host.memory.used() > 0, "{:?}", host.memory);
        assert!(!host.processors.is_empty() && host.disk.total > host.disk.used, "{host:?}");
        assert!(!host.system.kernel_version.is_empty() && host.system.processes > 0, "{:?}", host.system);
    }

    #[test]
    fn what_is_missing_is_named() {
        let host = look(Path::new("/nonexistent"));
        assert!(host.errors.iter().any(|error| error.contains("/nonexistent")), "{:?}", host.errors);
    }
}
