//! What the processes expose, against the list of the documentation and what Prometheus says of good metrics.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Seek, Write};

use poolguard_harness::{debian, http, root};

use super::world::World;

/// A row of docs/metrics.md.
#[derive(Debug, PartialEq, Eq)]
struct Row {
    kind: String,
    labels: BTreeSet<String>,
    help: String,
}

/// The rows that the page has for a process.
fn listed(page: &str, process: &str) -> BTreeMap<String, Row> {
    let wanted = ["Both processes".to_owned(), format!("The {process}")];
    let sections = page.split("\n## ").filter(|section| wanted.iter().any(|name| section.starts_with(name.as_str())));
    let rows = sections.flat_map(str::lines).filter_map(|line| line.strip_prefix("| `")).map(|line| {
        let cells: Vec<&str> = line.trim_end_matches(" |").split(" | ").collect();
        assert_eq!(cells.len(), 5, "{line}");
        let labels = cells[2].split(", ").map(|label| label.trim_matches('`').to_owned());
        let labels = labels.filter(|label| label != "none").collect();
        let row = Row { kind: cells[1].to_owned(), labels, help: cells[4].to_owned() };
        (cells[0].trim_end_matches('`').to_owned(), row)
    });
    rows.collect()
}

/// Name and labels of a sample.
fn sample(line: &str) -> (&str, BTreeSet<String>) {
    let Some((name, rest)) = line.split_once('{') else {
        return (line.split(' ').next().unwrap_or_default(), BTreeSet::new());
    };
    let labels = rest.rsplit_once('}').map_or("", |(labels, _)| labels);
    // No value of a label holds this.
    let names = labels.split("\",").filter_map(|pair| Some(pair.split_once("=\"")?.0.to_owned()));
    (name, names.filter(|name| name != "le").collect())
}

#[test]
fn the_processes_expose_what_the_list_says_and_prometheus_finds_no_fault_with_it() {
    let world = World::shared();
    let page = std::fs::read_to_string(root().join("docs/metrics.md")).expect("the list");
    let promtool = debian::unpack(&|line| eprintln!("  {line}")).expect("Prometheus");
    for (process, least) in [
        ("webhook", ["poolguard_build_info", "poolguard_reviews_total", "poolguard_review_duration_seconds"]),
        ("controller", ["poolguard_build_info", "poolguard_guard_proved", "poolguard_controller_leader"]),
    ] {
        let listed = listed(&page, process);
        assert!(listed.len() > 5, "the page has only {listed:?}");
        let text = http::get(world.operator.metrics_port(process), "/metrics").expect("metrics").body;
        let after = |start: &str| -> BTreeMap<&str, &str> {
            text.lines().filter_map(|line| line.strip_prefix(start)?.split_once(' ')).collect()
        };
        let (helps, kinds) = (after("# HELP "), after("# TYPE "));
        for name in least {
            assert!(kinds.contains_key(name), "{process} does not expose {name}");
        }
        for (name, kind) in &kinds {
            let row = listed.get(*name);
            assert!(row.is_some(), "docs/metrics.md does not list {name} of the {process}");
            let Some(row) = row else { continue };
            assert_eq!((row.kind.as_str(), row.help.as_str()), (*kind, helps[name]), "{name}");
            let (bucket, sum, count) = (format!("{name}_bucket"), format!("{name}_sum"), format!("{name}_count"));
            let names = [*name, bucket.as_str(), sum.as_str(), count.as_str()];
            let samples = text.lines().map(sample).filter(|(sample, _)| names.contains(sample));
            let mut seen = 0;
            for (_, labels) in samples {
                assert_eq!(labels, row.labels, "{name}");
                seen += 1;
            }
            assert!(seen > 0, "{name} has no sample");
        }
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(text.as_bytes()).and_then(|()| file.rewind()).expect("a file");
        let checked = promtool.command("usr/bin/promtool").args(["check", "metrics"]).stdin(file).output();
        let checked = checked.expect("promtool");
        let said = String::from_utf8_lossy(&checked.stderr).into_owned() + &String::from_utf8_lossy(&checked.stdout);
        assert!(checked.status.success() && said.trim().is_empty(), "{process}: {said}");
    }
}
