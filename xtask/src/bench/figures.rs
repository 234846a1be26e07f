//! Figures: percentiles of durations, and what a process has used.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};

/// Median and 99th percentile, as `12.3 / 45.6 ms`.
pub fn percentiles(durations: &mut [Duration]) -> String {
    durations.sort_unstable();
    let at = |part: f64| {
        let index = ((durations.len() as f64 * part).ceil() as usize).clamp(1, durations.len().max(1)) - 1;
        durations.get(index).map_or(0.0, |duration| duration.as_secs_f64() * 1000.0)
    };
    format!("{:.1} / {:.1} ms", at(0.5), at(0.99))
}

/// What a process has used so far.
#[derive(Debug, Clone, Copy)]
pub struct Usage {
    /// Processor time.
    pub cpu: Duration,
    /// Resident memory in MiB.
    pub memory: u64,
}

/// Reads it from `/proc`.
///
/// # Errors
/// If the process is gone.
pub fn usage(pid: u32) -> Result<Usage> {
    let read =
        |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).with_context(|| format!("no process {pid}"));
    let stat = read("stat")?;
    let fields: Vec<u64> = stat
        .rsplit(") ")
        .next()
        .unwrap_or_default()
        .split(' ')
        .map(|field| field.parse().unwrap_or_default())
        .collect();
    // utime and stime are fields 14 and 15 of the whole line, in hundredths of a second.
    let ticks = fields.get(11).copied().unwrap_or_default() + fields.get(12).copied().unwrap_or_default();
    let status = read("status")?;
    let resident =
        status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().split(' ').next()?.parse::<u64>().ok());
    Ok(Usage { cpu: Duration::from_millis(ticks * 10), memory: resident.unwrap_or_default() / 1024 })
}

/// How many TCP connections to a port of this machine are established.
///
/// # Errors
/// If the kernel does not tell.
pub fn connections(port: u16) -> Result<usize> {
    let table = fs::read_to_string("/proc/net/tcp").context("cannot read the kernel's table of connections")?;
    let remote = format!(":{port:04X}");
    let established = table.lines().filter(|line| {
        let mut words = line.split_whitespace().skip(2);
        words.next().is_some_and(|address| address.ends_with(&remote)) && words.next() == Some("01")
    });
    Ok(established.count())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_the_nearest_rank() {
        let mut durations: Vec<Duration> = (1..=200).rev().map(Duration::from_millis).collect();
        assert_eq!(percentiles(&mut durations), "100.0 / 198.0 ms");
        assert_eq!(percentiles(&mut [Duration::from_millis(7)]), "7.0 / 7.0 ms");
    }
}
