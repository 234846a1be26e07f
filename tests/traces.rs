//! Traces as they are sent: the real process, an API server that only has lists to give, and a receiver of OTLP at the wire.
//! Built with the feature `otlp` alone.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use poolguard_harness::ports::Ports;
use poolguard_harness::run::Run;
use prost::Message;
use rcgen::{CertificateParams, KeyPair};
use serde_json::{Value, json};

/// Long enough for a loaded machine.
const SOON: Duration = Duration::from_secs(60);

/// ExportTraceServiceRequest, as far as the test reads it: opentelemetry/proto/collector/trace/v1/trace_service.proto.
#[derive(Clone, PartialEq, Message)]
struct Export {
    #[prost(message, repeated, tag = "1")]
    resource_spans: Vec<ResourceSpans>,
}

#[derive(Clone, PartialEq, Message)]
struct ResourceSpans {
    #[prost(message, optional, tag = "1")]
    resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    scope_spans: Vec<ScopeSpans>,
}

#[derive(Clone, PartialEq, Message)]
struct Resource {
    #[prost(message, repeated, tag = "1")]
    attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct ScopeSpans {
    #[prost(message, repeated, tag = "2")]
    spans: Vec<Span>,
}

#[derive(Clone, PartialEq, Message)]
struct Span {
    #[prost(bytes = "vec", tag = "1")]
    trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    span_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    parent_span_id: Vec<u8>,
    #[prost(string, tag = "5")]
    name: String,
    #[prost(fixed64, tag = "7")]
    start: u64,
    #[prost(fixed64, tag = "8")]
    end: u64,
    #[prost(message, repeated, tag = "9")]
    attributes: Vec<KeyValue>,
    #[prost(message, repeated, tag = "13")]
    links: Vec<Link>,
}

#[derive(Clone, PartialEq, Message)]
struct Link {
    #[prost(bytes = "vec", tag = "2")]
    span_id: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct KeyValue {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(message, optional, tag = "2")]
    value: Option<AnyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct AnyValue {
    #[prost(string, optional, tag = "1")]
    string: Option<String>,
    #[prost(bool, optional, tag = "2")]
    bool: Option<bool>,
    #[prost(int64, optional, tag = "3")]
    int: Option<i64>,
}

fn attributes(pairs: &[KeyValue]) -> BTreeMap<&str, String> {
    let text = |value: &AnyValue| {
        let AnyValue { string, bool, int } = value;
        string
            .clone()
            .or(bool.map(|value| value.to_string()))
            .or(int.map(|value| value.to_string()))
            .unwrap_or_default()
    };
    pairs.iter().map(|pair| (pair.key.as_str(), pair.value.as_ref().map(text).unwrap_or_default())).collect()
}

/// What was received.
#[derive(Clone, Default)]
struct Received(Arc<Mutex<Vec<ResourceSpans>>>);

impl Received {
    fn spans(&self) -> Vec<Span> {
        let received = self.0.lock().expect("no panic while it is held");
        received.iter().flat_map(|resource| &resource.scope_spans).flat_map(|scope| scope.spans.clone()).collect()
    }
}

async fn receive(State(received): State<Received>, headers: HeaderMap, body: Bytes) {
    assert_eq!(headers[header::CONTENT_TYPE], "application/x-protobuf");
    let export = Export::decode(body).expect("an ExportTraceServiceRequest");
    received.0.lock().expect("no panic while it is held").extend(export.resource_spans);
}

/// Lists, and watches in which nothing happens.
async fn api(uri: Uri) -> Response {
    if uri.query().is_some_and(|query| query.contains("watch=true")) {
        return Body::from_stream(futures::stream::pending::<Result<Bytes, std::io::Error>>()).into_response();
    }
    let items = match uri.path().rsplit('/').next() {
        Some("namespaces") => json!([{"metadata": {
            "name": "space", "resourceVersion": "1", "labels": {"poolguard.dev/protected": "true"},
        }}]),
        Some("servicepoolings") => json!([{
            "apiVersion": "poolguard.dev/v1alpha1", "kind": "ServicePooling",
            "metadata": {"namespace": "space", "name": "pilot", "uid": "1", "resourceVersion": "1"},
            "spec": {
                "selector": {"matchLabels": {"app": "pilot"}},
                "datacenters": [{"name": "codfw"}, {"name": "eqiad"}],
                "evidence": [
                    {"name": "switch", "declared": {"pooledIn": ["eqiad"]}},
                    {"name": "discovery", "conftool": {"record": "pilot"}},
                ],
            },
        }]),
        _ => json!([]),
    };
    let list = json!({"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": "1"}, "items": items});
    ([(header::CONTENT_TYPE, "application/json")], list.to_string()).into_response()
}

async fn listen(router: Router) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

async fn until<T, F: Future<Output = Result<T, String>>>(what: &str, condition: impl Fn() -> F) -> T {
    let deadline = tokio::time::Instant::now() + SOON;
    loop {
        match condition().await {
            Ok(value) => return value,
            Err(last) => assert!(tokio::time::Instant::now() < deadline, "waited for {what}; at last: {last}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Writes what the process reads, and returns the authority of its certificate.
fn prepare(folder: &Path, api: SocketAddr, webhook: u16, metrics: u16) -> String {
    let kubeconfig = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": format!("http://{api}")}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
    });
    let config = json!({
        "datacenter": "eqiad",
        // Nobody listens there: the question has an answer at once.
        "sources": [{"name": "conftool", "conftool": {"endpoints": ["http://127.0.0.1:1"]}}],
        "webhook": {"listen": format!("127.0.0.1:{webhook}"), "tlsDir": folder},
        "metrics": {"listen": format!("127.0.0.1:{metrics}")},
    });
    let key = KeyPair::generate().expect("a key");
    let certificate =
        CertificateParams::new(vec!["localhost".to_owned()]).expect("a name").self_signed(&key).expect("a certificate");
    for (name, text) in [
        ("kubeconfig", kubeconfig.to_string()),
        ("config.yaml", config.to_string()),
        ("tls.crt", certificate.pem()),
        ("tls.key", key.serialize_pem()),
    ] {
        std::fs::write(folder.join(name), text).expect("a file");
    }
    certificate.pem()
}

fn review(pod: &str) -> String {
    let labels = json!({"app": "pilot"});
    let pod_object = json!({
        "metadata": {"name": pod, "namespace": "space", "labels": labels},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
    });
    let request = json!({
        "uid": "7", "operation": "DELETE", "namespace": "space", "name": pod,
        "resource": {"group": "", "version": "v1", "resource": "pods"},
        "userInfo": {"username": "alice"}, "oldObject": pod_object,
    });
    json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}).to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_review_arrives_as_spans_with_the_questions_below_it() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let received = Received::default();
    let receiver = listen(Router::new().route("/v1/traces", post(receive).with_state(received.clone()))).await;
    let api = listen(Router::new().fallback(api)).await;
    let mut ports = Ports::new();
    let (webhook, metrics) = (ports.take().expect("a port"), ports.take().expect("a port"));
    let run = Run::temporary().expect("a run");
    let folder = run.subfolder("webhook").expect("a folder");
    let authority = prepare(&folder, api, webhook, metrics);
    let mut command = Command::new(env!("CARGO_BIN_EXE_poolguard"));
    command
        .env_clear()
        .env("KUBECONFIG", folder.join("kubeconfig"))
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{receiver}/"))
        .args(["webhook", "--config"])
        .arg(folder.join("config.yaml"));
    let process = run.start("webhook", &mut command).expect("it starts");

    let root = reqwest::Certificate::from_pem(authority.as_bytes()).expect("a certificate");
    let client = reqwest::Client::builder().tls_certs_only([root]).no_proxy().build().expect("a client");
    until("the process to be ready", || async {
        run.ensure_running(process, "webhook").expect("it runs");
        let ready = client.get(format!("http://127.0.0.1:{metrics}/readyz")).send().await;
        let ready = ready.map_err(|error| error.to_string())?;
        if ready.status().is_success() { Ok(()) } else { Err(ready.text().await.unwrap_or_default()) }
    })
    .await;
    let ask = |pod: &str, parent: &str| {
        let url = format!("https://localhost:{webhook}/validate");
        client.post(url).header("traceparent", parent).body(review(pod)).send()
    };
    let (trace, parent) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
    let (one, other) =
        tokio::join!(ask("pilot-one", &format!("00-{trace}-{parent}-01")), ask("pilot-other", "nothing of the kind"));
    for answer in [one, other] {
        let answer = answer.expect("an answer").text().await.expect("a body");
        let answer: Value = serde_json::from_str(&answer).expect("JSON");
        assert_eq!(answer["response"]["status"]["code"], 403, "{answer}");
    }
    drop(client);
    // What has not been sent by then is sent at the end.
    let run = tokio::task::spawn_blocking(move || run.end(process, false).map(|()| run));
    let run = run.await.expect("no panic").expect("it ends");

    let spans = received.spans();
    let log = run.log_text("webhook").expect("a log");
    let named = |name: &str| spans.iter().filter(|span| span.name == name).collect::<Vec<_>>();
    let names: Vec<&str> = spans.iter().map(|span| span.name.as_str()).collect();
    assert_eq!((named("review").len(), named("evidence").len()), (2, 2), "{names:?}\n{log}");
    let of = |pod: &str| {
        let found = named("review").into_iter().find(|span| attributes(&span.attributes)["object"] == pod);
        found.expect("a span of its review")
    };
    for pod in ["pilot-one", "pilot-other"] {
        let told = attributes(&of(pod).attributes);
        for (key, value) in [
            ("door", "pods"),
            ("user", "alice"),
            ("verb", "DELETE"),
            ("resource", "pods"),
            ("namespace", "space"),
            ("datacenter", "eqiad"),
            ("dry_run", "false"),
            ("service", "space/pilot"),
            ("decision", "refused"),
            ("reason", "Serving"),
        ] {
            assert_eq!(told.get(key).map(String::as_str), Some(value), "{key} in {told:?}");
        }
    }
    let bytes = |hex: &str| -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex")).collect()
    };
    assert_eq!((&of("pilot-one").trace_id, &of("pilot-one").parent_span_id), (&bytes(trace), &bytes(parent)));
    assert_ne!(of("pilot-other").trace_id, bytes(trace), "a trace of its own");
    assert!(of("pilot-other").parent_span_id.is_empty());

