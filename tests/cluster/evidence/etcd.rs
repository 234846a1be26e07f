//! etcd itself: members that are paused, killed or slow, passwords, and a state that was restored from an older one.

use poolguard_harness::wait::wait_for;

use super::world::{PASSWORD, World};
use crate::scenario::SOON;

fn entry(source: &str, record: &str) -> String {
    format!("{{name: discovery, source: {source}, conftool: {{record: {record}}}}}")
}

#[test]
fn three_members_lose_one_without_a_refusal_and_two_without_a_permission() {
    let world = World::shared();
    let root = Some(("root", PASSWORD));
    let names = ["three-failover", "three-no-quorum", "three-other-source"];
    for name in names {
        world.three.record(root, name, &["codfw"]).expect("a record");
    }
    world.etcd.record(None, names[2], &["codfw"]).expect("a record");
    world.services(&[
        (names[0].to_owned(), entry("three", names[0])),
        (names[1].to_owned(), entry("three", names[1])),
        (names[2].to_owned(), entry("main", names[2])),
        ("wrong-password".to_owned(), entry("wrong-password", names[0])),
    ]);
    world.refused("wrong-password", "etcd answered 401");
    world.says("wrong-password", 0, "Unknown: Unreachable");
    world.state("wrong-password", "Unknown");
    assert!(world.results("wrong-password", "Unreachable") > 0.0);

    // A datacenter that the spec no longer names has no series any more.
    let codfw = ["namespace=\"wrong-password\"", "datacenter=\"codfw\""];
    let series = || world.operator.metric("controller", "poolguard_service_state", &codfw).expect("the metric");
    assert_eq!(series(), 1.0);
    let patch = r#"[{"op":"remove","path":"/spec/datacenters/0"}]"#;
    let change = ["-n", "wrong-password", "patch", "servicepooling", "wrong-password", "--type=json", "-p", patch];
    world.eqiad.kubectl(&change).expect("kubectl").success().expect("intent may change");
    wait_for("the series to go", SOON, || {
        anyhow::ensure!(series() == 0.0, "it is still there");
        Ok(())
    })
    .expect("no series");

    // The one of three that is asked first is paused: it accepts connections and says nothing, and the next one is asked. The
    // first deletion passes.
    names[..2].iter().for_each(|name| world.says(name, 0, "NotServing"));
    world.three.signal(0, "STOP").expect("a member stops");
    world.three.has_quorum(1).expect("a leader");
    let (output, _) = world.delete(names[0]);
    assert!(output.ok(), "{}", output.text());
    world.three.signal(0, "CONT").expect("a member goes on");
    world.three.has_quorum(0).expect("it follows again");
    // Two of three are dead: the last one has no quorum.
    world.three.end(1).expect("a member dies");
    world.three.end(2).expect("a member dies");
    let failed = || world.results("three", "TimedOut") + world.results("three", "Unreachable");
    let before = failed();
    world.refused_and_nobody_else(names[1], "etcd");
    assert!(failed() > before, "the source's metric does not show it");
    world.says(names[1], 0, "Unknown: Unreachable");
    world.state(names[1], "Unknown");
    world.permitted(names[2]);
    for member in [1, 2] {
        world.three.restart(member).expect("a member comes back");
    }
    world.permitted(names[1]);
}

#[test]
fn an_etcd_that_is_slow_by_five_seconds_is_refused_in_time() {
    let world = World::shared();
    world.etcd.record(None, "etcd-slow", &["codfw"]).expect("a record");
    world.services(&[("etcd-slow".to_owned(), entry("slow", "etcd-slow"))]);
    world.refused_and_nobody_else("etcd-slow", "no answer");
    assert!(world.slow.heard.count("connection") > 0, "the fault was not hit");
    assert!(world.results("slow", "TimedOut") > 0.0);
    world.says("etcd-slow", 0, "Unknown: Unreachable");
    world.state("etcd-slow", "Unknown");
    world.slow.heard.heal("connection");
    world.permitted("etcd-slow");
}

#[test]
fn a_restored_etcd_starts_every_clock_anew() {
    let world = World::shared();
    let name = "etcd-restored";
    let ttl = |pooled: bool, ttl: u32| format!(r#"{{"pooled": {pooled}, "references": [], "ttl": {ttl}}}"#);
    let put = |datacenter, value: &str| world.restored.put(None, name, datacenter, value).expect("a value");
    put("codfw", &ttl(true, 1));
    put("eqiad", &ttl(true, 1));
    world.restored.keep().expect("a state to go back to");
    // Depooled, and believed after its TTL.
    put("eqiad", &ttl(false, 1));
    world.services(&[(name.to_owned(), entry("restored", name))]);
    world.says(name, 0, "NotServing");
    // Restored: the depool never was, and is asked for again, under the same number, with an hour for clients to hold on.
    world.restored.restore().expect("the older state");
    world.says(name, 0, "Serving");
    world.state(name, "Serving");
    world.refused(name, "serves live traffic");
    put("eqiad", &ttl(false, 3600));
    wait_for("the refusal to count from the new depool", SOON, || {
        let (output, _) = world.delete(name);
        anyhow::ensure!(output.text().contains("may still hold the old answer for 3"), "it says {}", output.text());
        Ok(())
    })
    .expect("a refusal");
    // The reuse of that refusal is over when the next one is counted as what it is.
    world.refused_as("Draining", name, "may still hold the old answer for 3");
    world.says(name, 0, "Serving");
    assert!(world.held(name) >= 3600, "the status counts from the new depool");
}

#[test]
fn a_watch_that_fell_behind_the_history_of_events_begins_anew() {
    let world = World::shared();
    let name = "etcd-behind";
    world.apart.record(None, name, &["codfw", "eqiad"]).expect("a record");
    world.services(&[(name.to_owned(), entry("apart", name))]);
    world.says(name, 0, "Serving");
    // etcd keeps 1,000 events. While the controller is paused, more than that happen, and the one that counts last.
    let (run, pid) = (world.eqiad.run(), world.operator.pid("controller").expect("a controller"));
    run.signal(pid, "STOP").expect("the controller stops");
    for index in 0..1100 {
        world.apart.put(None, "noise", "eqiad", &format!(r#"{{"pooled": false, "ttl": {index}}}"#)).expect("a value");
    }
    world.apart.record(None, name, &["codfw"]).expect("a depool");
    let cleared = || run.logged("eqiad-poolguard-controller", "history was cleared");
    assert_eq!(cleared(), 0);
    run.signal(pid, "CONT").expect("the controller goes on");
    world.permitted(name);
    assert_eq!(cleared(), 1, "the watch did not fall behind");
}
