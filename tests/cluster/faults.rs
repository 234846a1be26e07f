//! Faults that reach everybody, on datacenters of their own: conftool's etcd gone, the webhook dead, the controller dead.

use poolguard_harness::fleet::Fleet;
use poolguard_harness::operator::Operator;
use poolguard_harness::services;
use poolguard_harness::wait::wait_for;

use crate::scenario::{SOON, Scenario, binary, pooling};

#[test]
fn nothing_is_permitted_while_a_part_is_dead_and_ordinary_work_goes_on() {
    let fleet = Fleet::start(&|line| eprintln!("  {line}")).expect("two datacenters");
    let operator = Operator::install(&fleet.eqiad, &fleet.conftool.endpoint, binary()).expect("poolguard");
    let scenario = Scenario::in_fleet(&fleet, &operator, "faults");
    let main = "faults-main";
    services::install(&fleet.eqiad, "helm3", "faults", "faults", "main").expect("the example chart");
    scenario.guard(&pooling("faults"));
    services::ready(&fleet.eqiad, "faults").expect("ready pods");
    scenario.settled();

    // No verdict needs the controller. A second one waits for the first one's Lease, and takes over when it dies.
    let leads = |process: &str, expected: f64| {
        wait_for(&format!("{process} to lead: {expected}"), SOON, || {
            let leads = operator.metric(process, "poolguard_controller_leader", &[])?;
            anyhow::ensure!((leads - expected).abs() < 0.5, "it says {leads}");
            Ok(())
        })
        .expect("the metric");
    };
    operator.start(&fleet.eqiad, "standby").expect("a second controller");
    operator.ready(&fleet.eqiad, "standby").expect("it is ready");
    leads("standby", 0.0);
    leads("controller", 1.0);
    operator.stop(&fleet.eqiad, "controller", true).expect("the controller dies");
    scenario.refused("kubectl", &["delete", "deployment", main]);
    leads("standby", 1.0);
    // Told to stop, it gives the Lease back, and the next one need not wait for its end.
    operator.start(&fleet.eqiad, "controller").expect("it starts again");
    operator.stop(&fleet.eqiad, "standby", false).expect("the second one stops");
    leads("controller", 1.0);

    // conftool's etcd is paused: it accepts connections and says nothing.
    scenario.depool();
    fleet.run().signal(fleet.conftool_etcd, "STOP").expect("etcd stops");
    scenario.refused_saying(&["delete", "deployment", main], "no answer");
    let late =
        operator.metric("webhook", "poolguard_source_requests_total", &["result=\"TimedOut\""]).expect("the metric");
    assert!(late > 0.0, "the time-out was counted");
    // Status learns of it when its watch has been silent for too long.
    scenario.condition("SourcesReady", "False/NotAnswering");
    scenario.serving("Unknown");
    fleet.run().signal(fleet.conftool_etcd, "CONT").expect("etcd goes on");
    fleet.conftool.record("faults", &["eqiad"], 1).expect("pooled again");
    scenario.serving("Serving");

    // The webhook is dead: guarded removals fail with the connection error, ordinary work goes on.
    let permitted_before = operator.metric("webhook", "poolguard_permissions_total", &[]).expect("the metric");
    operator.stop(&fleet.eqiad, "webhook", true).expect("the webhook dies");
    let dead = scenario.kubectl(&["delete", "deployment", main]);
    assert!(!dead.ok() && dead.text().contains("failed calling webhook"), "{}", dead.text());
    scenario.condition("Guarded", "False/WebhookUnreachable");
    for work in [
        &["rollout", "restart", "deployment", main] as &[&str],
        &["rollout", "status", "deployment", main, "--timeout=60s"],
        &["scale", "deployment", main, "--replicas=3"],
        &["scale", "deployment", main, "--replicas=2"],
        &["annotate", "service", main, "further=value"],
        &["label", "namespace", "faults", "further=value"],
    ] {
        scenario.passes("kubectl", work);
    }
    let chart = poolguard_harness::root().join("examples/service-chart");
    scenario.passes("helm3", &["upgrade", "main", &chart.to_string_lossy(), "--set", "app=faults,replicas=3"]);
    operator.start(&fleet.eqiad, "webhook").expect("it starts again");
    operator.ready(&fleet.eqiad, "webhook").expect("and becomes ready");
    scenario.condition("Guarded", "True/Guarded");
    scenario.refused("kubectl", &["delete", "deployment", main]);

    // conftool's etcd is gone altogether.
    fleet.run().end(fleet.conftool_etcd, true).expect("etcd dies");
    let message = scenario.condition("SourcesReady", "False/NotAnswering");
    assert!(message.contains("is unreachable since"), "{message}");
    scenario.refused_saying(&["delete", "deployment", main], "cannot be reached");
    let permitted = operator.metric("webhook", "poolguard_permissions_total", &[]).expect("the metric");
    assert_eq!(permitted + permitted_before, 0.0, "nothing was ever permitted");
    wait_for("the metric of the source", SOON, || {
        let up = operator.metric("controller", "poolguard_source_up", &[])?;
        anyhow::ensure!(up == 0.0, "it says {up}");
        Ok(())
    })
    .expect("the metric");
}
