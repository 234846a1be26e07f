//! The commands of this repository: `cargo xtask help` lists them.
//!
//! Exit codes: 0 when done, 1 when something failed, 2 for a wrong command line.

mod demo;
mod test;
mod up;

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};
use clap::{Parser, Subcommand};

/// Builds, tests and shows Poolguard.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Replay the outage of 2021 on two real datacenters, with Poolguard and without.
    Demo(demo::Flags),
    /// Run every test: what needs nothing, and what needs real control planes.
    Test(test::Flags),
    /// Start two datacenters with Poolguard and the example services, and leave them running.
    Up(up::Flags),
    /// End what `up` started.
    Down,
    /// Build the programs of the control planes and install conftool; the other commands do this by themselves.
    Build,
    /// Write the generated files: CustomResourceDefinitions, the chart's copies, the schema of the configuration.
    Generate,
}

fn main() -> ExitCode {
    let ended = match Cli::parse().command {
        Task::Demo(flags) => demo::run(&flags),
        Task::Test(flags) => test::run(&flags),
        Task::Up(flags) => up::run(&flags),
        Task::Down => up::down(),
        Task::Build => poolguard_harness::fleet::Fleet::prepare(&progress).map(|_| ()),
        Task::Generate => cargo(&["run", "--quiet", "--package", "poolguard", "--example", "generate"]),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Without the backtrace that the environment may ask for: the causes say what went wrong.
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Tells how far long work is.
fn progress(line: &str) {
    eprintln!("  {line}");
}

/// Runs cargo at the root, with its output shown.
fn cargo(arguments: &[&str]) -> Result<()> {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(program)
        .args(arguments)
        .current_dir(poolguard_harness::root())
        .status()
        .context("cannot start cargo")?;
    ensure!(status.success(), "`cargo {}` failed", arguments.join(" "));
    Ok(())
}

/// Builds Poolguard and returns its path.
fn poolguard() -> Result<PathBuf> {
    progress("poolguard itself, about 4 minutes the first time");
    cargo(&["build", "--quiet", "--package", "poolguard", "--bin", "poolguard"])?;
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| poolguard_harness::root().join("target"), PathBuf::from);
    Ok(target.join("debug/poolguard"))
}
