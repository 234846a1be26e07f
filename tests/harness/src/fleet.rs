//! Both datacenters and conftool's etcd.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::conftool::{self, Conftool};
use crate::datacenter::{Datacenter, DatacenterPorts};
use crate::ports::Ports;
use crate::programs::{self, Programs};
use crate::run::Run;
use crate::wait::wait_for;

/// The datacenters, in the order of the 2021 outage: the one that was taken out, and the other.
pub const NAMES: [&str; 2] = ["eqiad", "codfw"];

/// A kind that only an operator's configuration makes a workload.
pub const ROLLOUTS: &str = include_str!("../manifests/rollouts.yaml");

/// Two datacenters that share conftool.
#[derive(Debug)]
pub struct Fleet {
    /// The one that is migrated.
    pub eqiad: Datacenter,
    /// The other.
    pub codfw: Datacenter,
    /// conftool, which speaks for both.
    pub conftool: Conftool,
    /// The process of conftool's etcd.
    pub conftool_etcd: u32,
    /// How long it took to come up.
    pub took: Duration,
    /// What both are made of, and what people reach them with.
    pub programs: Programs,
    run: Arc<Run>,
}

impl Fleet {
    /// A fleet that ends with its owner.
    ///
    /// # Errors
    /// If something cannot be built or does not come up.
    pub fn start(progress: &dyn Fn(&str)) -> Result<Self> {
        let (programs, confctl) = Self::prepare(progress)?;
        Self::in_run(Arc::new(Run::temporary()?), &programs, confctl)
    }

    /// A fleet in this folder, which ends with its owner unless its run is kept.
    ///
    /// # Errors
    /// If something cannot be built or does not come up.
    pub fn start_in(folder: PathBuf, progress: &dyn Fn(&str)) -> Result<Self> {
        let (programs, confctl) = Self::prepare(progress)?;
        Self::in_run(Arc::new(Run::in_folder(folder)?), &programs, confctl)
    }

    /// Builds what is missing.
    ///
    /// # Errors
    /// If something cannot be built.
    pub fn prepare(progress: &dyn Fn(&str)) -> Result<(Programs, PathBuf)> {
        Ok((programs::build(progress)?, conftool::install(progress)?))
    }

    fn in_run(run: Arc<Run>, programs: &Programs, confctl: PathBuf) -> Result<Self> {
        let start = Instant::now();
        let mut ports = Ports::new();
        let [first, second] = [DatacenterPorts::take(&mut ports)?, DatacenterPorts::take(&mut ports)?];
        let (client, peer) = (ports.take()?, ports.take()?);
        let folder = run.subfolder("conftool")?;
        let conftool = Conftool::new(confctl, &folder, client)?;
        let conftool_etcd = conftool_etcd(&run, programs, &conftool, &folder, peer)?;
        let (eqiad, codfw) = std::thread::scope(|scope| {
            let start = |name, ports| {
                let run = Arc::clone(&run);
                scope.spawn(move || Datacenter::start(run, programs, name, ports))
            };
            let (eqiad, codfw) = (start(NAMES[0], first), start(NAMES[1], second));
            let end = |thread: std::thread::ScopedJoinHandle<'_, Result<Datacenter>>| {
                thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            };
            Ok::<_, anyhow::Error>((end(eqiad)?, end(codfw)?))
        })?;
        wait_for("conftool's etcd", Duration::from_secs(20), || conftool.sync(&["probe"], &NAMES))?;
        for datacenter in [&eqiad, &codfw] {
            routes(datacenter)?;
            datacenter.apply(ROLLOUTS)?;
        }
        Ok(Self { eqiad, codfw, conftool, conftool_etcd, took: start.elapsed(), programs: programs.clone(), run })
    }

    /// The datacenters.
    pub fn datacenters(&self) -> [&Datacenter; 2] {
        [&self.eqiad, &self.codfw]
    }

    /// The run that everything belongs to.
    pub fn run(&self) -> &Arc<Run> {
        &self.run
    }
}

/// Starts conftool's etcd, with its data in this folder.
///
/// # Errors
/// If it cannot be started.
pub fn conftool_etcd(run: &Run, programs: &Programs, conftool: &Conftool, folder: &Path, peer: u16) -> Result<u32> {
    run.start(
        "conftool-etcd",
        Command::new(programs.path("etcd"))
            .arg(format!("--data-dir={}", folder.join("etcd").display()))
            .args(["--enable-v2", "--unsafe-no-fsync", "--log-level=warn"])
            .arg(format!("--listen-client-urls={}", conftool.endpoint))
            .arg(format!("--advertise-client-urls={}", conftool.endpoint))
            .arg(format!("--listen-peer-urls=http://127.0.0.1:{peer}"))
            .arg(format!("--initial-advertise-peer-urls=http://127.0.0.1:{peer}"))
            .arg(format!("--initial-cluster=default=http://127.0.0.1:{peer}")),
    )
}

/// Makes a datacenter know HTTPRoutes.
///
/// # Errors
/// If their definition cannot be downloaded or applied.
pub fn routes(datacenter: &Datacenter) -> Result<()> {
    let module = programs::module("tests/controlplane/gateway-api", "sigs.k8s.io/gateway-api")?;
    datacenter.apply_file(&module.join("config/crd/standard/gateway.networking.k8s.io_httproutes.yaml"))
}

/// Makes a datacenter know what the Prometheus operator and cert-manager read.
///
/// # Errors
/// If the definitions cannot be downloaded or applied.
pub fn optional(datacenter: &Datacenter) -> Result<()> {
    for (folder, path, files) in [
        (
            "prometheus-operator",
            "github.com/prometheus-operator/prometheus-operator",
            ["monitoring.coreos.com_servicemonitors.yaml", "monitoring.coreos.com_prometheusrules.yaml"]
                .map(|file| format!("example/prometheus-operator-crd/{file}")),
        ),
        (
            "cert-manager",
            "github.com/cert-manager/cert-manager",
            ["cert-manager.io_certificates.yaml", "cert-manager.io_issuers.yaml"]
                .map(|file| format!("deploy/crds/{file}")),
        ),
    ] {
        let module = programs::module(&format!("tests/controlplane/{folder}"), path)?;
        files.iter().try_for_each(|file| datacenter.apply_file(&module.join(file)))?;
    }
    Ok(())
}
