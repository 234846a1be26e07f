//! Gatekeeper: Rego on ServicePoolings that it keeps a copy of.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use poolguard_harness::datacenter::{Datacenter, Who};
use poolguard_harness::http::healthy;
use poolguard_harness::ports::Ports;
use poolguard_harness::programs;
use poolguard_harness::wait::wait_for;

use super::certificate::Certificate;
use super::policy::{CONSTRAINT, constraint, template};
use super::{established, ready};
use crate::bench::contestant::{Contestant, Running, Setting};
use crate::progress;

const NAME: &str = "gatekeeper";
const NAMESPACE: &str = "gatekeeper-system";
/// With 10,000 services its copy takes a while.
const SOON: Duration = Duration::from_secs(120);

/// Gatekeeper.
#[derive(Default)]
pub struct Gatekeeper {
    program: PathBuf,
    definitions: String,
}

impl Contestant for Gatekeeper {
    fn name(&self) -> &'static str {
        NAME
    }

    fn build(&mut self) -> Result<()> {
        self.program = programs::build_peer(NAME, &progress)?;
        let module = programs::module("tests/peers/gatekeeper", "github.com/open-policy-agent/gatekeeper/v3")?;
        let all = fs::read_to_string(module.join("deploy/gatekeeper.yaml")).context("cannot read its manifests")?;
        let definitions = all.split("\n---\n").filter(|text| text.contains("\nkind: CustomResourceDefinition\n"));
        self.definitions = definitions.collect::<Vec<_>>().join("\n---\n");
        Ok(())
    }

    fn start(&self, setting: &Setting<'_>) -> Result<Running> {
        let (datacenter, run) = (setting.datacenter, setting.run());
        datacenter.apply(&self.definitions)?;
        established(datacenter)?;
        datacenter.apply(&format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {NAMESPACE}}}\n"))?;
        let certificate = Certificate::new(run, NAME)?;
        let mut ports = Ports::new();
        let (port, health) = (ports.take()?, ports.take()?);
        let pid = run.start(
            NAME,
            Command::new(&self.program)
                .env_clear()
                .env("KUBECONFIG", datacenter.kubeconfig(Who::Admin))
                .env("POD_NAMESPACE", NAMESPACE)
                .env("POD_NAME", "no-pod")
                // It makes the constraint's kind by itself: usually a process beside it does.
                .args(["--operation=webhook", "--operation=generate"])
                .args(["--debug-use-fake-pod", "--disable-cert-rotation"])
                .args(["--disable-opa-builtin={http.send}", "--log-level=WARNING", "--shutdown-delay=0"])
                .args(["--host=127.0.0.1", &format!("--port={port}")])
                .args([format!("--health-addr=127.0.0.1:{health}"), "--prometheus-port=0".to_owned()])
                .arg(format!("--cert-dir={}", certificate.folder.display())),
        )?;
        policy(datacenter)?;
        ready(run, NAME, pid, SOON, || healthy(health, "/readyz"))?;
        Ok(Running::new(port, "/v1/admit", certificate.authority(), pid, ports))
    }
}

/// The template, and the constraint once Gatekeeper has made its kind.
fn policy(datacenter: &Datacenter) -> Result<()> {
    for object in template() {
        datacenter.apply(&object.to_string())?;
    }
    let definition = format!("crd/{}.constraints.gatekeeper.sh", CONSTRAINT.to_lowercase());
    wait_for("the kind of the constraint", SOON, || {
        datacenter.kubectl(&["wait", "--for=condition=Established", &definition, "--timeout=1s"])?.success()
    })
    .with_context(|| datacenter.run().log_tail(NAME))?;
    datacenter.apply(&constraint().to_string())
}
