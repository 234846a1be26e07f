//! Bad input gets a sentence that says what to write, and nothing is lost.

use std::process::Command;

use poolguard_harness::wait::wait_for;

use crate::scenario::{SOON, Scenario, binary, pooling, with_spec};

#[test]
fn a_service_pooling_that_makes_no_sense_is_refused_with_what_to_write() {
    let scenario = Scenario::bare("bad-schema");
    let good = "evidence: [{name: e, declared: {pooledIn: [eqiad]}}]";
    let selector = "selector: {matchLabels: {app: x}}";
    for (lines, sentence) in [
        (format!("selector: {{}}\n  {good}"), "an empty selector would select every pod: write the labels"),
        (format!("{selector}\n  evidence: []"), "no source: write at least one entry"),
        (
            format!("{selector}\n  {good}\n  minPooledDatacenters: 3"),
            "minPooledDatacenters is above the number of datacenters: lower it",
        ),
        (
            format!("{selector}\n  evidence: [{{name: e, declared: {{pooledIn: []}}, conftool: {{record: r}}}}]"),
            "names exactly one source: write one of declared, conftool, dns and prometheus",
        ),
        (
            format!("{selector}\n  evidence: [{{name: e, declared: {{pooledIn: [codfw, eqaid]}}}}]"),
            "pooledIn names a datacenter that is not in datacenters: write each name as it stands there",
        ),
        (format!("{selector}\n  evidence: [{{name: e, dns: {{name: 'a..b'}}}}]"), "dns.name"),
        (
            format!("{selector}\n  evidence: [{{name: e, prometheus: {{query: up, threshold: '-1'}}}}]"),
            "prometheus.threshold",
        ),
        (
            format!("{selector}\n  {good}\n  acceptedDrift: [{{drift: Snowflake, reason: x}}]"),
            "acceptedDrift[0].expires",
        ),
        (
            format!(
                "{selector}\n  {good}\n  acceptedDrift: [{{drift: Snowflake, reason: x, expires: '9999-12-31T23:59:59Z'}}]"
            ),
            "expires is too late: write a day before the year 9999",
        ),
        (
            format!(
                "{selector}\n  {good}\n  acceptedDrift: [{{drift: Snowflak, reason: x, expires: '2027-01-01T00:00:00Z'}}]"
            ),
            "acceptedDrift[0].drift: Unsupported value: \"Snowflak\"",
        ),
        (format!("{selector}\n  evidence: [{{name: e}}]"), "names exactly one source"),
        (format!("{selector}\n  expendable: {{}}\n  {good}"), "an empty selector would make every pod expendable"),
    ] {
        let output = scenario.apply(&with_spec("bad-schema", &lines));
        assert!(!output.ok() && output.text().contains(sentence), "{lines}: {}", output.text());
    }
    let twice = with_spec("bad-schema", &format!("{selector}\n  {good}"))
        .replace("[{name: codfw}, {name: eqiad}]", "[{name: eqiad}, {name: eqiad}]");
    // Server-side apply cannot merge such a list; a plain create shows what the schema says.
    let file = scenario.datacenter().folder.join("twice.yaml");
    std::fs::write(&file, twice).expect("a file");
    let output = scenario.kubectl(&["create", "-f", &file.to_string_lossy()]);
    let sentence = "a datacenter stands twice in the list: write each name once";
    assert!(!output.ok() && output.text().contains(sentence), "{}", output.text());
}

