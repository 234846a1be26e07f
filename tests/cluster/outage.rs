//! The demo's steps, as a test.

use poolguard_harness::demo::{Reporter, replay};
use poolguard_harness::fleet::Fleet;

use crate::scenario::binary;

#[test]
fn the_outage_of_2021_is_refused_and_without_poolguard_it_happens() {
    let fleet = Fleet::start(&|line| eprintln!("  {line}")).expect("two datacenters");
    assert!(fleet.took.as_secs() < 60, "both datacenters took {:?}", fleet.took);
    let reporter = Reporter::silent();
    let replayed = replay(&fleet, binary(), &reporter);
    assert!(replayed.is_ok(), "{:#}\n{}", replayed.expect_err("it failed"), reporter.transcript().join("\n"));
    assert!(reporter.transcript().len() <= 40);
    let readme = std::fs::read_to_string(poolguard_harness::root().join("README.md")).expect("the README");
    let told: Vec<String> = commands(reporter.transcript().iter().map(String::as_str));
    assert!(told.len() > 10, "{told:?}");
    assert_eq!(
        commands(readme.lines()),
        told,
        "the README's transcript is of another demo: `cargo xtask demo --record`"
    );
}

/// The commands of a transcript and what became of them, whatever a pod is called this time.
fn commands<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<String> {
    let word = |word: &'a str| if word.starts_with("eventgate-canary-") { "POD" } else { word };
    lines
        .filter(|line| line.starts_with("$ "))
        .map(|line| line.split_whitespace().map(word).collect::<Vec<_>>().join(" "))
        .collect()
}
