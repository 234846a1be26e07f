//! One dry run for each webhook entry, on objects of the canary's namespace that the chart makes. Nothing is ever changed.

use std::collections::BTreeMap;

use axum::http::{Method, Request};
use futures::future::join_all;
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::api::{Api, ListParams};
use poolguard_policy::doors::ENTRIES;
use poolguard_policy::rules::{CANARY, CANARY_DEFINITION};
use poolguard_policy::words::CANARY_HEADLINE;
use serde_json::{Value, json};

use super::{Finding, Kind};

/// A request that the API server must ask the webhook about.
#[derive(Debug)]
struct Attempt {
    entry: &'static str,
    method: Method,
    path: String,
    body: Option<Value>,
}

/// What became of the dry run of each entry.
pub(super) async fn all(client: &Client, namespace: &str) -> BTreeMap<&'static str, Result<(), Finding>> {
    let pods = Api::<Pod>::namespaced(client.clone(), namespace);
    let list = pods.list(&ListParams::default().labels("app.kubernetes.io/component=canary")).await;
    let pod = list.map(|list| {
        let here = list.items.into_iter().find(|pod| pod.metadata.deletion_timestamp.is_none() && is_ready(pod));
        here.and_then(|pod| pod.metadata.name)
    });
    let pod = match pod {
        Ok(pod) => pod.ok_or_else(|| format!("namespace {namespace} has no ready pod of the canary")),
        Err(error) => Err(format!("the canary's pods cannot be listed: {error}")),
    };
    let tries = ENTRIES.iter().map(|entry| {
        let attempt = attempt(entry.name, namespace, &pod);
        async move {
            let found = match attempt {
                Ok(attempt) => try_one(client, attempt).await,
                Err(message) => Err(Finding { kind: Kind::NotProvable, message }),
            };
            (entry.name, found)
        }
    });
    join_all(tries).await.into_iter().collect()
}

/// What became of the dry run of one entry, which needs no more than a right to the canary's Service.
pub(super) async fn service(client: &Client, namespace: &str) -> Result<(), Finding> {
    let path = format!("/api/v1/namespaces/{namespace}/services/canary");
    try_one(client, Attempt { entry: "services", method: Method::DELETE, path, body: None }).await
}

/// One that is not ready would not be asked about.
fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.filter(|condition| condition.type_ == "Ready").any(|condition| condition.status == "True")
}

fn attempt(entry: &'static str, namespace: &str, pod: &Result<String, String>) -> Result<Attempt, String> {
    let core = |rest: &str| format!("/api/v1/namespaces/{namespace}/{rest}");
    let of = |group: &str, rest: &str| format!("/apis/{group}/namespaces/{namespace}/{rest}");
    let pod = || pod.clone();
    let delete = |path: String| Attempt { entry, method: Method::DELETE, path, body: None };
    let patch = |path: String, body: Value| Attempt { entry, method: Method::PATCH, path, body: Some(body) };
    let mark = json!({"poolguard.dev/proof": "x"});
    Ok(match entry {
        "pods" => delete(core(&format!("pods/{}", pod()?))),
        "evictions" => Attempt {
            entry,
            method: Method::POST,
            path: core(&format!("pods/{}/eviction", pod()?)),
            body: Some(json!({
                "apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod()?, "namespace": namespace},
            })),
        },
        "pod-labels" => patch(core(&format!("pods/{}", pod()?)), json!({"metadata": {"labels": mark}})),
        "workloads" => delete(of("apps/v1", "deployments/canary")),
        "replicas" => patch(of("apps/v1", "deployments/canary"), json!({"spec": {"replicas": 0}})),
        "scales" => patch(of("apps/v1", "deployments/canary/scale"), json!({"spec": {"replicas": 0}})),
        "placement" => {
            patch(of("apps/v1", "daemonsets/canary"), json!({"spec": {"template": {"spec": {"nodeSelector": mark}}}}))
        }
        "services" => delete(core("services/canary")),
        "service-changes" => patch(core("services/canary"), json!({"spec": {"selector": mark}})),
        "routes" => delete(of("networking.k8s.io/v1", "ingresses/canary")),
        "route-changes" => patch(
            of("networking.k8s.io/v1", "ingresses/canary"),
            json!({"spec": {"ingressClassName": "proof.poolguard.dev"}}),
        ),
        "references" => delete(core("configmaps/canary")),
        "releases" => patch(
            core("configmaps/sh.helm.release.v1.canary.v1"),
            json!({"metadata": {"labels": {"status": "uninstalling"}}}),
        ),
        "accompanying" => delete(of("networking.k8s.io/v1", "networkpolicies/canary")),
        "budgets" => patch(of("policy/v1", "poddisruptionbudgets/canary"), json!({"spec": {"minAvailable": 0}})),
        "namespaces" => patch(
            format!("/api/v1/namespaces/{namespace}"),
            json!({"metadata": {"labels": {crate::api::PROTECTED_LABEL: null}}}),
        ),
        "poolings" => patch(
            of("poolguard.dev/v1alpha1", &format!("servicepoolings/{CANARY}")),
            json!({"spec": {"enforcement": "Warn"}}),
        ),
        "overrides" => Attempt {
            entry,
            method: Method::POST,
            path: of("poolguard.dev/v1alpha1", "poolingoverrides"),
            body: Some(json!({
                "apiVersion": "poolguard.dev/v1alpha1", "kind": "PoolingOverride",
                "metadata": {"name": CANARY, "namespace": namespace},
                "spec": {
                    "servicePoolingRef": {"name": CANARY}, "datacenter": CANARY, "requestedBy": CANARY,
                    "reason": "shows that the guard is up", "duration": "1s",
                },
            })),
        },
        "definitions" => delete(format!("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{CANARY_DEFINITION}")),
        other => return Err(format!("nobody knows how to try {other}")),
    })
}

async fn try_one(client: &Client, attempt: Attempt) -> Result<(), Finding> {
    let Attempt { entry, method, path, body } = attempt;
    let not_provable = |message: String| Finding { kind: Kind::NotProvable, message };
    let content = if method == Method::PATCH { "application/merge-patch+json" } else { "application/json" };
    let body = body.map(|body| body.to_string().into_bytes()).unwrap_or_default();
    let request = Request::builder()
        .method(method)
        .uri(format!("{path}?dryRun=All"))
        .header("content-type", content)
        .body(body)
        .map_err(|error| not_provable(error.to_string()))?;
    match client.request_text(request).await {
        Ok(_) => Err(Finding { kind: Kind::NotRefused, message: "a dry run was let pass".to_owned() }),
        Err(kube::Error::Api(status)) => {
            let denied = format!("admission webhook \"{entry}.poolguard.dev\" denied the request: ");
            let said = &status.message;
            if said.strip_prefix(&denied).is_some_and(|rest| rest.starts_with(CANARY_HEADLINE)) {
                Ok(())
            } else if said.contains("failed calling webhook") {
                Err(Finding { kind: Kind::Unreachable, message: said.clone() })
            } else {
                Err(not_provable(said.clone()))
            }
        }
        Err(error) => Err(not_provable(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_has_its_attempt() {
        for entry in ENTRIES {
            let attempt = attempt(entry.name, "canary", &Ok("pod".to_owned())).expect("an attempt");
            assert_eq!(attempt.entry, entry.name);
        }
    }
}
