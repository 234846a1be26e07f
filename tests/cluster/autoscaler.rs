//! An autoscaler that may go to zero: the real one, with an external metric. Only the metric is played, at the wire: an API server of
//! its own, which the datacenter's aggregates.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use axum::extract::Path;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use axum_server::Handle;
use axum_server::tls_rustls::RustlsConfig;
use poolguard_harness::command::Output;
use poolguard_harness::datacenter::{Controllers, Datacenter, Who};
use poolguard_harness::services;
use poolguard_harness::wait::wait_for;
use serde_json::{Value, json};

use crate::scenario::{Alone, SOON, with_spec};

const NAME: &str = "scaled";
const METRIC: &str = "waiting";

/// Serves an external metric, and ends with the value.
struct Metrics {
    waiting: Arc<AtomicU32>,
    _runtime: tokio::runtime::Runtime,
}

impl Metrics {
    fn serve(datacenter: &Datacenter) -> Self {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let waiting = Arc::new(AtomicU32::new(0));
        let listening = runtime.block_on(listen(Arc::clone(&waiting)));
        datacenter
            .apply(&format!(
                "apiVersion: v1\nkind: Service\nmetadata: {{name: metrics, namespace: kube-system}}\n\
                 spec: {{type: ExternalName, externalName: localhost}}\n---\n\
                 apiVersion: apiregistration.k8s.io/v1\nkind: APIService\nmetadata: {{name: v1beta1.external.metrics.k8s.io}}\n\
                 spec:\n  group: external.metrics.k8s.io\n  version: v1beta1\n  groupPriorityMinimum: 100\n  versionPriority: 100\n  \
                 insecureSkipTLSVerify: true\n  service: {{name: metrics, namespace: kube-system, port: {}}}\n",
                listening.port()
            ))
            .expect("an APIService");
        datacenter
            .kubectl(&[
                "wait",
                "apiservice",
                "v1beta1.external.metrics.k8s.io",
                "--for=condition=Available",
                "--timeout=60s",
            ])
            .and_then(|output| output.success())
            .expect("the metric's API");
        Self { waiting, _runtime: runtime }
    }
}

async fn listen(waiting: Arc<AtomicU32>) -> SocketAddr {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let (certificate, key) = (own.cert.pem().into_bytes(), own.signing_key.serialize_pem().into_bytes());
    let tls = RustlsConfig::from_pem(certificate, key).await.expect("a server's configuration");
    let version = "external.metrics.k8s.io/v1beta1";
    let resources = json!({
        "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version,
        "resources": [{"name": METRIC, "singularName": "", "namespaced": true, "kind": "ExternalMetricValueList", "verbs": ["get"]}],
    });
    let value = move |Path(_): Path<String>| {
        let value = json!({
            "kind": "ExternalMetricValueList", "apiVersion": version, "metadata": {},
            "items": [{
                "metricName": METRIC, "metricLabels": {}, "timestamp": jiff::Timestamp::now().to_string(),
                "value": waiting.load(Ordering::Relaxed).to_string(),
            }],
        });
        async move { json_body(&value) }
    };
    let routes = axum::Router::new()
        .route("/apis/external.metrics.k8s.io/v1beta1", get(|| async move { json_body(&resources) }))
        .route(&format!("/apis/external.metrics.k8s.io/v1beta1/namespaces/{{namespace}}/{METRIC}"), get(value));
    let handle = Handle::new();
    let server = axum_server::bind_rustls(SocketAddr::from(([127, 0, 0, 1], 0)), tls);
    tokio::spawn(server.handle(handle.clone()).serve(routes.into_make_service()));
    handle.listening().await.expect("it listens")
}

fn json_body(value: &Value) -> impl IntoResponse + use<> {
    ([(CONTENT_TYPE, "application/json")], value.to_string())
}

#[test]
fn an_autoscaler_goes_to_zero_after_the_depool_and_not_before() {
    let Alone { datacenter, operator, .. } = &Alone::start(Controllers::Apart);
    let metrics = Metrics::serve(datacenter);
    services::namespace(datacenter, NAME).expect("a namespace");
    services::install(datacenter, "helm3", NAME, NAME, "main").expect("the example chart");
    let deployer = |arguments: &[&str]| -> Output {
        let mut all = vec!["-n", NAME];
        all.extend(arguments);
        datacenter.call(Who::Deployer, "kubectl", &all).expect("kubectl starts")
    };
    let declared = |pooled: &str| {
        let lines = format!(
            "selector: {{matchLabels: {{app: {NAME}, routed_via: production}}}}\n  evidence: [{{name: switch, declared: {{pooledIn: [{pooled}]}}}}]"
        );
        datacenter
            .apply_as(Who::Deployer, &with_spec(NAME, &lines))
            .expect("kubectl starts")
            .success()
            .expect("a ServicePooling");
    };
    declared("eqiad");
    services::ready(datacenter, NAME).expect("ready pods");
    deployer(&["wait", "servicepooling", NAME, "--for=condition=Guarded", "--timeout=60s"]).success().expect("guarded");

    let main = format!("{NAME}-main");
    let refused = operator.refused_in(NAME).expect("the metric");
    let to_zero = json!({"spec": {
        "minReplicas": 0,
        "metrics": [{"type": "External", "external": {"metric": {"name": METRIC}, "target": {"type": "AverageValue", "averageValue": "1"}}}],
        "behavior": {"scaleDown": {"stabilizationWindowSeconds": 0}},
    }});
    deployer(&["patch", "hpa", &main, "--type=merge", "-p", &to_zero.to_string()])
        .success()
        .expect("an autoscaler may be told");
    wait_for("the autoscaler to be refused", SOON, || {
        let able = r#"jsonpath={.status.conditions[?(@.type=="AbleToScale")].message}"#;
        let said = deployer(&["get", "hpa", &main, "-o", able]).success()?;
        anyhow::ensure!(said.contains("serves live traffic in eqiad and nowhere else"), "it says {said}");
        Ok(())
    })
    .expect("a refusal");
    assert!(operator.refused_in(NAME).expect("the metric") > refused, "the webhook did not count it");
    let replicas = || deployer(&["get", "deployment", &main, "-o", "jsonpath={.spec.replicas}"]).success();
    assert_eq!(replicas().expect("the Deployment"), "2");

    declared("codfw");
    let becomes = |expected: &str| {
        wait_for(&format!("the autoscaler to want {expected}"), SOON, || {
            let found = replicas()?;
            anyhow::ensure!(found == expected, "it wants {found}");
            Ok(())
        })
        .expect("the autoscaler");
    };
    becomes("0");
    metrics.waiting.store(2, Ordering::Relaxed);
    becomes("2");
}
