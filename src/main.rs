//! The program: arguments in, exit code out.

use std::process::ExitCode;

/// The allocator of the whole process: short-lived batches on many threads are what it is good at.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    riverrun::cli::main(std::env::args_os())
}
