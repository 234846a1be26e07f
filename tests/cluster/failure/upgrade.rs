//! A rolling upgrade from the version before this one, and back, under traffic: chart and programs of both versions, each replica as a
//! Deployment replaces it, over the same objects, Secrets and configuration.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use poolguard_harness::datacenter::{Controllers, Who};
use poolguard_harness::objects::{differences, objects};
use poolguard_harness::operator::{NAMESPACE, Operator, Truth};
use poolguard_harness::wait::wait_for;
use poolguard_harness::{chart, previous, services};
use serde_json::json;

use super::address::{Address, BOTH};
use super::traffic::{AT_ONCE, Traffic};
use crate::scenario::{Alone, SOON, binary};

const NAME: &str = "upgraded";
const MAIN: &str = "upgraded-main";

/// What the API server says where a connection was closed under its request.
const CLOSED: [&str; 3] = ["use of closed network connection", "EOF", "connection reset by peer"];

/// Replaces every process by that of another version, one after another.
fn roll(alone: &Alone, address: &Address, program: &Path) {
    let Alone { datacenter, operator, .. } = alone;
    for process in BOTH {
        address.leave(process);
        operator.stop(datacenter, process, false).expect("it ends");
        operator.start_by(datacenter, process, Command::new(program)).expect("the other version starts");
        operator.ready(datacenter, process).expect("it is ready");
        address.join(process);
    }
    operator.stop(datacenter, "controller", false).expect("it ends");
    operator.start_by(datacenter, "controller", Command::new(program)).expect("the other version starts");
    operator.ready(datacenter, "controller").expect("it is ready");
}

/// Waits until the controller of a version says that the guard is up, by its own proof.
fn proved(alone: &Alone) {
    wait_for("the guard to be proved", SOON, || {
        let proofs = alone.operator.metric("controller", "poolguard_guard_proof_timestamp_seconds", &[])?;
        let registered = alone.operator.metric("controller", "poolguard_guard_registration_intact", &[])?;
        anyhow::ensure!(proofs > 0.5 && registered > 0.5, "proofs {proofs}, registration {registered}");
        Ok(())
    })
    .expect("a proof");
    services::guarded(&alone.datacenter, NAME).expect("guarded");
}

#[test]
fn an_upgrade_and_the_way_back_fail_no_call() {
    let previous = previous::build(&|line| eprintln!("  {line}")).expect("the previous version");
    let truth = Truth { certificates: Some(json!({})), ..Truth::nothing() };
    let alone = Alone::installed(Controllers::Apart, |datacenter| {
        Operator::install_by(datacenter, &truth, &previous.binary, &previous.chart)
    });
    let Alone { datacenter, operator, .. } = &alone;
    let address = Address::in_front_of(&alone);
    alone.guarded(NAME);
    let before = objects(datacenter, NAME).expect("the objects");
    let traffic = Traffic::start(datacenter, NAME, MAIN);

    let told = traffic.row("an upgrade from the previous version", || {
        let start = Instant::now();
        operator.upgrade_to(datacenter, &chart::folder(), &[]).expect("helm upgrade");
        roll(&alone, &address, binary());
        proved(&alone);
        eprintln!("  upgraded and proved after {:.1?}", start.elapsed());
    });
    // The previous version closes connections that are idle at that moment, and on each of them a request may be on its way: all that
    // are asked at once, and the ordinary work. This one does not.
    let most = BOTH.len() * (AT_ONCE + 1);
    let closed = |said: &&String| CLOSED.iter().any(|words| said.contains(words));
    let others: Vec<_> = told.failed.iter().filter(|said| !closed(said)).collect();
    assert!(others.is_empty() && told.failed.len() <= most && told.unheard == 0, "{:?}", told.failed);
    traffic.row_without_failure("the way back to the previous version", || {
        let start = Instant::now();
        let back = ["rollback", "poolguard", "--namespace", NAMESPACE];
        datacenter.call(Who::Admin, "helm3", &back).and_then(|output| output.success()).expect("helm rollback");
        roll(&alone, &address, &previous.binary);
        proved(&alone);
        eprintln!("  back and proved after {:.1?}", start.elapsed());
    });
    drop(traffic);
    // Only the annotation of the ordinary work is another one, also on the ReplicaSet, which has it from its Deployment; and the
    // controller's budget, which this version sets right and the one before leaves as it finds it.
    let changed = differences(&before, &objects(datacenter, NAME).expect("the objects"));
    let (deployment, set) = (format!("Deployment {MAIN} changed"), format!("ReplicaSet {MAIN}-"));
    let expected = [deployment, format!("PodDisruptionBudget poolguard-{NAME} changed")];
    let others: Vec<_> = changed.iter().filter(|it| !expected.contains(it) && !it.starts_with(&set)).collect();
    assert!(others.is_empty(), "{others:?}");
}
