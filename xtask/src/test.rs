//! `cargo xtask test`: every test, tier by tier, with a table of what ran and how long it took.
//!
//! Never silent about a tier that did not run.

use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use poolguard_harness::fleet::Fleet;
use poolguard_harness::{conftool, debian, node, previous, programs};

use crate::cargo::TestTarget;
use crate::{cargo, progress};

/// The test target that needs the two datacenters.
const CLUSTER: &str = "cluster";
/// How many scenarios run side by side for each processor: most of them wait most of the time.
const SIDE_BY_SIDE: usize = 2;
/// What tells the tests so.
const THREADS: &str = "RUST_TEST_THREADS";
/// The test target that needs a real node.
const NODE: &str = "node";

/// The test target that compares what a review costs with what is on record.
const COST: &str = "cost";
/// The part of it that needs valgrind.
const INSTRUCTIONS: &str = "instructions";

/// What became of a tier.
enum Outcome {
    Passed(Duration),
    Failed(Duration, String),
    CannotRun(String),
}

/// Runs the tiers. With `strict`, one that cannot run is a failure.
///
/// # Errors
/// If a tier fails.
pub fn run(fast: bool, strict: bool) -> Result<()> {
    let targets = cargo::test_targets()?;
    let mut tiers = vec![(
        "unit".to_owned(),
        timed(|| cargo::run_tests(&[], &["test", "--quiet", "--workspace", "--lib", "--bins"])),
    )];
    tiers.push((
        "documentation".to_owned(),
        timed(|| cargo::run_tests(&[], &["test", "--quiet", "--workspace", "--doc"])),
    ));
    // What only a feature builds takes a minute of its own.
    let (plain, with_features): (Vec<_>, Vec<_>) = targets
        .iter()
        .filter(|target| target.name != CLUSTER && target.name != NODE)
        .partition(|target| target.features.is_empty());
    let (to_run, left_out) = if fast { (plain, with_features) } else { ([plain, with_features].concat(), Vec::new()) };
    for target in to_run {
        let outcome = match target.name.as_str() {
            COST => cost(target, fast),
            _ => timed(|| target.run(&[], &["--quiet"])),
        };
        tiers.push((target.name.clone(), outcome));
    }
    if !fast {
        tiers.push((CLUSTER.to_owned(), cluster(&targets, None, &[])));
        tiers.push((NODE.to_owned(), real_node(&targets)));
    }
    println!();
    for (name, outcome) in &tiers {
        println!("{name:<16}{}", outcome.told());
    }
    if fast {
        for name in left_out.iter().map(|target| target.name.as_str()).chain([INSTRUCTIONS, CLUSTER, NODE]) {
            println!("{name:<16}left out by --fast");
        }
    }
    let failed = |(_, outcome): &&(String, Outcome)| match outcome {
        Outcome::Passed(_) => false,
        Outcome::Failed(..) => true,
        Outcome::CannotRun(_) => strict,
    };
    for (name, outcome) in &tiers {
        if let Outcome::Failed(_, why) = outcome {
            println!("\n{name}: {why}");
        }
    }
    let failed: Vec<&str> = tiers.iter().filter(failed).map(|(name, _)| name.as_str()).collect();
    if failed.is_empty() {
        return Ok(());
    }
    bail!("not as it should be: {}", failed.join(", "))
}

/// Runs only the tier against the datacenters, with another minor version of Kubernetes; of its scenarios those whose names contain
/// one of `scenarios`, if there is one.
///
/// # Errors
/// If it fails or cannot run.
pub fn against(kubernetes: &str, scenarios: &[String]) -> Result<()> {
    let outcome = cluster(&cargo::test_targets()?, Some(kubernetes), scenarios);
    println!("\n{:<16}{}", format!("{CLUSTER} {kubernetes}"), outcome.told());
    match outcome {
        Outcome::Passed(_) => Ok(()),
        Outcome::Failed(..) | Outcome::CannotRun(_) => bail!("not as it should be with Kubernetes {kubernetes}"),
    }
}

/// What a review costs. Instructions are counted where Debian's valgrind is.
fn cost(target: &TestTarget, fast: bool) -> Outcome {
    let without = || timed(|| target.run(&[], &["--quiet", "--", "--skip", INSTRUCTIONS]));
    if fast {
        return without();
    }
    match debian::unpack(&progress) {
        Ok(_) => timed(|| target.run(&[], &["--quiet"])),
        Err(error) => match without() {
            Outcome::Passed(_) => Outcome::CannotRun(format!("passed without counting instructions: {error:#}")),
            outcome => outcome,
        },
    }
}

