//! `lictor`: the agent and the command line in one binary.

use std::process::ExitCode;

/// Many small rows are allocated and freed by several threads at once.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    lictor_agent::cli::run(std::env::args_os())
}
