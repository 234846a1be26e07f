//! Free TCP ports on loopback, safe with several runs side by side: below the ephemeral range, so that no outgoing
//! connection takes one, and with a lock file each until the process that wanted it listens.

use std::fs::{self, File};
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// The range to choose from; Linux gives outgoing connections ports from 32768 on.
const RANGE: std::ops::Range<u16> = 14_000..32_000;

/// Ports that are held for somebody who is about to listen on them.
#[derive(Debug)]
pub struct Ports {
    folder: PathBuf,
    next: u16,
    held: Vec<(PathBuf, File)>,
}

impl Ports {
    /// Starts looking at a place that depends on the process, so that two runs seldom meet.
    ///
    /// # Errors
    /// If the folder of the lock files cannot be made.
    pub fn new() -> Result<Self> {
        let folder = crate::root().join("target/ports");
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        sweep(&folder);
        let spread = u32::from(RANGE.end - RANGE.start);
        let offset = u16::try_from(std::process::id().wrapping_mul(97) % spread).expect("smaller than the range");
        Ok(Self { folder, next: RANGE.start + offset, held: Vec::new() })
    }

    /// A port that nobody listens on and nobody else holds.
    ///
    /// # Errors
    /// If the whole range is taken.
    pub fn take(&mut self) -> Result<u16> {
        for _ in RANGE {
            let port = self.next;
            self.next = if port + 1 >= RANGE.end { RANGE.start } else { port + 1 };
            let path = self.folder.join(port.to_string());
            let file = File::create(&path).with_context(|| format!("cannot make {}", path.display()))?;
            // Where somebody removed the file before it was locked here, the lock says nothing.
            if file.try_lock().is_err() || !is_at(&file, &path) {
                continue;
            }
            self.held.push((path, file));
            if TcpListener::bind(("127.0.0.1", port)).is_ok() {
                return Ok(port);
            }
        }
        bail!("no free port between {} and {}", RANGE.start, RANGE.end)
    }
}

impl Drop for Ports {
    fn drop(&mut self) {
        for (path, _lock) in &self.held {
            // Nothing depends on the file but its lock, which goes with the handle.
            let _ = fs::remove_file(path);
        }
    }
}

/// Removes the files of runs that were killed. One that is held stays.
fn sweep(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if let Ok(file) = File::open(entry.path())
            && file.try_lock().is_ok()
            && is_at(&file, &entry.path())
        {
            // Where somebody else has just removed it, all is as it should be.
            let _ = fs::remove_file(entry.path());
        }
    }
}

fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::metadata(path)) {
        (Ok(held), Ok(found)) => held.ino() == found.ino(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_who_look_at_once_never_get_the_same_port() {
        let (mut one, mut other) = (Ports::new().expect("a folder"), Ports::new().expect("a folder"));
        let mut taken: Vec<u16> =
            (0..20).flat_map(|_| [one.take().expect("a port"), other.take().expect("a port")]).collect();
        taken.sort_unstable();
        taken.dedup();
        assert_eq!(taken.len(), 40);
    }

    #[test]
    fn a_held_port_stays_held_when_another_run_begins() {
        let mut one = Ports::new().expect("a folder");
        one.take().expect("a port");
        let other = Ports::new().expect("a folder");
        assert!(one.held[0].0.exists());
        drop(other);
    }
}
