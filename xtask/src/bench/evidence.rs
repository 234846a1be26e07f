//! How soon a switch of conftool is seen: in status, and in the next verdict; and what many ServicePoolings cost.
//!
//! The clock starts with the write that confctl sends to etcd. What Python takes before is told apart.

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use poolguard_harness::datacenter::Who;
use poolguard_harness::fleet::Fleet;
use poolguard_harness::http::{request, request_within};
use poolguard_harness::operator::{Operator, Truth};
use poolguard_harness::ports::Ports;
use poolguard_harness::services;
use poolguard_harness::wait::{wait_for, wait_for_every};

use poolguard_harness::conftool::Conftool;

use super::figures::{connections, percentiles, usage};
use super::tap::Tap;
use crate::{cargo, progress};

/// How much is measured.
#[derive(Args)]
pub struct Flags {
    /// How often the switch is turned
    #[arg(long, default_value_t = 200)]
    changes: usize,
    /// How many ServicePoolings there are, in rising order
    #[arg(long, value_delimiter = ',', default_value = "10,1000,10000")]
    services: Vec<usize>,
}

const NAME: &str = "bench";
/// Services that nobody turns stand in as many namespaces.
const NAMESPACES: usize = 100;
const AT_ONCE: usize = 8;
const SOON: Duration = Duration::from_secs(60);
/// How often what is measured is looked at.
const OFTEN: Duration = Duration::from_micros(500);
const LONG: Duration = Duration::from_secs(900);
/// A refusal may rest on an answer of the last second: who asks later gets a fresh one.
const REUSE: Duration = Duration::from_millis(1100);

/// What a run needs.
struct Bench {
    fleet: Fleet,
    operator: Operator,
    /// confctl, whose writes are noted.
    confctl: Conftool,
    tap: Tap,
    /// `kubectl proxy`: the API server over plain HTTP.
    proxy: String,
    /// What a watch of the measured service's status has printed.
    statuses: PathBuf,
    _ports: Ports,
}

/// How long a change took.
struct Turned {
    /// From the start of confctl to its write.
    start: Duration,
    /// From there to the new status.
    status: Duration,
    /// From there to the first verdict that is new.
    verdict: Duration,
}

/// Measures.
pub fn run(flags: &Flags) -> Result<()> {
    progress("Building poolguard as it is shipped");
    let binary = cargo::build_release()?;
    let fleet = Fleet::start(&progress)?;
    // As it is shipped: tests prove the guard every second, which would be measured too.
    let truth = Truth { proof_interval: "30s", ..Truth::conftool(&fleet.conftool.endpoint) };
    let operator = Operator::install_with(&fleet.eqiad, &truth, &binary)?;
    let mut ports = Ports::new();
    let proxy = fleet.eqiad.proxy(&mut ports)?;
    let run = fleet.run();
    let tap = Tap::start(fleet.conftool.endpoint.trim_start_matches("http://"))?;
    let bench = Bench {
        confctl: fleet.conftool.through(tap.port)?,
        tap,
        proxy,
        statuses: run.folder().join("log/statuses"),
        fleet,
        operator,
        _ports: ports,
    };
    bench.measured_service()?;
    println!(
        "{:>16}  {:>22}  {:>22}  {:>22}  {:>22}  {:>18}  {:>18}  etcd",
        "ServicePoolings",
        "confctl's start",
        "status",
        "refused after pooling",
        "allowed after depool",
        "controller",
        "webhook"
    );
    println!(
        "{:>16}  {:>22}  {:>22}  {:>22}  {:>22}  {:>18}  {:>18}  connections",
        "", "median / p99", "median / p99", "median / p99", "median / p99", "memory, CPU/change", "memory, CPU/change"
    );
    let mut there = 1;
    for services in &flags.services {
        bench.further_services(there, *services)?;
        there = there.max(*services);
        bench.measure(*services, flags.changes)?;
    }
    Ok(())
}

