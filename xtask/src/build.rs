//! `cargo xtask build`: the programs of the control plane and conftool.

use anyhow::Result;
use poolguard_harness::fleet::Fleet;

use crate::progress;

/// Builds what is missing.
///
/// # Errors
/// If something cannot be built.
pub fn run() -> Result<()> {
    Fleet::prepare(&progress)?;
    progress("The programs of the control plane and conftool are built.");
    Ok(())
}
