//! What must be refused while the service serves here, and goes once it does not: each line by the real API server.

use poolguard_harness::datacenter::Who;
use poolguard_harness::wait::wait_for;

use crate::scenario::{SOON, Scenario, pooling};

/// Further kinds beside the example chart: each with the label that the ServicePooling selects.
const KINDS: &str = r#"
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: stateful, namespace: NAME}
spec:
  replicas: 2
  serviceName: stateful
  selector: {matchLabels: {kind: stateful}}
  template: &template
    metadata: {labels: {kind: stateful, app: NAME, routed_via: production}}
    spec: {terminationGracePeriodSeconds: 1, containers: [{name: c, image: example.invalid/c:1}], volumes: [{name: v, persistentVolumeClaim: {claimName: claim}}]}
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: daemon, namespace: NAME}
spec:
  selector: {matchLabels: {kind: daemon}}
  template:
    metadata: {labels: {kind: daemon, app: NAME, routed_via: production}}
    spec: {terminationGracePeriodSeconds: 1, containers: [{name: c, image: example.invalid/c:1}]}
---
apiVersion: apps/v1
kind: ReplicaSet
metadata: {name: bare, namespace: NAME}
spec:
  replicas: 1
  selector: {matchLabels: {kind: bare}}
  template:
    metadata: {labels: {kind: bare, app: NAME, routed_via: production}}
    spec: {terminationGracePeriodSeconds: 1, containers: [{name: c, image: example.invalid/c:1}]}
---
apiVersion: v1
kind: PersistentVolume
metadata: {name: NAME}
spec: {capacity: {storage: 1Gi}, accessModes: [ReadWriteMany], hostPath: {path: /nowhere}, claimRef: {namespace: NAME, name: claim}}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: claim, namespace: NAME}
spec: {accessModes: [ReadWriteMany], storageClassName: "", volumeName: NAME, resources: {requests: {storage: 1Gi}}}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: floor, namespace: NAME}
spec: {minAvailable: 1, selector: {matchLabels: {app: NAME}}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: route, namespace: NAME}
spec: {rules: [{backendRefs: [{name: NAME-main, port: 8080}]}]}
"#;

#[test]
fn every_guarded_kind_is_refused_by_name_and_goes_after_the_depool() {
    let scenario = Scenario::guarded("doors-delete");
    let datacenter = scenario.datacenter();
    datacenter.apply(&KINDS.replace("NAME", "doors-delete")).expect("further kinds");
    scenario.kubectl(&["rollout", "status", "statefulset/stateful", "--timeout=60s"]).success().expect("a StatefulSet");
    scenario.kubectl(&["rollout", "status", "daemonset/daemon", "--timeout=60s"]).success().expect("a DaemonSet");
    // The view learns of each by a watch of its own.
    for kind in ["statefulset/stateful", "daemonset/daemon", "replicaset/bare", "pvc/claim"] {
        wait_for(&format!("the view to know {kind}"), SOON, || {
            let output = scenario.kubectl(&["delete", kind, "--dry-run=server"]);
            anyhow::ensure!(!output.ok(), "{}", output.text());
            Ok(())
        })
        .expect("the view");
    }
    let main = "doors-delete-main";
    let deletions: Vec<(String, String)> = [
        ("deployment", main),
        ("statefulset", "stateful"),
        ("daemonset", "daemon"),
        ("replicaset", "bare"),
        ("service", main),
        ("ingress", main),
        ("httproute", "route"),
        ("configmap", "doors-delete-main-config-v1"),
        ("secret", "doors-delete-main-secret"),
        ("serviceaccount", main),
        ("pvc", "claim"),
        ("hpa", main),
        ("networkpolicy", main),
        ("role", main),
        ("rolebinding", main),
        ("servicepooling", "doors-delete"),
    ]
    .map(|(kind, name)| (kind.to_owned(), name.to_owned()))
    .into();
    for (kind, name) in &deletions {
        let said = scenario.refused("kubectl", &["delete", kind, name, "--wait=false"]);
        assert!(said.contains("doors-delete serves live traffic in eqiad"), "{kind}: {said}");
    }
    for (kind, flags) in [("pods", "--force"), ("deployments", "--cascade=orphan"), ("replicasets", "--now")] {
        scenario.refused("kubectl", &["delete", kind, "--all", flags, "--wait=false"]);
    }
    scenario.refused("kubectl", &["delete", "--raw", "/api/v1/namespaces/doors-delete/pods"]);
    scenario.refused("kubectl", &["delete", "namespace", "doors-delete", "--wait=false"]);
    let definition =
        datacenter.kubectl(&["delete", "crd", "servicepoolings.poolguard.dev", "--wait=false"]).expect("kubectl");
    assert!(definition.text().contains("servicepoolings.poolguard.dev was not deleted"), "{}", definition.text());

    scenario.depool();
    for (kind, name) in deletions.iter().filter(|(kind, _)| kind != "servicepooling") {
        scenario.passes("kubectl", &["delete", kind, name, "--wait=false"]);
    }
    scenario.passes("kubectl", &["delete", "namespace", "doors-delete", "--wait=false"]);
    wait_for("the namespace to be gone", SOON, || {
        let output = datacenter.kubectl(&["get", "namespace", "doors-delete"])?;
        anyhow::ensure!(!output.ok(), "it is still there");
        Ok(())
    })
    .expect("the namespace controller finishes");
}

