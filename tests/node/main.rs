//! The node tier: Poolguard as it is shipped, in pods of a real node, installed by its chart and reached by its Service.
//!
//! Wants root, and Debian 12, whose packages are unpacked below `target/`. Nothing of it outlives the tests.

mod enclosure;
mod image;
mod install;
mod outage;
mod uninstall;

use std::sync::LazyLock;

use poolguard_harness::image::Image;
use poolguard_harness::node::{self, Node, Parts};

/// What a node is made of.
static PARTS: LazyLock<Parts> = LazyLock::new(|| node::prepare(&progress).expect("what a real node needs"));

/// The image, built once for all.
static IMAGE: LazyLock<Image> = LazyLock::new(|| image::build("poolguard"));

fn progress(line: &str) {
    eprintln!("  {line}");
}

#[test]
fn on_a_real_node_the_chart_comes_up_as_it_is_refuses_the_outage_and_goes() {
    let node = Node::start(&PARTS).expect("a node");
    println!("the node was ready after {:.1} s", node.took.as_secs_f64());
    let release = install::with_two_values(&node, &IMAGE);
    outage::deploy(&node);
    install::what_the_chart_asks_for_is_in_force(&node);
    install::evidence_by_tls(&node, &release);
    outage::refused(&node, &release);
    outage::ordinary_work_goes_on(&node);
    uninstall::tested_by_helm(&node);
    uninstall::refused_while_services_are_guarded(&node);
    outage::goes_after_the_depool(&node, &release);
    uninstall::goes_when_nothing_is_guarded(&node);
}
