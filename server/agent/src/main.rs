//! `lictor`: the agent and the command line in one binary.

use std::process::ExitCode;

/// Many small rows are allocated and freed by several threads at once.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Huge pages round every small heap up to megabytes: an idle agent would hold three times what
    // it uses. Where the kernel can't be told, nothing is lost but memory.
    let _ = nix::sys::prctl::set_thp_disable(true);
    lictor_agent::cli::run(std::env::args_os())
}
