//! Poolguard beside a control plane: installed by its chart, its processes outside the cluster with tokens of the chart's own
//! ServiceAccounts. What the chart does not grant does not work.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::datacenter::{Datacenter, Who};
use crate::pki::{Authority, Credential, Subject, kubeconfig};
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
    binary: PathBuf,
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
}

/// The processes.
pub const PROCESSES: [&str; 2] = ["webhook", "controller"];

impl Operator {
    /// Installs the chart, starts the processes, and waits until they are ready.
    ///
    /// # Errors
    /// If the chart cannot be installed or a process does not become ready.
    pub fn install(datacenter: &Datacenter, conftool: &str, binary: &Path) -> Result<Self> {
        let folder = datacenter.run().subfolder(&format!("{}/operator", datacenter.name))?;
        let mut held = Ports::new();
        let ports =
            OperatorPorts { webhook: held.take()?, webhook_metrics: held.take()?, controller_metrics: held.take()? };
        let authority = Authority::new(folder.join("pki"), "poolguard")?;
        let (certificate, key) = authority.sign("webhook", Subject::Server(&["poolguard-webhook.poolguard.svc"]))?;
        let tls = folder.join("tls");
        fs::create_dir_all(&tls).context("cannot make the folder of the certificate")?;
        fs::copy(certificate, tls.join("tls.crt")).context("cannot copy the certificate")?;
        fs::copy(key, tls.join("tls.key")).context("cannot copy the key")?;
        let values = serde_json::json!({
            "datacenter": datacenter.name,
            "webhook": {
                "url": format!("https://127.0.0.1:{}", ports.webhook),
                "caBundle": base64(authority.pem.as_bytes()),
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
                    &crate::root().join("charts/poolguard").to_string_lossy(),
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
            binary: binary.to_path_buf(),
            ports,
            _held: held,
            pids: Mutex::default(),
        };
        for process in PROCESSES {
            this.configure(datacenter, process, conftool)?;
        }
        for process in PROCESSES {
            this.start(datacenter, process)?;
        }
        for process in PROCESSES {
            this.ready(datacenter, process)?;
        }
        Ok(this)
    }

    fn configure(&self, datacenter: &Datacenter, process: &str, conftool: &str) -> Result<()> {
        let account = format!("poolguard-{process}");
        let token = datacenter.kubectl(&["-n", NAMESPACE, "create", "token", &account, "--duration=24h"])?.success()?;
        let credential = Credential::Token(token.trim().to_owned());
        let file = self.folder.join(format!("{process}.kubeconfig"));
        kubeconfig(&file, &datacenter.server, &datacenter.authority(), &credential)?;
        let config = serde_json::json!({
            "datacenter": datacenter.name,
            "contact": "#wikimedia-sre",
            "runbookURL": "https://wikitech.example/Poolguard",
            "sources": [{"name": "conftool", "conftool": {"endpoints": [conftool], "namespace": "/conftool/v1"}}],
            "webhook": {"listen": format!("127.0.0.1:{}", self.ports.webhook)},
            "metrics": {"listen": format!("127.0.0.1:{}", self.metrics_port(process))},
            "controller": {"namespace": NAMESPACE},
            "log": {"format": "text"},
        });
        fs::write(self.folder.join(format!("{process}.yaml")), format!("{config:#}\n"))
            .context("cannot write a configuration")
    }

    /// Starts a process.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start(&self, datacenter: &Datacenter, process: &'static str) -> Result<()> {
        let mut command = Command::new(&self.binary);
        command
            // Nothing of somebody's own settings reaches it: no proxies, no filters of logs.
            .env_clear()
            .env("RUST_BACKTRACE", "1")
            .env("KUBECONFIG", self.folder.join(format!("{process}.kubeconfig")))
            .arg(process)
            .arg("--config")
            .arg(self.folder.join(format!("{process}.yaml")));
        if process == "webhook" {
            command.arg("--tls-dir").arg(self.folder.join("tls"));
        }
        let pid = datacenter.run().start(&format!("{}-poolguard-{process}", self.datacenter), &mut command)?;
        self.pids.lock().expect("no panic while the list is held").push((process, pid));
        Ok(())
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
            let (status, body) = http(self.metrics_port(process), "/readyz")?;
            ensure!(status == 200, "{body}");
            Ok(())
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
        let (status, body) = http(self.metrics_port(process), "/metrics")?;
        ensure!(status == 200, "metrics answered {status}");
        let ours = body.lines().filter(|line| {
            line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']))
                && labels.iter().all(|label| line.contains(label))
        });
        Ok(ours.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum())
    }

    /// How many requests the webhook has refused.
    ///
    /// # Errors
    /// If the webhook does not answer.
    pub fn refused(&self) -> Result<f64> {
        self.metric("webhook", "poolguard_reviews_total", &["decision=\"refused\""])
    }

    /// The port of the webhook's HTTPS listener.
    pub fn webhook_port(&self) -> u16 {
        self.ports.webhook
    }

    /// The port of a process's metrics.
    pub fn metrics_port(&self, process: &str) -> u16 {
        if process == "webhook" { self.ports.webhook_metrics } else { self.ports.controller_metrics }
    }
}

/// A GET over plain HTTP on loopback: status and body.
fn http(port: u16, path: &str) -> Result<(u16, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let Some((head, body)) = text.split_once("\r\n\r\n") else { bail!("no answer") };
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or_default();
    Ok((status, body.to_owned()))
}

/// Standard base64, for one field of the chart.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let group = chunk.iter().fold(0u32, |group, byte| (group << 8) | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for index in 0..4 {
            if index <= chunk.len() {
                let six = (group >> (18 - 6 * index)) & 63;
                text.push(char::from(ALPHABET[six as usize]));
            } else {
                text.push('=');
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::base64;

    #[test]
    fn base64_pads_as_rfc_4648_says() {
        let encoded: Vec<String> = ["", "f", "fo", "foo", "foob"].iter().map(|text| base64(text.as_bytes())).collect();
        assert_eq!(encoded, ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg=="]);
    }
}
