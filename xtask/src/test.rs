//! `cargo xtask test`

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::Args;
use poolguard_harness::fleet::Fleet;

/// Which tests.
#[derive(Args)]
pub struct Flags {
    /// Only those that need nothing but Rust: under 3 minutes.
    #[arg(long)]
    fast: bool,
}

/// A tier: its name, and the arguments of `cargo test`.
type Tier = (&'static str, &'static [&'static str]);

const FAST: [Tier; 3] = [
    ("policy", &["test", "--quiet", "--package", "poolguard-policy"]),
    (
        "poolguard",
        &["test", "--quiet", "--package", "poolguard", "--lib", "--bins", "--test", "corpus", "--test", "router"],
    ),
    ("harness", &["test", "--quiet", "--package", "poolguard-harness", "--package", "xtask"]),
];
const CLUSTER: Tier = ("control planes", &["test", "--package", "poolguard", "--test", "cluster"]);

/// Runs the tiers one after the other, and tells how each ended.
pub fn run(flags: &Flags) -> Result<()> {
    let mut ends: Vec<(&str, Result<()>, Duration)> = Vec::new();
    let mut tier = |(name, arguments): Tier, prepare: &dyn Fn() -> Result<()>| {
        eprintln!("tier: {name}");
        let start = Instant::now();
        let ended = prepare().and_then(|()| super::cargo(arguments));
        ends.push((name, ended, start.elapsed()));
    };
    for fast in FAST {
        tier(fast, &|| Ok(()));
    }
    if !flags.fast {
        tier(CLUSTER, &|| Fleet::prepare(&super::progress).map(|_| ()));
    }
    println!("{:<16} {:>8}  result", "tier", "seconds");
    for (name, ended, took) in &ends {
        let result = ended.as_ref().map_or_else(|error| format!("FAILED: {error:#}"), |()| "passed".to_owned());
        println!("{name:<16} {:>8}  {result}", took.as_secs());
    }
    let failed = ends.iter().filter(|(_, ended, _)| ended.is_err()).count();
    println!("tiers: {} passed, {failed} failed", ends.len() - failed);
    if failed > 0 {
        bail!("{failed} of {} tiers failed", ends.len());
    }
    Ok(())
}
