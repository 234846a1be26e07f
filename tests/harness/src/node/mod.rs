//! A datacenter with a real node: kubelet, containerd and runc, a service proxy, a network of pods, DNS and conftool's etcd, all in
//! an enclosure, which leaves nothing behind. Its API server reaches pods by their Services.
//!
//! In reading order: [`enclosure`] is the place, [`kubelet`] configures what makes it a node, [`names`] its DNS; [`release`]
//! installs Poolguard there as people do.

pub mod enclosure;
pub mod kubelet;
pub mod names;
pub mod release;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::conftool::{self, Conftool};
use crate::datacenter::{Controllers, Datacenter, DatacenterPorts};
use crate::debian::{self, Debian};
use crate::fleet::NAMES;
use crate::image;
use crate::pki::{Authority, Subject};
use crate::place::Place;
use crate::programs::{self, Programs};
use crate::run::Run;
use crate::wait::wait_for;
use enclosure::{ADDRESS, Enclosure};

const SOON: Duration = Duration::from_secs(60);

/// The image of the example chart.
const SERVICE: &str = "example.invalid/service:1";
/// Nobody else is in an enclosure, so the ports are the usual ones.
const PORTS: DatacenterPorts = DatacenterPorts { etcd: 2379, peer: 2380, api: 6443 };
/// conftool's etcd: for conftool, for whoever comes by TLS, for its peers.
const CONFTOOL_PORTS: (u16, u16, u16) = (4001, 4002, 4003);

/// A datacenter with a real node.
#[derive(Debug)]
pub struct Node {
    /// Its control plane, and how people reach it.
    pub datacenter: Datacenter,
    /// conftool, whose etcd is in there.
    pub conftool: Conftool,
    /// How long it took until the node was ready.
    pub took: Duration,
    /// The certificate of the authority of conftool's etcd.
    pub conftool_authority: PathBuf,
    enclosure: Arc<Enclosure>,
}

/// Everything that a node is made of.
#[derive(Debug)]
pub struct Parts {
    programs: Programs,
    confctl: PathBuf,
    node: Debian,
    edge: Debian,
    service: PathBuf,
}

/// Brings what is missing.
///
/// # Errors
/// If it cannot be downloaded or built.
pub fn prepare(progress: &dyn Fn(&str)) -> Result<Parts> {
    let missing = enclosure::missing();
    ensure!(missing.is_empty(), "a real node needs {}", missing.join(", "));
    let (node, edge) = (debian::unpack_node(progress)?, debian::unpack(progress)?);
    let (programs, confctl) = (programs::build_for_node(progress)?, conftool::install(progress)?);
    Ok(Parts { programs, confctl, node, edge, service: image::service()? })
}

impl Node {
    /// Starts one in the datacenter eqiad, which ends with its owner, and waits until the node is ready.
    ///
    /// # Errors
    /// If something is missing or does not come up.
    pub fn start(parts: &Parts) -> Result<Self> {
        let start = Instant::now();
        let run = Arc::new(Run::temporary()?);
        let enclosure = Arc::new(Enclosure::start(&run, &parts.node)?);
        let place = Place::Enclosed(Arc::clone(&enclosure));
        let spawn = |name: &str, command: Command| run.start(name, &mut enclosure.wrap(&command));
        kubelet::containerd(&enclosure)?;
        let mut containerd = Command::new("containerd");
        containerd.arg("--config").arg(enclosure.folder.join("containerd.toml"));
        let containerd = spawn("containerd", containerd)?;
        spawn("gdnsd", names::gdnsd(&run.subfolder("gdnsd")?, &parts.edge)?)?;
        let folder = run.subfolder("conftool")?;
        let conftool = Conftool::at(parts.confctl.clone(), &folder, CONFTOOL_PORTS.0, place.clone())?;
        let authority = Authority::new(folder.join("pki"), "conftool")?;
        let identity = authority.sign("etcd", Subject::Server(&[names::CONFTOOL]))?;
        spawn("conftool-etcd", conftool_etcd(&parts.programs, &folder, &identity))?;
        let datacenter =
            Datacenter::start_at(Arc::clone(&run), &parts.programs, NAMES[0], PORTS, Controllers::Apart, place)?;
        let this = Self { datacenter, conftool, took: Duration::ZERO, conftool_authority: authority.file(), enclosure };
        this.join(parts, containerd)?;
        wait_for("conftool's etcd", SOON, || this.conftool.sync(&["probe"], &NAMES))?;
        Ok(Self { took: start.elapsed(), ..this })
    }

