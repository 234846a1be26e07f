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
}
