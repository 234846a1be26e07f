//! `cargo xtask bench`: figures, never a test.

mod contestant;
mod evidence;
mod figures;
mod tap;

use anyhow::Result;
use clap::Subcommand;

/// What is measured.
#[derive(Subcommand)]
pub enum What {
    /// From `confctl set` to the new status and to the first changed verdict, with few and many ServicePoolings
    Evidence(evidence::Flags),
}

/// Measures.
///
/// # Errors
/// If something cannot be started or does not do what it should.
pub fn run(what: &What) -> Result<()> {
    match what {
        What::Evidence(flags) => evidence::run(flags),
    }
}
