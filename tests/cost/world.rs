//! A cluster of a chosen size as a watch would deliver it, without an API server: the webhook's own client lists it page by page.

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{RawQuery, State};
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use poolguard::config::{Config, Overrides};
use poolguard::observe::Sources;
use poolguard::runtime::{Environment, Health, Shutdown};
use poolguard::webhook;
use serde_json::{Value, json};

/// How services lie in namespaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// Each has one of its own.
    Apart,
    /// All share one.
    Together,
}

impl Layout {
    /// Its name on record.
    pub fn name(self) -> &'static str {
        match self {
            Self::Apart => "apart",
            Self::Together => "together",
        }
    }
}

/// A cluster.
#[derive(Debug, Clone, Copy)]
pub struct World {
    /// How many services there are, each with a Service, a Deployment and its ReplicaSet.
    pub services: usize,
    /// Pods of each.
    pub pods: usize,
    /// Bytes of each pod, as the API server sends it.
    pub pod_bytes: usize,
    /// Where they are.
    pub layout: Layout,
}

/// The service that conftool says is served here: it is refused.
pub const SERVED: usize = 0;
/// A service that is declared to be served elsewhere: it may go.
pub const DEPOOLED: usize = 1;

impl World {
    /// The namespace of a service.
    pub fn namespace(&self, service: usize) -> String {
        match self.layout {
            Layout::Apart => format!("space-{service}"),
            Layout::Together => "space".to_owned(),
        }
    }

    /// Metadata in the namespace of a service.
    pub fn meta(&self, service: usize, name: &str) -> Value {
        json!({"namespace": self.namespace(service), "name": name, "resourceVersion": "1", "uid": name})
    }

    fn pooling(&self, service: usize) -> Value {
        let evidence = match service {
            SERVED => json!({"name": "discovery", "conftool": {"record": name(service)}}),
            service => {
                let pooled = ["eqiad", "codfw"][service % 2];
                json!({"name": "switch", "declared": {"pooledIn": [pooled]}})
            }
        };
        let mut metadata = self.meta(service, &name(service));
        metadata["generation"] = json!(1);
        json!({
            "apiVersion": "poolguard.dev/v1alpha1",
            "kind": "ServicePooling",
            "metadata": metadata,
            "spec": {
                "selector": {"matchLabels": labels(&name(service))},
                "mode": "ActiveActive",
                "datacenters": [{"name": "codfw"}, {"name": "eqiad"}],
                "evidence": [evidence],
            },
        })
    }

    fn workload(&self, service: usize, name: &str, owner: Option<(&str, &str)>) -> Value {
        let mut metadata = self.meta(service, name);
        metadata["ownerReferences"] = owner.map_or(json!([]), |(kind, name)| owned_by(kind, name));
        json!({
            "metadata": metadata,
            "spec": {"replicas": self.pods, "template": {"metadata": {"labels": labels(&self::name(service))}}},
            "status": {"replicas": self.pods, "readyReplicas": self.pods},
        })
    }

    /// A pod of a service.
    pub fn pod(&self, service: usize, index: usize) -> Value {
        let metadata = self.meta(service, &format!("{}-{index:05}", set(service)));
        pod(metadata, labels(&name(service)), &set(service), self.pod_bytes)
    }

    /// Everything of a kind, by the path of its list.
    fn count(&self, path: &str) -> usize {
        match path.rsplit('/').next().unwrap_or_default() {
            "pods" => self.services * self.pods,
            "namespaces" if self.layout == Layout::Together => 1,
            "namespaces" | "servicepoolings" | "services" | "deployments" | "replicasets" => self.services,
            _ => 0,
        }
    }

    fn object(&self, path: &str, index: usize) -> Value {
        match path.rsplit('/').next().unwrap_or_default() {
            "pods" => self.pod(index / self.pods, index % self.pods),
            "namespaces" => {
                json!({"metadata": {"name": self.namespace(index), "labels": {"poolguard.dev/protected": "true"}}})
            }
            "servicepoolings" => self.pooling(index),
            "services" => json!({
                "metadata": self.meta(index, &name(index)),
                "spec": {"selector": labels(&name(index)), "ports": [{"port": 80}]},
            }),
            "deployments" => self.workload(index, &name(index), None),
            _ => self.workload(index, &set(index), Some(("Deployment", &name(index)))),
        }
    }

    /// An API server that holds it, and takes no changes.
    pub fn server(self) -> Router {
        Router::new().fallback(list).with_state(Arc::new(self))
    }

