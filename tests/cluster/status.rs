//! What people see: status, conditions, columns, Events, and the resource that only warns.

use poolguard_harness::wait::wait_for;

use crate::scenario::{SOON, Scenario, pooling, with_spec};

#[test]
fn status_follows_conftool_and_names_the_snowflake() {
    let scenario = Scenario::guarded("status-follow");
    let message = scenario.condition("Consistent", "False/Snowflake");
    assert_eq!(message, "status-follow is meant to be active/active in codfw and eqiad, but is pooled in eqiad only");
    scenario.condition("Ready", "True/Observed");
    scenario.condition("Guarded", "True/Guarded");
    scenario.condition("Serving", "True/Pooled");
    let row = scenario.kubectl(&["get", "spool", "-o", "wide", "--no-headers"]).success().expect("a row");
    for column in
        ["codfw=depooled eqiad=serving", "Serving", "True", "False", "ActiveActive", "Enforce", "pooled in eqiad only"]
    {
        assert!(row.contains(column), "{column}: {row}");
    }
    assert_eq!(scenario.status(".releases[0]").expect("a release"), "status-follow/main");
    assert_eq!(scenario.status(".workloads[0].ready").expect("a workload"), "2");
    scenario.fleet.conftool.record("status-follow", &["eqiad", "codfw"], 1).expect("conftool");
    scenario.condition("Consistent", "True/AsIntended");
    wait_for("Events of the transitions", SOON, || {
        let events = scenario.kubectl(&["get", "events", "-o", "jsonpath={.items[*].reason}"]).success()?;
        anyhow::ensure!(events.contains("Snowflake") && events.contains("AsIntended"), "there are {events}");
        Ok(())
    })
    .expect("Events");
}

#[test]
fn a_resource_that_only_warns_lets_pass_and_says_so() {
    let scenario = Scenario::guarded("status-warn");
    scenario.refused("kubectl", &["delete", "deployment", "status-warn-main"]);
    scenario.depool();
    let warns = pooling("status-warn") + "  enforcement: Warn\n";
    scenario.apply(&warns).success().expect("weakened while depooled");
    scenario.fleet.conftool.record("status-warn", &["eqiad"], 1).expect("conftool");
    scenario.serving("Serving");
    scenario.condition("Guarded", "False/WarnOnly");
    let said = scenario.passes("kubectl", &["delete", "deployment", "status-warn-main"]);
    assert!(said.contains("poolguard only warns here, and would have refused this"), "{said}");
}

#[test]
fn the_declared_state_is_a_switch_of_its_own() {
    let scenario = Scenario::guarded("status-declared");
    scenario.depool();
    let declared = |pooled: &str| {
        let lines = format!(
            "selector: {{matchLabels: {{app: status-declared, routed_via: production}}}}\n  evidence: [{{name: discovery, conftool: \
             {{record: status-declared}}}}, {{name: switch, declared: {{pooledIn: [{pooled}]}}}}]"
        );
        with_spec("status-declared", &lines)
    };
    scenario.apply(&declared("eqiad")).success().expect("more evidence");
    scenario.condition("Consistent", "False/SourcesDisagree");
    let said = scenario.refused("kubectl", &["delete", "deployment", "status-declared-main"]);
    let step = "kubectl -n status-declared patch servicepooling status-declared --type=json";
    assert!(said.contains(step), "the switch is proposed: {said}");
    scenario.apply(&declared("codfw")).success().expect("the depool of this source");
    scenario.serving("NotServing");
    scenario.passes("kubectl", &["delete", "deployment", "status-declared-main"]);
}

#[test]
fn the_registration_in_force_is_the_one_that_the_door_table_says() {
    let scenario = Scenario::bare("status-registration");
    let live = scenario
        .datacenter()
        .get(&["validatingwebhookconfiguration", "poolguard"])
        .expect("the configuration that the chart made");
    let live = live["webhooks"].as_array().expect("webhooks");
    let wanted = poolguard::registration::webhooks(&poolguard_policy::doors::custom(
        ("example.dev", "v1alpha1"),
        "rollouts",
        "rollouts/scale",
        "Rollout",
    ));
    assert_eq!(live.len(), wanted.len());
    for (live, wanted) in live.iter().zip(&wanted) {
        for field in ["name", "rules", "failurePolicy", "sideEffects", "matchPolicy", "matchConditions"] {
            assert_eq!(live.get(field), wanted.get(field), "{field} of {}", wanted["name"]);
        }
        let label = |webhook: &serde_json::Value, selector: &str| webhook[selector]["matchLabels"].clone();
        for selector in ["namespaceSelector", "objectSelector"] {
            assert_eq!(label(live, selector), label(wanted, selector), "{selector} of {}", wanted["name"]);
        }
        let caller = &live["clientConfig"]["url"];
        assert!(caller.as_str().is_some_and(|url| url.ends_with("/validate")), "{caller}");
    }
}

