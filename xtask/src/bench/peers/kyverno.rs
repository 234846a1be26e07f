//! Kyverno: a ValidatingPolicy, in CEL, on ServicePoolings that it keeps a copy of.

use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use base64::Engine;
use base64::prelude::BASE64_STANDARD as BASE64;
use poolguard_harness::datacenter::{Datacenter, Who};
use poolguard_harness::ports::Ports;
use poolguard_harness::programs;
use serde_json::json;

use super::certificate::Certificate;
use super::policy;
use super::{established, ready};
use crate::bench::contestant::{Contestant, Running, Setting};
use crate::progress;

const NAME: &str = "kyverno";
const SOON: Duration = Duration::from_secs(120);

/// Kyverno's admission controller.
#[derive(Default)]
pub struct Kyverno {
    program: PathBuf,
    definitions: Vec<PathBuf>,
}

impl Contestant for Kyverno {
    fn name(&self) -> &'static str {
        NAME
    }

    fn build(&mut self) -> Result<()> {
        self.program = programs::build_peer(NAME, &progress)?;
        let module = programs::module("tests/peers/kyverno", "github.com/kyverno/kyverno")?;
        let folders = ["kyverno", "policies.kyverno.io", "policyreport", "reports"];
        self.definitions = folders.map(|folder| module.join("config/crds").join(folder)).to_vec();
        Ok(())
    }

    fn start(&self, setting: &Setting<'_>) -> Result<Running> {
        let (datacenter, run) = (setting.datacenter, setting.run());
        self.definitions.iter().try_for_each(|folder| datacenter.apply_file(folder))?;
        established(datacenter)?;
        // Those that it registered in an earlier life would be asked about its own policy.
        for kind in ["validatingwebhookconfigurations", "mutatingwebhookconfigurations"] {
            datacenter.kubectl(&["delete", kind, "-l", "webhook.kyverno.io/managed-by=kyverno"])?.success()?;
        }
        let certificate = Certificate::new(run, NAME)?;
        prepare(datacenter, &certificate)?;
        let mut ports = Ports::new();
        let port = ports.take()?;
        let pid = run.start(
            NAME,
            Command::new(&self.program)
                .env_clear()
                .env("KYVERNO_NAMESPACE", NAME)
                .env("KYVERNO_POD_NAME", NAME)
                .env("KYVERNO_SERVICEACCOUNT_NAME", NAME)
                .env("KYVERNO_DEPLOYMENT", NAME)
                .env("KYVERNO_ROLE_NAME", NAME)
                .env("KYVERNO_SVC", NAME)
                .env("INIT_CONFIG", NAME)
                .env("METRICS_CONFIG", "kyverno-metrics")
                .arg(format!("--kubeconfig={}", datacenter.kubeconfig(Who::Admin).display()))
                .args(["--caSecretName=ca", "--tlsSecretName=tls", "--disableCertManagerController"])
                .args(["--serverIP=127.0.0.1", "--webhookServerHost=127.0.0.1"])
                .args([format!("--webhookServerPort={port}"), format!("--servicePort={port}")])
                // What this policy has no use for.
                .args(["--disableMetrics", "--controllerRuntimeMetricsAddress=0", "--admissionReports=false"])
                .args(["--reportsServiceAccountName=none", "--backgroundServiceAccountName=none"]),
        )?;
        ready(run, NAME, pid, SOON, || {
            TcpStream::connect(("127.0.0.1", port)).context("it does not listen")?;
            datacenter.apply(policy::KYVERNO)
        })?;
        Ok(Running::new(port, "/vpol/keep-pooled-pods", certificate.authority(), pid, ports))
    }
}

/// What its chart would install: a namespace, its certificate and its authority as Secrets, and settings.
fn prepare(datacenter: &Datacenter, certificate: &Certificate) -> Result<()> {
    let read = |file: &str| {
        let path = certificate.folder.join(file);
        Ok::<_, anyhow::Error>(BASE64.encode(std::fs::read(&path).with_context(|| format!("cannot read {file}"))?))
    };
    datacenter.apply(&format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {NAME}}}\n"))?;
    let (authority, pair) = (read("ca.crt")?, (read("tls.crt")?, read("tls.key")?));
    for object in [
        json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "ca", "namespace": NAME},
            "type": "kubernetes.io/tls", "data": {"tls.crt": authority, "tls.key": pair.1},
        }),
        json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "tls", "namespace": NAME},
            "type": "kubernetes.io/tls", "data": {"tls.crt": pair.0, "tls.key": pair.1},
        }),
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": NAME, "namespace": NAME}, "data": {}}),
        json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "kyverno-metrics", "namespace": NAME}, "data": {},
        }),
    ] {
        datacenter.apply(&object.to_string())?;
    }
    Ok(())
}
