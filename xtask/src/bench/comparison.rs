//! `cargo xtask bench` without a further word: the contestants side by side.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Result, bail};
use clap::Args;
use poolguard_harness::programs;

use super::contestant::Contestant;
use super::cores;
use super::floor::Floor;
use super::load::Rig;
use super::peers;
use super::poolguard::Poolguard;
use super::report;
use super::straight::{Size, Straight};
use super::tables;
use crate::progress;

/// What is compared, and how long.
#[derive(Args)]
pub struct Flags {
    /// Only what is needed for a first look, in less than five minutes
    #[arg(long)]
    quick: bool,
    /// Write the tables into docs/benchmarks.md
    #[arg(long)]
    docs: bool,
    /// Only these contestants
    #[arg(long, value_name = "CONTESTANT", num_args = 1..)]
    only: Vec<String>,
    /// Measure this program instead of poolguard as it is shipped; the output says so
    #[arg(long, value_name = "FILE", conflicts_with = "docs")]
    binary: Option<PathBuf>,
}

/// Measures.
///
/// # Errors
/// If something cannot be started or does not do what it should.
pub fn run(flags: &Flags) -> Result<()> {
    let start = Instant::now();
    let programs = programs::build(&progress)?;
    let rig = Rig::build()?;
    let mut contestants = chosen(flags, &rig)?;
    for contestant in &mut contestants {
        contestant.build()?;
    }
    cores::leave_one()?;
    let straight = Straight { programs: &programs, rig: &rig, size: Size::new(flags.quick) };
    let rows = straight.run(&contestants)?;
    let measured =
        flags.binary.as_ref().map_or("poolguard as it is shipped".to_owned(), |file| file.display().to_string());
    println!("poolguard is {measured}\n");
    let mut text = String::new();
    for (heading, table) in tables::all(&rows) {
        println!("{heading}\n{}", table.text());
        text.push_str(&format!("**{heading}**\n\n{}\n", table.markdown()));
    }
    let chart = report::folder()?.join("straight.svg");
    report::chart(&chart, "CPU seconds per 1,000 reviews, straight over HTTPS", &tables::bars(&rows))?;
    let figures = report::json("straight", &rows)?;
    if flags.docs {
        report::document("straight", &text)?;
    }
    progress(&format!("{} and {} after {} s", figures.display(), chart.display(), start.elapsed().as_secs()));
    Ok(())
}

/// All contestants, or those that are asked for, in the order of the tables.
fn chosen(flags: &Flags, rig: &Rig) -> Result<Vec<Box<dyn Contestant>>> {
    let mut all: Vec<Box<dyn Contestant>> =
        vec![Box::new(Floor { program: rig.floor.clone() }), Box::new(Poolguard::new(flags.binary.clone()))];
    all.extend(peers::all());
    if let Some(unknown) = flags.only.iter().find(|name| !all.iter().any(|one| one.name() == **name)) {
        let names: Vec<_> = all.iter().map(|one| one.name()).collect();
        bail!("there is no contestant {unknown}: choose of {}", names.join(", "));
    }
    all.retain(|one| flags.only.is_empty() || flags.only.iter().any(|name| name == one.name()));
    Ok(all)
}