    // Both reviews share one question to each source: it hangs below the one that asked, and the other one leads there.
    let questions = named("question");
    let told: Vec<_> = questions.iter().map(|span| attributes(&span.attributes)).collect();
    let said = |source: &str| {
        let one = told.iter().find(|told| told["source"] == source).expect("a question");
        let of = |key: &str| one.get(key).cloned().unwrap_or_default();
        (of("evidence"), of("says"), of("why"))
    };
    let words = |a: &str, b: &str, c: &str| (a.to_owned(), b.to_owned(), c.to_owned());
    assert_eq!(told.len(), 2, "{told:?}");
    assert_eq!(said("declared"), words("switch", "Serving", ""));
    assert_eq!(said("conftool"), words("discovery", "Unknown", "Unreachable"));
    for evidence in named("evidence") {
        let review = named("review").into_iter().find(|review| review.span_id == evidence.parent_span_id);
        let review = review.expect("a review above it");
        assert_eq!(review.trace_id, evidence.trace_id);
        assert!(review.start <= evidence.start && evidence.start <= evidence.end, "{review:?} {evidence:?}");
        let below: Vec<_> = questions.iter().filter(|span| span.parent_span_id == evidence.span_id).collect();
        let leads = evidence.links.iter().any(|link| link.span_id == questions[0].parent_span_id);
        let reused = attributes(&evidence.attributes).get("reused").is_some_and(|reused| reused == "true");
        assert!(below.len() == 2 || (below.is_empty() && (leads || reused)), "{evidence:?}");
    }

    let received = received.0.lock().expect("no panic while it is held");
    let resource = received.first().and_then(|spans| spans.resource.as_ref()).expect("a resource");
    let told = attributes(&resource.attributes);
    assert_eq!(told["service.name"], "poolguard-webhook", "{told:?}");
    assert_eq!(told["service.version"], env!("CARGO_PKG_VERSION"));
    // Spans are no part of the log.
    let line = log.lines().find(|line| line.contains("\"refused\"")).expect("the line of a refusal");
    let line: Value = serde_json::from_str(line).expect("JSON");
    assert!(line.get("span").is_none() && line.get("spans").is_none(), "{line}");
}
