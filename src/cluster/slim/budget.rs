//! Disruption budgets.

use k8s_openapi::api::policy::v1 as policy;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::Resource;
use poolguard_policy::state::Budget;
use serde::Deserialize;

use super::meta::Meta;

slim!(SlimBudget, WatchedBudget, policy::PodDisruptionBudget, { spec: BudgetSpec, status: BudgetStatus });

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct BudgetSpec {
    selector: Option<LabelSelector>,
    min_available: Option<IntOrString>,
    max_unavailable: Option<IntOrString>,
    unhealthy_pod_eviction_policy: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct BudgetStatus {
    desired_healthy: i32,
    observed_generation: Option<i64>,
}

fn budget(metadata: &Meta, generation: Option<i64>, spec: &BudgetSpec, status: &BudgetStatus) -> Budget {
    let is = |value: &Option<IntOrString>, number: i32, text: &str| match value {
        Some(IntOrString::Int(int)) => *int == number,
        Some(IntOrString::String(string)) => string == text,
        None => false,
    };
    Budget {
        name: metadata.name(),
        selector: spec.selector.as_ref().and_then(|selector| crate::api::selector(selector).ok()),
        desired_healthy: status.desired_healthy,
        observed: generation.is_none() || status.observed_generation == generation,
        controller: metadata.controller(),
        floor_is_zero: is(&spec.min_available, 0, "0%")
            || is(&spec.max_unavailable, i32::MAX, "100%")
            || (spec.min_available.is_none() && spec.max_unavailable.is_none()),
        max_unavailable: match spec.max_unavailable {
            Some(IntOrString::Int(most)) => Some(most),
            _ => None,
        },
        ready_alone: spec.unhealthy_pod_eviction_policy.as_deref() == Some("AlwaysAllow"),
    }
}

impl From<SlimBudget> for Budget {
    fn from(SlimBudget { metadata, spec, status }: SlimBudget) -> Self {
        budget(&metadata, None, &spec, &status)
    }
}

impl From<WatchedBudget> for Budget {
    fn from(WatchedBudget { metadata, spec, status }: WatchedBudget) -> Self {
        budget(&Meta::from(&metadata), metadata.generation, &spec, &status)
    }
}