#[test]
fn what_the_guard_cannot_see_is_drift_with_an_event_a_metric_and_an_expiry() {
    let scenario = Scenario::guarded("status-drift");
    // The chart's autoscaler would bring a second replica back.
    let one = r#"{"spec":{"minReplicas":1}}"#;
    scenario.passes("kubectl", &["patch", "hpa", "status-drift-main", "--type=merge", "-p", one]);
    scenario.fleet.conftool.record("status-drift", &["eqiad", "codfw"], 1).expect("conftool");
    scenario.condition("Consistent", "True/AsIntended");
    let drifts = |expected: &[&str]| {
        wait_for(&format!("the drift of status-drift to be {expected:?}"), SOON, || {
            let found = scenario.status(".drift[*].reason")?;
            anyhow::ensure!(found == expected.join(" "), "it is {found}");
            Ok(())
        })
        .expect("the drift");
    };
    let metric = |reason: &str, accepted: &str| {
        let labels = ["namespace=\"status-drift\"", reason, accepted];
        scenario.operator.metric("controller", "poolguard_service_drift", &labels).expect("the metric")
    };
    let patch = |patch: &str| {
        scenario.passes("kubectl", &["patch", "deployment", "status-drift-main", "--type=merge", "-p", patch]);
    };
    patch(r#"{"spec":{"strategy":{"rollingUpdate":{"maxUnavailable":"100%"}}}}"#);
    drifts(&["AllUnavailable"]);
    patch(r#"{"spec":{"strategy":{"type":"Recreate","rollingUpdate":null}}}"#);
    drifts(&["RecreateStrategy"]);
    patch(r#"{"spec":{"strategy":{"type":"RollingUpdate"},"replicas":1}}"#);
    drifts(&["SingleReplica"]);
    // A workload of the same Helm release that no ServicePooling covers.
    let stray = "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: stray\n  namespace: NAME\n  annotations: \
                 {meta.helm.sh/release-name: main, meta.helm.sh/release-namespace: NAME}\nspec:\n  selector: {matchLabels: \
                 {app: stray}}\n  template:\n    metadata: {labels: {app: stray}}\n    spec: {containers: [{name: c, image: x}]}\n";
    scenario.apply(stray).success().expect("a further workload");
    drifts(&["UncoveredWorkload", "SingleReplica"]);
    let message = scenario.condition("Consistent", "False/UncoveredWorkload");
    assert!(message.contains("Deployment stray of status-drift's Helm release is covered by no"), "{message}");
    assert_eq!(metric("reason=\"UncoveredWorkload\"", "accepted=\"false\""), 1.0);
    // Accepted, with a reason and an expiry: the alert is silent, the drift is still told, the guard is as it was.
    let accept = |seconds: u64| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs();
        let expires = jiff::Timestamp::from_second((now + seconds) as i64).expect("a time");
        let list: Vec<String> = ["UncoveredWorkload", "SingleReplica"]
            .map(|drift| format!("{{drift: {drift}, reason: 'until T296699', expires: '{expires}'}}"))
            .to_vec();
        let manifest = pooling("status-drift") + &format!("  acceptedDrift: [{}]\n", list.join(", "));
        scenario.apply(&manifest).success().expect("a change of intent, while it serves");
    };
    accept(3600);
    let accepted = || metric("reason=\"SingleReplica\"", "accepted=\"true\"");
    wait_for("the drift to be accepted", SOON, || {
        anyhow::ensure!(accepted() == 1.0, "it is not");
        Ok(())
    })
    .expect("the metric");
    assert_eq!(metric("reason=\"SingleReplica\"", "accepted=\"false\""), 0.0);
    let message = scenario.condition("Consistent", "False/UncoveredWorkload");
    assert!(message.contains("accepted until") && message.contains("until T296699"), "{message}");
    scenario.refused("kubectl", &["delete", "deployment", "status-drift-main"]);
    // When it expires, the alert is back, without anybody writing anything.
    accept(4);
    wait_for("the acceptance to expire", SOON, || {
        let alert = metric("reason=\"SingleReplica\"", "accepted=\"false\"");
        anyhow::ensure!(alert == 1.0 && accepted() == 0.0, "it has not");
        Ok(())
    })
    .expect("the metric");
    wait_for("Events of the drift", SOON, || {
        let events = scenario.kubectl(&["get", "events", "-o", "jsonpath={.items[*].reason}"]).success()?;
        for reason in ["AllUnavailable", "RecreateStrategy", "SingleReplica", "UncoveredWorkload", "DriftResolved"] {
            anyhow::ensure!(events.contains(reason), "there are {events}");
        }
        Ok(())
    })
    .expect("Events");
}

#[test]
fn one_service_has_several_records_and_one_record_many_services() {
    let scenario = Scenario::guarded("status-records");
    let (fleet, main) = (scenario.fleet, "status-records-main");
    fleet.conftool.record("status-records-ro", &["codfw", "eqiad"], 1).expect("a second record");
    let lines = "selector: {matchLabels: {app: status-records, routed_via: production}}\n  evidence: [{name: rw, conftool: \
                 {record: status-records}}, {name: ro, conftool: {record: status-records-ro}}]";
    let said = scenario.apply(&with_spec("status-records", lines));
    assert!(!said.ok(), "an entry under another name is another source: {}", said.text());
    scenario.depool();
    scenario.apply(&with_spec("status-records", lines)).success().expect("two records");
    scenario.serving("Serving");
    let said = scenario.refused("kubectl", &["delete", "deployment", main]);
    assert!(said.contains("'dnsdisc=status-records-ro,name=eqiad' set/pooled=false"), "the other record: {said}");
    // A second service behind the same record, as behind an ingress.
    let other = Scenario::bare("status-records-2");
    let behind = pooling("status-records-2").replace("{record: status-records-2}", "{record: status-records-ro}");
    other.guard(&behind);
    other.serving("Serving");
    fleet.conftool.record("status-records-ro", &["codfw"], 1).expect("conftool");
    other.serving("NotServing");
    scenario.serving("NotServing");
    scenario.passes("kubectl", &["delete", "deployment", main]);
}