impl Bench {
    /// One service with pods, whose switch is turned, and a watch of its status.
    fn measured_service(&self) -> Result<()> {
        let datacenter = &self.fleet.eqiad;
        self.fleet.conftool.record(NAME, &["codfw"], 0)?;
        services::namespace(datacenter, NAME)?;
        services::install(datacenter, "helm3", NAME, NAME, "main")?;
        datacenter.apply(&pooling(NAME, NAME, NAME))?;
        services::ready(datacenter, NAME)?;
        wait_for("the API server over plain HTTP", SOON, || self.allowed().map(drop))?;
        let path = "jsonpath={.status.serving}{\"\\n\"}";
        let arguments = ["-n", NAME, "get", "servicepooling", NAME, "--watch", "-o", path];
        let mut watch = datacenter.command(Who::Admin, "kubectl");
        datacenter.run().start("statuses", watch.args(arguments))?;
        wait_for("the status of the measured service", SOON, || self.says("NotServing"))?;
        wait_for("the first verdict", SOON, || {
            ensure!(self.allowed()?, "it is refused");
            Ok(())
        })
    }

    /// Brings the number of ServicePoolings, each with a record of its own, to `count`.
    fn further_services(&self, there: usize, count: usize) -> Result<()> {
        progress(&format!("{count} ServicePoolings: making those that are missing"));
        let start = Instant::now();
        let namespaces: Vec<String> = (0..NAMESPACES).map(|index| format!("bench-{index}")).collect();
        let manifests: String = namespaces
            .iter()
            .map(|name| format!("---\napiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}}}\n"))
            .collect();
        self.fleet.eqiad.apply(&manifests)?;
        thread::scope(|scope| {
            let threads: Vec<_> = (0..AT_ONCE)
                .map(|first| {
                    scope.spawn(move || {
                        for index in (there + first..count).step_by(AT_ONCE) {
                            self.further_service(index)?;
                        }
                        Ok::<_, anyhow::Error>(())
                    })
                })
                .collect();
            threads.into_iter().try_for_each(|thread| thread.join().unwrap_or_else(|_| bail!("a thread has panicked")))
        })?;
        progress(&format!("made after {} s; waiting for their status", start.elapsed().as_secs()));
        wait_for("a status of each", LONG, || {
            let told = self.operator.metric("controller", "poolguard_service_condition", &["condition=\"Ready\""])?;
            ensure!(told as usize >= count, "{told} have one");
            Ok(())
        })?;
        // Idle again: a change is followed at once.
        for pooled in [true, false] {
            self.fleet.conftool.pool(NAME, "eqiad", pooled)?;
            wait_for("the controller to be idle", LONG, || self.says(if pooled { "Serving" } else { "NotServing" }))?;
        }
        Ok(())
    }

    fn further_service(&self, index: usize) -> Result<()> {
        let (namespace, name) = (format!("bench-{}", index % NAMESPACES), format!("service-{index}"));
        self.fleet.conftool.record(&name, &["codfw"], 0)?;
        let path = format!("/apis/poolguard.dev/v1alpha1/namespaces/{namespace}/servicepoolings");
        let kind = "Content-Type: application/yaml";
        let answer = request(&self.proxy, "POST", &path, &[kind], &pooling(&namespace, &name, &name))?;
        ensure!(answer.status == 201, "the API server answered {}", answer.body);
        Ok(())
    }

    fn measure(&self, services: usize, changes: usize) -> Result<()> {
        let pids = [self.operator.pid("controller"), self.operator.pid("webhook")];
        let used = |pid: Option<u32>| usage(pid.context("the process has not been started")?);
        let before = [used(pids[0])?, used(pids[1])?];
        let (mut starts, mut statuses) = (Vec::new(), Vec::new());
        let (mut refusals, mut permissions) = (Vec::new(), Vec::new());
        for change in 0..changes {
            let pooled = change % 2 == 0;
            let Turned { start, status, verdict } =
                self.turn(pooled).with_context(|| format!("change {}; {}", change + 1, self.says_really()))?;
            starts.push(start);
            statuses.push(status);
            if pooled { refusals.push(verdict) } else { permissions.push(verdict) }
        }
        let cost = |index: usize| {
            let after = used(pids[index])?;
            let each = (after.cpu - before[index].cpu).as_secs_f64() * 1000.0 / changes as f64;
            Ok::<_, anyhow::Error>(format!("{} MiB, {each:.0} ms", after.memory))
        };
        let port = self.fleet.conftool.endpoint.rsplit(':').next().and_then(|port| port.parse().ok());
        println!(
            "{services:>16}  {:>22}  {:>22}  {:>22}  {:>22}  {:>18}  {:>18}  {}",
            percentiles(&mut starts),
            percentiles(&mut statuses),
            percentiles(&mut refusals),
            percentiles(&mut permissions),
            cost(0)?,
            cost(1)?,
            connections(port.context("conftool's etcd has no port")?)?
        );
        Ok(())
    }