    /// Makes the node a part of the cluster.
    fn join(&self, parts: &Parts, containerd: u32) -> Result<()> {
        let (run, enclosure) = (self.datacenter.run(), &self.enclosure);
        wait_for("containerd to answer", SOON, || {
            run.ensure_running(containerd, "containerd")?;
            self.ctr(&["version"])
        })
        .with_context(|| run.log_tail("containerd"))?;
        for (name, reference, arguments) in [("pause", kubelet::PAUSE, r#", "idle""#), ("service", SERVICE, "")] {
            let archive = enclosure.folder.join(format!("{name}.tar"));
            let stage = format!(
                "FROM scratch\nCOPY --from=build /out/poolguard-service /service\nENTRYPOINT [\"/service\"{arguments}]\n"
            );
            image::around(&parts.service, &stage, reference, &archive, &parts.node)?;
            self.import(&archive)?;
        }
        kubelet::kubelet(enclosure, &self.datacenter)?;
        kubelet::proxy(enclosure, &self.datacenter)?;
        let kubelet = self.datacenter.spawn("kubelet", |command| {
            command
                .arg(format!("--config={}", enclosure.folder.join("kubelet.json").display()))
                .arg(format!("--kubeconfig={}", self.datacenter.folder.join("kubelet.kubeconfig").display()))
                .arg(format!("--root-dir={}", enclosure::KUBELET))
                .arg(format!("--cert-dir={}", enclosure.folder.join("kubelet-pki").display()))
                .arg(format!("--hostname-override={}", kubelet::NAME))
                .arg(format!("--node-ip={ADDRESS}"));
        })?;
        let proxy = self.datacenter.spawn("kube-proxy", |command| {
            command.arg(format!("--config={}", enclosure.folder.join("proxy.json").display()));
        })?;
        wait_for("the node to be ready", SOON, || {
            self.datacenter.ensure_running(kubelet, "kubelet")?;
            self.datacenter.ensure_running(proxy, "kube-proxy")?;
            let path = r#"jsonpath={.status.conditions[?(@.type=="Ready")]['status','message']}"#;
            let said = self.datacenter.kubectl(&["get", "node", kubelet::NAME, "-o", path])?.success()?;
            ensure!(said.starts_with("True"), "{said}");
            Ok(())
        })
        .with_context(|| run.log_tail("eqiad-kubelet"))
    }

    /// Makes an image known to the node.
    ///
    /// # Errors
    /// If containerd does not take it.
    pub fn import(&self, archive: &Path) -> Result<()> {
        self.ctr(&["-n", "k8s.io", "images", "import", &archive.to_string_lossy()])?;
        Ok(())
    }

    /// What `ctr` says.
    ///
    /// # Errors
    /// If it fails.
    pub fn ctr(&self, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new("ctr");
        command.args(["--address", kubelet::SOCKET]).args(arguments);
        crate::command::run(&mut self.enclosure.wrap(&command))?.success()
    }

    /// What a shell in the enclosure says.
    ///
    /// # Errors
    /// If it fails.
    pub fn shell(&self, script: &str) -> Result<String> {
        crate::command::run(&mut self.enclosure.wrap(Command::new("sh").args(["-ec", script])))?.success()
    }
}

fn conftool_etcd(programs: &Programs, folder: &Path, (certificate, key): &(PathBuf, PathBuf)) -> Command {
    let (plain, tls, peer) = CONFTOOL_PORTS;
    let mut command = Command::new(programs.path("etcd"));
    command
        .arg(format!("--data-dir={}", folder.join("etcd").display()))
        .args(["--enable-v2", "--unsafe-no-fsync", "--log-level=warn"])
        .arg(format!("--cert-file={}", certificate.display()))
        .arg(format!("--key-file={}", key.display()))
        .arg(format!("--listen-client-urls=http://{ADDRESS}:{plain},https://{ADDRESS}:{tls}"))
        .arg(format!("--advertise-client-urls=http://{ADDRESS}:{plain}"))
        .arg(format!("--listen-peer-urls=http://{ADDRESS}:{peer}"))
        .arg(format!("--initial-advertise-peer-urls=http://{ADDRESS}:{peer}"))
        .arg(format!("--initial-cluster=default=http://{ADDRESS}:{peer}"));
    command
}
