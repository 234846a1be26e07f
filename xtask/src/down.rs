//! `cargo xtask down`: ends what `up` has left running, and removes it.

use std::fs;

use anyhow::{Context, Result};
use poolguard_harness::run::Run;

use crate::{kept, progress};

/// Ends it. Where nothing runs, that is success too.
///
/// # Errors
/// If something cannot be ended or removed.
pub fn run() -> Result<()> {
    let _lock = kept::lock()?;
    let folder = kept::folder();
    if !folder.exists() {
        progress("Nothing is up.");
        return Ok(());
    }
    Run::stop(&folder)?;
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    progress("Both datacenters are down.");
    Ok(())
}