    /// The webhook's routes with a view of this world that is whole, and what ends its tasks.
    pub async fn router(self) -> (Router, Shutdown) {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let etcd = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let endpoint = etcd.local_addr().expect("an address");
        tokio::spawn(async move { axum::serve(etcd, Router::new().fallback(conftool)).await });
        // No watch ever says anything.
        let text = format!(
            "{{datacenter: eqiad, webhook: {{watchSilence: 10m}}, sources: [{{name: c, conftool: {{endpoints: ['http://{endpoint}']}}}}]}}"
        );
        let config = Config::parse(&text, Overrides::default()).expect("a configuration");
        let env = Environment {
            client: kube::Client::new(self.server(), "default"),
            registry: prometheus::Registry::new(),
            health: Health::default(),
            shutdown: Shutdown::default(),
        };
        let sources = Sources::new(&config, &env.registry).expect("sources");
        let router = webhook::router(&env, &config, sources).expect("a router");
        let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(300);
        loop {
            // The tasks that say what is missing must run first.
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            let missing = env.health.missing();
            if missing.is_empty() {
                break;
            }
            assert!(tokio::time::Instant::now() < deadline, "not ready: {missing:?}");
        }
        (router, env.shutdown)
    }
}

/// The name of a service, and of what belongs to it.
pub fn name(service: usize) -> String {
    format!("service-{service}")
}

/// The ReplicaSet of a service.
fn set(service: usize) -> String {
    format!("{}-7c9f5d8b6d", name(service))
}

fn labels(app: &str) -> Value {
    json!({"app.kubernetes.io/managed-by": "Helm", "app": app, "routed_via": "production"})
}

fn owned_by(kind: &str, name: &str) -> Value {
    json!([{"apiVersion": "apps/v1", "kind": kind, "name": name, "uid": name, "controller": true}])
}

/// A Ready pod, with as many variables in its environment as make it this long.
pub fn pod(mut metadata: Value, labels: Value, set: &str, size: usize) -> Value {
    metadata["labels"] = labels;
    metadata["annotations"] =
        json!({"checksum/config": "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"});
    metadata["ownerReferences"] = owned_by("ReplicaSet", set);
    let condition = |kind: &str| json!({"type": kind, "status": "True", "lastProbeTime": null, "lastTransitionTime": "2026-01-02T03:04:05Z"});
    let mut pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {
            "nodeName": "node-1",
            "restartPolicy": "Always",
            "containers": [{"name": "main", "image": "registry.example/service:1", "env": []}],
        },
        "status": {
            "phase": "Running",
            "podIP": "10.64.0.7",
            "conditions": [condition("Initialized"), condition("Ready"), condition("ContainersReady"), condition("PodScheduled")],
        },
    });
    let bare = pod.to_string().len();
    let variable = |index: usize| json!({"name": format!("VARIABLE_{index:03}"), "value": "a value of usual length"});
    let each = variable(0).to_string().len() + 1;
    pod["spec"]["containers"][0]["env"] = (0..size.saturating_sub(bare) / each).map(variable).collect();
    pod
}

/// A list's page, or a watch that stays silent.
async fn list(State(world): State<Arc<World>>, uri: Uri, RawQuery(query): RawQuery) -> Response {
    let query = query.unwrap_or_default();
    let value = |name: &str| query.split('&').filter_map(|pair| pair.split_once('=')).find(|(key, _)| *key == name);
    if value("watch").is_some() {
        return Body::from_stream(futures::stream::pending::<Result<Bytes, std::io::Error>>()).into_response();
    }
    if let Some(service) =
        uri.path().rsplit_once("/servicepoolings/service-").and_then(|(_, number)| number.parse().ok())
    {
        return json_body(&world.pooling(service));
    }
    let number = |name: &str| value(name).and_then(|(_, text)| text.parse::<usize>().ok());
    let (from, limit) = (number("continue").unwrap_or_default(), number("limit").unwrap_or(usize::MAX));
    let to = world.count(uri.path()).min(from.saturating_add(limit));
    let mut metadata = json!({"resourceVersion": "1"});
    if to < world.count(uri.path()) {
        metadata["continue"] = json!(to.to_string());
    }
    let items: Vec<Value> = (from..to).map(|index| world.object(uri.path(), index)).collect();
    json_body(&json!({"apiVersion": "v1", "kind": "List", "metadata": metadata, "items": items}))
}

/// conftool's etcd: one record, pooled here and nowhere else, and a watch that stays silent.
async fn conftool(uri: Uri) -> Response {
    if uri.query().is_some_and(|query| query.contains("wait=true")) {
        std::future::pending::<()>().await;
    }
    let key = format!("/conftool/v1/discovery/{}", name(SERVED));
    let leaf = |datacenter: &str, pooled: bool| {
        json!({
            "key": format!("{key}/{datacenter}"),
            "value": json!({"pooled": pooled, "references": [], "ttl": 300}).to_string(),
            "modifiedIndex": 812,
        })
    };
    let record = json!({"key": key, "dir": true, "nodes": [leaf("codfw", false), leaf("eqiad", true)]});
    let node = if uri.path().ends_with(&name(SERVED)) {
        record
    } else {
        json!({"key": "/conftool/v1/discovery", "dir": true, "nodes": [record]})
    };
    ([("x-etcd-index", "812")], json_body(&json!({"action": "get", "node": node}))).into_response()
}

fn json_body(value: &Value) -> Response {
    (StatusCode::OK, [(header::CONTENT_TYPE, "application/json")], value.to_string()).into_response()
}
