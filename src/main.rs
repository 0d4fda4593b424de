//! The program: arguments in, exit code out.
//!
//! The subtle thing is what the process keeps of memory that was freed: batches come and go by the megabyte, and on Kafka clients that rest are many.

use std::ffi::{c_int, c_long};
use std::process::ExitCode;

/// The allocator of the whole process: short-lived batches on many threads are what it is good at.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// `mi_option_purge_delay` of mimalloc 3.
const PURGE_DELAY: c_int = 15;
/// How long freed memory is kept, in ms; the allocator's own default of a second keeps what 100 MB of short-lived batches left behind.
const KEPT_MS: c_long = 10;

#[allow(unsafe_code)]
unsafe extern "C" {
    /// Sets an option of the allocator unless the environment does.
    fn mi_option_set_default(option: c_int, value: c_long);
}

fn main() -> ExitCode {
    riverrun::cli::main(std::env::args_os(), give_memory_back)
}

/// Freed memory goes back soon; MIMALLOC_PURGE_DELAY says otherwise. For an engine on Kafka: the embedded log would lose a tenth of its rate.
/// The allocator's feature `no_thp` sees to it that memory is not taken in pieces of 2 MiB, of which a few bytes in use keep all.
#[allow(unsafe_code)]
fn give_memory_back() {
    // SAFETY: sets a number that the allocator reads when it next gives memory back; any thread may do so at any time.
    unsafe { mi_option_set_default(PURGE_DELAY, KEPT_MS) };
}
