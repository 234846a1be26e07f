//! What must be refused while the service serves here, and goes once it does not: each line by the real API server.

use poolguard_harness::datacenter::Who;
use poolguard_harness::wait::wait_for;

use crate::scenario::{SOON, Scenario, pooling};

/// A release of two services, in one namespace or in two.
fn pair(first: &Scenario, second: &Scenario, names: [&str; 2]) {
    let chart = poolguard_harness::lists::folder().join("pair").to_string_lossy().into_owned();
    let of = |index: usize, name: &str, namespace: &str| {
        format!("services[{index}].name={name},services[{index}].namespace={namespace}")
    };
    let services = [of(0, names[0], &first.name), of(1, names[1], &second.name)].join(",");
    first.passes("helm3", &["install", "both", &chart, "--set", &services]);
    for (scenario, name) in [(first, names[0]), (second, names[1])] {
        scenario.fleet.conftool.record(name, &["eqiad"], 1).expect("a record");
        scenario.guard(&format!(
            "apiVersion: poolguard.dev/v1alpha1\nkind: ServicePooling\nmetadata: {{name: {name}, namespace: {}}}\nspec:\n  selector: \
             {{matchLabels: {{app: {name}}}}}\n  datacenters: [{{name: codfw}}, {{name: eqiad}}]\n  evidence: [{{name: discovery, \
             conftool: {{record: {name}}}}}]\n",
            scenario.name
        ));
        wait_for(&format!("the view to know {name}"), SOON, || {
            let output = scenario.kubectl(&["delete", "deployment", name, "--dry-run=server"]);
            anyhow::ensure!(output.text().contains("serves live traffic"), "{}", output.text());
            Ok(())
        })
        .expect("the view");
    }
}

#[test]
fn a_release_of_several_guarded_services_stays_while_one_of_them_serves() {
    let scenario = Scenario::bare("doors-pair");
    let names = ["doors-pair-a", "doors-pair-b"];
    pair(&scenario, &scenario, names);
    for helm in ["helm3", "helm4"] {
        let said = scenario.refused(helm, &["uninstall", "both"]);
        assert!(said.contains("Helm release doors-pair/both was not uninstalled."), "{said}");
    }
    // One is depooled: the release stays for the sake of the other, with everything that the other needs.
    scenario.fleet.conftool.record(names[0], &["codfw"], 1).expect("conftool");
    wait_for("the first to be depooled", SOON, || {
        scenario.kubectl(&["delete", "deployment", names[0], "--dry-run=server"]).success()
    })
    .expect("a permission");
    let refusals = scenario.refusals();
    let output = scenario.run("helm3", &["uninstall", "both"]);
    assert!(!output.ok() && scenario.refusals() > refusals, "{}", output.text());
    for kind in ["deployment", "service"] {
        scenario.kubectl(&["get", kind, names[1]]).success().expect("it is still there");
    }
    let record = poolguard_harness::objects::record(scenario.datacenter(), "doors-pair", "both").expect("records");
    assert_eq!(record.as_deref(), Some("deployed"));
    scenario.fleet.conftool.record(names[1], &["codfw"], 1).expect("conftool");
    wait_for("both to be depooled", SOON, || scenario.run("helm3", &["uninstall", "both"]).success()).expect("it goes");
}

#[test]
fn a_release_over_several_namespaces_stays_with_its_record() {
    let (first, second) = (Scenario::bare("doors-home"), Scenario::bare("doors-away"));
    let names = ["doors-home-a", "doors-away-b"];
    pair(&first, &second, names);
    // The first one is depooled: what is left to guard lies in the second namespace, and the record in the first.
    first.fleet.conftool.record(names[0], &["codfw"], 1).expect("conftool");
    wait_for("the first to be depooled", SOON, || {
        first.kubectl(&["delete", "deployment", names[0], "--dry-run=server"]).success()
    })
    .expect("a permission");
    first.passes("kubectl", &["delete", "servicepooling", names[0]]);
    let away = second.objects();
    for helm in ["helm3", "helm4"] {
        let output = first.run(helm, &["uninstall", "both"]);
        assert!(!output.ok(), "{}", output.text());
        assert!(output.text().contains("Helm release doors-home/both was not uninstalled."), "{}", output.text());
        let record = poolguard_harness::objects::record(first.datacenter(), "doors-home", "both").expect("records");
        assert_eq!(record.as_deref(), Some("deployed"), "after {helm}");
    }
    // Nor can the namespace of the record go: with it, nobody could upgrade or uninstall what serves.
    let said = first.kubectl(&["delete", "namespace", "doors-home", "--wait=false"]);
    assert!(!said.ok() && said.text().contains("serves live traffic in eqiad"), "{}", said.text());
    let changed = poolguard_harness::objects::differences(&away, &second.objects());
    assert!(changed.is_empty(), "{changed:?}");
    second.fleet.conftool.record(names[1], &["codfw"], 1).expect("conftool");
    wait_for("both to be depooled", SOON, || first.run("helm4", &["uninstall", "both"]).success()).expect("it goes");
}

#[test]
fn pods_of_a_kind_that_nobody_knows_stay_when_their_owner_goes() {
    let scenario = Scenario::guarded("doors-kin");
    scenario.passes("kubectl", &["create", "configmap", "owner"]);
    let uid =
        scenario.kubectl(&["get", "configmap", "owner", "-o", "jsonpath={.metadata.uid}"]).success().expect("a uid");
    let pod = format!(
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: kin\n  namespace: NAME\n  labels: {{app: NAME, routed_via: production}}\n  \
         ownerReferences: [{{apiVersion: v1, kind: ConfigMap, name: owner, uid: {uid}, controller: true}}]\nspec: \
         {{terminationGracePeriodSeconds: 1, containers: [{{name: c, image: x}}]}}\n"
    );
    scenario.apply(&pod).success().expect("a pod");
    scenario.kubectl(&["wait", "pod", "kin", "--for=condition=Ready", "--timeout=60s"]).success().expect("ready");
    let refusals = scenario.refusals();
    scenario.passes("kubectl", &["delete", "configmap", "owner"]);
    wait_for("the garbage collector to be refused", SOON, || {
        anyhow::ensure!(scenario.refusals() > refusals, "it is not");
        Ok(())
    })
    .expect("a refusal");
    scenario.kubectl(&["get", "pod", "kin"]).success().expect("it is still there");
    scenario.depool();
    wait_for("the garbage collector to try again", SOON * 2, || {
        anyhow::ensure!(!scenario.kubectl(&["get", "pod", "kin"]).ok(), "it is still there");
        Ok(())
    })
    .expect("it goes");
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
