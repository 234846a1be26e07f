//! Poolguard beside a control plane: installed by its chart, its processes outside the cluster with tokens of the chart's own
//! ServiceAccounts. What the chart does not grant does not work.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use base64::Engine;
use base64::prelude::BASE64_STANDARD as BASE64;

use serde_json::{Value, json};

use crate::chart;
use crate::datacenter::{Datacenter, Who};
use crate::edge::Edge;
use crate::edge::addresses::{CLIENTS, NETWORKS};
use crate::http::{get, healthy, sum};
use crate::mount::Mount;
use crate::pki::Authority;
use crate::ports::Ports;
use crate::wait::wait_for;

/// The namespace of the chart.
pub const NAMESPACE: &str = "poolguard";

const READY: Duration = Duration::from_secs(30);

/// Poolguard in one datacenter.
#[derive(Debug)]
pub struct Operator {
    datacenter: String,
    folder: PathBuf,
    /// Of a certificate that is made here.
    ca_bundle: String,
    /// Where the webhook sees the certificate that the controller makes.
    mount: Option<Arc<Mount>>,
    binary: PathBuf,
    chart: PathBuf,
    ports: OperatorPorts,
    /// Held, so that nobody takes a port while its process is stopped.
    _held: Ports,
    pids: Mutex<Vec<(&'static str, u32)>>,
}

#[derive(Debug, Clone, Copy)]
struct OperatorPorts {
    webhook: u16,
    webhook_metrics: u16,
    controller_metrics: u16,
    standby_metrics: u16,
    second: u16,
    second_metrics: u16,
}

/// Where Poolguard finds the truth: `sources` and `networks` of its configuration.
#[derive(Debug, Clone)]
pub struct Truth {
    /// `sources`
    pub sources: Value,
    /// `networks`
    pub networks: Value,
    /// `Enforce` or `Warn`, for the whole installation.
    pub enforcement: &'static str,
    /// `controller.proofInterval`: tests do not wait for half a minute.
    pub proof_interval: &'static str,
    /// `controller.certificates` without names, where the controller makes the webhook's certificate.
    pub certificates: Option<Value>,
}

/// The custom workload that scenarios use.
pub fn custom_workloads() -> Value {
    json!([{"group": "example.dev", "version": "v1alpha1", "resource": "rollouts", "kind": "Rollout"}])
}

/// The identity that the configuration trusts, as automation that replaces what it manages.
pub const TRUSTED: &str = "system:serviceaccount:automation:operator";

impl Truth {
    /// conftool's etcd alone.
    pub fn conftool(endpoint: &str) -> Self {
        let source = json!({"name": "conftool", "conftool": {
            "endpoints": [endpoint], "namespace": "/conftool/v1", "propagation": "0s",
        }});
        Self {
            sources: json!([source]),
            networks: json!([]),
            enforcement: "Enforce",
            proof_interval: "1s",
            certificates: None,
        }
    }

    /// Nothing but what resources declare.
    pub fn nothing() -> Self {
        Self {
            sources: json!([]),
            networks: json!([]),
            enforcement: "Enforce",
            proof_interval: "1s",
            certificates: None,
        }
    }

    /// conftool's etcd, gdnsd, and this datacenter's Prometheus.
    pub fn everything(conftool: &str, edge: &Edge, datacenter: &str) -> Self {
        let networks: Vec<Value> =
            NETWORKS.iter().map(|(name, network)| json!({"datacenter": name, "cidrs": [network]})).collect();
        let clients: Vec<&str> = CLIENTS.iter().map(|(_, network)| *network).collect();
        let Self { mut sources, .. } = Self::conftool(conftool);
        if let Some(sources) = sources.as_array_mut() {
            sources.push(json!({"name": "gdnsd", "dns": {
                "servers": [edge.dns.to_string()], "clientNetworks": clients, "maxTTL": "5s", "interval": "500ms",
            }}));
            sources.push(json!({"name": "prometheus", "prometheus": {
                "url": edge.prometheus(datacenter), "interval": "500ms",
            }}));
        }
        Self { sources, networks: json!(networks), enforcement: "Enforce", proof_interval: "1s", certificates: None }
    }
}

/// The authority of a certificate that is made here, in base64, or where the webhook sees the one that the controller makes.
fn certificate(datacenter: &Datacenter, truth: &Truth, folder: &Path) -> Result<(String, Option<Arc<Mount>>)> {
    let tls = folder.join("tls");
    if truth.certificates.is_some() {
        return Ok((String::new(), Some(Mount::start(datacenter, NAMESPACE, "poolguard-webhook-tls", tls)?)));
    }
    let authority = Authority::new(folder.join("pki"), "poolguard")?;
    authority.mounted(&tls, "webhook", &["poolguard-webhook.poolguard.svc"])?;
    Ok((BASE64.encode(&authority.pem), None))
}

/// The processes.
pub const PROCESSES: [&str; 2] = ["webhook", "controller"];

/// Of which kind a process is.
fn kind(process: &str) -> &str {
    match process {
        "standby" => "controller",
        "second" => "webhook",
        kind => kind,
    }
}

impl Operator {
    /// Installs the chart, starts the processes, and waits until they are ready.
    ///
    /// # Errors
    /// If the chart cannot be installed or a process does not become ready.
    pub fn install(datacenter: &Datacenter, conftool: &str, binary: &Path) -> Result<Self> {
        Self::install_with(datacenter, &Truth::conftool(conftool), binary)
    }

