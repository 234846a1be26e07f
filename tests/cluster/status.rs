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
    let wanted = poolguard::webhook::registration::webhooks();
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
