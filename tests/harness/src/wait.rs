//! Waits for a condition with a deadline, and says what it waited for. Never a sleep for luck.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// How often a condition is looked at.
const PAUSE: Duration = Duration::from_millis(50);

/// What a condition says that can no longer come true: the wait ends at once.
#[derive(Debug)]
pub struct Hopeless(pub String);

impl std::fmt::Display for Hopeless {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Hopeless {}

/// Waits until `condition` says `Ok`. Its last `Err` is part of the error after the deadline.
///
/// # Errors
/// When the deadline passes, or the condition is [`Hopeless`].
pub fn wait_for<T>(what: &str, deadline: Duration, condition: impl FnMut() -> Result<T>) -> Result<T> {
    wait_for_every(PAUSE, what, deadline, condition)
}

/// The same, looking as often as one likes: for what is measured.
///
/// # Errors
/// When the deadline passes, or the condition is [`Hopeless`].
pub fn wait_for_every<T>(
    pause: Duration,
    what: &str,
    deadline: Duration,
    mut condition: impl FnMut() -> Result<T>,
) -> Result<T> {
    let start = Instant::now();
    loop {
        match condition() {
            Ok(value) => return Ok(value),
            Err(error) if error.is::<Hopeless>() => {
                return Err(error.context(format!("waited {} s for {what}", start.elapsed().as_secs())));
            }
            Err(error) if start.elapsed() > deadline => {
                bail!("waited {} s for {what}; at last: {error:#}", deadline.as_secs())
            }
            Err(_) => std::thread::sleep(pause),
        }
    }
}
