//! Evidence: what the sources say when they are well, and when they are not. Every fault leads to a refusal within the deadline,
//! never to a permission, and concerns no other service; each is shown to have been hit, and the same command succeeds once it
//! is over.

mod alerts;
mod etcd;
mod exposition;
mod real;
mod wire;
mod world;

use poolguard_harness::wait::wait_for;
use world::World;

use crate::scenario::SOON;

/// A fault and what must follow from it.
struct Case {
    /// The service, its namespace, and the name in the source.
    name: &'static str,
    /// Its entry of `evidence`.
    entry: String,
    /// What the refusal says.
    words: &'static str,
    /// What the status says.
    says: &'static str,
    /// The source, and the result that its metric counts.
    metric: (&'static str, &'static str),
}

impl Case {
    fn dns(
        name: &'static str,
        source: &'static str,
        words: &'static str,
        says: &'static str,
        result: &'static str,
    ) -> Self {
        let entry = format!("{{name: answers, source: {source}, dns: {{name: {name}.test}}}}");
        Self { name, entry, words, says, metric: (source, result) }
    }

    fn prometheus(
        name: &'static str,
        query: &str,
        words: &'static str,
        says: &'static str,
        result: &'static str,
    ) -> Self {
        let source = if query.starts_with("prometheus_") { "wire-prometheus" } else { "prometheus" };
        let entry = format!("{{name: traffic, source: {source}, prometheus: {{query: '{query}'}}}}");
        Self { name, entry, words, says, metric: (source, result) }
    }

    fn conftool(name: &'static str, words: &'static str, says: &'static str) -> Self {
        let entry = format!("{{name: discovery, source: garbled, conftool: {{record: {name}}}}}");
        Self { name, entry, words, says, metric: ("garbled", "ok") }
    }
}

fn make(world: &World, cases: &[Case]) {
    let services: Vec<(String, String)> = cases.iter().map(|case| (case.name.to_owned(), case.entry.clone())).collect();
    world.services(&services);
}

/// The cases in which the source hangs, so that somebody else might have to wait.
const HANGING: [&str; 3] = ["dns-silent", "prometheus-slow", "prometheus-huge"];

fn check(world: &World, case: &Case) {
    let before = world.results(case.metric.0, case.metric.1);
    if HANGING.contains(&case.name) {
        world.refused_and_nobody_else(case.name, case.words);
    } else {
        world.refused(case.name, case.words);
    }
    assert!(world.results(case.metric.0, case.metric.1) > before, "{}: the metric {:?}", case.name, case.metric);
    world.says(case.name, 0, case.says);
    world.state(case.name, if case.says == "Serving" { "Serving" } else { "Unknown" });
}

#[test]
fn no_answer_of_a_dns_server_that_proves_nothing_is_a_permission() {
    let world = World::shared();
    let cases = [
        Case::dns("dns-servfail", "wire", "Server Failure", "Unknown: Unreachable", "Unreachable"),
        Case::dns("dns-nxdomain", "wire", "NXDOMAIN", "Unknown: Missing", "Missing"),
        Case::dns("dns-silent", "wire", "no answer from", "Unknown: TimedOut", "TimedOut"),
        Case::dns("dns-disagree", "wire-both", "serves live traffic in eqiad and", "Serving", "ok"),
        Case::dns("dns-half-dead", "wire-both", "no answer from", "Unknown: TimedOut", "TimedOut"),
        Case::dns("dns-tcp-only", "wire", "serves live traffic in eqiad and", "Serving", "ok"),
        Case::dns("dns-six", "wire", "serves live traffic in eqiad and", "Serving", "ok"),
        Case::dns("dns-cname", "wire", "serves live traffic in eqiad and", "Serving", "ok"),
        Case::dns("dns-clients", "wire", "serves live traffic in eqiad and", "Serving", "ok"),
        Case::dns("dns-cname-loop", "wire", "circle", "Unknown: Malformed", "Malformed"),
        Case::dns("dns-truncated", "wire", "cannot be reached", "Unknown: Unreachable", "Unreachable"),
        Case::dns("dns-lame", "wire", "no authority", "Unknown: Unreachable", "Unreachable"),
        Case::dns("dns-fail-address", "wire", "in no configured network", "Unknown: NotConfigured", "ok"),
        Case::dns("dns-without-subnet", "wire", "client subnet", "Unknown: Incomplete", "Incomplete"),
    ];
    make(world, &cases);
    for case in &cases {
        check(world, case);
        let heard = |dns: &wire::Dns| dns.heard.count(case.name);
        assert!(heard(&world.dns[0]) > 0, "{}: the fault was not hit", case.name);
    }
    for network in ["10.64.0.0", "10.192.0.0"] {
        assert!(world.dns[0].heard.count(network) > 0, "nobody asked on behalf of clients in {network}");
    }
    for case in &cases {
        world.dns.iter().for_each(|dns| dns.heard.heal(case.name));
    }
    for case in &cases {
        world.permitted(case.name);
    }
}

#[test]
fn an_answer_of_dns_counts_for_as_long_as_clients_hold_it() {
    let world = World::shared();
    let cases = ["dns-held", "dns-ttl-zero", "dns-ttl-top-bit"]
        .map(|name| Case::dns(name, "wire-held", "serves live traffic in eqiad and", "Serving", "ok"));
    make(world, &cases);
    for case in &cases {
        check(world, case);
    }
    for case in &cases {
        world.dns[0].heard.heal(case.name);
    }
    wait_for("the refusal to count the TTL down", SOON, || {
        let (output, _) = world.delete("dns-held");
        assert!(!output.ok(), "permitted while clients hold the answer");
        anyhow::ensure!(output.text().contains("clients may still hold the old answer"), "it says {}", output.text());
        Ok(())
    })
    .expect("a refusal");
    // A TTL of 0 is over at once, and so is one with its top bit set.
    for (case, ttl) in cases.iter().zip([wire::HELD, 0, 0]) {
        world.says(case.name, 0, "NotServing");
        let held = world.held(case.name);
        assert!((i64::from(ttl)..=i64::from(ttl) + 1).contains(&held), "{}: held for {held} s", case.name);
        world.permitted(case.name);
    }
}

