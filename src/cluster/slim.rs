//! Objects as we need them: the few fields that decide, typed. Watches and reviews decode the same parts; whatever else an
//! object holds is skipped, not kept.
//!
//! Never: `data` of a ConfigMap or Secret, `serde_json::Value`, or a panic on anything that is missing.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::{apps::v1 as apps, core::v1 as core, networking::v1 as networking, policy::v1 as policy};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::Resource;
use poolguard_policy::selector::{Labels, Operator, Requirement, Selector};
use poolguard_policy::state::{
    Budget, Kind, Owner, Placement, Pod, RELEASE_NAME, RELEASE_NAMESPACE, References, Release, Route, Service, Workload,
};
use serde::Deserialize;

/// Metadata of an object in a review.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Meta {
    pub(crate) name: Option<String>,
    pub(crate) labels: Option<Labels>,
    pub(crate) annotations: Option<BTreeMap<String, String>>,
    pub(crate) deletion_timestamp: Option<serde::de::IgnoredAny>,
    pub(crate) owner_references: Option<Vec<Reference>>,
}

/// An entry of `ownerReferences`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Reference {
    kind: String,
    name: String,
    controller: Option<bool>,
}

impl Meta {
    pub(crate) fn release(&self) -> Option<Release> {
        self.annotations.as_ref().and_then(release)
    }

    pub(crate) fn controller(&self) -> Option<Owner> {
        let owner = self.owner_references.iter().flatten().find(|owner| owner.controller == Some(true))?;
        Some(Owner { kind: owner.kind.clone(), name: owner.name.clone() })
    }

    pub(crate) fn name(&self) -> String {
        self.name.clone().unwrap_or_default()
    }

    pub(crate) fn labels(&self) -> Labels {
        self.labels.clone().unwrap_or_default()
    }
}

impl From<&ObjectMeta> for Meta {
    fn from(meta: &ObjectMeta) -> Self {
        let owner = meta.owner_references.iter().flatten().find(|owner| owner.controller == Some(true));
        let ours = |(key, _): &(&String, &String)| key.as_str() == RELEASE_NAME || key.as_str() == RELEASE_NAMESPACE;
        Self {
            name: meta.name.clone(),
            labels: meta.labels.clone(),
            annotations: meta
                .annotations
                .as_ref()
                .map(|all| all.iter().filter(ours).map(|(key, value)| (key.clone(), value.clone())).collect()),
            deletion_timestamp: meta.deletion_timestamp.as_ref().map(|_| serde::de::IgnoredAny),
            owner_references: owner.map(|owner| {
                vec![Reference { kind: owner.kind.clone(), name: owner.name.clone(), controller: Some(true) }]
            }),
        }
    }
}

fn release(annotations: &BTreeMap<String, String>) -> Option<Release> {
    Some(Release {
        namespace: annotations.get(RELEASE_NAMESPACE)?.clone(),
        name: annotations.get(RELEASE_NAME)?.clone(),
    })
}

