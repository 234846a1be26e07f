//! `cargo xtask bench` without a further word: the contestants side by side.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use poolguard_harness::programs;

use super::contestant::Contestant;
use super::cores;
use super::floor::Floor;
use super::load::Rig;
use super::peers;
use super::poolguard::Poolguard;
use super::report;
use super::straight::{Size, Straight};
use super::{apiserver, growth, size, storm, tables};
use crate::progress;

/// What is compared, and how long.
#[derive(Args)]
#[group(id = "comparison")]
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
    /// Only these parts
    #[arg(long, value_enum, num_args = 1..)]
    part: Vec<Part>,
    /// Measure this program instead of poolguard as it is shipped; the output says so
    #[arg(long, value_name = "FILE", conflicts_with = "docs")]
    binary: Option<PathBuf>,
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Reviews straight over HTTPS
    Straight,
    /// What a verdict costs with many services, beside few
    Growth,
    /// Memory, and start to ready
    Size,
    /// Thousands of evictions, and of refused deletes at once
    Storm,
    /// Dry runs through the API server, with nobody and ValidatingAdmissionPolicy beside the contestants
    ApiServer,
}

/// Measures.
///
/// # Errors
/// If something cannot be started or does not do what it should.
pub fn run(flags: &Flags) -> Result<()> {
    let start = Instant::now();
    let programs = programs::build(&progress)?;
    let rig = Rig::build(if flags.binary.is_some() { "release" } else { "dist" })?;
    let mut poolguard = Poolguard::new(flags.binary.clone());
    poolguard.build()?;
    let wanted = |part| match &flags.part[..] {
        // What is left out takes longer than a first look.
        [] => !flags.quick || ![Part::Growth, Part::Storm].contains(&part),
        chosen => chosen.contains(&part),
    };
    let mut contestants = chosen(flags, &rig, &poolguard)?;
    if wanted(Part::Straight) || wanted(Part::ApiServer) {
        contestants.iter_mut().try_for_each(|contestant| contestant.build())?;
    }
    cores::leave_one()?;
    let other = flags.binary.as_ref().map(|file| format!("poolguard is {}", file.display()));
    println!("{}\n", other.unwrap_or_else(|| "poolguard is as it is shipped".to_owned()));
    let straight = Straight { programs: &programs, rig: &rig, size: Size::new(flags.quick) };
    let tell = |name: &str, text: &str| if flags.docs { report::document(name, text) } else { Ok(()) };
    if wanted(Part::Straight) {
        let rows = straight.run(&contestants)?;
        let text = report::show(&tables::all(&rows));
        report::json("straight", &rows)?;
        let file = report::folder()?.join("straight.svg");
        report::chart(&file, "CPU seconds per 1,000 reviews, straight over HTTPS", &tables::bars(&rows))?;
        tell("straight", &text)?;
    }
    if wanted(Part::Growth) {
        let rows = growth::run(&straight, &poolguard)?;
        let table = growth::table(&rows);
        println!("{}", table.text());
        report::json("growth", &rows)?;
        tell("growth", &table.markdown())?;
    }
    if wanted(Part::Size) {
        let rows = size::run(&programs, &poolguard, flags.quick)?;
        let table = size::table(&rows);
        println!("{}", table.text());
        report::json("size", &rows)?;
        tell("size", &table.markdown())?;
    }
    if wanted(Part::Storm) {
        let storm = storm::run(&programs, &rig, &poolguard, flags.quick)?;
        let (table, told) = (storm::table(&storm), storm::told(&storm));
        println!("{}{told}\n", table.text());
        report::json("storm", &storm)?;
        tell("storm", &format!("{}\n{told}\n", table.markdown()))?;
    }
    if wanted(Part::ApiServer) {
        let all = flags.only.is_empty();
        let contestants = contestants
            .iter()
            .map(AsRef::as_ref)
            .filter(|one: &&dyn Contestant| !all || !apiserver::OTHERS.contains(&one.name()));
        let rows = apiserver::run(&programs, &rig, contestants, &apiserver::Size::new(flags.quick))?;
        let text = report::show(&apiserver::tables(&rows));
        report::json("apiserver", &rows)?;
        let file = report::folder()?.join("apiserver.svg");
        report::chart(&file, "CPU seconds per 1,000 dry runs, all processes", &apiserver::bars(&rows))?;
        tell("apiserver", &text)?;
    }
    progress(&format!("{} s; figures and charts are in {}", start.elapsed().as_secs(), report::folder()?.display()));
    Ok(())
}

/// All contestants, or those that are asked for, in the order of the tables.
fn chosen(flags: &Flags, rig: &Rig, poolguard: &Poolguard) -> Result<Vec<Box<dyn Contestant>>> {
    let mut all: Vec<Box<dyn Contestant>> =
        vec![Box::new(Floor { program: rig.floor.clone() }), Box::new(poolguard.clone())];
    all.extend(peers::all());
    if let Some(unknown) = flags.only.iter().find(|name| !all.iter().any(|one| one.name() == **name)) {
        let names: Vec<_> = all.iter().map(|one| one.name()).collect();
        bail!("there is no contestant {unknown}: choose of {}", names.join(", "));
    }
    all.retain(|one| flags.only.is_empty() || flags.only.iter().any(|name| name == one.name()));
    Ok(all)
}
