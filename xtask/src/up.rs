//! `cargo xtask up`: two datacenters to play with, which stay when it returns.
//!
//! Whatever ends it before it is done, nothing stays.

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use poolguard_harness::datacenter::{Datacenter, Who};
use poolguard_harness::fleet::Fleet;
use poolguard_harness::operator::Operator;
use poolguard_harness::run::Run;
use poolguard_harness::services::{self, SERVICES};

use crate::{cargo, kept, progress};

/// Starts them, unless they run already.
///
/// # Errors
/// If something cannot be built or does not come up.
pub fn run(with_operator: bool) -> Result<()> {
    let _lock = kept::lock()?;
    let folder = kept::folder();
    if folder.exists() {
        if let Some(directions) = running(&folder)? {
            println!("Both datacenters are up already.\n\n{directions}");
            return Ok(());
        }
        Run::stop(&folder)?;
    }
    let poolguard = with_operator
        .then(|| {
            progress("Building poolguard");
            cargo::build_poolguard()
        })
        .transpose()?;
    let start = Instant::now();
    let fleet = Fleet::start_in(folder, &progress)?;
    progress(&format!("Both datacenters answer after {:.1} s", fleet.took.as_secs_f64()));
    services::pool(&fleet.conftool)?;
    in_each(&fleet, |datacenter| furnish(datacenter, poolguard.as_deref(), &fleet.conftool.endpoint))?;
    progress(&format!("{} services run in each after {:.1} s", SERVICES.len(), start.elapsed().as_secs_f64()));
    let directions = directions(&fleet, with_operator);
    fs::write(kept::directions(), &directions).context("cannot write how to reach the datacenters")?;
    fleet.run().keep()?;
    println!("\n{directions}");
    Ok(())
}

/// Installs Poolguard, if its program is given, and the example services.
fn furnish(datacenter: &Datacenter, poolguard: Option<&Path>, conftool: &str) -> Result<()> {
    if let Some(poolguard) = poolguard {
        Operator::install(datacenter, conftool, poolguard)?;
    }
    services::populate(datacenter, poolguard.is_some())
}

/// Does the same in both datacenters at once.
fn in_each(fleet: &Fleet, work: impl Fn(&Datacenter) -> Result<()> + Sync) -> Result<()> {
    std::thread::scope(|scope| {
        let work = &work;
        let threads = fleet.datacenters().map(|datacenter| (datacenter, scope.spawn(move || work(datacenter))));
        for (datacenter, thread) in threads {
            let done = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            done.with_context(|| format!("cannot furnish {}", datacenter.name))?;
        }
        Ok(())
    })
}

/// How to reach datacenters that run, or nothing if all of their processes are gone.
fn running(folder: &Path) -> Result<Option<String>> {
    // A folder without a list of processes is what an interrupted removal leaves.
    let processes = Run::processes(folder).unwrap_or_default();
    let gone: Vec<&str> = processes.iter().filter(|(_, alive)| !alive).map(|(name, _)| name.as_str()).collect();
    if gone.len() == processes.len() {
        return Ok(None);
    }
    if !gone.is_empty() {
        bail!("the datacenters are up, but {} has ended: run `cargo xtask down` first", gone.join(", "));
    }
    let directions = fs::read_to_string(kept::directions())
        .context("the datacenters are up, but not whole: run `cargo xtask down` first")?;
    Ok(Some(directions))
}

fn directions(fleet: &Fleet, with_operator: bool) -> String {
    let mut text = String::new();
    let mut line = |line: String| writeln!(text, "{line}").expect("a String takes everything");
    for datacenter in fleet.datacenters() {
        line(format!("{}, {}", datacenter.name, datacenter.server));
        line(format!("  administrator   export KUBECONFIG={}", datacenter.kubeconfig(Who::Admin).display()));
        line(format!("  deployer        export KUBECONFIG={}", datacenter.kubeconfig(Who::Deployer).display()));
    }
    line(format!("conftool, {}", fleet.conftool.endpoint));
    line(format!("  {} select 'dnsdisc=eventgate-main,name=eqiad' get", fleet.conftool.shell()));
    line("programs".to_owned());
    line(format!("  export PATH={}:$PATH", fleet.programs.folder().display()));
    line(format!("logs\n  {}", fleet.run().folder().join("log").display()));
    line(String::new());
    if with_operator {
        line("Try, as a deployer in eqiad:   helm3 -n eventgate-main uninstall main".to_owned());
    } else {
        line("Poolguard is not installed: nothing is guarded.".to_owned());
    }
    line("`cargo xtask down` ends both.".to_owned());
    text
}
