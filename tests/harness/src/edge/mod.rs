//! What lies around the datacenters: gdnsd, which follows conftool, and in each of them a Prometheus that sees the traffic which
//! gdnsd leads there.
//!
//! In reading order: [`addresses`] says which address belongs to which datacenter, [`gdnsd`] is its configuration, [`confd`]
//! follows conftool into its state files, [`lookup`] asks it, [`traffic`] plays the clients.

pub mod addresses;
pub mod confd;
pub mod gdnsd;
pub mod lookup;
pub mod traffic;

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::conftool::Conftool;
use crate::debian::Debian;
use crate::fleet::NAMES;
use crate::ports::Ports;
use crate::run::Run;
use crate::wait::wait_for;

const SOON: Duration = Duration::from_secs(30);

/// A discovery record that gdnsd answers for.
#[derive(Debug, Clone)]
pub struct Record {
    /// Its name in conftool; `<name>.discovery.wmnet` in DNS.
    pub name: String,
    /// One datacenter at a time: with several pooled, gdnsd keeps what it had.
    pub active_passive: bool,
}

/// gdnsd, its confd, the traffic, and a Prometheus in each datacenter.
#[derive(Debug)]
pub struct Edge {
    /// Where gdnsd answers, over UDP and TCP.
    pub dns: SocketAddr,
    /// The process of gdnsd.
    pub gdnsd: u32,
    prometheus: Vec<(&'static str, u16, u32)>,
    /// Held for those who listen on them.
    _ports: Ports,
}

impl Edge {
    /// Starts all of it, and waits until it answers.
    ///
    /// # Errors
    /// If something does not come up.
    pub fn start(run: &Arc<Run>, debian: &Debian, conftool: &Conftool, records: &[Record]) -> Result<Self> {
        let mut ports = Ports::new();
        let folder = run.subfolder("edge")?;
        // gdnsd speaks UDP too, so nobody may hold that port.
        let port = ports.take_for_both()?;
        let dns = SocketAddr::from(([127, 0, 0, 1], port));
        gdnsd::configure(&folder, &run.sockets()?, port, records)?;
        let gdnsd =
            run.start("gdnsd", debian.command("usr/sbin/gdnsd").arg("-c").arg(folder.join("gdnsd")).arg("start"))?;
        let world = program()?;
        let list: Vec<String> = records
            .iter()
            .map(|record| format!("{}:{}", record.name, if record.active_passive { "passive" } else { "active" }))
            .collect();
        run.start(
            "confd",
            Command::new(&world)
                .args(["confd", conftool.endpoint.trim_start_matches("http://")])
                .arg(folder.join("state"))
                .args(&list),
        )?;
        let traffic: Vec<(&str, u16)> = NAMES.iter().map(|name| Ok((*name, ports.take()?))).collect::<Result<_>>()?;
        let mut command = Command::new(&world);
        command.args(["traffic", &dns.to_string(), &traffic[0].1.to_string(), &traffic[1].1.to_string()]);
        run.start("traffic", command.args(records.iter().map(|record| &record.name)))?;
        let mut prometheus = Vec::new();
        for (name, scraped) in traffic {
            let port = ports.take()?;
            prometheus.push((name, port, start_prometheus(run, debian, &folder, name, port, (scraped, "1s"))?));
        }
        let this = Self { dns, gdnsd, prometheus, _ports: ports };
        this.ready(records)?;
        Ok(this)
    }

    fn ready(&self, records: &[Record]) -> Result<()> {
        for record in records {
            wait_for(&format!("gdnsd to answer for {}", record.name), SOON, || {
                ensure!(!self.ask(&record.name, NAMES[0])?.is_empty(), "no address");
                Ok(())
            })?;
        }
        for name in NAMES {
            wait_for(&format!("Prometheus of {name}"), SOON, || {
                let answer = crate::http::get(self.prometheus_port(name), "/-/ready")?;
                ensure!(answer.status == 200, "it answers {}", answer.status);
                Ok(())
            })?;
        }
        Ok(())
    }

    /// The addresses that gdnsd gives a client in this datacenter.
    ///
    /// # Errors
    /// If it does not answer.
    pub fn ask(&self, record: &str, client: &str) -> Result<Vec<IpAddr>> {
        lookup::lookup(self.dns, &addresses::dns_name(record), addresses::clients(client))
    }

    /// The URL of a datacenter's Prometheus.
    pub fn prometheus(&self, datacenter: &str) -> String {
        format!("http://127.0.0.1:{}", self.prometheus_port(datacenter))
    }

    /// The process of a datacenter's Prometheus.
    pub fn prometheus_pid(&self, datacenter: &str) -> u32 {
        self.of(datacenter).2
    }

    fn prometheus_port(&self, datacenter: &str) -> u16 {
        self.of(datacenter).1
    }

