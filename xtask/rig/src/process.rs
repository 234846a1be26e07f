//! What processes have used, from `/proc`.

use std::collections::HashMap;
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};

/// The processor time of processes at one moment, by thread, to the nanosecond.
#[derive(Debug, Default)]
pub struct Cpu(HashMap<u32, u64>);

impl Cpu {
    /// Reads it.
    ///
    /// # Errors
    /// If a process is gone.
    pub fn of(pids: &[u32]) -> Result<Self> {
        let mut threads = HashMap::new();
        for pid in pids {
            let folder = format!("/proc/{pid}/task");
            for entry in fs::read_dir(&folder).with_context(|| format!("no process {pid}"))?.flatten() {
                // A thread may end while it is looked at.
                let Ok(text) = fs::read_to_string(entry.path().join("schedstat")) else { continue };
                let Some(thread) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
                let used = text.split(' ').next().and_then(|word| word.parse().ok()).unwrap_or_default();
                threads.insert(thread, used);
            }
        }
        Ok(Self(threads))
    }

    /// What has been used since then. What a thread did that has ended in between is not seen.
    pub fn since(&self, before: &Self) -> Duration {
        let used = self.0.iter().map(|(thread, now)| now.saturating_sub(before.0.get(thread).copied().unwrap_or(0)));
        Duration::from_nanos(used.sum())
    }
}

/// Resident memory of processes in KiB: as it is now, and at its highest.
///
/// # Errors
/// If a process is gone.
pub fn memory(pids: &[u32]) -> Result<(u64, u64)> {
    let (mut now, mut peak) = (0, 0);
    for pid in pids {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).with_context(|| format!("no process {pid}"))?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next()?.parse::<u64>().ok()
        };
        now += field("VmRSS:").context("the kernel tells no memory")?;
        peak += field("VmHWM:").context("the kernel tells no memory")?;
    }
    Ok((now, peak))
}
