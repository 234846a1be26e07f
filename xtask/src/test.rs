//! `cargo xtask test`: every test, tier by tier, with a table of what ran and how long it took.
//!
//! Never silent about a tier that did not run.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use poolguard_harness::fleet::Fleet;
use poolguard_harness::{debian, node};

use crate::{cargo, progress};

/// The test target that needs the two datacenters.
const CLUSTER: &str = "cluster";
/// The test target that needs a real node.
const NODE: &str = "node";

/// What became of a tier.
enum Outcome {
    Passed(Duration),
    Failed(Duration),
    CannotRun(String),
}

/// Runs the tiers. With `strict`, one that cannot run is a failure.
///
/// # Errors
/// If a tier fails.
pub fn run(fast: bool, strict: bool) -> Result<()> {
    let targets = cargo::test_targets()?;
    let mut tiers =
        vec![("unit".to_owned(), timed(|| cargo::run(&["test", "--quiet", "--workspace", "--lib", "--bins"])))];
    tiers.push(("documentation".to_owned(), timed(|| cargo::run(&["test", "--quiet", "--workspace", "--doc"]))));
    for (package, target) in targets.iter().filter(|(_, target)| target != CLUSTER && target != NODE) {
        let outcome = timed(|| cargo::run(&["test", "--quiet", "--package", package, "--test", target]));
        tiers.push((target.clone(), outcome));
    }
    if !fast {
        tiers.push((CLUSTER.to_owned(), with_programs(|| cluster(&targets))));
        tiers.push((NODE.to_owned(), with_programs(|| node_tier(&targets))));
    }
    println!();
    for (name, outcome) in &tiers {
        println!("{name:<16}{}", outcome.told());
    }
    if fast {
        println!("{CLUSTER:<16}left out by --fast\n{NODE:<16}left out by --fast");
    }
    let failed = |(_, outcome): &&(String, Outcome)| match outcome {
        Outcome::Passed(_) => false,
        Outcome::Failed(_) => true,
        Outcome::CannotRun(_) => strict,
    };
    let failed: Vec<&str> = tiers.iter().filter(failed).map(|(name, _)| name.as_str()).collect();
    if failed.is_empty() {
        return Ok(());
    }
    bail!("not as it should be: {}", failed.join(", "))
}

/// A tier that builds a control plane, where that can be done.
fn with_programs(tier: impl FnOnce() -> Outcome) -> Outcome {
    for (program, argument, use_of) in [("go", "version", "the control plane"), ("python3", "--version", "conftool")] {
        if Command::new(program).arg(argument).output().is_err() {
            return Outcome::CannotRun(format!("`{program}` is not on the PATH; it builds {use_of}"));
        }
    }
    tier()
}

fn package<'a>(targets: &'a [(String, String)], name: &str) -> Result<&'a str, Outcome> {
    let found = targets.iter().find(|(_, target)| target == name).map(|(package, _)| package.as_str());
    found.ok_or_else(|| Outcome::CannotRun(format!("the workspace has no test target `{name}`")))
}

/// The tier with a real node. It prints how large the image is and how long things take.
fn node_tier(targets: &[(String, String)]) -> Outcome {
    let package = match package(targets, NODE) {
        Ok(package) => package,
        Err(outcome) => return outcome,
    };
    match node::prepare(&progress) {
        Ok(_) => timed(|| cargo::run(&["test", "--package", package, "--test", NODE, "--", "--nocapture"])),
        Err(error) => Outcome::CannotRun(format!("{error:#}")),
    }
}

/// The tier against the two datacenters.
fn cluster(targets: &[(String, String)]) -> Outcome {
    let package = match package(targets, CLUSTER) {
        Ok(package) => package,
        Err(outcome) => return outcome,
    };
    if let Err(error) = Fleet::prepare(&progress) {
        return Outcome::CannotRun(format!("{error:#}"));
    }
    let run = |more: &[&str]| cargo::run(&[&["test", "--package", package, "--test", CLUSTER], more].concat());
    match debian::unpack(&progress) {
        Ok(_) => timed(|| run(&[])),
        // Only the scenarios that need gdnsd and Prometheus are left out, and the tier is not called whole.
        Err(error) => match timed(|| run(&["--", "--skip", "evidence::"])) {
            Outcome::Passed(_) => Outcome::CannotRun(format!("passed without gdnsd and Prometheus: {error:#}")),
            outcome => outcome,
        },
    }
}

fn timed(work: impl FnOnce() -> Result<()>) -> Outcome {
    let start = Instant::now();
    match work() {
        Ok(()) => Outcome::Passed(start.elapsed()),
        Err(error) => {
            progress(&format!("{error:#}"));
            Outcome::Failed(start.elapsed())
        }
    }
}

impl Outcome {
    fn told(&self) -> String {
        match self {
            Self::Passed(took) => format!("passed in {:.1} s", took.as_secs_f64()),
            Self::Failed(took) => format!("FAILED after {:.1} s", took.as_secs_f64()),
            Self::CannotRun(why) => format!("COULD NOT RUN: {why}"),
        }
    }
}
