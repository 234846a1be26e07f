//! Deployments, StatefulSets, DaemonSets and ReplicaSets.

use k8s_openapi::api::apps::v1 as apps;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::Resource;
use poolguard_policy::selector::Labels;
use poolguard_policy::state::{Kind, References, Replacement, Workload};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::meta::{Meta, REVISION, labels};
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
    volume_claim_templates: Option<Vec<ClaimTemplate>>,
    strategy: Option<Strategy>,
    update_strategy: Option<Strategy>,
}

slim!(SlimReplicationController, WatchedReplicationController, core::ReplicationController, { spec: WorkloadSpec, status: WorkloadStatus });

/// Of a review: a custom workload.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct SlimCustom {
    pub(crate) metadata: Meta,
    spec: Option<Lenient<CustomSpec>>,
    status: Lenient<CustomStatus>,
}

/// Of a watch: a custom workload.
pub type WatchedCustom = kube::core::Object<Option<Lenient<CustomSpec>>, Lenient<CustomStatus>>;

/// The spec of a custom workload. Where it has no template of its own, its selector says what its pods look like. Its schema may be
/// another than we think, and one object that differs must not keep us from the others.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct CustomSpec {
    replicas: Lenient<Option<i32>>,
    template: Option<CustomTemplate>,
    selector: Lenient<Option<Selecting>>,
}

/// The status of a custom workload.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CustomStatus {
    replicas: Lenient<Option<i32>>,
    ready_replicas: Lenient<Option<i32>>,
}

/// A value, or the default where it is of another type.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(from = "Either<T>")]
pub struct Lenient<T: Default>(T);

#[derive(Deserialize)]
#[serde(untagged)]
enum Either<T> {
    Understood(T),
    Other(IgnoredAny),
}

impl<T: Default> From<Either<T>> for Lenient<T> {
    fn from(either: Either<T>) -> Self {
        match either {
            Either::Understood(value) => Self(value),
            Either::Other(_) => Self(T::default()),
        }
    }
}

/// A template: of one whose pods nobody could make the labels, if it has any.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum CustomTemplate {
    Whole(Template),
    Labels { metadata: Meta },
    Other(IgnoredAny),
}

impl From<CustomTemplate> for Option<Template> {
    fn from(template: CustomTemplate) -> Self {
        match template {
            CustomTemplate::Whole(template) => Some(template),
            CustomTemplate::Labels { metadata } => Some(Template { metadata, ..Template::default() }),
            CustomTemplate::Other(_) => None,
        }
    }
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Selecting {
    #[serde(deserialize_with = "labels")]
    match_labels: Option<Labels>,
}

/// A template of claims, of which each pod of a StatefulSet gets one.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct ClaimTemplate {
    metadata: Meta,
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

/// A condition of a workload.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Condition {
    r#type: String,
    reason: Option<String>,
}

/// The status of a workload.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WorkloadStatus {
    replicas: Option<i32>,
    ready_replicas: Option<i32>,
    desired_number_scheduled: Option<i32>,
    current_number_scheduled: Option<i32>,
    number_ready: Option<i32>,
    conditions: Option<Vec<Condition>>,
}

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
    let WorkloadSpec { replicas, template, ordinals, volume_claim_templates, strategy, update_strategy } = spec;
    let wanted = if daemon { count(status.desired_number_scheduled) } else { replicas.unwrap_or(1) };
    let strategy = strategy.or(update_strategy).unwrap_or_default();
    let name = metadata.name();
    let claims = volume_claim_templates.iter().flatten().map(|claim| format!("{}-{name}-", claim.metadata.name()));
    let references = References { claim_prefixes: claims.collect(), ..references(&template.spec) };
    Workload {
        kind,
        name,
        controller: metadata.controller(),
        release: metadata.release(),
        template_labels: template.metadata.labels(),
        replicas: wanted,
        replacement: strategy.replacement(wanted),
        current: count(if daemon { status.current_number_scheduled } else { status.replicas }),
        ready: count(if daemon { status.number_ready } else { status.ready_replicas }),
        first_ordinal: ordinals.map_or(0, |ordinals| ordinals.start),
        never_up: kind == Kind::Deployment && matches!(revision, None | Some("1")) && !came_up,
        references,
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
    SlimReplicationController, WatchedReplicationController, Kind::ReplicationController;
}

impl SlimCustom {
    /// As the policy sees it.
    pub fn workload(self, kind: Kind) -> Workload {
        let CustomSpec { replicas: Lenient(replicas), template, selector: Lenient(selector) } =
            self.spec.unwrap_or_default().0;
        let template = template.and_then(Option::<Template>::from).unwrap_or_else(|| {
            let labels = selector.unwrap_or_default().match_labels;
            Template { metadata: Meta { labels, ..Meta::default() }, ..Template::default() }
        });
        let spec = WorkloadSpec { replicas, template, ..WorkloadSpec::default() };
        let Lenient(CustomStatus { replicas: Lenient(replicas), ready_replicas: Lenient(ready_replicas) }) =
            self.status;
        let status = WorkloadStatus { replicas, ready_replicas, ..WorkloadStatus::default() };
        workload(kind, self.metadata, None, spec, &status)
    }
}

impl From<WatchedCustom> for SlimCustom {
    fn from(watched: WatchedCustom) -> Self {
        let WatchedCustom { types: _, metadata, spec, status } = watched;
        Self { metadata: Meta::from(&metadata), spec, status: status.unwrap_or_default() }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// Labels, and how many replicas are wanted. A watch and a review have to see the same.
    fn seen(parts: Value) -> (Labels, i32) {
        let mut object = json!({"apiVersion": "example.dev/v1", "kind": "Rollout", "metadata": {"name": "web"}});
        object.as_object_mut().expect("an object").extend(parts.as_object().expect("parts").clone());
        let text = object.to_string();
        let watched: WatchedCustom = serde_json::from_str(&text).expect("a watch takes whatever there is");
        let reviewed: SlimCustom = serde_json::from_str(&text).expect("a review too");
        let kind = Kind::Custom("Rollout");
        let (watched, reviewed) = (SlimCustom::from(watched).workload(kind), reviewed.workload(kind));
        assert_eq!(watched, reviewed);
        (watched.template_labels, watched.replicas)
    }

    #[test]
    fn a_custom_workload_of_another_schema_is_read_as_far_as_it_goes() {
        let (web, none): (Labels, Labels) = ([("app", "web")].into_iter().collect(), Labels::new());
        let labels = json!({"labels": {"app": "web"}});
        for (parts, expected) in [
            (json!({}), (none.clone(), 1)),
            (json!({"spec": null}), (none.clone(), 1)),
            (json!({"spec": "none", "status": {"replicas": "few"}}), (none.clone(), 1)),
            (json!({"spec": {"selector": "app=web", "replicas": "many"}, "status": "fine"}), (none.clone(), 1)),
            (json!({"spec": {"template": "none", "selector": {"matchLabels": {"app": "web"}}}}), (web.clone(), 1)),
            (
                json!({"spec": {"replicas": 3, "template": {"metadata": labels, "spec": {"containers": "two"}}}}),
                (web.clone(), 3),
            ),
            (
                json!({"spec": {"replicas": 3, "template": {"metadata": labels, "spec": {}}}, "status": {"replicas": 3}}),
                (web, 3),
            ),
        ] {
            assert_eq!(seen(parts.clone()), expected, "{parts}");
        }
    }
}