    /// The same, with any sources.
    ///
    /// # Errors
    /// If the chart cannot be installed or a process does not become ready.
    pub fn install_with(datacenter: &Datacenter, truth: &Truth, binary: &Path) -> Result<Self> {
        Self::install_by(datacenter, truth, binary, &chart::folder())
    }

    /// The same, by the chart of another version.
    ///
    /// # Errors
    /// If the chart cannot be installed or a process does not become ready.
    pub fn install_by(datacenter: &Datacenter, truth: &Truth, binary: &Path, chart: &Path) -> Result<Self> {
        let this = Self::prepare_by(datacenter, truth, binary, chart)?;
        for process in PROCESSES {
            this.start(datacenter, process)?;
        }
        for process in PROCESSES {
            this.ready(datacenter, process)?;
        }
        Ok(this)
    }

    /// Installs the chart and configures the processes, and starts none.
    ///
    /// # Errors
    /// If the chart cannot be installed.
    pub fn prepare(datacenter: &Datacenter, truth: &Truth, binary: &Path) -> Result<Self> {
        Self::prepare_by(datacenter, truth, binary, &chart::folder())
    }

    fn prepare_by(datacenter: &Datacenter, truth: &Truth, binary: &Path, chart: &Path) -> Result<Self> {
        let folder = datacenter.run().subfolder(&format!("{}/operator", datacenter.name))?;
        let mut held = Ports::new();
        let ports = OperatorPorts {
            webhook: held.take()?,
            webhook_metrics: held.take()?,
            controller_metrics: held.take()?,
            standby_metrics: held.take()?,
            second: held.take()?,
            second_metrics: held.take()?,
        };
        let (ca_bundle, mount) = certificate(datacenter, truth, &folder)?;
        let values = json!({
            "datacenter": datacenter.name,
            "sources": truth.sources,
            "declaredOnly": truth.sources == json!([]),
            "networks": truth.networks,
            "customWorkloads": custom_workloads(),
            "enforcement": truth.enforcement,
            "certificates": {"source": if mount.is_some() { "Controller" } else { "Provided" }},
            "webhook": {
                "url": format!("https://127.0.0.1:{}", ports.webhook),
                "caBundle": ca_bundle,
            },
        });
        let file = folder.join("values.json");
        fs::write(&file, values.to_string()).context("cannot write the chart's values")?;
        datacenter
            .call(
                Who::Admin,
                "helm3",
                &[
                    "install",
                    "poolguard",
                    &chart.to_string_lossy(),
                    "--namespace",
                    NAMESPACE,
                    "--create-namespace",
                    "--values",
                    &file.to_string_lossy(),
                ],
            )?
            .success()?;
        let this = Self {
            datacenter: datacenter.name.clone(),
            folder,
            ca_bundle,
            mount,
            binary: binary.to_path_buf(),
            chart: chart.to_path_buf(),
            ports,
            _held: held,
            pids: Mutex::default(),
        };
        for process in PROCESSES {
            this.configure(datacenter, process, truth)?;
        }
        Ok(this)
    }

    /// Where its configuration is, `<process>.yaml`, and its certificate with its authority, `tls/ca.crt`.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.ports.webhook)
    }

    /// Where the webhook sees the certificate that the controller makes.
    pub fn mount(&self) -> Option<&Arc<Mount>> {
        self.mount.as_ref()
    }

