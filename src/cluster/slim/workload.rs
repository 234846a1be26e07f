//! Deployments, StatefulSets, DaemonSets and ReplicaSets.

use k8s_openapi::api::apps::v1 as apps;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::Resource;
use poolguard_policy::state::{Kind, Replacement, Workload};
use serde::Deserialize;

use super::meta::Meta;
use super::pod::Condition;
use super::template::{Template, placement, references};

slim!(SlimDeployment, WatchedDeployment, apps::Deployment, { spec: WorkloadSpec, status: WorkloadStatus });
slim!(SlimStatefulSet, WatchedStatefulSet, apps::StatefulSet, { spec: WorkloadSpec, status: WorkloadStatus });
slim!(SlimDaemonSet, WatchedDaemonSet, apps::DaemonSet, { spec: WorkloadSpec, status: WorkloadStatus });
slim!(SlimReplicaSet, WatchedReplicaSet, apps::ReplicaSet, { spec: WorkloadSpec, status: WorkloadStatus });

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct WorkloadSpec {
    replicas: Option<i32>,
    template: Template,
    ordinals: Option<Ordinals>,
    strategy: Option<Strategy>,
    update_strategy: Option<Strategy>,
}

/// How pods are replaced: `strategy` of a Deployment, `updateStrategy` of the others.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Strategy {
    r#type: Option<String>,
    rolling_update: Option<RollingUpdate>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RollingUpdate {
    max_unavailable: Option<IntOrString>,
}

impl Strategy {
    fn replacement(&self, replicas: i32) -> Replacement {
        let limit = self.rolling_update.as_ref().and_then(|update| update.max_unavailable.as_ref());
        let all = match limit {
            Some(IntOrString::Int(limit)) => replicas > 0 && *limit >= replicas,
            Some(IntOrString::String(limit)) => limit == "100%",
            None => false,
        };
        match self.r#type.as_deref() {
            Some("Recreate") => Replacement::Recreate,
            _ if all => Replacement::AllAtOnce,
            _ => Replacement::Gradual,
        }
    }
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Ordinals {
    start: i32,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct WorkloadStatus {
    replicas: Option<i32>,
    ready_replicas: Option<i32>,
    desired_number_scheduled: Option<i32>,
    current_number_scheduled: Option<i32>,
    number_ready: Option<i32>,
    conditions: Option<Vec<Condition>>,
}

const REVISION: &str = "deployment.kubernetes.io/revision";

fn workload(
    kind: Kind,
    metadata: Meta,
    revision: Option<&str>,
    spec: WorkloadSpec,
    status: &WorkloadStatus,
) -> Workload {
    let daemon = kind == Kind::DaemonSet;
    let came_up = status.conditions.iter().flatten().any(|condition| {
        condition.r#type == "Progressing" && condition.reason.as_deref() == Some("NewReplicaSetAvailable")
    });
    let count = |number: Option<i32>| number.unwrap_or_default();
    let WorkloadSpec { replicas, template, ordinals, strategy, update_strategy } = spec;
    let wanted = if daemon { count(status.desired_number_scheduled) } else { replicas.unwrap_or(1) };
    let strategy = strategy.or(update_strategy).unwrap_or_default();
    Workload {
        kind,
        name: metadata.name(),
        controller: metadata.controller(),
        release: metadata.release(),
        template_labels: template.metadata.labels(),
        replicas: wanted,
        replacement: strategy.replacement(wanted),
        current: count(if daemon { status.current_number_scheduled } else { status.replicas }),
        ready: count(if daemon { status.number_ready } else { status.ready_replicas }),
        first_ordinal: ordinals.map_or(0, |ordinals| ordinals.start),
        never_up: kind == Kind::Deployment && matches!(revision, None | Some("1")) && !came_up,
        references: references(&template.spec),
        placement: placement(&template.spec),
    }
}

/// Annotations of watched objects are cut to what we need before the revision could be read, so it is taken first.
macro_rules! workloads {
    ($($slim:ident, $watched:ident, $kind:expr;)*) => { $(
        impl From<$slim> for Workload {
            fn from($slim { metadata, spec, status }: $slim) -> Self {
                let revision = metadata.annotations.as_ref().and_then(|all| all.get(REVISION)).cloned();
                workload($kind, metadata, revision.as_deref(), spec, &status)
            }
        }

        impl From<$watched> for Workload {
            fn from($watched { metadata, spec, status }: $watched) -> Self {
                let revision = metadata.annotations.as_ref().and_then(|all| all.get(REVISION)).cloned();
                workload($kind, Meta::from(&metadata), revision.as_deref(), spec, &status)
            }
        }
    )* };
}

workloads! {
    SlimDeployment, WatchedDeployment, Kind::Deployment;
    SlimStatefulSet, WatchedStatefulSet, Kind::StatefulSet;
    SlimDaemonSet, WatchedDaemonSet, Kind::DaemonSet;
    SlimReplicaSet, WatchedReplicaSet, Kind::ReplicaSet;
}
