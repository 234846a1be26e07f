//! A clock that wakes to the microsecond: the runtime's own counts milliseconds.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A timer of the kernel.
pub struct Clock(AsyncFd<OwnedFd>);

impl Clock {
    /// A new one.
    #[allow(deprecated, reason = "what replaces it is unsafe; an owned descriptor is closed with its owner")]
    pub fn new() -> Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags).context("no timer")?;
        Ok(Self(AsyncFd::with_interest(timer, Interest::READABLE).context("no timer")?))
    }

    /// Waits until then.
    pub async fn until(&self, moment: Instant) -> Result<()> {
        let left = moment.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        let once = Itimerspec { it_interval: timespec(Duration::ZERO)?, it_value: timespec(left)? };
        timerfd_settime(self.0.get_ref(), TimerfdTimerFlags::empty(), &once).context("cannot set a timer")?;
        loop {
            let mut ready = self.0.readable().await.context("cannot wait for a timer")?;
            let mut expirations = [0; 8];
            match rustix::io::read(self.0.get_ref(), &mut expirations) {
                Ok(_) => return Ok(()),
                Err(rustix::io::Errno::AGAIN) => ready.clear_ready(),
                Err(error) => return Err(error).context("cannot read a timer"),
            }
        }
    }
}

fn timespec(duration: Duration) -> Result<Timespec> {
    Timespec::try_from(duration).ok().context("too long for a timer")
}
