//! The datacenters that `up` leaves and `down` ends: where they are, and that only one command at a time touches them.

use std::fs::{self, File};
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use poolguard_harness::root;

/// Where they live.
pub fn folder() -> PathBuf {
    root().join("target/datacenters")
}

/// The file with what `up` printed.
pub fn directions() -> PathBuf {
    folder().join("README.txt")
}

/// Makes sure that no other `up` or `down` is at work, for as long as the file is held.
///
/// # Errors
/// If one is.
pub fn lock() -> Result<File> {
    let path = root().join("target/datacenters.lock");
    fs::create_dir_all(root().join("target")).context("cannot make target/")?;
    let file = File::create(&path).with_context(|| format!("cannot make {}", path.display()))?;
    if file.try_lock().is_err() {
        bail!("another `cargo xtask up` or `cargo xtask down` is at work: wait until it is done");
    }
    Ok(file)
}
