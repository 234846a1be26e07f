//! What must go on while the service serves here.

use poolguard_harness::datacenter::Who;
use poolguard_harness::wait::wait_for;

use crate::scenario::{SOON, Scenario, pooling};

#[test]
fn a_node_is_drained_within_the_budget_and_one_replica_makes_it_wait() {
    let scenario = Scenario::guarded("work-drain");
    let budget = ["get", "pdb", "poolguard-work-drain", "-o", "jsonpath={.status.desiredHealthy}"];
    wait_for("the controller's budget", SOON, || {
        let desired = scenario.kubectl(&budget).success()?;
        anyhow::ensure!(desired == "1", "it wants {desired:?}");
        Ok(())
    })
    .expect("a budget");
    let drain = |timeout: &str| {
        let arguments = [
            "drain",
            "node-a",
            "--pod-selector=app=work-drain",
            "--ignore-daemonsets",
            "--delete-emptydir-data",
            timeout,
        ];
        let output = scenario.datacenter().call(Who::Admin, "kubectl", &arguments).expect("kubectl");
        scenario.datacenter().kubectl(&["uncordon", "node-a"]).expect("kubectl").success().expect("uncordoned");
        output
    };
    let drained = drain("--timeout=60s");
    assert!(drained.ok(), "{}", drained.text());

    // One replica: no budget could ever allow its eviction, so the drain is told to wait.
    scenario.passes("kubectl", &["patch", "hpa", "work-drain-main", "-p", r#"{"spec":{"minReplicas":1}}"#]);
    scenario.passes("kubectl", &["scale", "deployment", "work-drain-main", "--replicas=1"]);
    wait_for("the budget to be gone", SOON, || {
        anyhow::ensure!(!scenario.kubectl(&budget).ok(), "it is still there");
        Ok(())
    })
    .expect("no budget");
    let node =
        scenario.kubectl(&["get", "pods", "-o", "jsonpath={.items[0].spec.nodeName}"]).success().expect("a node");
    let arguments = ["drain", &node, "--pod-selector=app=work-drain", "--timeout=3s"];
    let output = scenario.datacenter().call(Who::Admin, "kubectl", &arguments).expect("kubectl");
    scenario.datacenter().kubectl(&["uncordon", &node]).expect("kubectl").success().expect("uncordoned");
    assert!(!output.ok() && output.text().contains("will retry"), "kubectl waits, as for a budget: {}", output.text());
    assert!(output.text().contains("scale deployment work-drain-main --replicas=2"), "{}", output.text());
}

#[test]
fn a_first_install_that_never_comes_up_is_removed_by_helm_itself() {
    let scenario = Scenario::bare("work-atomic");
    scenario.guard(&pooling("work-atomic"));
    let chart = poolguard_harness::root().join("examples/service-chart");
    let output = scenario.run(
        "helm3",
        &[
            "install",
            "main",
            &chart.to_string_lossy(),
            "--set",
            "app=work-atomic,neverReady=true",
            "--atomic",
            "--timeout=5s",
        ],
    );
    assert!(!output.ok() && output.text().contains("uninstalled due to atomic being set"), "{}", output.text());
    let left = scenario.kubectl(&["get", "deployments,services,ingresses", "-o", "name"]).success().expect("a list");
    assert_eq!(left, "", "nothing is left of it");
}
