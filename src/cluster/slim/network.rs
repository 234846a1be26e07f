//! Services and the routes that lead to them.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::{core::v1 as core, networking::v1 as networking};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::Resource;
use poolguard_policy::selector::Labels;
use poolguard_policy::state::{Route, Service};
use serde::Deserialize;

use super::meta::{Meta, labels};

slim!(SlimService, WatchedService, core::Service, { spec: ServiceSpec });
slim!(SlimIngress, WatchedIngress, networking::Ingress, { spec: IngressSpec });

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct ServiceSpec {
    #[serde(deserialize_with = "labels")]
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
    node_port: Option<i32>,
}

impl From<SlimService> for Service {
    fn from(SlimService { metadata, spec }: SlimService) -> Self {
        let port = |port: &ServicePort| {
            let target = match &port.target_port {
                Some(IntOrString::Int(number)) => number.to_string(),
                Some(IntOrString::String(name)) => name.clone(),
                None => port.port.to_string(),
            };
            let node = port.node_port.filter(|node| *node != 0).map(|node| format!(" on {node}")).unwrap_or_default();
            format!("{}/{}→{target}{node}", port.protocol.as_deref().unwrap_or("TCP"), port.port)
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
    ingress_class_name: Option<String>,
    default_backend: Option<IngressBackend>,
    rules: Option<Vec<IngressRule>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct IngressRule {
    host: Option<String>,
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

impl IngressBackend {
    fn service(&self) -> Option<String> {
        self.service.as_ref()?.name.clone()
    }
}

/// What an Ingress leads to where no rule fits.
const DEFAULT_BACKEND: &str = "default backend";

impl From<SlimIngress> for Route {
    fn from(SlimIngress { metadata, spec }: SlimIngress) -> Self {
        let mut ways = BTreeMap::<String, BTreeSet<String>>::new();
        let mut lead = |host: &str, backend: &IngressBackend| {
            if let Some(service) = backend.service() {
                ways.entry(host.to_owned()).or_default().insert(service);
            }
        };
        spec.default_backend.iter().for_each(|backend| lead(DEFAULT_BACKEND, backend));
        for rule in spec.rules.iter().flatten() {
            let host = rule.host.as_deref().unwrap_or_default();
            rule.http.iter().flat_map(|http| &http.paths).for_each(|path| lead(host, &path.backend));
        }
        let through = spec.ingress_class_name.map(|class| format!("class {class}"));
        Self { name: metadata.name(), ways, through: through.into_iter().collect() }
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
#[serde(rename_all = "camelCase", default)]
struct HttpRouteSpec {
    parent_refs: Option<Vec<ParentRef>>,
    hostnames: Option<Vec<String>>,
    rules: Option<Vec<HttpRouteRule>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ParentRef {
    kind: Option<String>,
    namespace: Option<String>,
    name: Option<String>,
    section_name: Option<String>,
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
                && (backend.namespace.is_none() || backend.namespace == metadata.namespace)
                && backend.weight != Some(0)
        };
        let backends: BTreeSet<String> = spec
            .rules
            .iter()
            .flatten()
            .flat_map(|rule| rule.backend_refs.iter().flatten())
            .filter(of_ours)
            .filter_map(|backend| backend.name.clone())
            .collect();
        let parent = |parent: &ParentRef| {
            let ParentRef { kind, namespace, name, section_name } = parent;
            let part = |part: &Option<String>| part.clone().unwrap_or_default();
            format!("{} {}/{} {}", part(kind), part(namespace), part(name), part(section_name))
        };
        let hosts = spec.hostnames.filter(|hosts| !hosts.is_empty()).unwrap_or_else(|| vec![String::new()]);
        Self {
            name: metadata.name(),
            ways: hosts.into_iter().map(|host| (host, backends.clone())).collect(),
            through: spec.parent_refs.iter().flatten().map(parent).collect(),
        }
    }
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Named {
    name: Option<String>,
}