#[test]
fn what_conftool_says_wrongly_is_unknown_and_refused_with_its_cause() {
    let scenario = Scenario::guarded("bad-values");
    let main = "bad-values-main";
    let conftool = &scenario.fleet.conftool;
    for (value, cause) in [
        (r#"{"pooled": "yes"}"#, r#"pooled is "yes", not true or false"#),
        (r#"{"pooled": fal"#, "value is not JSON"),
        ("null", "value is not an object"),
        (r#"{"pooled": false, "ttl": -5}"#, "ttl is -5"),
    ] {
        conftool.raw("bad-values", "eqiad", value).expect("etcd takes anything");
        scenario.serving("Unknown");
        wait_for("the status to say why", SOON, || {
            let detail = scenario.status(".datacenters[?(@.name==\"eqiad\")].evidence[0].detail")?;
            anyhow::ensure!(detail.contains(cause), "it says {detail}");
            Ok(())
        })
        .expect("the status");
        scenario.refused_saying(&["delete", "deployment", main], cause);
    }
    conftool.delete("bad-values", "eqiad").expect("etcd deletes");
    scenario.condition("SourcesReady", "False/NotAnswering");
    scenario.refused_saying(&["delete", "deployment", main], "key missing, since ");

    scenario.depool();
    scenario.passes("kubectl", &["delete", "deployment", main]);
}

#[test]
fn a_datacenter_that_the_spec_does_not_name_is_unknown() {
    let scenario = Scenario::guarded("bad-datacenter");
    scenario.depool();
    let without = pooling("bad-datacenter").replace(", {name: eqiad}", "");
    scenario.apply(&without).success().expect("intent may change");
    scenario.serving("Unknown");
    scenario
        .refused_saying(&["delete", "deployment", "bad-datacenter-main"], "spec.datacenters does not name it, since ");
    scenario.apply(&pooling("bad-datacenter")).success().expect("and be mended");
    scenario.serving("NotServing");
    scenario.passes("kubectl", &["delete", "deployment", "bad-datacenter-main"]);
}

#[test]
fn a_resource_of_a_newer_version_guards_its_namespace_and_no_other() {
    let scenario = Scenario::guarded("bad-newer");
    let other = Scenario::guarded("bad-newer-other");
    let datacenter = scenario.datacenter();
    // What a newer version's definition would bring: a field that this binary does not know.
    let field = r#"[{"op":"add","path":"/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/future","value":{"type":"string"}}]"#;
    datacenter
        .kubectl(&["patch", "crd", "servicepoolings.poolguard.dev", "--type=json", "-p", field])
        .expect("kubectl")
        .success()
        .expect("a newer definition");
    let newer =
        pooling("bad-newer").replace("metadata: {name: bad-newer,", "metadata: {name: newer,") + "  future: \"yes\"\n";
    wait_for("the newer definition to be served", SOON, || {
        datacenter.apply(&newer)?;
        let field = datacenter.kubectl(&[
            "-n",
            "bad-newer",
            "get",
            "servicepooling",
            "newer",
            "-o",
            "jsonpath={.spec.future}",
        ])?;
        anyhow::ensure!(field.success()? == "yes", "the field is pruned");
        Ok(())
    })
    .expect("a newer resource");
    scenario.depool();
    let said = scenario.refused("kubectl", &["delete", "deployment", "bad-newer-main"]);
    assert!(said.contains("ServicePooling bad-newer/newer cannot be read by this version"), "{said}");
    other.depool();
    other.passes("kubectl", &["delete", "deployment", "bad-newer-other-main"]);
}

#[test]
fn a_configuration_that_is_missing_or_wrong_ends_with_2_and_all_errors_at_once() {
    let run = |path: &str| Command::new(binary()).args(["webhook", "--config", path]).output().expect("it starts");
    let missing = run("/nowhere/poolguard.yaml");
    assert_eq!(missing.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&missing.stderr).contains("/nowhere/poolguard.yaml: cannot be read"));
    let folder = std::env::temp_dir().join(format!("poolguard-config-{}", std::process::id()));
    std::fs::write(&folder, "datacentre: eqiad\nevidenceTimeout: 1h\n").expect("a file");
    let wrong = run(&folder.to_string_lossy());
    std::fs::remove_file(&folder).expect("the file goes");
    assert_eq!(wrong.status.code(), Some(2));
    let said = String::from_utf8_lossy(&wrong.stderr).into_owned();
    for path in ["datacentre", "evidenceTimeout", "datacenter"] {
        assert!(said.lines().any(|line| line.starts_with(&format!("configuration: {path}: "))), "{path}: {said}");
    }
}
