//! What is there, and a command through each door, in an order in which each one still finds its object.

use std::fs;

use anyhow::{Context, Result};
use poolguard_harness::datacenter::{Datacenter, Who};
use poolguard_harness::services;

/// The namespace of everything that is recorded.
pub const NAMESPACE: &str = "recorded";

const OBJECTS: &str = include_str!("objects.yaml");

/// One command, and the review that it has to bring.
pub struct Ask {
    /// The recording's name.
    pub file: String,
    /// The entry that the review comes through.
    pub entry: &'static str,
    /// Its verb.
    pub operation: &'static str,
    /// Its resource, with its subresource behind a slash.
    pub resource: &'static str,
    /// What the name of the user ends with; empty for somebody who is neither a node nor a controller.
    pub by: &'static str,
    /// What the name of the object begins with.
    pub of: &'static str,
    /// The program and its arguments.
    pub command: Vec<String>,
}

/// Makes what the commands are about, and waits until it is there.
///
/// # Errors
/// If something cannot be made.
pub fn prepare(datacenter: &Datacenter) -> Result<()> {
    datacenter.apply(&OBJECTS.replace("NAMESPACE", NAMESPACE))?;
    let chart = poolguard_harness::root().join("examples/service-chart");
    let chart = chart.to_string_lossy();
    for release in ["main", "other"] {
        let install = ["install", release, &chart, "--namespace", NAMESPACE, "--set", "app=recorded"];
        datacenter.call(Who::Admin, "helm3", &install)?.success()?;
    }
    services::ready(datacenter, NAMESPACE)
}

