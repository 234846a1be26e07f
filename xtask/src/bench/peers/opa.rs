//! OPA's own server: the same Rego, on ServicePoolings that it is given when it starts.
//!
//! Who keeps them current beside it is not measured.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use poolguard_harness::http::healthy;
use poolguard_harness::ports::Ports;
use poolguard_harness::programs;
use serde_json::{Map, Value, json};

use super::certificate::Certificate;
use super::{policy, ready};
use crate::bench::contestant::{Contestant, Running, Setting};
use crate::progress;

const NAME: &str = "opa";
const SOON: Duration = Duration::from_secs(60);

/// OPA.
#[derive(Default)]
pub struct Opa {
    program: PathBuf,
}

impl Contestant for Opa {
    fn name(&self) -> &'static str {
        NAME
    }

    fn build(&mut self) -> Result<()> {
        self.program = programs::build_peer(NAME, &progress)?;
        Ok(())
    }

    fn start(&self, setting: &Setting<'_>) -> Result<Running> {
        let run = setting.run();
        let folder = run.subfolder("opa/policy")?;
        let data = inventory(setting.datacenter.get(&["servicepoolings", "--all-namespaces"])?).to_string();
        for (file, text) in [("pooling.rego", policy::POOLING), ("opa.rego", policy::OPA), ("data.json", &data)] {
            fs::write(folder.join(file), text).with_context(|| format!("cannot write {file}"))?;
        }
        let certificate = Certificate::new(run, NAME)?;
        let mut ports = Ports::new();
        let (port, health) = (ports.take()?, ports.take()?);
        let pid = run.start(
            NAME,
            Command::new(&self.program)
                .env_clear()
                .args(["run", "--server", "--log-level=error", "--disable-telemetry"])
                .arg(format!("--addr=https://127.0.0.1:{port}"))
                .arg(format!("--diagnostic-addr=http://127.0.0.1:{health}"))
                .arg(format!("--tls-cert-file={}", certificate.folder.join("tls.crt").display()))
                .arg(format!("--tls-private-key-file={}", certificate.folder.join("tls.key").display()))
                .arg(folder),
        )?;
        ready(run, NAME, pid, SOON, || healthy(health, "/health"))?;
        Ok(Running::new(port, "/", certificate.authority(), pid, ports))
    }
}

/// ServicePoolings as Gatekeeper's inventory holds them.
fn inventory(mut list: Value) -> Value {
    let mut namespaces: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
    for item in list["items"].as_array_mut().map(std::mem::take).unwrap_or_default() {
        let meta = &item["metadata"];
        let namespace = meta["namespace"].as_str().unwrap_or_default().to_owned();
        let name = meta["name"].as_str().unwrap_or_default().to_owned();
        namespaces.entry(namespace).or_default().insert(name, item);
    }
    let held = namespaces
        .into_iter()
        .map(|(namespace, poolings)| (namespace, json!({"poolguard.dev/v1alpha1": {"ServicePooling": poolings}})));
    json!({"inventory": {"namespace": held.collect::<Map<_, _>>()}})
}