    fn configure(&self, datacenter: &Datacenter, process: &str, truth: &Truth) -> Result<()> {
        let file = self.folder.join(format!("{process}.kubeconfig"));
        datacenter.account(NAMESPACE, &format!("poolguard-{process}"), &file)?;
        let certificates = truth.certificates.clone().map(|mut certificates| {
            certificates["names"] = json!(["127.0.0.1"]);
            certificates
        });
        let config = json!({
            "datacenter": datacenter.name,
            "contact": "#wikimedia-sre",
            "runbookURL": "https://wikitech.example/Poolguard",
            "sources": truth.sources,
            "networks": truth.networks,
            "webhook": {"listen": format!("127.0.0.1:{}", self.ports.webhook), "serverName": "127.0.0.1"},
            "metrics": {"listen": format!("127.0.0.1:{}", self.metrics_port(process))},
            "customWorkloads": custom_workloads(),
            "trustedIdentities": [{
                "user": TRUSTED,
                "resources": ["deployments", "secrets", "configmaps", "serviceaccounts", "pods/eviction"],
                "verbs": ["CREATE", "UPDATE", "DELETE"],
            }],
            "enforcement": truth.enforcement,
            "controller": {"namespace": NAMESPACE, "proofInterval": truth.proof_interval, "registration": {
                "failurePolicy": if truth.enforcement == "Warn" { "Ignore" } else { "Fail" },
                "excludedNamespaces": ["kube-system", NAMESPACE], "url": self.url(), "caBundle": self.ca_bundle,
            }, "certificates": certificates},
        });
        fs::write(self.folder.join(format!("{process}.yaml")), format!("{config:#}\n"))
            .context("cannot write a configuration")
    }

