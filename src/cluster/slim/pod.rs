//! Pods, and the conditions that they have.

use std::borrow::Cow;
use std::sync::Arc;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use poolguard_policy::state::Pod;
use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

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
    conditions: Option<Holding>,
}

/// Those of its conditions that hold.
#[derive(Debug, Clone, Copy, Default)]
struct Holding {
    ready: bool,
    containers_ready: bool,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Condition<'a> {
    #[serde(borrow)]
    r#type: Cow<'a, str>,
    #[serde(borrow)]
    status: Cow<'a, str>,
}

impl<'de> Deserialize<'de> for Holding {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Conditions;

        impl<'de> Visitor<'de> for Conditions {
            type Value = Holding;

            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str("conditions")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut all: A) -> Result<Holding, A::Error> {
                let mut holding = Holding::default();
                while let Some(Condition { r#type, status }) = all.next_element()? {
                    match &*r#type {
                        "Ready" => holding.ready |= status == "True",
                        "ContainersReady" => holding.containers_ready |= status == "True",
                        _ => {}
                    }
                }
                Ok(holding)
            }
        }

        deserializer.deserialize_seq(Conditions)
    }
}

impl From<SlimPod> for Pod {
    fn from(SlimPod { metadata, spec, status }: SlimPod) -> Self {
        let Holding { ready, containers_ready } = status.conditions.unwrap_or_default();
        Self {
            name: metadata.name(),
            controller: metadata.controller().map(Arc::new),
            ready,
            containers_ready,
            finished: matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")),
            node: spec.node_name,
            terminating: metadata.deletion_timestamp.is_some(),
            labels: metadata.labels.unwrap_or_default(),
        }
    }
}
