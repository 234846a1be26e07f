//! The reviews that are replayed: the DELETE of a pod, as the API server writes it.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use poolguard_rig::Verdict;
use serde_json::{Value, json};

use super::contestant::Services;

/// How many services are asked about where the same ones are asked about again and again.
const FEW: usize = 5;

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    /// About a few services that are pooled here, again and again.
    Warm,
    /// About all services that are pooled here, in turn.
    Cold,
    /// About a few services that are pooled elsewhere.
    Permission,
    /// About pods of no service, in namespaces that are guarded.
    Unguarded,
}

impl Question {
    /// What the answer must be.
    pub fn expected(self) -> Verdict {
        match self {
            Self::Warm | Self::Cold => Verdict::Refused,
            Self::Permission | Self::Unguarded => Verdict::Allowed,
        }
    }

    /// The services that it is about.
    fn indices(self, services: Services) -> Vec<usize> {
        let pooled = self != Self::Permission;
        let all: Vec<usize> = (0..services.count).filter(|index| services.pooled(*index) == pooled).collect();
        match self {
            Self::Cold => all,
            // Neither the first ones nor the last alone: who looks at all of them in order gets no advantage.
            _ => all.iter().copied().step_by((all.len() / FEW).max(1)).take(FEW).collect(),
        }
    }
}

/// Writes reviews of about this many bytes, one a line.
///
/// # Errors
/// If the file cannot be written.
pub fn write(file: &Path, services: Services, question: Question, bytes: usize) -> Result<()> {
    let lines: String = question
        .indices(services)
        .into_iter()
        .map(|index| {
            let label = if question == Question::Unguarded { "nobody".to_owned() } else { services.name(index) };
            format!("{}\n", review(&services.namespace(index), &label, bytes))
        })
        .collect();
    fs::write(file, lines).context("cannot write reviews")
}

/// The review that tells whether a contestant knows the last service that is pooled here.
///
/// # Errors
/// If the file cannot be written.
pub fn write_last(file: &Path, services: Services) -> Result<()> {
    let last = (0..services.count).rev().find(|index| services.pooled(*index)).context("no service is pooled here")?;
    let text = format!("{}\n", review(&services.namespace(last), &services.name(last), 0));
    fs::write(file, text).context("cannot write a review")
}

/// The review of the DELETE of a pod of this service, filled up with variables of its container to about this many bytes.
fn review(namespace: &str, service: &str, bytes: usize) -> String {
    let name = format!("{service}-7d9c6b5f4-x2x4z");
    let plain = whole(pod(namespace, &name, service, "11111111-2222-4333-8444-555555555555"), namespace, &name);
    let missing = bytes.saturating_sub(plain.len());
    let variables: Vec<Value> = (0..missing / VARIABLE)
        .map(|number| json!({"name": format!("SETTING_{number:03}"), "value": "a value of ordinary length"}))
        .collect();
    let mut pod = pod(namespace, &name, service, "11111111-2222-4333-8444-555555555555");
    if !variables.is_empty() {
        pod["spec"]["containers"][0]["env"] = Value::Array(variables);
    }
    whole(pod, namespace, &name)
}

/// The review of the DELETE of this pod of a service.
pub fn deletion(services: Services, index: usize, name: &str) -> String {
    let namespace = services.namespace(index);
    whole(pod(&namespace, name, &services.name(index), "11111111-2222-4333-8444-555555555555"), &namespace, name)
}

/// The review of the eviction of a pod.
pub fn eviction(namespace: &str, name: &str) -> String {
    let kind = json!({"group": "policy", "kind": "Eviction", "version": "v1"});
    let resource = json!({"group": "", "resource": "pods", "version": "v1"});
    json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "705ab4f5-6393-11e8-b7cc-42010a800002", "kind": kind, "resource": resource, "requestKind": kind,
            "requestResource": resource, "subResource": "eviction", "requestSubResource": "eviction", "name": name,
            "namespace": namespace, "operation": "CREATE", "oldObject": null, "dryRun": false,
            "object": {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": namespace}},
            "userInfo": {"username": "deployer", "groups": ["deployers", "system:authenticated"]},
            "options": {"apiVersion": "meta.k8s.io/v1", "kind": "CreateOptions"},
        },
    })
    .to_string()
}

/// The length of one variable.
const VARIABLE: usize = 62;

fn whole(pod: Value, namespace: &str, name: &str) -> String {
    let kind = json!({"group": "", "kind": "Pod", "version": "v1"});
    let resource = json!({"group": "", "resource": "pods", "version": "v1"});
    json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "705ab4f5-6393-11e8-b7cc-42010a800002", "kind": kind, "resource": resource, "requestKind": kind,
            "requestResource": resource, "name": name, "namespace": namespace, "operation": "DELETE",
            "userInfo": {"username": "deployer", "groups": ["deployers", "system:authenticated"]},
            "object": null, "oldObject": pod, "dryRun": false,
            "options": {"apiVersion": "meta.k8s.io/v1", "kind": "DeleteOptions", "propagationPolicy": "Background"},
        },
    })
    .to_string()
}

/// A Ready pod of this service.
pub fn pod(namespace: &str, name: &str, service: &str, uid: &str) -> Value {
    let then = "2026-01-02T03:04:05Z";
    let condition =
        |kind: &str| json!({"type": kind, "status": "True", "lastProbeTime": null, "lastTransitionTime": then});
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": name, "namespace": namespace, "uid": uid, "creationTimestamp": then,
            "labels": {"app": service, "pod-template-hash": "7d9c6b5f4", "release": "main"},
            "ownerReferences": [{
                "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": format!("{service}-7d9c6b5f4"),
                "uid": "99999999-2222-4333-8444-555555555555", "controller": true, "blockOwnerDeletion": true,
            }],
        },
        "spec": {
            "containers": [{
                "name": "main", "image": "registry.invalid/service:1", "imagePullPolicy": "IfNotPresent",
                "ports": [{"containerPort": 8080, "protocol": "TCP"}],
                "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}},
                "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
            }],
            "restartPolicy": "Always", "terminationGracePeriodSeconds": 30, "dnsPolicy": "ClusterFirst",
            "serviceAccountName": "default", "serviceAccount": "default", "nodeName": "node-a", "securityContext": {},
            "schedulerName": "default-scheduler", "priority": 0, "enableServiceLinks": true,
        },
        "status": {
            "phase": "Running", "podIP": "10.0.0.11", "hostIP": "10.0.0.1", "qosClass": "Burstable", "startTime": then,
            "conditions": [
                condition("Initialized"), condition("Ready"), condition("ContainersReady"), condition("PodScheduled"),
            ],
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::contestant::Layout;

    #[test]
    fn reviews_are_as_long_as_they_should_be() {
        for bytes in [2 << 10, 10 << 10] {
            let length = review("bench", "service-1", bytes).len();
            assert!(length.abs_diff(bytes) < 400, "{length} bytes instead of {bytes}");
        }
    }

    #[test]
    fn few_services_are_spread_over_all_of_them() {
        let services = Services { count: 1000, layout: Layout::Together };
        assert_eq!(Question::Warm.indices(services), [0, 200, 400, 600, 800]);
        assert_eq!(Question::Permission.indices(services), [1, 201, 401, 601, 801]);
        assert_eq!(Question::Cold.indices(services).len(), 500);
    }
}