#[test]
fn a_name_that_has_just_been_looked_up_for_the_first_time_proves_nothing() {
    let world = World::shared();
    let name = "dns-fresh";
    world.dns[0].heard.heal(name);
    let case = Case::dns(name, "wire-held", "looked up for too short a time", "Unknown: Unsettled", "ok");
    make(world, std::slice::from_ref(&case));
    check(world, &case);
    world.permitted(name);
}

#[test]
fn no_answer_of_prometheus_that_proves_nothing_is_a_permission() {
    let world = World::shared();
    let cases = [
        Case::prometheus("prometheus-503", "prometheus_503", "503", "Unknown: Unreachable", "Unreachable"),
        Case::prometheus("prometheus-warnings", "prometheus_warnings", "not all", "Unknown: Incomplete", "ok"),
        Case::prometheus(
            "prometheus-redirect",
            "prometheus_redirect",
            "redirects",
            "Unknown: Unreachable",
            "Unreachable",
        ),
        Case::prometheus("prometheus-slow", "prometheus_slow", "no answer from", "Unknown: TimedOut", "TimedOut"),
        Case::prometheus("prometheus-huge", "prometheus_huge", "exceeds", "Unknown: Malformed", "Malformed"),
    ];
    make(world, &cases);
    for case in &cases {
        check(world, case);
        let query = case.name.replace('-', "_");
        assert!(world.prometheus.heard.count(&query) > 0, "{}: the fault was not hit", case.name);
    }
    assert_eq!(world.prometheus.heard.count("elsewhere"), 0, "a redirect was followed");
    for case in &cases {
        world.prometheus.heard.heal(&case.name.replace('-', "_"));
    }
    for case in &cases {
        world.permitted(case.name);
    }
}

#[test]
fn no_value_in_conftool_that_proves_nothing_is_a_permission() {
    let world = World::shared();
    let big = format!(r#"{{"pooled": false, "ttl": 1, "note": "{}"}}"#, "x".repeat(1 << 20));
    let cases = [
        (Case::conftool("etcd-deleted", "key missing", "Unknown: Missing"), None),
        (Case::conftool("etcd-truncated", "not JSON", "Unknown: Malformed"), Some(r#"{"pooled": fal"#)),
        (Case::conftool("etcd-no-json", "not JSON", "Unknown: Malformed"), Some("pooled: false")),
        (Case::conftool("etcd-null", "not an object", "Unknown: Malformed"), Some("null")),
        (
            Case::conftool("etcd-extra-fields", "serves live traffic in eqiad and", "Serving"),
            Some(r#"{"pooled": true, "ttl": 1, "weight": [1, {}], "references": ["x"]}"#),
        ),
        (Case::conftool("etcd-big", "exceeds", "Unknown: Malformed"), Some(big.as_str())),
    ];
    for (case, value) in &cases {
        world.garbled.record(None, case.name, &["codfw"]).expect("a record");
        match value {
            Some(value) => world.garbled.put(None, case.name, "eqiad", value).expect("a value"),
            None => world.garbled.delete(case.name, "eqiad").expect("no value"),
        }
    }
    let (cases, values): (Vec<Case>, Vec<_>) = cases.into_iter().unzip();
    make(world, &cases);
    for case in &cases {
        check(world, case);
    }
    drop(values);
    for case in &cases {
        let further = r#"{"pooled": false, "references": [], "ttl": 1, "further": {"field": null}}"#;
        world.garbled.put(None, case.name, "eqiad", further).expect("a value");
    }
    for case in &cases {
        world.permitted(case.name);
    }
}

#[test]
fn sources_are_reached_with_certificates_passwords_and_tokens_and_not_without() {
    let world = World::shared();
    let query =
        |source: &str, query: &str| format!("{{name: traffic, source: {source}, prometheus: {{query: '{query}'}}}}");
    let record = |source: &str| format!("{{name: discovery, source: {source}, conftool: {{record: tls}}}}");
    world.tls.record(None, "tls", &["codfw"]).expect("a record");
    let known = [
        ("etcd-tls", record("etcd-tls")),
        ("prometheus-tls", query("prometheus-tls", "vector(0)")),
        ("prometheus-token", query("prometheus-token", "prometheus_token")),
    ];
    let unknown = [
        ("etcd-stranger", record("etcd-stranger"), "cannot be reached"),
        ("prometheus-stranger", query("prometheus-stranger", "vector(0)"), "cannot be reached"),
        ("prometheus-no-token", query("wire-prometheus", "prometheus_token"), "Prometheus answered 401"),
    ];
    let all =
        known.iter().map(|(name, entry)| (name, entry)).chain(unknown.iter().map(|(name, entry, _)| (name, entry)));
    let services: Vec<(String, String)> = all.map(|(name, entry)| ((*name).to_owned(), entry.clone())).collect();
    world.services(&services);
    for (name, _, words) in &unknown {
        world.refused(name, words);
        world.says(name, 0, "Unknown: Unreachable");
    }
    // A TTL of 1 s, and 2 s until a switch has reached DNS.
    world.says("etcd-tls", 0, "NotServing");
    let held = world.held("etcd-tls");
    assert!(held >= 3, "believed after {held} s");
    for (name, _) in &known {
        world.permitted(name);
    }
}
