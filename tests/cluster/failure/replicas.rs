//! Webhooks behind one address: killed one by one and all at once, replaced under load, and held to the limits of their container.

use std::fs;
use std::time::Instant;

use poolguard_harness::datacenter::{Controllers, Datacenter};
use poolguard_harness::http::healthy;
use poolguard_harness::operator::Operator;
use poolguard_harness::wait::wait_for;

use super::address::{Address, BOTH};
use super::leader::leads;
use super::limits::Limits;
use super::traffic::Traffic;
use crate::scenario::{Alone, SOON};

const NAME: &str = "replicated";
const MAIN: &str = "replicated-main";
/// So often each replica is replaced: what happens seldom has to be seen.
const ROUNDS: usize = 3;
/// As the chart sets them.
const MEMORY: u64 = 256 << 20;
const MILLICORES: u64 = 50;

/// The Deployment's limit in the chart, so that this file does not go another way.
fn memory_limit(datacenter: &Datacenter) -> String {
    let shown = ["--set=datacenter=eqiad,declaredOnly=true", "--show-only=templates/deployments.yaml"];
    let rendered = poolguard_harness::chart::template(datacenter, "helm3", &shown).and_then(|output| output.success());
    let rendered = rendered.expect("a rendering");
    let webhook = rendered.split("name: poolguard-webhook").last().expect("the webhook");
    let limits = webhook.split("limits:").nth(1).expect("limits");
    limits.split("memory: ").nth(1).and_then(|rest| rest.lines().next()).expect("memory").trim().to_owned()
}

fn on_the_list(operator: &Operator, process: &str) {
    wait_for(&format!("{process} to be ready"), SOON, || healthy(operator.metrics_port(process), "/readyz"))
        .expect("it is ready");
}

#[test]
fn replicas_die_and_are_replaced_and_nothing_is_permitted() {
    let alone = Alone::start(Controllers::Apart);
    let Alone { datacenter, operator, .. } = &alone;
    let address = Address::in_front_of(&alone);
    alone.guarded(NAME);
    let traffic = Traffic::start(datacenter, NAME, MAIN);

    for process in BOTH {
        traffic.row(&format!("kill -9 of the replica `{process}`"), || {
            operator.stop(datacenter, process, true).expect("it dies");
        });
        operator.start(datacenter, process).expect("it starts again");
        on_the_list(operator, process);
    }
    let told = traffic.row("kill -9 of all webhooks and of the controller", || {
        for process in ["webhook", "second", "controller"] {
            operator.stop(datacenter, process, true).expect("it dies");
        }
        wait_for("a call to fail", SOON, || {
            let output = alone.kubectl(NAME, &["delete", "deployment", MAIN]);
            anyhow::ensure!(output.text().contains("failed calling webhook"), "{}", output.text());
            assert!(!output.ok());
            Ok(())
        })
        .expect("nobody answers");
        for work in
            [&["scale", "deployment", MAIN, "--replicas=3"] as &[&str], &["rollout", "restart", "deployment", MAIN]]
        {
            alone.kubectl(NAME, work).success().expect("ordinary work goes on");
        }
        for process in ["webhook", "second", "controller"] {
            operator.start(datacenter, process).expect("it starts again");
        }
    });
    assert!(!told.failed.is_empty(), "nobody was there, and no call failed");
    let dead = Instant::now();
    on_the_list(operator, "controller");
    // Once the dead one's Lease has ended.
    leads(operator, "controller", true);
    eprintln!("  the new controller acts {:.1?} after the webhooks did", dead.elapsed());

    replaced(&alone, &address, &traffic);
    limited(&alone, &address, &traffic);
}

/// Each replica goes as Kubernetes has it go: off the list, then SIGTERM.
fn replaced(alone: &Alone, address: &Address, traffic: &Traffic) {
    let Alone { datacenter, operator, .. } = alone;
    for process in BOTH {
        on_the_list(operator, process);
    }
    traffic.row_without_failure(&format!("{ROUNDS} times each replica replaced under load"), || {
        for process in BOTH.repeat(ROUNDS) {
            address.leave(process);
            operator.stop(datacenter, process, false).expect("it ends");
            address.join(process);
            operator.start(datacenter, process).expect("it starts again");
            on_the_list(operator, process);
        }
    });
}

/// One replica alone, with a twentieth of a core and the chart's memory.
fn limited(alone: &Alone, address: &Address, traffic: &Traffic) {
    let Alone { datacenter, operator, .. } = alone;
    assert_eq!(memory_limit(datacenter), format!("{}Mi", MEMORY >> 20), "the chart's limit is another one");
    let limits = match Limits::new("webhook", MILLICORES, MEMORY) {
        Ok(limits) => limits,
        Err(error) => {
            eprintln!("  NOT TRIED: limits of processor and memory: control groups cannot be made here: {error:#}");
            return;
        }
    };
    address.leave("second");
    operator.stop(datacenter, "second", false).expect("it ends");
    let started = Instant::now();
    operator.start_by(datacenter, "second", limits.command(operator.binary())).expect("it starts with limits");
    let pid = operator.pid("second").expect("a process");
    on_the_list(operator, "second");
    eprintln!("  with {MILLICORES}m of a core and {} MiB it is ready after {:.1?}", MEMORY >> 20, started.elapsed());
    address.join("second");
    address.leave("webhook");
    let told = traffic.row_without_failure("one replica alone with 50m of a core and 256 MiB", || {
        // New connections and kept ones, reviews of every kind.
        for _ in 0..10 {
            let output = alone.kubectl(NAME, &["delete", "pods", "--all", "--dry-run=server"]);
            assert!(!output.ok() && output.text().contains("serves live traffic"), "{}", output.text());
        }
    });
    assert!(told.refused > 20, "only {} were refused", told.refused);
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process");
    let resident = status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default().to_owned();
    eprintln!("  at most {} MiB were used, {resident}", limits.peak().unwrap_or_default() >> 20);
    address.join("webhook");
    on_the_list(operator, "webhook");
    address.leave("second");
    operator.stop(datacenter, "second", true).expect("it ends");
}