    fn of(&self, datacenter: &str) -> (&'static str, u16, u32) {
        let found = self.prometheus.iter().find(|(name, ..)| *name == datacenter);
        *found.expect("the datacenter is one of the two")
    }
}

/// Traffic of one record in eqiad and a Prometheus that scrapes it, both for one test alone: it may pause them.
#[derive(Debug)]
pub struct Scraped {
    /// The process of the traffic.
    pub traffic: u32,
    /// The port of Prometheus.
    pub port: u16,
    /// Held for those who listen on them.
    _ports: Ports,
}

impl Scraped {
    /// Starts both. Prometheus scrapes twice a second.
    ///
    /// # Errors
    /// If one cannot be started.
    pub fn start(run: &Run, debian: &Debian, dns: SocketAddr, record: &str) -> Result<Self> {
        let mut ports = Ports::new();
        let (scraped, other, port) = (ports.take()?, ports.take()?, ports.take()?);
        let mut command = Command::new(program()?);
        command.args(["traffic", &dns.to_string(), &scraped.to_string(), &other.to_string(), record]);
        let traffic = run.start("scraped-traffic", &mut command)?;
        let folder = run.subfolder("scraped")?;
        start_prometheus(run, debian, &folder, "scraped", port, (scraped, "500ms"))?;
        Ok(Self { traffic, port, _ports: ports })
    }

    /// What the server answers to an instant query: its one number, or nothing.
    ///
    /// # Errors
    /// If it does not answer, or with several series.
    pub fn query(&self, query: &str) -> Result<Option<f64>> {
        let escaped: String = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let answer = crate::http::get(self.port, &format!("/api/v1/query?query={escaped}"))?;
        ensure!(answer.status == 200, "Prometheus answered {}: {}", answer.status, answer.body);
        let body: serde_json::Value = serde_json::from_str(&answer.body).context("the answer is not JSON")?;
        let series = body["data"]["result"].as_array().context("the answer has no vector")?;
        ensure!(series.len() < 2, "there are {} series", series.len());
        let Some(one) = series.first() else { return Ok(None) };
        Ok(Some(one["value"][1].as_str().context("there is no number")?.parse()?))
    }
}

fn start_prometheus(
    run: &Run,
    debian: &Debian,
    folder: &Path,
    name: &str,
    port: u16,
    (scraped, interval): (u16, &str),
) -> Result<u32> {
    let config = folder.join(format!("prometheus-{name}.yaml"));
    let text = format!(
        "global: {{scrape_interval: {interval}, evaluation_interval: 1s}}\nscrape_configs:\n- job_name: envoy\n  static_configs: [{{targets: ['127.0.0.1:{scraped}']}}]\n"
    );
    fs::write(&config, text).context("cannot configure Prometheus")?;
    let mut command = prometheus(debian, &config, &folder.join(format!("prometheus-{name}")), port);
    run.start(&format!("{name}-prometheus"), &mut command)
}

/// A Prometheus that scrapes nothing, and speaks TLS only with those who have a certificate of this authority.
///
/// # Errors
/// If it cannot be started.
pub fn guarded_prometheus(
    run: &Run,
    debian: &Debian,
    port: u16,
    authority: &Path,
    (certificate, key): &(PathBuf, PathBuf),
) -> Result<u32> {
    let folder = run.subfolder("guarded")?;
    let (web, config) = (folder.join("web.yaml"), folder.join("prometheus.yaml"));
    let text = format!(
        "tls_server_config:\n  cert_file: {}\n  key_file: {}\n  client_ca_file: {}\n  client_auth_type: RequireAndVerifyClientCert\n",
        certificate.display(),
        key.display(),
        authority.display()
    );
    fs::write(&web, text).context("cannot configure Prometheus")?;
    fs::write(&config, "global: {scrape_interval: 1m}\n").context("cannot configure Prometheus")?;
    let mut command = prometheus(debian, &config, &folder.join("data"), port);
    run.start("guarded-prometheus", command.arg(format!("--web.config.file={}", web.display())))
}

fn prometheus(debian: &Debian, config: &Path, data: &Path, port: u16) -> Command {
    let mut command = debian.command("usr/bin/prometheus");
    command
        .arg(format!("--config.file={}", config.display()))
        .arg(format!("--storage.tsdb.path={}", data.display()))
        .arg(format!("--web.listen-address=127.0.0.1:{port}"))
        .args(["--storage.tsdb.retention.time=1h", "--log.level=warn"]);
    command
}

/// The program `world` of this crate, built where it is missing, beside the program that runs now.
fn program() -> Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(crate::root()).args(["build", "--quiet", "--package", "poolguard-harness", "--bin", "world"]);
    let own = std::env::current_exe().context("cannot find the program that runs")?;
    let mut folder = own.parent().context("the program that runs lies in no folder")?;
    if folder.ends_with("deps") {
        folder = folder.parent().context("the program that runs lies in no folder")?;
    }
    if folder.ends_with("release") {
        command.arg("--release");
    }
    crate::command::run(&mut command)?.success().context("cannot build the program `world`")?;
    Ok(folder.join("world"))
}
