//! Free TCP ports on loopback, safe with several runs side by side: below the ephemeral range, so that no outgoing
//! connection takes one, and each held by a UDP socket of the same number. Nobody here speaks UDP, and the kernel lets go of
//! it in whatever way its owner ends.

use std::net::{TcpListener, UdpSocket};

use anyhow::{Result, bail};

/// The range to choose from; Linux gives outgoing connections ports from 32768 on.
const RANGE: std::ops::Range<u16> = 14_000..32_000;

/// Ports that are held for somebody who listens on them, or is about to.
#[derive(Debug)]
pub struct Ports {
    next: u16,
    held: Vec<UdpSocket>,
}

impl Ports {
    /// Starts looking at a place that depends on the process, so that two runs seldom meet.
    pub fn new() -> Self {
        let spread = u32::from(RANGE.end - RANGE.start);
        let offset = u16::try_from(std::process::id().wrapping_mul(97) % spread).expect("smaller than the range");
        Self { next: RANGE.start + offset, held: Vec::new() }
    }

    /// A port for somebody who listens on it over TCP and UDP: found free, and not held.
    ///
    /// # Errors
    /// If the whole range is taken.
    pub fn take_for_both(&mut self) -> Result<u16> {
        let port = self.take()?;
        self.held.pop();
        Ok(port)
    }

    /// A port that nobody listens on and nobody else holds.
    ///
    /// # Errors
    /// If the whole range is taken.
    pub fn take(&mut self) -> Result<u16> {
        for _ in RANGE {
            let port = self.next;
            self.next = if port + 1 >= RANGE.end { RANGE.start } else { port + 1 };
            let Ok(hold) = UdpSocket::bind(("127.0.0.1", port)) else { continue };
            if TcpListener::bind(("127.0.0.1", port)).is_ok() {
                self.held.push(hold);
                return Ok(port);
            }
        }
        bail!("no free port between {} and {}", RANGE.start, RANGE.end)
    }
}

impl Default for Ports {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_who_look_at_once_never_get_the_same_port() {
        let (mut one, mut other) = (Ports::new(), Ports::new());
        let mut taken: Vec<u16> =
            (0..20).flat_map(|_| [one.take().expect("a port"), other.take().expect("a port")]).collect();
        taken.sort_unstable();
        taken.dedup();
        assert_eq!(taken.len(), 40);
    }

    #[test]
    fn a_port_is_free_again_once_it_is_let_go() {
        let mut one = Ports::new();
        let port = one.take().expect("a port");
        assert!(UdpSocket::bind(("127.0.0.1", port)).is_err());
        drop(one);
        // Another test may take it in the meantime, and lets go of it too.
        let free = || UdpSocket::bind(("127.0.0.1", port)).map(drop).map_err(anyhow::Error::from);
        crate::wait::wait_for("the port to be free", std::time::Duration::from_secs(10), free).expect("a free port");
    }
}