/// Every command.
///
/// # Errors
/// If what a command sends cannot be written.
pub fn all(datacenter: &Datacenter) -> Result<Vec<Ask>> {
    let written = |name: &str, text: &str| -> Result<String> {
        let path = datacenter.folder.join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {name}"))?;
        Ok(path.to_string_lossy().into_owned())
    };
    let eviction = written(
        "eviction.json",
        &format!(
            r#"{{"apiVersion":"policy/v1","kind":"Eviction","metadata":{{"name":"bare-a","namespace":"{NAMESPACE}"}}}}"#
        ),
    )?;
    let finalize = written(
        "finalize.json",
        &format!(
            r#"{{"apiVersion":"v1","kind":"Namespace","metadata":{{"name":"{NAMESPACE}","labels":{{"poolguard.dev/protected":"true"}}}},"spec":{{"finalizers":["kubernetes"]}}}}"#
        ),
    )?;
    let glass = written(
        "glass.yaml",
        &format!(
            "{{apiVersion: poolguard.dev/v1alpha1, kind: PoolingOverride, metadata: {{name: glass, namespace: {NAMESPACE}}}, \
             spec: {{servicePoolingRef: {{name: recorded}}, datacenter: eqiad, duration: 1h, reason: INC-1 is on fire, requestedBy: admin}}}}"
        ),
    )?;
    let mut asks = Vec::new();
    let mut ask = |entry, operation, resource: &'static str, by: &'static str, words: String| {
        let who = if by.is_empty() { String::new() } else { format!("-by-{by}") };
        let file = format!("{entry}-{}-{}{who}", operation_word(operation), resource.replace('/', "-"));
        let split = |words: &str| words.split('~').map(str::to_owned).collect::<Vec<_>>();
        let of = if entry == "releases" { "sh.helm.release.v1." } else { "" };
        asks.push(Ask { file, entry, operation, resource, by, of, command: split(&words) });
    };
    let kubectl = |words: &str| format!("kubectl~-n~{NAMESPACE}~{}", words.replace(' ', "~"));
    let patch =
        |words: &str, patch: &str| format!("kubectl~-n~{NAMESPACE}~patch~{}~-p~{patch}", words.replace(' ', "~"));
    let (create, update, delete) = ("CREATE", "UPDATE", "DELETE");

    let label = r#"{"metadata":{"labels":{"routed_via":"nobody"}}}"#;
    ask("pod-labels", update, "pods", "", kubectl("label pod bare-a routed_via=nobody --overwrite"));
    ask("pod-labels", update, "pods/status", "", patch("pod bare-b --subresource=status --type=merge", label));
    let zero = r#"{"spec":{"replicas":0}}"#;
    let unsaid = r#"{"spec":{"replicas":null}}"#;
    for (resource, name) in [
        ("deployments", "front"),
        ("statefulsets", "stateful"),
        ("replicasets", "bare"),
        ("replicationcontrollers", "old"),
        ("rollouts", "rollout"),
    ] {
        let one = r#"{"spec":{"replicas":1}}"#;
        ask("replicas", update, resource, "", patch(&format!("{resource} {name} --type=merge"), one));
    }
    for (resource, scale, name) in [
        ("deployments", "deployments/scale", "front"),
        ("statefulsets", "statefulsets/scale", "stateful"),
        ("replicasets", "replicasets/scale", "bare"),
        ("replicationcontrollers", "replicationcontrollers/scale", "old"),
        ("rollouts", "rollouts/scale", "rollout"),
    ] {
        let change = if resource == "deployments" { unsaid } else { zero };
        let words = format!("{resource} {name} --subresource=scale --type=merge");
        ask("scales", update, scale, "", patch(&words, change));
    }
    let elsewhere = r#"{"spec":{"template":{"spec":{"nodeSelector":{"no":"node"}}}}}"#;
    ask("placement", update, "daemonsets", "", patch("daemonset daemon", elsewhere));
    ask("service-changes", update, "services", "", patch("service front", r#"{"spec":{"selector":{"app":"other"}}}"#));
    let backend = r#"[{"op":"replace","path":"/spec/rules/0/http/paths/0/backend/service/name","value":"x"}]"#;
    ask("route-changes", update, "ingresses", "", patch("ingress front --type=json", backend));
    let backend = r#"[{"op":"replace","path":"/spec/rules/0/backendRefs/0/name","value":"x"}]"#;
    ask("route-changes", update, "httproutes", "", patch("httproute route --type=json", backend));
    ask("budgets", update, "poddisruptionbudgets", "", patch("pdb floor", r#"{"spec":{"minAvailable":0}}"#));
    ask("evictions", create, "pods/eviction", "", {
        kubectl(&format!("create --raw /api/v1/namespaces/{NAMESPACE}/pods/bare-a/eviction -f {eviction}"))
    });
    ask("pods", delete, "pods", "", kubectl("delete pod bare-b --wait=false"));
    ask("pods", delete, "pods", "statefulset-controller", patch("statefulset second --type=merge", zero));
    ask(
        "workloads",
        delete,
        "replicasets",
        "generic-garbage-collector",
        kubectl("delete deployment second --wait=false"),
    );
    for (resource, name) in [
        ("deployments", "front"),
        ("statefulsets", "stateful"),
        ("daemonsets", "daemon"),
        ("replicasets", "bare"),
        ("replicationcontrollers", "old"),
        ("rollouts", "rollout"),
    ] {
        ask("workloads", delete, resource, "", kubectl(&format!("delete {resource} {name} --wait=false")));
    }
    for (entry, resource, name) in [
        ("services", "services", "front"),
        ("routes", "ingresses", "front"),
        ("routes", "httproutes", "route"),
        ("references", "configmaps", "settings"),
        ("references", "secrets", "password"),
        ("references", "serviceaccounts", "account"),
        ("references", "persistentvolumeclaims", "claim"),
        ("accompanying", "horizontalpodautoscalers", "scaler"),
        ("accompanying", "poddisruptionbudgets", "floor"),
        ("accompanying", "networkpolicies", "network"),
        ("accompanying", "roles", "role"),
        ("accompanying", "rolebindings", "binding"),
    ] {
        ask(entry, delete, resource, "", kubectl(&format!("delete {resource} {name} --wait=false")));
    }
    let helm = |words: &str| format!("helm3~{}~--namespace~{NAMESPACE}", words.replace(' ', "~"));
    ask("releases", update, "secrets", "", helm("uninstall main --keep-history"));
    ask("releases", delete, "secrets", "", helm("uninstall other"));
    ask(
        "releases",
        update,
        "configmaps",
        "",
        kubectl("label configmap sh.helm.release.v1.third.v1 status=uninstalling --overwrite"),
    );
    ask("releases", delete, "configmaps", "", kubectl("delete configmap sh.helm.release.v1.third.v1"));
    ask("overrides", create, "poolingoverrides", "", kubectl(&format!("create -f {glass}")));
    let warn = r#"{"spec":{"enforcement":"Warn"}}"#;
    ask("poolings", update, "servicepoolings", "", patch("servicepooling recorded --type=merge", warn));
    ask("poolings", delete, "servicepoolings", "", kubectl("delete servicepooling recorded"));
    let unlabel = r#"{"metadata":{"labels":{"poolguard.dev/protected":"no"}}}"#;
    let relabelled = format!("namespace {NAMESPACE} --subresource=status --type=merge --dry-run=server");
    ask("namespaces", update, "namespaces/status", "", patch(&relabelled, unlabel));
    ask("namespaces", update, "namespaces/finalize", "", {
        kubectl(&format!("replace --raw /api/v1/namespaces/{NAMESPACE}/finalize -f {finalize}"))
    });
    ask("namespaces", update, "namespaces", "", {
        kubectl(&format!("label namespace {NAMESPACE} poolguard.dev/protected- --dry-run=server"))
    });
    ask("namespaces", delete, "namespaces", "", kubectl(&format!("delete namespace {NAMESPACE} --wait=false")));
    ask("definitions", delete, "customresourcedefinitions", "", {
        kubectl("delete crd servicepoolings.poolguard.dev --wait=false")
    });
    Ok(asks)
}

fn operation_word(operation: &str) -> &'static str {
    match operation {
        "CREATE" => "create",
        "UPDATE" => "update",
        _ => "delete",
    }
}
