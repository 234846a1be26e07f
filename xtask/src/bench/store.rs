//! Objects, written where the API server keeps them: hundreds of thousands are there within seconds, as nobody has to admit them.
//!
//! Never: an object that the API server would not take.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use base64::Engine;
use base64::prelude::BASE64_STANDARD as BASE64;
use poolguard_harness::conftool::Conftool;
use poolguard_harness::http::request_within;
use serde_json::{Value, json};

use super::contestant::{Layout, Services};

/// etcd takes 128 operations in one transaction.
const AT_ONCE: usize = 100;
const THREADS: usize = 4;
const PATIENCE: Duration = Duration::from_secs(30);

/// One object and its key.
pub struct Stored {
    key: String,
    value: String,
}

/// The namespaces of these services, guarded.
pub fn namespaces(services: Services) -> Vec<Stored> {
    let count = if services.layout == Layout::Together { 1 } else { services.count };
    (0..count)
        .map(|index| {
            let name = services.namespace(index);
            let labels = json!({"kubernetes.io/metadata.name": name, "poolguard.dev/protected": "true"});
            let metadata = json!({
                "name": name, "labels": labels, "uid": uid(1, index), "creationTimestamp": "2026-01-02T03:04:05Z",
            });
            let object = json!({
                "apiVersion": "v1", "kind": "Namespace", "metadata": metadata,
                "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"},
            });
            Stored { key: format!("/registry/namespaces/{name}"), value: object.to_string() }
        })
        .collect()
}

/// The ServicePoolings, with the status that the controller of `here` would write.
pub fn poolings(services: Services, here: &str, other: &str) -> Vec<Stored> {
    (0..services.count)
        .map(|index| {
            let (namespace, name) = (services.namespace(index), services.name(index));
            let word = |serving| if serving { "Serving" } else { "NotServing" };
            let state = |datacenter: &str| word((datacenter == here) == services.pooled(index));
            let of = |datacenter: &str| {
                let then = "2026-01-02T03:04:05Z";
                let mut evidence = json!({
                    "name": "discovery", "says": state(datacenter), "revision": index + 1, "since": then,
                });
                let pooled = state(datacenter) == "Serving";
                evidence["detail"] = format!("pooled={pooled}").into();
                if !pooled {
                    evidence["notServingAfter"] = then.into();
                }
                json!({"name": datacenter, "state": state(datacenter), "evidence": [evidence]})
            };
            let object = json!({
                "apiVersion": "poolguard.dev/v1alpha1", "kind": "ServicePooling",
                "metadata": {
                    "name": name, "namespace": namespace, "uid": uid(2, index), "generation": 1,
                    "creationTimestamp": "2026-01-02T03:04:05Z",
                },
                "spec": {
                    "selector": {"matchLabels": {"app": name}}, "mode": "ActivePassive", "enforcement": "Enforce",
                    "minPooledDatacenters": 1, "datacenters": [{"name": other}, {"name": here}],
                    "evidence": [{"name": "discovery", "conftool": {"record": name}}],
                },
                "status": {
                    "observedGeneration": 1, "serving": state(here), "datacenters": [of(other), of(here)],
                    "summary": format!("{other}={} {here}={}", state(other), state(here)),
                },
            });
            Stored {
                key: format!("/registry/poolguard.dev/servicepoolings/{namespace}/{name}"),
                value: object.to_string(),
            }
        })
        .collect()
}

/// `count` pods of these services, in turn, Ready.
pub fn pods(services: Services, count: usize) -> impl Iterator<Item = Stored> {
    (0..count).map(move |number| {
        let index = number % services.count;
        let name = pod_name(services, index, number / services.count);
        let namespace = services.namespace(index);
        let pod = super::reviews::pod(&namespace, &name, &services.name(index), &uid(3, number));
        Stored { key: format!("/registry/pods/{namespace}/{name}"), value: pod.to_string() }
    })
}

/// A disruption budget for each of these services that keeps something.
pub fn budgets(services: Services, indices: impl Iterator<Item = usize>) -> Vec<Stored> {
    indices
        .map(|index| {
            let (namespace, name) = (services.namespace(index), services.name(index));
            let object = json!({
                "apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
                "metadata": {
                    "name": name, "namespace": namespace, "uid": uid(4, index), "generation": 1,
                    "creationTimestamp": "2026-01-02T03:04:05Z",
                },
                "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": name}}},
                "status": {
                    "observedGeneration": 1, "desiredHealthy": 1, "currentHealthy": 50, "expectedPods": 50,
                    "disruptionsAllowed": 49,
                },
            });
            Stored { key: format!("/registry/poddisruptionbudgets/{namespace}/{name}"), value: object.to_string() }
        })
        .collect()
}

/// The name of a pod of a service.
pub fn pod_name(services: Services, index: usize, number: usize) -> String {
    format!("{}-{number}", services.name(index))
}

/// Writes them all.
///
/// # Errors
/// If etcd does not take them.
pub fn write(etcd: &str, objects: &[Stored]) -> Result<()> {
    let chunks: Vec<_> = objects.chunks(AT_ONCE).collect();
    side_by_side(chunks.len(), |index| {
        let puts: Vec<Value> = chunks[index]
            .iter()
            .map(|Stored { key, value }| {
                json!({"requestPut": {"key": BASE64.encode(key), "value": BASE64.encode(value)}})
            })
            .collect();
        let body = json!({"success": puts}).to_string();
        let kind = "Content-Type: application/json";
        let answer = request_within(PATIENCE, etcd, "POST", "/v3/kv/txn", &[kind], &body)?;
        ensure!(answer.status == 200 && answer.body.contains("succeeded"), "etcd answered {}", answer.body);
        Ok(())
    })
}

/// The services' records in conftool, pooled where they are.
///
/// # Errors
/// If its etcd does not take them.
pub fn records(conftool: &Conftool, services: Services, here: &str, other: &str) -> Result<()> {
    side_by_side(services.count, |index| {
        let pooled_in = if services.pooled(index) { here } else { other };
        conftool.record(&services.name(index), &[pooled_in], 0)
    })
}

/// Does so for each index, in a few threads.
fn side_by_side(count: usize, each: impl Fn(usize) -> Result<()> + Sync) -> Result<()> {
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        let work = || {
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                if index >= count {
                    return Ok(());
                }
                each(index).with_context(|| format!("number {index}"))?;
            }
        };
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(work)).collect();
        threads.into_iter().try_for_each(|thread| thread.join().unwrap_or_else(|_| bail!("a thread has panicked")))
    })
}

/// One that is nobody else's.
fn uid(kind: u16, number: usize) -> String {
    format!("00000000-0000-4000-{kind:04x}-{number:012x}")
}