    /// Starts a process: one of [`PROCESSES`], a `standby` of the controller, or a `second` webhook.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start(&self, datacenter: &Datacenter, process: &'static str) -> Result<()> {
        self.start_by(datacenter, process, Command::new(&self.binary))
    }

    /// The same, by a command that ends with a program of ours: under a limit, or of another version.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start_by(&self, datacenter: &Datacenter, process: &'static str, mut command: Command) -> Result<()> {
        let kind = kind(process);
        // Nothing of somebody's own settings reaches it: no proxies, no filters of logs.
        let own: Vec<_> =
            command.get_envs().map(|(name, value)| (name.to_owned(), value.map(ToOwned::to_owned))).collect();
        command.env_clear().envs(own.into_iter().filter_map(|(name, value)| Some((name, value?))));
        command
            .env("RUST_BACKTRACE", "1")
            .env("KUBECONFIG", self.folder.join(format!("{kind}.kubeconfig")))
            .args([kind, "--config"])
            .arg(self.folder.join(format!("{kind}.yaml")))
            .arg(format!("--metrics-listen=127.0.0.1:{}", self.metrics_port(process)));
        if kind == "webhook" {
            command.arg("--tls-dir").arg(self.folder.join("tls"));
            command.arg(format!("--listen=127.0.0.1:{}", self.port(process)));
        }
        let pid = datacenter.run().start(&format!("{}-poolguard-{process}", self.datacenter), &mut command)?;
        self.pids.lock().expect("no panic while the list is held").push((process, pid));
        Ok(())
    }

    /// Sets a value of a kind of process's configuration, by JSON pointer, for those that are started from now on.
    ///
    /// # Errors
    /// If the file cannot be read or written, or has no such place.
    pub fn set(&self, kind: &str, pointer: &str, value: Value) -> Result<()> {
        let file = self.folder.join(format!("{kind}.yaml"));
        let text = fs::read_to_string(&file).context("cannot read a configuration")?;
        let mut config: Value = serde_json::from_str(&text)?;
        let (group, name) = pointer.rsplit_once('/').context("a JSON pointer has a slash")?;
        config.pointer_mut(group).with_context(|| format!("there is no {group}"))?[name] = value;
        fs::write(file, format!("{config:#}\n")).context("cannot write a configuration")
    }

    /// Has a kind of process reach the API server at another port of loopback, whose certificate is from this authority.
    ///
    /// # Errors
    /// If its kubeconfig cannot be written.
    pub fn reach(&self, datacenter: &Datacenter, kind: &str, port: u16, authority: &Path) -> Result<()> {
        let file = self.folder.join(format!("{kind}.kubeconfig"));
        let server = format!("https://127.0.0.1:{port}");
        datacenter.account_by(&server, authority, NAMESPACE, &format!("poolguard-{kind}"), &file)
    }

    /// Has the API server find the webhook at another port of loopback.
    ///
    /// # Errors
    /// If the chart cannot be upgraded.
    pub fn called_at(&self, datacenter: &Datacenter, port: u16) -> Result<()> {
        let url = format!("https://127.0.0.1:{port}");
        self.set("controller", "/controller/registration/url", json!(url))?;
        self.upgrade(datacenter, &["--set", &format!("webhook.url={url}")])
    }

    /// Waits until a process is ready.
    ///
    /// # Errors
    /// After half a minute, with the end of its log.
    pub fn ready(&self, datacenter: &Datacenter, process: &str) -> Result<()> {
        let log = format!("{}-poolguard-{process}", self.datacenter);
        let pid = self
            .pids
            .lock()
            .expect("no panic while the list is held")
            .iter()
            .find(|(name, _)| *name == process)
            .copied();
        wait_for(&format!("poolguard {process} of {} to be ready", self.datacenter), READY, || {
            if let Some((_, pid)) = pid {
                datacenter.run().ensure_running(pid, &log)?;
            }
            healthy(self.metrics_port(process), "/readyz")
        })
        .with_context(|| datacenter.run().log_tail(&log))
    }

    /// Ends a process, and waits until it is gone.
    ///
    /// # Errors
    /// If it cannot be ended.
    pub fn stop(&self, datacenter: &Datacenter, process: &str, hard: bool) -> Result<()> {
        let pid = {
            let mut pids = self.pids.lock().expect("no panic while the list is held");
            let Some(index) = pids.iter().position(|(name, _)| *name == process) else { return Ok(()) };
            pids.swap_remove(index).1
        };
        datacenter.run().end(pid, hard)
    }

    /// Waits until a process has ended by itself, and returns how.
    ///
    /// # Errors
    /// If it still runs after this time.
    pub fn ended(&self, datacenter: &Datacenter, process: &str, within: Duration) -> Result<String> {
        let pid = self.pid(process).with_context(|| format!("there is no {process}"))?;
        let log = format!("{}-poolguard-{process}", self.datacenter);
        let how = wait_for(&format!("{process} to end by itself"), within, || {
            match datacenter.run().ensure_running(pid, &log) {
                Ok(()) => bail!("it runs"),
                Err(ended) => Ok(format!("{ended:#}")),
            }
        })?;
        self.pids.lock().expect("no panic while the list is held").retain(|(name, _)| *name != process);
        Ok(how)
    }

    /// Ends both processes and uninstalls the chart, as if Poolguard had never been there.
    ///
    /// # Errors
    /// If something fails.
    pub fn uninstall(&self, datacenter: &Datacenter) -> Result<()> {
        datacenter.call(Who::Admin, "helm3", &["uninstall", "poolguard", "--namespace", NAMESPACE])?.success()?;
        for process in PROCESSES {
            self.stop(datacenter, process, false)?;
        }
        Ok(())
    }

    /// The sum of a metric's samples whose labels contain all of `labels`, such as `decision="refused"`.
    ///
    /// # Errors
    /// If the process does not answer.
    pub fn metric(&self, process: &str, name: &str, labels: &[&str]) -> Result<f64> {
        let answer = get(self.metrics_port(process), "/metrics")?;
        ensure!(answer.status == 200, "metrics answered {}", answer.status);
        Ok(sum(&answer.body, name, labels))
    }

    /// How many requests about a namespace's services the webhook has refused; dry runs are not counted.
    ///
    /// # Errors
    /// If the webhook does not answer.
    pub fn refused_in(&self, namespace: &str) -> Result<f64> {
        self.metric("webhook", "poolguard_refusals_total", &[&format!("namespace=\"{namespace}\"")])
    }

    /// `helm upgrade` with the values as they are, and what is said `further`.
    ///
    /// # Errors
    /// If `helm` fails.
    pub fn upgrade(&self, datacenter: &Datacenter, further: &[&str]) -> Result<()> {
        self.upgrade_to(datacenter, &self.chart, further)
    }

    /// The same, to the chart of another version.
    ///
    /// # Errors
    /// If `helm` fails.
    pub fn upgrade_to(&self, datacenter: &Datacenter, chart: &Path, further: &[&str]) -> Result<()> {
        let arguments =
            ["upgrade", "poolguard", &chart.to_string_lossy(), "-n", NAMESPACE, "--reset-then-reuse-values"];
        datacenter.call(Who::Admin, "helm3", &[&arguments[..], further].concat())?.success()?;
        Ok(())
    }

    /// How many requests the webhook has refused.
    ///
    /// # Errors
    /// If the webhook does not answer.
    pub fn refused(&self) -> Result<f64> {
        self.metric("webhook", "poolguard_reviews_total", &["decision=\"refused\""])
    }

    /// The pid of a process.
    pub fn pid(&self, process: &str) -> Option<u32> {
        let pids = self.pids.lock().expect("no panic while the list is held");
        pids.iter().find(|(name, _)| *name == process).map(|(_, pid)| *pid)
    }

    /// The port of the webhook's HTTPS listener.
    pub fn webhook_port(&self) -> u16 {
        self.ports.webhook
    }

    /// The port of the HTTPS listener of one of the webhooks.
    pub fn port(&self, process: &str) -> u16 {
        if process == "second" { self.ports.second } else { self.ports.webhook }
    }

    /// The program.
    pub fn binary(&self) -> &Path {
        &self.binary
    }

    /// The port of a process's metrics.
    pub fn metrics_port(&self, process: &str) -> u16 {
        match process {
            "webhook" => self.ports.webhook_metrics,
            "standby" => self.ports.standby_metrics,
            "second" => self.ports.second_metrics,
            _ => self.ports.controller_metrics,
        }
    }
}
