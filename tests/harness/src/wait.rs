//! Waits for a condition with a deadline, and says what it waited for. Never a sleep for luck.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// How often a condition is looked at.
const PAUSE: Duration = Duration::from_millis(50);

/// Waits until `condition` says `Ok`. Its last `Err` is part of the error after the deadline.
///
/// # Errors
/// When the deadline passes.
pub fn wait_for<T>(what: &str, deadline: Duration, mut condition: impl FnMut() -> Result<T>) -> Result<T> {
    let start = Instant::now();
    loop {
        match condition() {
            Ok(value) => return Ok(value),
            Err(error) if start.elapsed() > deadline => {
                bail!("waited {} s for {what}; at last: {error:#}", deadline.as_secs())
            }
            Err(_) => std::thread::sleep(PAUSE),
        }
    }
}