    /// Turns the switch with confctl.
    fn turn(&self, pooled: bool) -> Result<Turned> {
        // After a depool the first answer counts, so nobody may have been refused for a while; a permission is never reused.
        if !pooled {
            thread::sleep(REUSE);
        }
        let etcd = self.fleet.conftool.endpoint.trim_start_matches("http://");
        thread::scope(|scope| {
            let verdict = scope.spawn(move || {
                // Nobody asks before etcd tells of the write.
                let path = format!("/v2/keys/conftool/v1/discovery/{NAME}/eqiad?wait=true");
                request_within(SOON, etcd, "GET", &path, &[], "")?;
                wait_for_every(OFTEN, "a new verdict", SOON, || {
                    ensure!(self.allowed()? != pooled, "it is the old one");
                    Ok(())
                })?;
                Ok::<_, anyhow::Error>(Instant::now())
            });
            let status = scope.spawn(move || {
                let word = if pooled { "Serving" } else { "NotServing" };
                wait_for_every(OFTEN, "the new status", SOON, || self.says(word))?;
                Ok::<_, anyhow::Error>(Instant::now())
            });
            let started = Instant::now();
            self.confctl.pool(NAME, "eqiad", pooled)?;
            let verdict = verdict.join().unwrap_or_else(|_| bail!("a thread has panicked"))?;
            let status = status.join().unwrap_or_else(|_| bail!("a thread has panicked"))?;
            let written = self.tap.written().context("confctl has written nothing")?;
            Ok(Turned {
                start: written.duration_since(started),
                status: status.saturating_duration_since(written),
                verdict: verdict.saturating_duration_since(written),
            })
        })
    }

    /// Whether the watch has printed this last.
    fn says(&self, word: &str) -> Result<()> {
        let text = fs::read_to_string(&self.statuses).context("the watch has printed nothing")?;
        let last = text.lines().last().unwrap_or_default();
        ensure!(last == word, "it says {last}");
        Ok(())
    }

    /// What the API server says without a watch, and the controller's last words: for a change that was never seen.
    fn says_really(&self) -> String {
        let path = "jsonpath={.status}";
        let status = self.fleet.eqiad.kubectl(&["-n", NAME, "get", "servicepooling", NAME, "-o", path]);
        let status = status.map_or_else(|error| error.to_string(), |output| output.text());
        format!("the status is {status}; {}", self.fleet.run().log_tail("eqiad-poolguard-controller"))
    }

    /// Whether the removal of the measured service would be allowed.
    fn allowed(&self) -> Result<bool> {
        let path = format!("/apis/apps/v1/namespaces/{NAME}/deployments/{NAME}-main?dryRun=All");
        let answer = request(&self.proxy, "DELETE", &path, &[], "")?;
        match answer.status {
            200 => Ok(true),
            403 => Ok(false),
            other => bail!("the API server answered {other}: {}", answer.body),
        }
    }
}

fn pooling(namespace: &str, name: &str, record: &str) -> String {
    format!(
        "apiVersion: poolguard.dev/v1alpha1\nkind: ServicePooling\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec:\n  \
         selector: {{matchLabels: {{app: {name}, routed_via: production}}}}\n  mode: ActivePassive\n  \
         datacenters: [{{name: codfw}}, {{name: eqiad}}]\n  evidence: [{{name: discovery, conftool: {{record: {record}}}}}]\n"
    )
}
