//! `cargo xtask up`: two datacenters to play with, which stay when it returns.
//!
//! Whatever ends it before it is done, nothing stays.

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use poolguard_harness::datacenter::{Datacenter, Who};
use poolguard_harness::debian;
use poolguard_harness::edge::addresses::CLIENTS;
use poolguard_harness::edge::{Edge, Record};
use poolguard_harness::fleet::Fleet;
use poolguard_harness::operator::{Operator, Truth};
use poolguard_harness::run::Run;
use poolguard_harness::services::{self, SERVICES, SNOWFLAKE};
use poolguard_harness::wait::wait_for;

use crate::{cargo, kept, progress};

const SOON: Duration = Duration::from_secs(30);

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
    let edge = edge(&fleet);
    if let Err(error) = &edge {
        progress(&format!("LEFT OUT: gdnsd, Prometheus and the traffic: {error:#}"));
    }
    let edge = edge.ok();
    in_each(&fleet, |datacenter| furnish(datacenter, poolguard.as_deref(), &fleet, edge.as_ref()))?;
    progress(&format!("{} services run in each after {:.1} s", SERVICES.len(), start.elapsed().as_secs_f64()));
    let directions = directions(&fleet, edge.as_ref(), with_operator);
    fs::write(kept::directions(), &directions).context("cannot write how to reach the datacenters")?;
    fleet.run().keep()?;
    println!("\n{directions}");
    Ok(())
}

/// gdnsd, which follows conftool, the traffic that it leads, and what sees it.
fn edge(fleet: &Fleet) -> Result<Edge> {
    let records: Vec<Record> = SERVICES
        .iter()
        .map(|service| Record { name: service.name.to_owned(), active_passive: service.name != SNOWFLAKE.name })
        .collect();
    Edge::start(fleet.run(), &debian::unpack(&progress)?, &fleet.conftool, &records)
}

/// Installs Poolguard, if its program is given, and the example services. One of them is looked at from every side.
fn furnish(datacenter: &Datacenter, poolguard: Option<&Path>, fleet: &Fleet, edge: Option<&Edge>) -> Result<()> {
    let conftool = &fleet.conftool.endpoint;
    let truth = match edge {
        Some(edge) => Truth::everything(conftool, edge, &datacenter.name),
        None => Truth::conftool(conftool),
    };
    if let Some(poolguard) = poolguard {
        Operator::install_with(datacenter, &truth, poolguard)?;
    }
    services::populate(datacenter, poolguard.is_some())?;
    if poolguard.is_some() && edge.is_some() {
        let file = poolguard_harness::root().join("examples/evidence/eventgate-main.yaml");
        wait_for("the guard to take more evidence", SOON, || datacenter.apply_file(&file))?;
    }
    Ok(())
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

fn directions(fleet: &Fleet, edge: Option<&Edge>, with_operator: bool) -> String {
    let mut text = String::new();
    let mut line = |line: String| writeln!(text, "{line}").expect("a String takes everything");
    for datacenter in fleet.datacenters() {
        line(format!("{}, {}", datacenter.name, datacenter.server));
        line(format!("  administrator   export KUBECONFIG={}", datacenter.kubeconfig(Who::Admin).display()));
        line(format!("  deployer        export KUBECONFIG={}", datacenter.kubeconfig(Who::Deployer).display()));
        if let Some(edge) = edge {
            line(format!("  Prometheus      {}", edge.prometheus(&datacenter.name)));
        }
    }
    line(format!("conftool, {}", fleet.conftool.endpoint));
    line(format!("  {} select 'dnsdisc=eventgate-main,name=eqiad' get", fleet.conftool.shell()));
    if let Some(edge) = edge {
        let (clients, port) = (CLIENTS[0].1, edge.dns.port());
        line(format!("gdnsd, {}, which follows conftool", edge.dns));
        line(format!("  dig -p {port} @127.0.0.1 +subnet={clients} eventgate-main.discovery.wmnet"));
    }
    line("programs".to_owned());
    line(format!("  export PATH={}:$PATH", fleet.programs.folder().display()));
    line(format!("logs\n  {}", fleet.run().folder().join("log").display()));
    line(String::new());
    if with_operator {
        line("Try, as a deployer in eqiad:   helm3 -n eventgate-main uninstall main".to_owned());
        line("What is pooled where:          kubectl get servicepoolings -A -o wide".to_owned());
    } else {
        line("Poolguard is not installed: nothing is guarded.".to_owned());
    }
    line("`cargo xtask down` ends both.".to_owned());
    text
}