#[test]
fn a_removal_by_another_name_is_refused_and_goes_after_the_depool() {
    let scenario = Scenario::guarded("doors-change");
    let datacenter = scenario.datacenter();
    datacenter.apply(&KINDS.replace("NAME", "doors-change")).expect("further kinds");
    scenario.kubectl(&["rollout", "status", "statefulset/stateful", "--timeout=60s"]).success().expect("a StatefulSet");
    scenario.kubectl(&["rollout", "status", "daemonset/daemon", "--timeout=60s"]).success().expect("a DaemonSet");
    for kind in ["statefulset/stateful", "daemonset/daemon", "replicaset/bare"] {
        wait_for(&format!("the view to know {kind}"), SOON, || {
            let output = scenario.kubectl(&["delete", kind, "--dry-run=server"]);
            anyhow::ensure!(!output.ok(), "{}", output.text());
            Ok(())
        })
        .expect("the view");
    }
    let main = "doors-change-main";
    let pod = scenario
        .kubectl(&["get", "pods", "-l", "release=main", "-o", "jsonpath={.items[0].metadata.name}"])
        .success()
        .expect("a pod");
    let unlabelled = datacenter.folder.join("unlabelled.json");
    let bare = r#"{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"doors-change"},"spec":{"finalizers":["kubernetes"]}}"#;
    std::fs::write(&unlabelled, bare).expect("a file");
    let unlabelled = unlabelled.to_string_lossy();
    let relabel = ["-n", "doors-change", "patch", "pod", &pod, "--subresource=status", "--type=merge"];
    let relabel = [&relabel[..], &["-p", r#"{"metadata":{"labels":{"routed_via":"nobody"}}}"#]].concat();
    let by_status = datacenter.kubectl(&relabel).expect("kubectl");
    assert!(by_status.text().contains("was not relabelled"), "by pods/status: {}", by_status.text());
    let changes: Vec<Vec<&str>> = vec![
        // First: after the depool, the scaling below takes the pod away.
        vec!["label", "pod", &pod, "routed_via=nobody", "--overwrite"],
        vec!["scale", "deployment", main, "--replicas=0"],
        vec!["patch", "deployment", main, "-p", r#"{"spec":{"replicas":0}}"#],
        vec!["patch", "deployment", main, "--subresource=scale", "--type=merge", "-p", r#"{"spec":{"replicas":null}}"#],
        vec!["scale", "statefulset", "stateful", "--replicas=0"],
        vec!["scale", "replicaset", "bare", "--replicas=0"],
        vec!["patch", "daemonset", "daemon", "-p", r#"{"spec":{"template":{"spec":{"nodeSelector":{"no":"node"}}}}}"#],
        vec!["patch", "service", main, "-p", r#"{"spec":{"selector":{"routed_via":"nobody"}}}"#],
        vec![
            "patch",
            "service",
            main,
            "--type=json",
            "-p",
            r#"[{"op":"replace","path":"/spec/ports/0/port","value":9}]"#,
        ],
        vec![
            "patch",
            "ingress",
            main,
            "--type=json",
            "-p",
            r#"[{"op":"replace","path":"/spec/rules/0/http/paths/0/backend/service/name","value":"x"}]"#,
        ],
        vec![
            "patch",
            "httproute",
            "route",
            "--type=json",
            "-p",
            r#"[{"op":"replace","path":"/spec/rules/0/backendRefs/0/name","value":"x"}]"#,
        ],
        vec!["patch", "pdb", "floor", "-p", r#"{"spec":{"minAvailable":0}}"#],
        vec!["replace", "--raw", "/api/v1/namespaces/doors-change/finalize", "-f", &unlabelled],
        vec!["patch", "servicepooling", "doors-change", "--type=merge", "-p", r#"{"spec":{"enforcement":"Warn"}}"#],
        vec![
            "patch",
            "servicepooling",
            "doors-change",
            "--type=merge",
            "-p",
            r#"{"spec":{"selector":{"matchLabels":{"app":"other"}}}}"#,
        ],
        vec!["label", "namespace", "doors-change", "poolguard.dev/protected-"],
        vec![
            "patch",
            "namespace",
            "doors-change",
            "--subresource=status",
            "--type=merge",
            "-p",
            r#"{"metadata":{"labels":{"poolguard.dev/protected":"no"}}}"#,
        ],
    ];
    for change in &changes {
        let said = scenario.refused("kubectl", change);
        assert!(said.contains("doors-change serves live traffic in eqiad"), "{change:?}: {said}");
    }
    scenario.depool();
    for change in &changes {
        scenario.passes("kubectl", change);
    }
}

#[test]
fn helm_3_and_4_change_nothing_when_refused_and_uninstall_after_the_depool() {
    let scenario = Scenario::guarded("doors-helm");
    for arguments in [
        &["uninstall", "main"] as &[&str],
        &["uninstall", "main", "--no-hooks"],
        &["uninstall", "main", "--keep-history"],
        &["uninstall", "main", "--cascade=foreground"],
    ] {
        for helm in ["helm3", "helm4"] {
            let said = scenario.refused(helm, arguments);
            assert!(said.contains("Helm release doors-helm/main was not uninstalled."), "{said}");
            assert!(said.contains("set/pooled=true"), "the next step is told: {said}");
            let record =
                poolguard_harness::objects::record(scenario.datacenter(), "doors-helm", "main").expect("records");
            assert_eq!(record.as_deref(), Some("deployed"), "after {helm} {arguments:?}");
        }
    }
    let chart = poolguard_harness::root().join("examples/service-chart");
    let chart = chart.to_string_lossy();
    let zero = ["upgrade", "main", &chart, "--set", "app=doors-helm,replicas=0"];
    let refusals = scenario.refusals();
    let output = scenario.run("helm3", &zero);
    assert!(!output.ok() && scenario.refusals() > refusals, "helm upgrade to zero: {}", output.text());

    scenario.depool();
    scenario.passes("helm4", &["uninstall", "main"]);
}

#[test]
fn two_services_that_select_one_pod_both_guard_it() {
    let scenario = Scenario::guarded("doors-two");
    scenario.fleet.conftool.record("doors-two-other", &["codfw"], 0).expect("a record");
    let second = pooling("doors-two")
        .replace("metadata: {name: doors-two,", "metadata: {name: second,")
        .replace("record: doors-two", "record: doors-two-other");
    scenario.guard(&second);
    let said = scenario.refused("kubectl", &["delete", "deployment", "doors-two-main"]);
    assert!(said.contains("doors-two serves"), "the one that is pooled refuses: {said}");
    scenario.depool();
    wait_for("both to be depooled", SOON, || scenario.kubectl(&["delete", "deployment", "doors-two-main"]).success())
        .expect("it goes once neither serves");
}

#[test]
fn a_deployer_cannot_write_status_and_a_dry_run_gets_the_same_verdict() {
    let scenario = Scenario::guarded("doors-status");
    let forged = scenario.kubectl(&[
        "patch",
        "servicepooling",
        "doors-status",
        "--subresource=status",
        "--type=merge",
        "-p",
        r#"{"status":{"serving":"NotServing"}}"#,
    ]);
    assert!(!forged.ok() && forged.text().contains("servicepoolings/status"), "{}", forged.text());
    let refusals = scenario.refusals();
    let dry = scenario.kubectl(&["delete", "deployment", "doors-status-main", "--dry-run=server"]);
    assert!(!dry.ok() && dry.text().contains("serves live traffic"), "{}", dry.text());
    assert!((scenario.refusals() - refusals).abs() < 0.5, "a dry run leaves no trace but the review's metric");
    let admin = scenario.datacenter().call(
        Who::Admin,
        "kubectl",
        &["-n", "doors-status", "delete", "deployment", "doors-status-main"],
    );
    assert!(!admin.expect("kubectl").ok(), "an administrator is refused too");
}

#[test]
fn what_the_garbage_collector_would_take_is_refused_told_and_goes_after_the_depool() {
    let scenario = Scenario::guarded("doors-owner");
    let datacenter = scenario.datacenter();
    scenario.passes("kubectl", &["create", "configmap", "owner"]);
    let owner =
        scenario.kubectl(&["get", "configmap", "owner", "-o", "jsonpath={.metadata.uid}"]).success().expect("a uid");
    let owned = format!(
        r#"{{"metadata":{{"ownerReferences":[{{"apiVersion":"v1","kind":"ConfigMap","name":"owner","uid":"{owner}"}}]}}}}"#
    );
    scenario.passes("kubectl", &["patch", "deployment", "doors-owner-main", "-p", &owned]);
    let refusals = scenario.refusals();
    scenario.passes("kubectl", &["delete", "configmap", "owner"]);
    wait_for("the garbage collector to be refused, and told", SOON, || {
        let events = scenario.kubectl(&["get", "events", "-o", "jsonpath={.items[*].reason}"]).success()?;
        anyhow::ensure!(events.contains("RemovalPending"), "there are {events}");
        Ok(())
    })
    .expect("an Event");
    assert!(scenario.refusals() > refusals);
    scenario.kubectl(&["get", "deployment", "doors-owner-main"]).success().expect("it is still there");
    scenario.depool();
    wait_for("the garbage collector to try again", SOON * 2, || {
        let output = datacenter.kubectl(&["-n", "doors-owner", "get", "deployment", "doors-owner-main"])?;
        anyhow::ensure!(!output.ok(), "it is still there");
        Ok(())
    })
    .expect("it goes");
}
