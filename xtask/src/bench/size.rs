//! What the webhook holds in memory, and how soon it is ready, with few and many services and pods.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use poolguard_harness::http::healthy;
use poolguard_harness::programs::Programs;
use poolguard_harness::wait::{wait_for, wait_for_every};
use poolguard_rig::process::memory;
use serde::Serialize;

use super::contestant::{Layout, Services};
use super::cores;
use super::poolguard::{self, Poolguard};
use super::report::Table;
use super::store;
use super::world::World;
use crate::progress;

/// How long the API server may take to see everything that was written.
const SEEN: Duration = Duration::from_secs(300);
/// How long the webhook may take to be ready.
const READY: Duration = Duration::from_secs(120);
/// How often it is asked whether it is.
const OFTEN: Duration = Duration::from_millis(5);
/// How long it then does nothing before its memory is read.
const REST: Duration = Duration::from_secs(3);

/// One of them.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Row {
    /// ServicePoolings.
    pub services: usize,
    /// Pods.
    pub pods: usize,
    /// Seconds from its start to ready.
    pub ready: f64,
    /// Resident memory in MiB at rest.
    pub resident: f64,
    /// The highest it was, while lists were read.
    pub peak: f64,
}

/// Measures.
///
/// # Errors
/// If something does not start.
pub fn run(programs: &Programs, contestant: &Poolguard, quick: bool) -> Result<Vec<Row>> {
    let all: &[(usize, usize)] = if quick { &[(500, 10_000)] } else { &[(0, 0), (500, 10_000), (10_000, 150_000)] };
    all.iter().map(|(services, pods)| measure(programs, contestant, *services, *pods)).collect()
}

fn measure(programs: &Programs, contestant: &Poolguard, count: usize, pods: usize) -> Result<Row> {
    progress(&format!("{count} services and {pods} pods: memory, and start to ready"));
    let services = Services { count, layout: if count == 0 { Layout::Together } else { Layout::Apart } };
    let world = World::start(programs, services)?;
    if count > 0 {
        let objects: Vec<_> = store::pods(services, pods).collect();
        store::write(&world.etcd, &objects)?;
    }
    wait_for("the API server to see all pods", SEEN, || {
        let list = world.datacenter.kubectl(&["get", "--raw", "/api/v1/pods?limit=1"])?.success()?;
        let list: serde_json::Value = serde_json::from_str(&list)?;
        let first = list["items"].as_array().map_or(0, Vec::len) as u64;
        let seen = first + list["metadata"]["remainingItemCount"].as_u64().unwrap_or_default();
        ensure!(seen == pods as u64, "it sees {seen}");
        Ok(())
    })?;
    let operator = poolguard::prepare(contestant.program(), &world.setting())?;
    let port = operator.metrics_port("webhook");
    let started = Instant::now();
    cores::on_the_servers(|| operator.start(&world.datacenter, "webhook"))?;
    wait_for_every(OFTEN, "the webhook to be ready", READY, || healthy(port, "/readyz"))?;
    let ready = started.elapsed().as_secs_f64();
    thread::sleep(REST);
    let pid = operator.pid("webhook").context("the webhook has not been started")?;
    let (resident, peak) = memory(&[pid])?;
    let mib = |kib: u64| kib as f64 / 1024.0;
    Ok(Row { services: count, pods, ready, resident: mib(resident), peak: mib(peak) })
}

/// As a table.
pub fn table(rows: &[Row]) -> Table {
    let mut table = Table::new(&["ServicePoolings", "pods", "start to ready", "resident at rest", "peak"]);
    for row in rows {
        table.rows.push(vec![
            row.services.to_string(),
            row.pods.to_string(),
            format!("{:.2} s", row.ready),
            format!("{:.1} MiB", row.resident),
            format!("{:.1} MiB", row.peak),
        ]);
    }
    table
}
