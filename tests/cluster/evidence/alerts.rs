//! The alerts of the chart, tried by promtool against series of every case, and what they and the dashboard ask Prometheus for,
//! compared with the metrics that the processes really have.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;

use poolguard_harness::command::run;
use poolguard_harness::wait::wait_for;
use poolguard_harness::{debian, http, root};
use serde_json::Value;

use super::world::World;
use crate::scenario::SOON;

/// A metric and its labels.
type Labels = BTreeMap<String, BTreeSet<String>>;

/// A metric that a query asks for, with the labels that it selects by, and those that it groups by.
#[derive(Debug, Default, PartialEq, Eq)]
struct Asked {
    metrics: Labels,
    groups: BTreeSet<String>,
}

/// What a query asks for. It knows as much of the language as names, selectors and groups.
fn asked(query: &str) -> Asked {
    let mut asked = Asked::default();
    let word = |text: &str| text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len());
    let mut rest = query;
    while let Some(start) = rest.find(|c: char| c.is_ascii_alphabetic() || c == '_' || c == '"') {
        rest = &rest[start..];
        if let Some(quoted) = rest.strip_prefix('"') {
            rest = quoted.split_once('"').map_or("", |(_, rest)| rest);
            continue;
        }
        let (name, after) = rest.split_at(word(rest));
        rest = after.trim_start();
        if name == "by" {
            let (group, after) = rest.trim_start_matches('(').split_once(')').unwrap_or((rest, ""));
            asked.groups.extend(group.split(',').map(|label| label.trim().to_owned()));
            rest = after;
        } else if name.starts_with("poolguard_") {
            let labels = asked.metrics.entry(name.to_owned()).or_default();
            if let Some(selector) = rest.strip_prefix('{') {
                let (selector, after) = selector.split_once('}').unwrap_or((selector, ""));
                let label = |part: &str| part[..word(part)].to_owned();
                labels.extend(selector.split(',').map(|part| label(part.trim())));
                rest = after;
            }
        }
    }
    asked
}

/// What a process exposes.
fn exposed(port: u16, into: &mut Labels) -> anyhow::Result<()> {
    for line in http::get(port, "/metrics")?.body.lines().filter(|line| !line.starts_with('#')) {
        let end = line.find(['{', ' ']).unwrap_or(line.len());
        let labels = into.entry(line[..end].to_owned()).or_default();
        let quoted = line[end..].trim_start_matches('{').split('"').step_by(2);
        labels.extend(quoted.filter_map(|part| Some(part.trim_start_matches(',').strip_suffix('=')?.to_owned())));
    }
    Ok(())
}

/// Every query of the alerts and of the dashboard, by where it stands.
fn queries() -> Vec<(String, String)> {
    let read = |path: &str| fs::read_to_string(root().join("charts/poolguard/files").join(path)).expect(path);
    let rules: Value = serde_yaml_ng::from_str(&read("alerts.yaml")).expect("YAML");
    let dashboard: Value = serde_json::from_str(&read("dashboard.json")).expect("JSON");
    let text = |value: &Value| value.as_str().expect("a string").to_owned();
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let mut queries = Vec::new();
    for rule in list(&rules["groups"]).iter().flat_map(|group| list(&group["rules"])) {
        queries.push((text(&rule["alert"]), text(&rule["expr"])));
    }
    assert!(queries.len() >= 15, "only {queries:?}");
    let mut ids = BTreeSet::new();
    for panel in list(&dashboard["panels"]) {
        assert!(ids.insert(panel["id"].as_i64()), "two panels have the number {}", panel["id"]);
        for target in list(&panel["targets"]) {
            assert_eq!(target["datasource"]["uid"], "${datasource}", "{panel:#}");
            let query = text(&target["expr"]).replace("$__rate_interval", "5m");
            assert!(!query.contains('$'), "a variable that nothing sets: {query}");
            queries.push((text(&panel["title"]), query));
        }
    }
    queries
}

#[test]
fn a_query_asks_for_metrics_labels_and_groups() {
    let query = r#"sum by (le, source) (rate(poolguard_a_bucket{x="by (y)", z!~"poolguard_q"}[5m])) > on() poolguard_b offset 5m"#;
    let labels = |all: &[&str]| all.iter().map(|label| (*label).to_owned()).collect::<BTreeSet<_>>();
    let metrics = [("poolguard_a_bucket", labels(&["x", "z"])), ("poolguard_b", labels(&[]))];
    let metrics = metrics.map(|(name, labels)| (name.to_owned(), labels)).into();
    assert_eq!(asked(query), Asked { metrics, groups: labels(&["le", "source"]) });
}

