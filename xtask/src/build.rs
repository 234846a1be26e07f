//! `cargo xtask build`: the programs of the control plane, conftool, gdnsd and Prometheus.

use anyhow::Result;
use poolguard_harness::debian;
use poolguard_harness::fleet::Fleet;

use crate::progress;

/// Builds what is missing.
///
/// # Errors
/// If something cannot be built.
pub fn run() -> Result<()> {
    Fleet::prepare(&progress)?;
    debian::unpack(&progress)?;
    progress("The programs of the control plane and conftool are built, gdnsd and Prometheus unpacked.");
    Ok(())
}
