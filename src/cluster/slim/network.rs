//! Services and the routes that lead to them.

use k8s_openapi::api::{core::v1 as core, networking::v1 as networking};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::Resource;
use poolguard_policy::selector::Labels;
use poolguard_policy::state::{Route, Service};
use serde::Deserialize;

use super::meta::Meta;

slim!(SlimService, WatchedService, core::Service, { spec: ServiceSpec });
slim!(SlimIngress, WatchedIngress, networking::Ingress, { spec: IngressSpec });

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
#[serde(default)]
struct Named {
    name: Option<String>,
}
