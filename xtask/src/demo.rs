//! `cargo xtask demo`: the outage of 2021, replayed and refused.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::Args;
use poolguard_harness::demo::{Reporter, replay};
use poolguard_harness::fleet::Fleet;

use crate::{cargo, progress};

/// How it is shown.
#[derive(Args)]
pub struct Flags {
    /// Show everything that the programs say.
    #[arg(long)]
    verbose: bool,
    /// Write the transcript that opens the README.
    #[arg(long)]
    record: bool,
}

const BEGIN: &str = "<!-- transcript of `cargo xtask demo`, written by `--record` -->\n```text\n";
const END: &str = "```\n<!-- end of the transcript -->";

/// Replays the outage.
pub fn run(flags: &Flags) -> Result<()> {
    progress("Building poolguard");
    let binary = cargo::build_poolguard()?;
    Fleet::prepare(&progress)?;
    progress("two datacenters, five services in each, about 30 s");
    let start = Instant::now();
    let fleet = Fleet::start(&progress)?;
    let reporter = Reporter::printing(flags.verbose);
    replay(&fleet, &binary, &reporter)?;
    drop(fleet);
    eprintln!("  every step was as told; {} s in all", start.elapsed().as_secs());
    let lines = reporter.transcript();
    ensure!(lines.len() <= 40, "the demo told {} lines, more than 40", lines.len());
    if flags.record {
        let path = poolguard_harness::root().join("README.md");
        let text = std::fs::read_to_string(&path).context("cannot read README.md")?;
        let (head, rest) = text.split_once(BEGIN).context("README.md has no place for the transcript")?;
        let (_, tail) = rest.split_once(END).context("README.md has no end of the transcript")?;
        std::fs::write(&path, format!("{head}{BEGIN}{}\n{END}{tail}", lines.join("\n")))
            .context("cannot write README.md")?;
    }
    Ok(())
}
