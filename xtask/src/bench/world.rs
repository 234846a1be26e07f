//! What contestants are started beside: an API server without controllers, which holds the services, and conftool's etcd, which
//! says where they are pooled.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use poolguard_harness::conftool::Conftool;
use poolguard_harness::datacenter::{Controllers, Datacenter, DatacenterPorts};
use poolguard_harness::fleet::{NAMES, conftool_etcd};
use poolguard_harness::ports::Ports;
use poolguard_harness::programs::Programs;
use poolguard_harness::run::Run;
use poolguard_harness::wait::wait_for;

use super::contestant::{Services, Setting};
use super::store;

const SOON: Duration = Duration::from_secs(20);

/// All of it; it ends with its owner.
pub struct World {
    /// The API server.
    pub datacenter: Datacenter,
    /// conftool's records.
    pub conftool: Conftool,
    /// The services.
    pub services: Services,
    /// The API server's etcd, as `address:port`.
    pub etcd: String,
    _ports: Ports,
}

impl World {
    /// Starts it.
    ///
    /// # Errors
    /// If something does not come up.
    pub fn start(programs: &Programs, services: Services) -> Result<Self> {
        let run = Arc::new(Run::temporary()?);
        let mut ports = Ports::new();
        let own = DatacenterPorts::take(&mut ports)?;
        let (client, peer) = (ports.take()?, ports.take()?);
        let folder = run.subfolder("conftool")?;
        // Its records are written by themselves: its commands are not needed.
        let conftool = Conftool::new(PathBuf::new(), &folder, client)?;
        conftool_etcd(&run, programs, &conftool, &folder, peer)?;
        let datacenter = Datacenter::start_with(run, programs, NAMES[0], own, Controllers::None)?;
        let etcd = format!("127.0.0.1:{}", own.etcd);
        for file in ["poolguard.dev_servicepoolings.yaml", "poolguard.dev_poolingoverrides.yaml"] {
            datacenter.apply_file(&poolguard_harness::root().join("crds").join(file))?;
        }
        // Nothing else makes them the chart's own, which installs and upgrades them.
        datacenter.kubectl(&["label", "crd", "--all", "app.kubernetes.io/managed-by=Helm"])?.success()?;
        let release = ["meta.helm.sh/release-name=poolguard", "meta.helm.sh/release-namespace=poolguard"];
        datacenter.kubectl(&[&["annotate", "crd", "--all"], &release[..]].concat())?.success()?;
        store::write(&etcd, &store::namespaces(services))?;
        store::write(&etcd, &store::poolings(services, NAMES[0], NAMES[1]))?;
        wait_for("conftool's etcd", SOON, || conftool.record("probe", &[], 0))?;
        store::records(&conftool, services, NAMES[0], NAMES[1])?;
        Ok(Self { datacenter, conftool, services, etcd, _ports: ports })
    }

    /// As contestants see it.
    pub fn setting(&self) -> Setting<'_> {
        Setting { datacenter: &self.datacenter, conftool: &self.conftool.endpoint, services: self.services }
    }
}
