//! `cargo xtask bench`: figures, never a test.

mod apiserver;
mod comparison;
mod contestant;
mod cores;
mod evidence;
mod figures;
mod floor;
mod growth;
mod load;
mod peers;
mod poolguard;
mod report;
mod reviews;
mod size;
mod spread;
mod store;
mod storm;
mod straight;
mod tables;
mod tap;
mod world;

use anyhow::Result;
use clap::{Args, Subcommand};

/// What is measured.
#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Flags {
    #[command(subcommand)]
    what: Option<What>,
    #[command(flatten)]
    comparison: comparison::Flags,
}

/// What else is measured.
#[derive(Subcommand)]
enum What {
    /// From `confctl set` to the new status and to the first changed verdict, with few and many ServicePoolings
    Evidence(evidence::Flags),
}

/// Measures.
///
/// # Errors
/// If something cannot be started or does not do what it should.
pub fn run(flags: &Flags) -> Result<()> {
    match &flags.what {
        Some(What::Evidence(flags)) => evidence::run(flags),
        None => comparison::run(&flags.comparison),
    }
}
