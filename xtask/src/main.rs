//! The commands of this repository: parses the command line, runs one, and turns its end into an exit code.
//!
//! Never knows how a command does its work: each has a file of its own.

#![forbid(unsafe_code)]

mod bench;
mod build;
mod cargo;
mod demo;
mod deny;
mod down;
mod fuzz;
mod generate;
mod image;
mod kept;
mod mutants;
mod panics;
mod record;
mod release;
mod test;
mod tools;
mod up;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Two real datacenters on this machine, and the tests that need them.
///
/// Everything that is needed is built below `target/` on first use: kube-apiserver, kube-controller-manager,
/// kube-scheduler, kubectl, etcd, helm 3 and 4 and kwok from Go modules, conftool from PyPI, gdnsd and Prometheus from
/// Debian. That takes about ten minutes on two cores, once.
#[derive(Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    max_term_width = 100,
    after_help = "Exit codes: 0 when all is as told, 1 after a failure, 2 for a wrong command line."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Replay the outage of 2021 on two real datacenters: with Poolguard, then without
    Demo(demo::Flags),
    /// Start the datacenters eqiad and codfw, with Poolguard and the example services, and leave them running
    ///
    /// Prints how to reach them. `target/datacenters/<name>/kubeconfig` is an administrator's,
    /// `target/datacenters/<name>/deployer.kubeconfig` a deployer's. `cargo xtask down` ends them.
    Up {
        /// Leave Poolguard out: nothing is guarded then
        #[arg(long)]
        without_operator: bool,
    },
    /// End what `up` has left running, and remove it
    Down,
    /// Build the programs of the control plane and install conftool, where they are missing
    Build,
    /// Build the image as it is shipped, into target/image/poolguard.tar: the same sources give the same digest
    ///
    /// Wants root, for buildah, which is unpacked below target/. `docker load` and `ctr images import` read the archive.
    Image,
    /// Write crds/, the chart's copies of it and the configuration's schema anew from the code
    Generate,
    /// Measure poolguard side by side with what else people would use, on the same work
    ///
    /// Prints tables, and writes them and a chart into target/bench. Takes a few minutes, once everything is built.
    Bench(bench::Flags),
    /// Change the policy in every way that cargo-mutants knows, and fail if no test notices
    ///
    /// Takes hours on two cores. With all files, the result is written into docs/correctness.md.
    Mutants {
        /// Only this file of policy/src; may be given several times
        #[arg(long = "file", value_name = "NAME.rs")]
        files: Vec<String>,
        /// Only what survived the last run, such as after new tests
        #[arg(long)]
        go_on: bool,
    },
    /// Feed the decoder and the decision with reviews that coverage guides, and fail if one panics
    Fuzz {
        /// For how long, after building
        #[arg(long, default_value_t = 60)]
        seconds: u64,
    },
    /// Check licences, banned packages, sources and advisories as deny.toml wants them
    ///
    /// The advisories' database is fetched with git. Where that cannot be done, they are not checked, which is said; where the variable
    /// CI is set, that is a failure.
    Deny,
    /// Make what is released, in target/release-artifacts: the program, its bill of materials, the image, the chart, checksums
    Release,
    /// Record what the real API server sends for a request through each door, into tests/reviews
    ///
    /// A request through every door runs against a control plane of its own, whose webhook allows everything.
    RecordReviews,
    /// Run every test, tier by tier
    ///
    /// A tier that cannot run is named with what it lacks; where the variable CI is set, that is a failure.
    Test {
        /// Only the tests that need nothing but Rust
        #[arg(long)]
        fast: bool,
        /// Only the tests against real control planes, with this minor version of Kubernetes, such as 1.33
        ///
        /// `tests/controlplane` has a module for each. The first run builds four programs, about six minutes on two cores.
        #[arg(long, value_name = "MINOR", conflicts_with = "fast")]
        kubernetes: Option<String>,
        /// With `--kubernetes`, only the scenarios whose names contain one of these, such as `outage::`
        #[arg(value_name = "SCENARIO", requires = "kubernetes")]
        scenarios: Vec<String>,
    },
}

fn main() -> ExitCode {
    let strict = std::env::var_os("CI").is_some();
    let done = match Cli::parse().command {
        Command::Demo(flags) => demo::run(&flags),
        Command::Up { without_operator } => up::run(!without_operator),
        Command::Down => down::run(),
        Command::Build => build::run(),
        Command::Image => image::run(),
        Command::Generate => generate::run(),
        Command::Bench(flags) => bench::run(&flags),
        Command::Mutants { files, go_on } => mutants::run(&files, go_on),
        Command::Fuzz { seconds } => fuzz::run(seconds),
        Command::Deny => deny::run(strict),
        Command::Release => release::run(),
        Command::RecordReviews => record::run(),
        Command::Test { kubernetes: Some(version), scenarios, .. } => test::against(&version, &scenarios),
        Command::Test { fast, kubernetes: None, .. } => test::run(fast, strict),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Tells whoever waits what is going on.
fn progress(line: &str) {
    eprintln!("{line}");
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::Cli;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
