//! `cargo xtask generate`: what is written from the code and committed.

use anyhow::Result;

use crate::cargo;

/// Writes it anew.
///
/// # Errors
/// If the generator fails.
pub fn run() -> Result<()> {
    cargo::run(&["run", "--quiet", "--example", "generate"])
}