/// One kind of object twice: as a review holds it, and as a watch delivers it.
macro_rules! slim {
    ($reviewed:ident, $watched:ident, $kind:path, { $($field:ident: $type:ty),* }) => {
        #[doc = concat!("Of a review: ", stringify!($reviewed), ".")]
        #[derive(Debug, Clone, Default, Deserialize)]
        #[serde(rename_all = "camelCase", default)]
        pub struct $reviewed {
            pub(crate) metadata: Meta,
            $($field: $type),*
        }

        #[doc = concat!("Of a watch: ", stringify!($reviewed), ".")]
        #[derive(Debug, Clone, Default, Deserialize, Resource)]
        #[serde(rename_all = "camelCase")]
        #[resource(inherit = $kind)]
        pub struct $watched {
            pub(crate) metadata: ObjectMeta,
            $(#[serde(default)] $field: $type),*
        }

        impl From<$watched> for $reviewed {
            fn from(watched: $watched) -> Self {
                let $watched { metadata, $($field),* } = watched;
                Self { metadata: Meta::from(&metadata), $($field),* }
            }
        }
    };
}

slim!(SlimPod, WatchedPod, core::Pod, { spec: PodSpec, status: PodStatus });
slim!(SlimDeployment, WatchedDeployment, apps::Deployment, { spec: WorkloadSpec, status: WorkloadStatus });
slim!(SlimStatefulSet, WatchedStatefulSet, apps::StatefulSet, { spec: WorkloadSpec, status: WorkloadStatus });
slim!(SlimDaemonSet, WatchedDaemonSet, apps::DaemonSet, { spec: WorkloadSpec, status: WorkloadStatus });
slim!(SlimReplicaSet, WatchedReplicaSet, apps::ReplicaSet, { spec: WorkloadSpec, status: WorkloadStatus });
slim!(SlimService, WatchedService, core::Service, { spec: ServiceSpec });
slim!(SlimIngress, WatchedIngress, networking::Ingress, { spec: IngressSpec });
slim!(SlimBudget, WatchedBudget, policy::PodDisruptionBudget, { spec: BudgetSpec, status: BudgetStatus });

/// Of a watch: a Node's labels.
#[derive(Debug, Clone, Deserialize, Resource)]
#[resource(inherit = core::Node)]
pub struct WatchedNode {
    pub(crate) metadata: ObjectMeta,
}

/// Of a watch: a Namespace's labels, and whether it is going.
#[derive(Debug, Clone, Deserialize, Resource)]
#[resource(inherit = core::Namespace)]
pub struct WatchedNamespace {
    pub(crate) metadata: ObjectMeta,
}

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

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Condition {
    r#type: String,
    status: String,
    reason: Option<String>,
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
            labels: metadata.labels.unwrap_or_default(),
        }
    }
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct WorkloadSpec {
    replicas: Option<i32>,
    template: Template,
    ordinals: Option<Ordinals>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Ordinals {
    start: i32,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Template {
    metadata: Meta,
    spec: TemplateSpec,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct TemplateSpec {
    service_account_name: Option<String>,
    containers: Option<Vec<Container>>,
    init_containers: Option<Vec<Container>>,
    volumes: Option<Vec<Volume>>,
    image_pull_secrets: Option<Vec<Named>>,
    node_selector: Option<Labels>,
    affinity: Option<Affinity>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Named {
    name: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Container {
    env: Option<Vec<Variable>>,
    env_from: Option<Vec<FromSource>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Variable {
    value_from: Option<ValueFrom>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ValueFrom {
    config_map_key_ref: Option<Named>,
    secret_key_ref: Option<Named>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct FromSource {
    config_map_ref: Option<Named>,
    secret_ref: Option<Named>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Volume {
    config_map: Option<Named>,
    secret: Option<SecretVolume>,
    persistent_volume_claim: Option<ClaimVolume>,
    projected: Option<Projected>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct SecretVolume {
    secret_name: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ClaimVolume {
    claim_name: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Projected {
    sources: Option<Vec<Projection>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Projection {
    config_map: Option<Named>,
    secret: Option<Named>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Affinity {
    node_affinity: Option<NodeAffinity>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct NodeAffinity {
    required_during_scheduling_ignored_during_execution: Option<NodeTerms>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct NodeTerms {
    node_selector_terms: Vec<NodeTerm>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct NodeTerm {
    match_expressions: Option<Vec<NodeRequirement>>,
    match_fields: Option<Vec<NodeRequirement>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct NodeRequirement {
    key: String,
    operator: String,
    values: Option<Vec<String>>,
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
    let WorkloadSpec { replicas, template, ordinals } = spec;
    Workload {
        kind,
        name: metadata.name(),
        controller: metadata.controller(),
        release: metadata.release(),
        template_labels: template.metadata.labels(),
        replicas: if daemon { count(status.desired_number_scheduled) } else { replicas.unwrap_or(1) },
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

fn references(spec: &TemplateSpec) -> References {
    let mut found = References::default();
    let add = |set: &mut BTreeSet<String>, name: Option<&String>| {
        set.extend(name.filter(|name| !name.is_empty()).cloned());
    };
    let named = |named: &Option<Named>| named.as_ref().and_then(|named| named.name.clone());
    for container in spec.containers.iter().flatten().chain(spec.init_containers.iter().flatten()) {
        for from in container.env.iter().flatten().filter_map(|variable| variable.value_from.as_ref()) {
            add(&mut found.config_maps, named(&from.config_map_key_ref).as_ref());
            add(&mut found.secrets, named(&from.secret_key_ref).as_ref());
        }
        for from in container.env_from.iter().flatten() {
            add(&mut found.config_maps, named(&from.config_map_ref).as_ref());
            add(&mut found.secrets, named(&from.secret_ref).as_ref());
        }
    }
    for volume in spec.volumes.iter().flatten() {
        add(&mut found.config_maps, named(&volume.config_map).as_ref());
        add(&mut found.secrets, volume.secret.as_ref().and_then(|secret| secret.secret_name.as_ref()));
        add(&mut found.claims, volume.persistent_volume_claim.as_ref().and_then(|claim| claim.claim_name.as_ref()));
        for source in volume.projected.iter().flat_map(|projected| projected.sources.iter().flatten()) {
            add(&mut found.config_maps, named(&source.config_map).as_ref());
            add(&mut found.secrets, named(&source.secret).as_ref());
        }
    }
    for secret in spec.image_pull_secrets.iter().flatten() {
        add(&mut found.secrets, secret.name.as_ref());
    }
    add(&mut found.service_accounts, spec.service_account_name.as_ref());
    found
}

fn placement(spec: &TemplateSpec) -> Placement {
    let terms = spec
        .affinity
        .as_ref()
        .and_then(|affinity| affinity.node_affinity.as_ref())
        .and_then(|node| node.required_during_scheduling_ignored_during_execution.as_ref())
        .map(|terms| terms.node_selector_terms.as_slice())
        .unwrap_or_default();
    let mut beyond_labels = false;
    let required_terms = terms
        .iter()
        .map(|term| {
            beyond_labels |= term.match_fields.as_ref().is_some_and(|fields| !fields.is_empty());
            let requirements = term.match_expressions.iter().flatten();
            let match_expressions = requirements
                .filter_map(|requirement| {
                    let Some(operator) = operator(&requirement.operator) else {
                        beyond_labels = true;
                        return None;
                    };
                    Some(Requirement {
                        key: requirement.key.clone(),
                        operator,
                        values: requirement.values.clone().unwrap_or_default(),
                    })
                })
                .collect();
            Selector { match_labels: Labels::new(), match_expressions }
        })
        .collect();
    Placement { node_selector: spec.node_selector.clone().unwrap_or_default(), required_terms, beyond_labels }
}

fn operator(text: &str) -> Option<Operator> {
    match text {
        "In" => Some(Operator::In),
        "NotIn" => Some(Operator::NotIn),
        "Exists" => Some(Operator::Exists),
        "DoesNotExist" => Some(Operator::DoesNotExist),
        _ => None,
    }
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct ServiceSpec {
    selector: Option<Labels>,
    r#type: Option<String>,
    ports: Option<Vec<ServicePort>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ServicePort {
    port: i32,
    protocol: Option<String>,
    target_port: Option<IntOrString>,
}

impl From<SlimService> for Service {
    fn from(SlimService { metadata, spec }: SlimService) -> Self {
        let port = |port: &ServicePort| {
            let target = match &port.target_port {
                Some(IntOrString::Int(number)) => number.to_string(),
                Some(IntOrString::String(name)) => name.clone(),
                None => port.port.to_string(),
            };
            format!("{}/{}→{target}", port.protocol.as_deref().unwrap_or("TCP"), port.port)
        };
        Self {
            name: metadata.name(),
            selector: spec.selector.unwrap_or_default(),
            kind: spec.r#type.unwrap_or_default(),
            ports: spec.ports.iter().flatten().map(port).collect(),
        }
    }
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct IngressSpec {
    default_backend: Option<IngressBackend>,
    rules: Option<Vec<IngressRule>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct IngressRule {
    http: Option<IngressPaths>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct IngressPaths {
    paths: Vec<IngressPath>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct IngressPath {
    backend: IngressBackend,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct IngressBackend {
    service: Option<Named>,
}

impl From<SlimIngress> for Route {
    fn from(SlimIngress { metadata, spec }: SlimIngress) -> Self {
        let paths = spec.rules.iter().flatten().filter_map(|rule| rule.http.as_ref()).flat_map(|http| &http.paths);
        let backends = spec.default_backend.iter().chain(paths.map(|path| &path.backend));
        let backends = backends.filter_map(|backend| backend.service.as_ref()?.name.clone()).collect();
        Self { name: metadata.name(), backends }
    }
}

/// An HTTPRoute of the Gateway API, which `k8s-openapi` does not have. It is only reviewed: what a Service carries is known
/// without its routes.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct SlimHttpRoute {
    pub(crate) metadata: Meta,
    spec: HttpRouteSpec,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct HttpRouteSpec {
    rules: Option<Vec<HttpRouteRule>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct HttpRouteRule {
    backend_refs: Option<Vec<BackendRef>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct BackendRef {
    kind: Option<String>,
    name: Option<String>,
    namespace: Option<String>,
    weight: Option<i32>,
}

impl From<SlimHttpRoute> for Route {
    fn from(SlimHttpRoute { metadata, spec }: SlimHttpRoute) -> Self {
        let of_ours = |backend: &&BackendRef| {
            backend.kind.as_deref().unwrap_or("Service") == "Service"
                && backend.namespace.is_none()
                && backend.weight != Some(0)
        };
        let backends = spec
            .rules
            .iter()
            .flatten()
            .flat_map(|rule| rule.backend_refs.iter().flatten())
            .filter(of_ours)
            .filter_map(|backend| backend.name.clone())
            .collect();
        Self { name: metadata.name(), backends }
    }
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct BudgetSpec {
    selector: Option<LabelSelector>,
    min_available: Option<IntOrString>,
    max_unavailable: Option<IntOrString>,
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

/// Of a review: a `Scale`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct SlimScale {
    pub(crate) spec: ScaleSpec,
}

/// The spec of a `Scale`; `replicas` absent means 0.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct ScaleSpec {
    pub(crate) replicas: i32,
}

/// Any object of which only the metadata counts.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Plain {
    pub(crate) metadata: Meta,
    /// Of a Secret.
    pub(crate) r#type: Option<String>,
}