#[test]
fn the_alerts_fire_when_they_must_and_they_and_the_dashboard_ask_for_metrics_that_exist() {
    let debian = debian::unpack(&|line| eprintln!("  {line}")).expect("Prometheus");
    let promtool = |arguments: &[&str]| {
        run(debian.command("usr/bin/promtool").args(arguments)).expect("promtool").success().expect("it finds no fault")
    };
    promtool(&["test", "rules", &root().join("tests/alerts/guard.yaml").to_string_lossy()]);
    let world = World::shared();
    let queries = queries();
    // Prometheus takes each query of the dashboard.
    let mut rules = "groups:\n- name: dashboard\n  rules:\n".to_owned();
    for (index, (_, query)) in queries.iter().enumerate() {
        writeln!(rules, "  - {{record: 'query:{index}', expr: {}}}", Value::from(query.as_str())).expect("a string");
    }
    let file = world.eqiad.folder.join("dashboard-rules.yaml");
    fs::write(&file, rules).expect("a file");
    promtool(&["check", "rules", &file.to_string_lossy()]);
    counted(world);
    let mut wanting = Vec::new();
    let mut all = Labels::new();
    wait_for("every metric to be there", SOON, || {
        all.clear();
        wanting.clear();
        for process in ["webhook", "controller"] {
            exposed(world.operator.metrics_port(process), &mut all)?;
        }
        for (place, query) in &queries {
            let Asked { metrics, groups } = asked(query);
            assert!(!metrics.is_empty(), "{place} asks for nothing of ours: {query}");
            for (metric, labels) in &metrics {
                match all.get(metric) {
                    None => wanting.push(format!("{place}: there is no {metric}")),
                    Some(has) => wanting
                        .extend(labels.difference(has).map(|label| format!("{place}: {metric} has no label {label}"))),
                }
            }
            let known =
                |label: &&String| metrics.keys().any(|metric| all.get(metric).is_some_and(|has| has.contains(*label)));
            wanting
                .extend(groups.iter().filter(|label| !known(label)).map(|label| format!("{place}: none has {label}")));
        }
        anyhow::ensure!(wanting.is_empty(), "{}", wanting.join("\n"));
        Ok(())
    })
    .expect("every metric");
}

/// Makes happen whatever is counted only once it has happened: a refusal, broken glass, a warning. The drift is a snowflake's.
fn counted(world: &World) {
    let (refused, warned) = ("alert-refused", "alert-warned");
    world.etcd.record(None, refused, &["eqiad"]).expect("a record");
    let entry = format!("{{name: discovery, source: main, conftool: {{record: {refused}}}}}");
    world.services(&[(refused.to_owned(), entry)]);
    let kubectl = |arguments: &[&str]| world.eqiad.kubectl(arguments).expect("kubectl").success().expect("it succeeds");
    world.refused(refused, "serves live traffic");
    let broken = format!(
        "apiVersion: poolguard.dev/v1alpha1\nkind: PoolingOverride\nmetadata: {{name: glass, namespace: {refused}}}\nspec:\n  \
         servicePoolingRef: {{name: {refused}}}\n  datacenter: eqiad\n  reason: to see it counted\n  duration: 1h\n  requestedBy: admin\n"
    );
    world.eqiad.apply(&broken).expect("an override");
    wait_for("the override to let it pass", SOON, || {
        let (output, _) = world.delete(refused);
        anyhow::ensure!(output.ok(), "{}", output.text());
        Ok(())
    })
    .expect("a permission");
    kubectl(&["create", "namespace", warned]);
    let warns = format!(
        "apiVersion: poolguard.dev/v1alpha1\nkind: ServicePooling\nmetadata: {{name: {warned}, namespace: {warned}}}\nspec:\n  \
         selector: {{matchLabels: {{app: {warned}}}}}\n  enforcement: Warn\n  datacenters: [{{name: eqiad}}]\n  \
         evidence: [{{name: switch, declared: {{pooledIn: [eqiad]}}}}]\n"
    );
    world.eqiad.apply(&warns).expect("a ServicePooling that only warns");
    kubectl(&["-n", warned, "create", "deployment", warned, "--image=example/a:1"]);
    kubectl(&["-n", warned, "wait", "--for=condition=Available", "deployment", warned, "--timeout=90s"]);
    let delete = ["-n", warned, "delete", "deployment", warned];
    wait_for("a warning", SOON, || {
        let output = world.eqiad.kubectl(&[&delete[..], &["--dry-run=server"]].concat())?;
        anyhow::ensure!(output.ok() && output.text().contains("poolguard only warns here"), "{}", output.text());
        Ok(())
    })
    .expect("a warning");
    kubectl(&delete);
}
