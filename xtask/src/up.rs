//! `cargo xtask up` and `cargo xtask down`

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;
use poolguard_harness::demo::populate;
use poolguard_harness::fleet::Fleet;
use poolguard_harness::operator::Operator;
use poolguard_harness::run::Run;
use poolguard_harness::services::pool;

/// What is started.
#[derive(Args)]
pub struct Flags {
    /// Neither Poolguard nor the example services.
    #[arg(long)]
    without_operator: bool,
}

fn folder() -> PathBuf {
    poolguard_harness::root().join("target/datacenters")
}

/// Starts two datacenters and leaves them running.
pub fn run(flags: &Flags) -> Result<()> {
    let folder = folder();
    if folder.exists() {
        bail!("the datacenters are up already; `cargo xtask down` ends them");
    }
    let started = start(flags);
    if started.is_err() {
        down()?;
    }
    started
}

fn start(flags: &Flags) -> Result<()> {
    let binary = if flags.without_operator { None } else { Some(super::poolguard()?) };
    let fleet = Fleet::start_kept(folder(), &super::progress)?;
    super::progress(&format!("both datacenters are up after {} s", fleet.took.as_secs()));
    if let Some(binary) = binary {
        super::progress("Poolguard and five services in each, about 30 s");
        pool(&fleet.conftool)?;
        for datacenter in fleet.datacenters() {
            Operator::install(datacenter, &fleet.conftool.endpoint, &binary)?;
            populate(datacenter)?;
        }
    }
    for datacenter in fleet.datacenters() {
        println!(
            "{}, as an administrator:  export KUBECONFIG={}",
            datacenter.name,
            datacenter.folder.join("kubeconfig").display()
        );
        println!(
            "{}, as a deployer:        export KUBECONFIG={}",
            datacenter.name,
            datacenter.folder.join("deployer.kubeconfig").display()
        );
    }
    let bin = poolguard_harness::root().join("target/controlplane/bin");
    println!("kubectl, helm3, helm4:       export PATH={}:$PATH", bin.display());
    println!("conftool:                    {} select 'dnsdisc=eventgate-main' get", fleet.conftool.shell());
    println!("`cargo xtask down` ends all of it.");
    Ok(())
}

/// Ends what `up` started.
pub fn down() -> Result<()> {
    Run::stop(&folder())
}