/// A tier that builds a control plane, where that can be done.
fn with_programs<'a>(targets: &'a [TestTarget], name: &str) -> Result<&'a TestTarget, Outcome> {
    let Some(target) = targets.iter().find(|target| target.name == name) else {
        return Err(Outcome::CannotRun(format!("the workspace has no test target `{name}`")));
    };
    for (program, argument, use_of) in [("go", "version", "the control plane"), ("python3", "--version", "conftool")] {
        if Command::new(program).arg(argument).output().is_err() {
            return Err(Outcome::CannotRun(format!("`{program}` is not on the PATH; it builds {use_of}")));
        }
    }
    Ok(target)
}

/// The tier with a real node. It prints how large the image is and how long things take.
fn real_node(targets: &[TestTarget]) -> Outcome {
    let target = match with_programs(targets, NODE) {
        Ok(target) => target,
        Err(outcome) => return outcome,
    };
    match node::prepare(&progress) {
        Ok(_) => timed(|| target.run(&[], &["--", "--nocapture"])),
        Err(error) => Outcome::CannotRun(format!("{error:#}")),
    }
}

/// The tier against the two datacenters.
fn cluster(targets: &[TestTarget], kubernetes: Option<&str>, scenarios: &[String]) -> Outcome {
    let target = match with_programs(targets, CLUSTER) {
        Ok(target) => target,
        Err(outcome) => return outcome,
    };
    let prepared = match kubernetes {
        Some(version) => {
            programs::build_version(version, &progress).and_then(|_| conftool::install(&progress)).map(drop)
        }
        None => Fleet::prepare(&progress).map(drop),
    };
    if let Err(error) = prepared {
        return Outcome::CannotRun(format!("{error:#}"));
    }
    let threads = (SIDE_BY_SIDE * thread::available_parallelism().map_or(1, usize::from)).to_string();
    let mut variables: Vec<(&str, &str)> = kubernetes.map(|version| (programs::VERSION, version)).into_iter().collect();
    if std::env::var_os(THREADS).is_none() {
        variables.push((THREADS, &threads));
    }
    let only: Vec<&str> = scenarios.iter().map(String::as_str).collect();
    if !only.is_empty() && target.count(&only).is_ok_and(|count| count == 0) {
        return Outcome::CannotRun(format!("no scenario is named like {}", scenarios.join(" or ")));
    }
    let run = |further: &[&str]| target.run(&variables, &[&["--"], further, &only[..]].concat());
    // Only the scenarios that need what is missing are left out, and the tier is not called whole.
    let (mut skipped, mut missing) = (Vec::new(), Vec::new());
    if let Err(error) = debian::unpack(&progress) {
        skipped.extend(["--skip", "evidence::", "--skip", "failure::clock::"]);
        missing.push(format!("gdnsd, Prometheus and wrong clocks: {error:#}"));
    }
    if !previous::is_here() {
        skipped.extend(["--skip", "failure::upgrade::"]);
        progress(
            "THE UPGRADE FROM THE PREVIOUS VERSION IS LEFT OUT: this checkout has no history; `git fetch --unshallow` brings it",
        );
    } else if let Err(error) = previous::build(&progress) {
        skipped.extend(["--skip", "failure::upgrade::"]);
        missing.push(format!("the previous version: {error:#}"));
    }
    // The recovery times are told by scenarios that pass.
    skipped.push("--show-output");
    match timed(|| run(&skipped)) {
        Outcome::Passed(_) if !missing.is_empty() => {
            Outcome::CannotRun(format!("passed without {}", missing.join("; without ")))
        }
        outcome => outcome,
    }
}

fn timed(work: impl FnOnce() -> Result<()>) -> Outcome {
    let start = Instant::now();
    match work() {
        Ok(()) => Outcome::Passed(start.elapsed()),
        Err(error) => {
            let why = format!("{error:#}");
            progress(&why);
            Outcome::Failed(start.elapsed(), why)
        }
    }
}

impl Outcome {
    fn told(&self) -> String {
        match self {
            Self::Passed(took) => format!("passed in {:.1} s", took.as_secs_f64()),
            Self::Failed(took, _) => format!("FAILED after {:.1} s", took.as_secs_f64()),
            Self::CannotRun(why) => format!("COULD NOT RUN: {why}"),
        }
    }
}
