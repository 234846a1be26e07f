//! The real thing: conftool, gdnsd and Prometheus about one service, and what they say when they disagree.

use std::time::Duration;

use poolguard_harness::edge::addresses;
use poolguard_harness::wait::{wait_for, wait_for_every};

use super::world::World;
use super::{Case, check, make};
use crate::scenario::SOON;

/// The queries of the documentation, with a minute of as many seconds.
fn documented(minute: u32) -> [String; 3] {
    let text = std::fs::read_to_string(poolguard_harness::root().join("docs/sources.md")).expect("the documentation");
    let queries: Vec<String> = text
        .split("```promql\n")
        .skip(1)
        .filter_map(|rest| rest.split("\n```").next())
        .map(|query| {
            let of = |minutes: u32| format!("{}s", minutes * minute);
            query.replace('\n', " ").replace("5m", &of(5)).replace("1m", &of(1))
        })
        .collect();
    queries.try_into().expect("three queries")
}

fn everything(name: &str) -> String {
    format!(
        "{{name: discovery, source: main, conftool: {{record: {name}}}}}, \
         {{name: answers, source: gdnsd, dns: {{name: {name}.discovery.wmnet}}}}, \
         {{name: traffic, source: prometheus, prometheus: {{query: '{}', threshold: 500m}}}}",
        documented(2)[0]
    )
}

fn set(world: &World, name: &str, pooled_in: &[&str]) {
    for datacenter in ["codfw", "eqiad"] {
        world.conftool.pool(name, datacenter, pooled_in.contains(&datacenter)).expect("confctl");
    }
}

