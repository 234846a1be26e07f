//! Pods, and the conditions that pods and workloads have.

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use poolguard_policy::state::Pod;
use serde::Deserialize;

use super::meta::Meta;

slim!(SlimPod, WatchedPod, core::Pod, { spec: PodSpec, status: PodStatus });

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PodSpec {
    node_name: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct PodStatus {
    phase: Option<String>,
    conditions: Option<Vec<Condition>>,
}

/// A condition of a pod or workload.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Condition {
    pub(crate) r#type: String,
    pub(crate) status: String,
    pub(crate) reason: Option<String>,
}

impl From<SlimPod> for Pod {
    fn from(SlimPod { metadata, spec, status }: SlimPod) -> Self {
        let holds = |kind: &str| {
            status.conditions.iter().flatten().any(|condition| condition.r#type == kind && condition.status == "True")
        };
        Self {
            name: metadata.name(),
            controller: metadata.controller(),
            ready: holds("Ready"),
            containers_ready: holds("ContainersReady"),
            finished: matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")),
            node: spec.node_name,
            terminating: metadata.deletion_timestamp.is_some(),
            labels: metadata.labels.unwrap_or_default(),
        }
    }
}
