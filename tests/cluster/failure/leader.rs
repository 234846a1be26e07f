//! The controller that leads: killed at each of its writes, from the first one of an installation to the end of a rotation of its
//! authority; frozen until another one leads; robbed of its Lease.
//!
//! A write that was under way when its author died has either happened or not. Where it has not, all is as after the write before it,
//! so that it is enough to kill behind each one.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use poolguard_harness::datacenter::{Controllers, Datacenter};
use poolguard_harness::operator::{NAMESPACE, Operator, Truth};
use poolguard_harness::wait::wait_for;
use serde_json::{Value, json};

use super::gate::Gate;
use super::traffic::Traffic;
use crate::scenario::{Alone, SOON};

const NAME: &str = "led";
const MAIN: &str = "led-main";
/// The summary of a service that is pooled here alone.
const ALONE: &str = "codfw=depooled eqiad=serving";
/// The right to a second Lease, which the chart does not give.
const OTHER: &str = "
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: other, namespace: poolguard}
rules:
- {apiGroups: [coordination.k8s.io], resources: [leases], resourceNames: [other], verbs: [get, list, watch, patch, update]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: other, namespace: poolguard}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: other}
subjects: [{kind: ServiceAccount, name: poolguard-controller, namespace: poolguard}]
";
/// What the controller makes for itself, besides a Lease.
const SECRETS: [&str; 2] = ["poolguard-webhook-ca", "poolguard-webhook-tls"];
/// As long as nothing is written for so long, nothing more is to be done.
const QUIET: Duration = Duration::from_secs(4);
/// One rotation of each kind, with a kill at each write.
const ROTATION: Duration = Duration::from_secs(300);

/// What the controller keeps for the service and for itself, without times, keys and who wrote it.
fn kept(datacenter: &Datacenter) -> Value {
    let of = |arguments: &[&str]| datacenter.get(arguments).unwrap_or(Value::Null);
    let pooling = of(&["-n", NAME, "servicepooling", NAME]);
    let conditions: Vec<Value> = pooling["status"]["conditions"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|condition| json!([condition["type"], condition["status"], condition["reason"]]))
        .collect();
    let bundles: BTreeSet<String> = of(&["validatingwebhookconfiguration", "poolguard"])["webhooks"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|entry| entry["clientConfig"]["caBundle"].to_string())
        .collect();
    let serving = of(&["-n", NAMESPACE, "secret", SECRETS[1]]);
    let authority = of(&["-n", NAMESPACE, "secret", SECRETS[0]]);
    let keys = |secret: &Value| secret["data"].as_object().map(|data| data.keys().cloned().collect::<Vec<_>>());
    json!({
        "serving": pooling["status"]["serving"], "summary": pooling["status"]["summary"], "conditions": conditions,
        "label": of(&["namespace", NAME])["metadata"]["labels"]["poolguard.dev/protected"],
        "budget": of(&["-n", NAME, "poddisruptionbudget", &format!("poolguard-{NAME}")])["spec"],
        "canary": of(&["-n", "poolguard-canary", "servicepooling", "canary"])["spec"],
        "trusted": bundles == BTreeSet::from([serving["data"]["ca.crt"].to_string()]),
        "authority": keys(&authority), "pair": keys(&serving),
    })
}

/// Waits until a process says that it leads, or that it does not.
pub(super) fn leads(operator: &Operator, process: &str, expected: bool) {
    wait_for(&format!("{process} to lead: {expected}"), SOON, || {
        let leads = operator.metric(process, "poolguard_controller_leader", &[])? > 0.5;
        anyhow::ensure!(leads == expected, "it says {leads}");
        Ok(())
    })
    .expect("the metric");
}

