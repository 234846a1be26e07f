//! Which processor does what: the server has one of its own, everything else shares another.
//!
//! Processes and threads inherit the processor of the thread that starts them.

use std::fs;
use std::process::Command;
use std::thread::available_parallelism;

use anyhow::{Context, Result, ensure};
use poolguard_harness::command::run;

/// The load generator's, the API server's, etcd's and our own.
const OTHERS: usize = 0;
/// The server's that is measured.
const SERVER: usize = 1;

/// Binds this thread to the processor that is not the server's.
///
/// # Errors
/// If there is no second one.
pub fn leave_one() -> Result<()> {
    let count = available_parallelism().context("the kernel does not count its processors")?;
    ensure!(count.get() > SERVER, "two processors are needed: one for the server, one for everything else");
    bind(OTHERS)
}

/// Does so on the server's processor.
///
/// # Errors
/// If this thread cannot be bound, or what is done fails.
pub fn on_the_servers<T>(what: impl FnOnce() -> Result<T>) -> Result<T> {
    bind(SERVER)?;
    let done = what();
    bind(OTHERS)?;
    done
}

fn bind(core: usize) -> Result<()> {
    let link = fs::read_link("/proc/thread-self").context("the kernel does not tell this thread's number")?;
    let thread = link.file_name().context("a strange /proc")?;
    run(Command::new("taskset").arg("--cpu-list").arg("--pid").arg(core.to_string()).arg(thread))?
        .success()
        .context("cannot bind a thread to a processor (on Debian: util-linux)")?;
    Ok(())
}
