//! `cargo xtask bench`: figures, never a test.

mod apiserver;
mod comparison;
mod contestant;
mod cores;
mod evidence;
mod figures;
mod floor;
mod load;
mod peers;
mod poolguard;
mod report;
mod reviews;
mod spread;
mod store;
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
    /// Dry runs that delete a pod through the API server, with Poolguard, its peers, and nobody
    Apiserver(apiserver::Flags),
}

/// Measures.
///
/// # Errors
/// If something cannot be started or does not do what it should.
pub fn run(flags: &Flags) -> Result<()> {
    match &flags.what {
        Some(What::Evidence(flags)) => evidence::run(flags),
        Some(What::Apiserver(flags)) => apiserver::run(flags),
        None => comparison::run(&flags.comparison),
    }
}