/// Forgets everything that a controller has made, as if none had ever been there, and registers the webhook anew.
fn forget(alone: &Alone) {
    let Alone { datacenter, operator, .. } = alone;
    for what in [
        &["delete", "validatingwebhookconfiguration", "poolguard"] as &[&str],
        &["-n", NAMESPACE, "delete", "secret", SECRETS[0], SECRETS[1]],
        &["-n", "poolguard-canary", "delete", "servicepooling", "--all"],
        &["label", "namespace", NAME, "poolguard.dev/protected-"],
        &["-n", NAME, "delete", "poddisruptionbudget", "--all"],
        &[
            "-n",
            NAME,
            "patch",
            "servicepooling",
            NAME,
            "--subresource=status",
            "--type=merge",
            "-p",
            "{\"status\":null}",
        ],
    ] {
        wait_for("it to be let go", SOON, || datacenter.kubectl(what)?.success()).expect("it goes");
    }
    operator.upgrade(datacenter, &[]).expect("it is registered again");
    wait_for("an open guard", SOON, || {
        alone.kubectl(NAME, &["delete", "deployment", MAIN, "--dry-run=server"]).success()
    })
    .expect("nobody guards it");
}

/// What has to go for the next controller to act at once; that a dead one's Lease ends by itself is shown elsewhere.
fn forget_lease(datacenter: &Datacenter) {
    let lease = ["-n", NAMESPACE, "delete", "lease", "poolguard-controller", "--ignore-not-found"];
    datacenter.kubectl(&lease).and_then(|output| output.success()).expect("the Lease goes");
}

