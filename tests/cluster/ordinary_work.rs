//! What must go on while the service serves here.

use poolguard_harness::datacenter::Who;
use poolguard_harness::services;
use poolguard_harness::wait::wait_for;

use crate::scenario::{SOON, Scenario, pooling, with_spec};

#[test]
fn a_live_service_is_rolled_restarted_scaled_and_upgraded() {
    let scenario = Scenario::guarded("work-rollout");
    let main = "work-rollout-main";
    let refusals = scenario.refusals();
    let status = ["rollout", "status", "deployment", main, "--timeout=60s"];
    for work in [
        &["rollout", "restart", "deployment", main] as &[&str],
        &["scale", "deployment", main, "--replicas=4"],
        &["scale", "deployment", main, "--replicas=2"],
        &["set", "env", "deployment", main, "FURTHER=value"],
        &["rollout", "undo", "deployment", main],
        &["annotate", "service", main, "further=value"],
        &["label", "namespace", "work-rollout", "further=value"],
    ] {
        scenario.passes("kubectl", work);
        scenario.passes("kubectl", &status);
    }
    let chart = poolguard_harness::root().join("examples/service-chart");
    for version in ["v2", "v3"] {
        let set = format!("app=work-rollout,configVersion={version}");
        scenario.passes("helm3", &["upgrade", "main", &chart.to_string_lossy(), "--set", &set, "--history-max=2"]);
        scenario.passes("kubectl", &status);
    }
    let maps = scenario.kubectl(&["get", "configmaps", "-o", "name"]).success().expect("ConfigMaps");
    assert!(maps.contains("config-v3") && !maps.contains("config-v1"), "{maps}");
    assert!((scenario.refusals() - refusals).abs() < 0.5, "nothing was refused");
    scenario.refused("kubectl", &["delete", "deployment", main]);
}

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
fn canaries_jobs_failed_installs_and_old_objects_go() {
    let scenario = Scenario::bare("work-expendable");
    let datacenter = scenario.datacenter();
    for release in ["main", "canary"] {
        services::install(datacenter, "helm3", "work-expendable", "work-expendable", release)
            .expect("the example chart");
    }
    services::ready(datacenter, "work-expendable").expect("ready pods");
    let spec = "selector: {matchLabels: {app: work-expendable, routed_via: production}}\n  \
                expendable: {matchLabels: {release: canary}}\n  evidence: [{name: discovery, conftool: {record: work-expendable}}]";
    scenario.guard(&with_spec("work-expendable", spec));
    scenario.settled();
    scenario.refused("helm3", &["uninstall", "main"]);
    let job = "apiVersion: batch/v1\nkind: Job\nmetadata: {name: job, namespace: NAME}\nspec: {ttlSecondsAfterFinished: 0, template: \
               {metadata: {labels: {app: NAME, routed_via: production}}, spec: {restartPolicy: Never, containers: [{name: c, image: example.invalid/c:1}]}}}\n";
    scenario.apply(job).success().expect("a Job");
    wait_for("the Job to finish and be taken away by its TTL", SOON, || {
        anyhow::ensure!(!scenario.kubectl(&["get", "job", "job"]).ok(), "it is still there");
        Ok(())
    })
    .expect("the TTL controller works");
    let canary = scenario.run("kubectl", &["delete", "deployment", "work-expendable-canary"]);
    assert!(canary.ok(), "an expendable canary goes while others are ready: {}", canary.text());
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

#[test]
fn blue_green_moves_the_service_and_the_old_half_goes() {
    let scenario = Scenario::guarded("work-green");
    let green = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: green, namespace: NAME}\nspec: {replicas: 1, selector: {matchLabels: {half: green}}, \
                 template: {metadata: {labels: {half: green, app: NAME, routed_via: production}}, spec: {containers: [{name: c, image: example.invalid/c:1}]}}}\n";
    scenario.apply(green).success().expect("the green half");
    services::ready(scenario.datacenter(), "work-green").expect("ready pods");
    let moved = r#"{"spec":{"selector":{"half":"green"}}}"#;
    wait_for("the view to know the green pod", SOON, || {
        scenario.kubectl(&["patch", "service", "work-green-main", "-p", moved, "--dry-run=server"]).success()
    })
    .expect("the view");
    scenario.passes("kubectl", &["patch", "service", "work-green-main", "-p", moved]);
    wait_for("the old half to carry nothing", SOON, || {
        scenario.kubectl(&["delete", "deployment", "work-green-main", "--dry-run=server"]).success()
    })
    .expect("the view");
    scenario.passes("kubectl", &["delete", "deployment", "work-green-main"]);
    scenario.refused("kubectl", &["delete", "deployment", "green"]);
}