/// Changes what a service is meant to be.
fn intend(world: &World, name: &str, mode: &str) {
    let patch = format!(r#"{{"spec":{{"mode":"{mode}"}}}}"#);
    let change = ["-n", name, "patch", "servicepooling", name, "--type=merge", "-p", &patch];
    world.eqiad.kubectl(&change).expect("kubectl").success().expect("a change of intent");
}

/// The row of `kubectl get servicepoolings -A -o wide`, once it says all of this.
fn row(world: &World, name: &str, words: &[&str]) {
    wait_for(&format!("the row of {name} to say {words:?}"), SOON, || {
        let table = world.eqiad.kubectl(&["get", "servicepoolings", "-A", "-o", "wide"])?.success()?;
        let row = table.lines().find(|line| line.contains(name)).unwrap_or_default();
        anyhow::ensure!(words.iter().all(|word| row.contains(word)), "it says {row}");
        Ok(())
    })
    .expect("the row");
}

#[test]
fn a_depool_is_followed_from_conftool_to_dns_to_the_last_request() {
    let world = World::shared();
    let name = "edge-active";
    set(world, name, &["codfw", "eqiad"]);
    world.services(&[(name.to_owned(), everything(name))]);
    for entry in 0..3 {
        world.says(name, entry, "Serving");
    }
    row(world, name, &["codfw=serving eqiad=serving", "Serving", "True", "ActiveActive", "intent and evidence agree"]);
    world.refused(name, "serves live traffic in eqiad");
    // Depooled with the real conftool: gdnsd follows, clients go elsewhere, traffic ends, and only then it may go.
    set(world, name, &["codfw"]);
    world.says(name, 0, "NotServing");
    for entry in [1, 2] {
        world.says(name, entry, "NotServing");
    }
    row(world, name, &["codfw=serving eqiad=depooled", "NotServing", "pooled in codfw only"]);
    world.permitted(name);
}

#[test]
fn an_active_passive_record_pooled_twice_shows_where_traffic_really_goes() {
    let world = World::shared();
    let name = "edge-passive";
    set(world, name, &["eqiad"]);
    let entries = everything(name);
    world.services(&[(name.to_owned(), entries)]);
    intend(world, name, "ActivePassive");
    world.says(name, 1, "Serving");
    // The second datacenter is pooled as well: gdnsd keeps what it had, and conftool no longer says who serves.
    set(world, name, &["codfw", "eqiad"]);
    row(world, name, &["pooled in codfw and eqiad", "about edge-passive in codfw, discovery says pooled=true"]);
    let drift = world.status(name, ".drift[*].reason").expect("the drift");
    assert!(drift.contains("PooledTwice") && drift.contains("SourcesDisagree"), "{drift}");
    // Depooled again there: gdnsd has led to eqiad all the time.
    set(world, name, &["eqiad"]);
    world.refused(name, "serves live traffic in eqiad");
    set(world, name, &["codfw"]);
    world.permitted(name);
}

#[test]
fn what_a_real_prometheus_answers_is_no_permission_unless_it_is_one_number() {
    let world = World::shared();
    set(world, "edge-traffic", &["eqiad"]);
    // Requests of this service: above zero while it is pooled here, zero afterwards.
    let of = "sum(rate(envoy_cluster_upstream_rq_total{envoy_cluster_name=\"edge-traffic\"}[4s]))";
    let with = |query: &str| query.replace('T', of);
    let passing = [
        Case::prometheus("traffic-empty", &with("T == 0"), "yields nothing", "Unknown: Missing", "Missing"),
        Case::prometheus("traffic-nan", &with("0 / (T == bool 0)"), "NaN", "Unknown: Malformed", "Malformed"),
        Case::prometheus("traffic-inf", &with("T / (T == bool 0)"), "Inf", "Unknown: Malformed", "Malformed"),
        Case::prometheus(
            "traffic-two",
            &with("T or label_replace(T > 0, \"a\", \"b\", \"\", \"\")"),
            "2 series",
            "Unknown: Ambiguous",
            "Ambiguous",
        ),
    ];
    let [_, ingress, mesh] = documented(2);
    // What is wrong with a query stays wrong: its resource must be mended, and that is refused like any weakening.
    let lasting = [
        Case::prometheus("traffic-scalar", &with("scalar(T)"), "a scalar", "Unknown: Malformed", "Malformed"),
        Case::prometheus("traffic-wrong", "sum(", "parse error", "Unknown: Unreachable", "Unreachable"),
        // The documentation's: nobody scrapes such proxies here, and that is no zero.
        Case::prometheus("traffic-ingress", &ingress, "yields nothing", "Unknown: Missing", "Missing"),
        Case::prometheus("traffic-mesh", &mesh, "yields nothing", "Unknown: Missing", "Missing"),
        Case::prometheus("traffic-unquoted", "sum($service)", "inside of quotes", "Unknown: Malformed", "Malformed"),
    ];
    make(world, &passing);
    make(world, &lasting);
    for case in passing.iter().chain(&lasting) {
        check(world, case);
    }
    set(world, "edge-traffic", &["codfw"]);
    for case in &passing {
        world.permitted(case.name);
    }
    for case in &lasting {
        world.refused(case.name, case.words);
        let patch = r#"[{"op":"replace","path":"/spec/evidence/0/prometheus/query","value":"vector(0)"}]"#;
        let change = ["-n", case.name, "patch", "servicepooling", case.name, "--type=json", "-p", patch];
        assert!(!world.eqiad.kubectl(&change).expect("kubectl").ok(), "{}: the query was changed", case.name);
    }
}

#[test]
fn a_third_datacenter_makes_a_depool_unknown_for_as_long_as_dns_keeps_what_it_had() {
    let world = World::shared();
    let name = "edge-third";
    let put = |datacenter: &str, pooled: bool| {
        let value = format!(r#"{{"pooled": {pooled}, "references": [], "ttl": 1}}"#);
        world.etcd.put(None, name, datacenter, &value).expect("a value");
    };
    put("eqiad", true);
    world.services(&[(name.to_owned(), format!("{{name: discovery, source: main, conftool: {{record: {name}}}}}"))]);
    intend(world, name, "ActivePassive");
    let leads_here = || -> anyhow::Result<bool> {
        let addresses = world.edge.ask(name, "eqiad")?;
        Ok(addresses.iter().any(|address| addresses::datacenter(*address) == Some("eqiad")))
    };
    wait_for("gdnsd to lead here", SOON, || {
        anyhow::ensure!(leads_here()?, "it leads elsewhere");
        Ok(())
    })
    .expect("gdnsd follows");
    // Two others are pooled before eqiad is depooled, one of which the spec does not name: DNS keeps leading here.
    for (datacenter, pooled) in [("codfw", true), ("ulsfo", true), ("eqiad", false)] {
        put(datacenter, pooled);
    }
    world.says(name, 0, "Unknown: Ambiguous");
    world.state(name, "Unknown");
    // The TTL has long been over when the guard is still closed.
    wait_for("the refusal to be about the record", SOON, || {
        let (output, _) = world.delete(name);
        assert!(!output.ok(), "permitted while DNS leads here");
        anyhow::ensure!(output.text().contains("codfw and ulsfo pooled"), "it says {}", output.text());
        Ok(())
    })
    .expect("a refusal");
    assert!(leads_here().expect("gdnsd answers"), "the fault was not hit");
    put("ulsfo", false);
    wait_for("gdnsd to follow", SOON, || {
        anyhow::ensure!(!leads_here()?, "it leads here");
        Ok(())
    })
    .expect("gdnsd follows");
    world.permitted(name);
}

#[test]
fn a_scrape_that_comes_back_is_no_zero_until_it_has_seen_the_whole_range() {
    let world = World::shared();
    let name = "edge-lost";
    set(world, name, &["eqiad"]);
    let (series, up) = (format!("envoy_cluster_upstream_rq_total{{envoy_cluster_name=\"{name}\"}}"), "job=\"envoy\"");
    // The documentation's queries, about the only proxies that there are.
    let queries = documented(1).map(|query| {
        let about = |query: &str, metric: &str| match query.split_once(metric) {
            Some((before, after)) => {
                let after = after.split_once('}').expect("the end of its labels").1;
                format!("{before}{series}{after}")
            }
            None => query.to_owned(),
        };
        let mut query = query.replace("job=\"ingress-nginx\"", up).replace("job=\"istio-proxies\"", up);
        for metric in ["envoy_cluster_upstream_rq_total{envoy_cluster_name=\"$service", "nginx_", "istio_requests"] {
            query = about(&about(&query, metric), metric);
        }
        query
    });
    let asked = |query: &str| world.scraped.query(query);
    let seen = |what: &str| {
        for query in &queries {
            wait_for(&format!("{what} by {query}"), SOON, || {
                anyhow::ensure!(asked(query)?.is_some_and(|value| value > 0.0), "it says {:?}", asked(query));
                Ok(())
            })
            .expect("traffic");
        }
    };
    seen("traffic to be seen");
    world.services(&[(
        name.to_owned(),
        format!("{{name: traffic, source: prometheus-scraped, prometheus: {{query: '{}'}}}}", queries[1]),
    )]);
    world.says(name, 0, "Serving");
    let (run, pid) = (world.eqiad.run(), world.scraped.traffic);
    run.signal(pid, "STOP").expect("the proxies stop");
    // Lost for as long as the range is, so that nothing of before is in it.
    let samples = format!("sum(count_over_time({series}[5s]))");
    wait_for("the range to be empty", SOON, || {
        anyhow::ensure!(asked(&samples)?.is_none(), "it is not");
        Ok(())
    })
    .expect("a lost scrape");
    world.refused(name, "yields nothing");
    world.says(name, 0, "Unknown: Missing");
    world.state(name, "Unknown");
    run.signal(pid, "CONT").expect("the proxies go on");
    let mut back = [false; 3];
    wait_for_every(Duration::from_millis(20), "traffic to be seen again", SOON, || {
        for (query, back) in queries.iter().zip(&mut back) {
            let value = asked(query)?;
            assert_ne!(value, Some(0.0), "no requests while they arrive, says {query}");
            *back |= value.is_some();
        }
        anyhow::ensure!(back == [true; 3], "nothing yet");
        Ok(())
    })
    .expect("traffic");
    world.says(name, 0, "Serving");
    world.refused(name, "serves live traffic");
}

#[test]
fn a_prometheus_that_is_paused_or_dead_is_no_permission() {
    let world = World::shared();
    let names = ["prometheus-paused", "prometheus-dead"];
    let entry = "{name: traffic, source: prometheus-dying, prometheus: {query: 'vector(0)'}}";
    world.services(&names.map(|name| (name.to_owned(), entry.to_owned())));
    world.says(names[0], 0, "NotServing");
    let (run, pid) = (world.eqiad.run(), world.edge.prometheus_pid("codfw"));
    run.signal(pid, "STOP").expect("Prometheus stops");
    world.refused_and_nobody_else(names[0], "no answer from Prometheus");
    world.says(names[0], 0, "Unknown: TimedOut");
    assert!(world.results("prometheus-dying", "TimedOut") > 0.0);
    run.signal(pid, "CONT").expect("Prometheus goes on");
    world.permitted(names[0]);
    run.end(pid, true).expect("Prometheus dies");
    world.refused(names[1], "cannot be reached");
    world.says(names[1], 0, "Unknown: Unreachable");
    assert!(world.results("prometheus-dying", "Unreachable") > 0.0);
}