/// Asks for a removal all the time, once the service has been seen guarded. Returns how often it was not let pass.
fn never_permitted(alone: &Alone, guarded: &AtomicBool, ended: &AtomicBool) -> (u64, u64) {
    let (mut refused, mut failed) = (0, 0);
    while !ended.load(Ordering::Relaxed) {
        let since = guarded.load(Ordering::Relaxed);
        let output = alone.kubectl(NAME, &["delete", "deployment", MAIN, "--dry-run=server"]);
        if output.text().contains("serves live traffic") {
            refused += 1;
            guarded.store(true, Ordering::Relaxed);
        } else {
            assert!(!since || !output.ok(), "it was let pass: {}", output.text());
            failed += u64::from(since);
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    (refused, failed)
}

#[test]
fn the_leader_is_killed_at_each_of_its_writes_and_the_next_one_goes_on() {
    let certificates = json!({"authorityValidity": "60s", "servingValidity": "24s", "overlap": "4s"});
    let truth = Truth { certificates: Some(certificates), ..Truth::nothing() };
    let alone = Alone::with(Controllers::Apart, &truth);
    let Alone { datacenter, operator, .. } = &alone;
    alone.guarded(NAME);
    let undisturbed = wait_for("the undisturbed state", SOON, || {
        let kept = kept(datacenter);
        anyhow::ensure!(kept["trusted"] == true && !kept["budget"].is_null(), "{kept}");
        Ok(kept)
    })
    .expect("a state");
    assert!(undisturbed["conditions"].to_string().contains("[\"Guarded\",\"True\",\"Guarded\"]"), "{undisturbed}");

    let gate = Gate::start(datacenter, "leader");
    operator.stop(datacenter, "controller", false).expect("the controller ends");
    operator.reach(datacenter, "controller", gate.port, &gate.authority).expect("another way");
    forget(&alone);
    let (guarded, ended) = (Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default());
    std::thread::scope(|scope| {
        let asks = scope.spawn(|| never_permitted(&alone, &guarded, &ended));
        let mut behind = killed_at_each_write(&alone, &gate);
        behind.extend(killed_behind_an_event(&alone, &gate));
        for what in
            ["secrets", "validatingwebhookconfigurations", "namespaces/led", "poddisruptionbudgets", "status", "events"]
        {
            assert!(behind.iter().any(|write| write.contains(what)), "it was never killed behind {what}: {behind:?}");
        }
        gate.admit_all();
        forget_lease(datacenter);
        let start = Instant::now();
        operator.start(datacenter, "controller").expect("it starts");
        let again = wait_for("the undisturbed state", SOON, || {
            let kept = kept(datacenter);
            anyhow::ensure!(kept == undisturbed, "it is {kept:#} and was {undisturbed:#}");
            Ok(())
        });
        ended.store(true, Ordering::Relaxed);
        let (refused, failed) = asks.join().expect("nothing was let pass");
        again.expect("the same state");
        eprintln!(
            "  the same state {:.1?} after the last start; {refused} removals refused, {failed} failed",
            start.elapsed()
        );
        assert!(refused > 10, "only {refused} were refused");
    });
}

/// Starts controllers that are killed behind their first write, until a rotation is over and nothing is left to be written. Returns
/// behind which writes.
fn killed_at_each_write(alone: &Alone, gate: &Gate) -> Vec<String> {
    let Alone { datacenter, operator, .. } = alone;
    let authority = || datacenter.get(&["-n", NAMESPACE, "secret", SECRETS[0]]).map(|secret| secret["data"].clone());
    let (mut behind, mut first) = (Vec::new(), None);
    let start = Instant::now();
    loop {
        forget_lease(datacenter);
        gate.admit(1);
        gate.writes();
        operator.start(datacenter, "controller").expect("it starts");
        let written = wait_for("a write", QUIET + Duration::from_secs(2), || {
            let writes = gate.writes();
            anyhow::ensure!(!writes.is_empty(), "nothing is written");
            Ok(writes)
        });
        operator.stop(datacenter, "controller", true).expect("it dies");
        match written {
            Ok(writes) => behind.extend(writes),
            Err(_) => {
                let now = authority().expect("an authority");
                let first = first.get_or_insert_with(|| now["ca.crt"].clone());
                let rotated = now["ca.crt"] != *first && now["next.crt"].is_null() && now["previous.crt"].is_null();
                if rotated {
                    break;
                }
            }
        }
        assert!(start.elapsed() < ROTATION, "no rotation came to its end: {behind:?}");
    }
    eprintln!("  killed behind {} writes in {:.0?}:", behind.len(), start.elapsed());
    let mut kinds: Vec<(String, usize)> = Vec::new();
    for write in &behind {
        match kinds.iter_mut().find(|(known, _)| known == write) {
            Some((_, count)) => *count += 1,
            None => kinds.push((write.clone(), 1)),
        }
    }
    for (write, count) in kinds {
        eprintln!("    {count} x {write}");
    }
    behind
}

/// An Event follows the status that it tells of, so two writes are let through. The first status of a service tells that it is pooled here
/// alone.
fn killed_behind_an_event(alone: &Alone, gate: &Gate) -> Vec<String> {
    let Alone { datacenter, operator, .. } = alone;
    let mut behind = Vec::new();
    wait_for("a kill behind an Event", SOON, || {
        forget_lease(datacenter);
        let status = ["-n", NAME, "patch", "servicepooling", NAME, "--subresource=status", "--type=merge"];
        datacenter.kubectl(&[&status[..], &["-p", "{\"status\":null}"]].concat())?.success()?;
        gate.admit(2);
        gate.writes();
        operator.start(datacenter, "controller")?;
        let mut writes = Vec::new();
        let two = wait_for("two writes", QUIET * 2, || {
            writes.extend(gate.writes());
            anyhow::ensure!(writes.len() > 1, "there are {writes:?}");
            Ok(())
        });
        operator.stop(datacenter, "controller", true)?;
        behind.extend(writes.last().cloned());
        two?;
        anyhow::ensure!(writes.iter().any(|write| write.ends_with("/events")), "there are {writes:?}");
        Ok(())
    })
    .expect("an Event");
    behind
}

#[test]
fn two_controllers_that_both_believe_to_lead_do_no_harm() {
    let alone = Alone::start(Controllers::Apart);
    let Alone { datacenter, operator, .. } = &alone;
    alone.guarded(NAME);
    let traffic = Traffic::start(datacenter, NAME, MAIN);
    leads(operator, "controller", true);
    let guarded_since = || {
        let pooling = datacenter.get(&["-n", NAME, "servicepooling", NAME]).expect("the ServicePooling");
        let conditions = pooling["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let guarded = conditions.into_iter().find(|condition| condition["type"] == "Guarded").expect("a condition");
        (guarded["status"].clone(), guarded["lastTransitionTime"].clone())
    };
    let since = guarded_since();
    let ends = |process: &str| {
        let how = operator.ended(datacenter, process, SOON).expect("it notices that another one leads");
        assert!(how.contains("lost the Lease"), "{how}");
    };

    // Each holds a Lease of its own for as long as it likes, and both write.
    datacenter.apply(OTHER).expect("rights");
    let lease = |name: &str| operator.set("controller", "/controller/leaseName", json!(name)).expect("a setting");
    lease("other");
    operator.start(datacenter, "standby").expect("a second controller");
    traffic.row_without_failure("two leaders for as long as they like", || {
        leads(operator, "standby", true);
        moved(&alone);
        for process in ["controller", "standby"] {
            leads(operator, process, true);
        }
    });
    operator.stop(datacenter, "standby", false).expect("it ends");
    lease("poolguard-controller");
    operator.start(datacenter, "standby").expect("it starts again");
    operator.ready(datacenter, "standby").expect("it is ready");

    // Somebody takes the Lease away: who held it ends, the other one makes it anew.
    traffic.row_without_failure("the Lease was deleted under the leader", || {
        let start = Instant::now();
        forget_lease(datacenter);
        leads(operator, "standby", true);
        ends("controller");
        moved(&alone);
        eprintln!("  another one leads, and has written, after {:.1?}", start.elapsed());
    });
    operator.start(datacenter, "controller").expect("it starts again");
    operator.ready(datacenter, "controller").expect("it is ready");

    // The leader is frozen for longer than its Lease lasts, and goes on where it was.
    traffic.row_without_failure("two leaders: the first one was frozen until its Lease had ended", || {
        let frozen = operator.pid("standby").expect("a process");
        let start = Instant::now();
        datacenter.run().signal(frozen, "STOP").expect("it stops");
        leads(operator, "controller", true);
        eprintln!("  the other one leads after {:.1?}", start.elapsed());
        moved(&alone);
        datacenter.run().signal(frozen, "CONT").expect("it goes on");
        ends("standby");
        settles(&alone, ALONE);
        eprintln!("  the first one has noticed after {:.1?}", start.elapsed());
    });

    // Somebody else says that it leads, and does nothing.
    let start = Instant::now();
    let now = jiff::Timestamp::now();
    let theirs = json!({"spec": {
        "holderIdentity": "somebody-else", "renewTime": format!("{now:.6}"), "acquireTime": format!("{now:.6}"),
        "leaseDurationSeconds": 15,
    }});
    let patch = ["-n", NAMESPACE, "patch", "lease", "poolguard-controller", "--type=merge", "-p", &theirs.to_string()];
    traffic.row_without_failure("the Lease is held by somebody else who does nothing", || {
        datacenter.kubectl(&patch).and_then(|output| output.success()).expect("the Lease is taken");
        ends("controller");
        operator.start(datacenter, "controller").expect("it starts again");
        leads(operator, "controller", true);
        settles(&alone, ALONE);
        eprintln!("  ours leads again after {:.1?}", start.elapsed());
    });
    assert_eq!(guarded_since(), since, "a change of leaders was told as a change of the guard");
}

/// The service is pooled elsewhere too, and here alone again; status follows.
fn moved(alone: &Alone) {
    for (place, expected) in [("eqiad, codfw", "codfw=serving eqiad=serving"), ("eqiad", ALONE)] {
        alone.declare(NAME, place);
        settles(alone, expected);
    }
}

/// Status says this, and nobody writes it any more.
fn settles(alone: &Alone, expected: &str) {
    let version = || -> anyhow::Result<(String, String)> {
        let pooling = alone.datacenter.get(&["-n", NAME, "servicepooling", NAME])?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        Ok((text(&pooling["status"]["summary"]), text(&pooling["metadata"]["resourceVersion"])))
    };
    let mut quiet: Option<(String, Instant)> = None;
    wait_for("the status to settle", SOON, || {
        let (summary, now) = version()?;
        anyhow::ensure!(summary == expected, "it says {summary}");
        let since = match &quiet {
            Some((known, since)) if *known == now => *since,
            _ => {
                quiet = Some((now, Instant::now()));
                anyhow::bail!("it was written just now");
            }
        };
        anyhow::ensure!(since.elapsed() > Duration::from_secs(1), "not quiet for long enough");
        Ok(())
    })
    .expect("it settles");
}
