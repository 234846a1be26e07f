//! What must go on while the service serves here.

use poolguard_harness::datacenter::Who;
use poolguard_harness::services;
use poolguard_harness::wait::wait_for;

use crate::scenario::{SOON, Scenario, pooling};

/// A Job whose pods look like the service's.
const ONCE: &str = r#"
apiVersion: batch/v1
kind: Job
metadata: {name: once, namespace: NAME}
spec:
  template:
    metadata: {labels: {app: NAME, routed_via: production}}
    spec: {restartPolicy: Never, containers: [{name: c, image: example.invalid/c:1}]}
"#;

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
    // Counted by the budget, its pods would let nothing be evicted.
    scenario.apply(ONCE).success().expect("a Job");
    let done = ["wait", "--for=condition=complete", "job/once", "--timeout=20s"];
    scenario.kubectl(&done).success().expect("its pod has run");
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
    scenario.kubectl(&["delete", "job", "once"]).success().expect("no Job any more");
    let own = ["get", "pods", "-l", "!batch.kubernetes.io/job-name", "-o", "jsonpath={.items[0].spec.nodeName}"];
    let node = scenario.kubectl(&own).success().expect("a node");
    let arguments = ["drain", &node, "--pod-selector=app=work-drain", "--timeout=3s"];
    let output = scenario.datacenter().call(Who::Admin, "kubectl", &arguments).expect("kubectl");
    scenario.datacenter().kubectl(&["uncordon", &node]).expect("kubectl").success().expect("uncordoned");
    assert!(!output.ok() && output.text().contains("will retry"), "kubectl waits, as for a budget: {}", output.text());
    assert!(output.text().contains("scale deployment work-drain-main --replicas=2"), "{}", output.text());
}

/// A worker that no Service leads to, and a budget over its pods and those of the service.
const WORKER: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: worker, namespace: NAME}
spec:
  selector: {matchLabels: {role: worker}}
  template:
    metadata: {labels: {app: NAME, role: worker}}
    spec: {terminationGracePeriodSeconds: 1, containers: [{name: worker, image: example.invalid/worker:1}]}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: both, namespace: NAME}
spec: {minAvailable: 1, selector: {matchLabels: {app: NAME}}}
"#;

#[test]
fn a_budget_over_others_too_counts_only_where_it_keeps_more_than_these() {
    let scenario = Scenario::bare("work-shared");
    scenario.apply(WORKER).success().expect("a worker and a budget");
    services::install(scenario.datacenter(), "helm3", "work-shared", "work-shared", "main").expect("the example chart");
    scenario.guard(&pooling("work-shared"));
    services::ready(scenario.datacenter(), "work-shared").expect("ready pods");
    scenario.settled();
    let allows = |expected: &str| {
        let arguments =
            ["get", "pdb", "-o", "jsonpath={.items[*].metadata.name} {.items[*].status.disruptionsAllowed}"];
        wait_for("the only budget", SOON, || {
            let found = scenario.kubectl(&arguments).success()?;
            anyhow::ensure!(found == format!("both {expected}"), "there is {found}");
            Ok(())
        })
        .expect("a budget");
    };
    let pods = scenario.kubectl(&["get", "pods", "-l", "release=main", "-o", "jsonpath={.items[*].metadata.name}"]);
    let pods = pods.success().expect("the pods");
    let (first, second) = pods.split_once(' ').expect("two pods");
    // The API server would let both of them go, one after the other: the worker is enough for the budget.
    allows("2");
    let evict = |pod: &str| {
        let arguments = scenario.eviction(pod);
        scenario.run("kubectl", &arguments.each_ref().map(String::as_str))
    };
    let refused = || {
        let arguments = scenario.eviction(first);
        scenario.refused("kubectl", &arguments.each_ref().map(String::as_str))
    };
    wait_for("the webhook to know the budget", SOON, || {
        let said = refused();
        anyhow::ensure!(said.contains("have it select those of work-shared alone"), "it says {said}");
        Ok(())
    })
    .expect("a refusal");
    // One more than there are others: one pod of the service stays, whatever is evicted.
    scenario.passes("kubectl", &["patch", "pdb", "both", "-p", r#"{"spec":{"minAvailable":2}}"#]);
    allows("1");
    wait_for("an eviction within the budget", SOON, || evict(second).success()).expect("it passes");
    scenario.depool();
    scenario.passes("kubectl", &["patch", "pdb", "both", "-p", r#"{"spec":{"minAvailable":1}}"#]);
    wait_for("the same eviction to pass", SOON, || evict(first).success()).expect("it passes");
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
