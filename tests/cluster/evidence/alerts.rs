//! The alerts of the chart, tried by promtool against series of every case, and their metrics against those that really exist.

use poolguard_harness::command::run;
use poolguard_harness::{debian, http, root};

use super::world::World;

#[test]
fn the_alerts_fire_when_the_guard_is_not_up_and_ask_for_metrics_that_exist() {
    let debian = debian::unpack(&|line| eprintln!("  {line}")).expect("Prometheus");
    let cases = root().join("tests/alerts/guard.yaml");
    let mut promtool = debian.command("usr/bin/promtool");
    run(promtool.args(["test", "rules"]).arg(cases)).expect("promtool").success().expect("every case");
    let rules = std::fs::read_to_string(root().join("charts/poolguard/files/alerts.yaml")).expect("the rules");
    let metrics = http::get(World::shared().operator.metrics_port("controller"), "/metrics").expect("metrics").body;
    let words =
        rules.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|word| word.starts_with("poolguard_"));
    let asked: std::collections::BTreeSet<&str> = words.collect();
    assert_eq!(asked.len(), 3, "{asked:?}");
    for metric in asked {
        let exists = metrics
            .lines()
            .any(|line| line.starts_with(&format!("{metric} ")) || line.starts_with(&format!("{metric}{{")));
        assert!(exists, "no process has {metric}");
    }
}
