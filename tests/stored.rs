//! A permission rests on the `ServicePooling` as it is stored. Where the view has not heard of what is stored, nothing is permitted, and what
//! is known to refuse still does. At the wire: no API server is behind its own watches when a test wants it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{RawQuery, State};
use axum::http::{Request, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use futures::StreamExt;
use poolguard::config::{Config, Overrides};
use poolguard::observe::Sources;
use poolguard::runtime::{Environment, Health, Shutdown};
use poolguard::webhook;
use serde_json::{Value, json};
use tokio::sync::broadcast;
use tower::ServiceExt;

/// What a `ServicePooling` is answered with when it is read by its name.
#[derive(Clone)]
enum Stored {
    Is(Value),
    Gone,
    /// Failures first.
    After(u32, StatusCode, Value),
    Silent,
}

/// An API server of one namespace, with one pod that several services may select.
struct Api {
    listed: Vec<Value>,
    stored: Mutex<HashMap<String, Stored>>,
    /// How often one was read by its name.
    reads: Mutex<u32>,
    told: broadcast::Sender<Value>,
}

/// Of the generation: how it is selected, where it is pooled, how it is meant.
fn spec(name: &str, generation: u32, label: &str, pooled_in: &str, enforcement: &str) -> Value {
    json!({
        "apiVersion": "poolguard.dev/v1alpha1",
        "kind": "ServicePooling",
        "metadata": {"namespace": "space", "name": name, "uid": name, "generation": generation, "resourceVersion": "1"},
        "spec": {
            "selector": {"matchLabels": {label: "yes"}},
            "mode": "ActiveActive",
            "datacenters": [{"name": "codfw"}, {"name": "eqiad"}],
            "evidence": [{"name": "switch", "declared": {"pooledIn": [pooled_in]}}],
            "enforcement": enforcement,
        },
    })
}

fn pod() -> Value {
    let owner =
        json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "set", "uid": "set", "controller": true}]);
    json!({
        "metadata": {
            "namespace": "space", "name": "a-pod", "uid": "a-pod", "resourceVersion": "1",
            "labels": {"one": "yes", "other": "yes"}, "ownerReferences": owner,
        },
        "spec": {"nodeName": "node-1", "containers": [{"name": "main"}]},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
    })
}

impl Api {
    fn of(listed: &[&Value]) -> Arc<Self> {
        let listed: Vec<Value> = listed.iter().map(|pooling| (*pooling).clone()).collect();
        let name = |pooling: &Value| pooling["metadata"]["name"].as_str().expect("a name").to_owned();
        let stored = listed.iter().map(|pooling| (name(pooling), Stored::Is(pooling.clone()))).collect();
        Arc::new(Self { stored: Mutex::new(stored), listed, reads: Mutex::default(), told: broadcast::channel(8).0 })
    }

    fn store(&self, name: &str, stored: Stored) {
        self.stored.lock().expect("no panic").insert(name.to_owned(), stored);
    }

    fn items(&self, kind: &str) -> Vec<Value> {
        let meta = |name: &str| json!({"namespace": "space", "name": name, "uid": name, "resourceVersion": "1"});
        match kind {
            "namespaces" => vec![json!({"metadata": {"name": "space", "labels": {"poolguard.dev/protected": "true"}}})],
            "servicepoolings" => self.listed.clone(),
            "pods" => vec![pod()],
            "services" => {
                vec![json!({"metadata": meta("front"), "spec": {"selector": {"one": "yes"}, "ports": [{"port": 80}]}})]
            }
            _ => Vec::new(),
        }
    }

    /// The webhook's routes before it, as soon as the view is whole.
    async fn webhook(self: &Arc<Self>, settings: &str) -> Router {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let config = Config::parse(&format!("{{datacenter: eqiad{settings}}}"), Overrides::default());
        let config = config.expect("a configuration");
        let server = Router::new().fallback(answer).with_state(Arc::clone(self));
        let env = Environment {
            client: kube::Client::new(server, "default"),
            registry: prometheus::Registry::new(),
            health: Health::default(),
            shutdown: Shutdown::default(),
        };
        let sources = Sources::new(&config, &env.registry).expect("sources");
        let router = webhook::router(&env, &config, sources).expect("a router");
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            tokio::time::sleep(Duration::from_millis(20)).await;
            let missing = env.health.missing();
            if missing.is_empty() {
                return router;
            }
            assert!(Instant::now() < deadline, "not ready: {missing:?}");
        }
    }
}

fn reply(status: StatusCode, body: &Value) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}

fn failure(code: StatusCode) -> Response {
    let status = json!({
        "apiVersion": "v1", "kind": "Status", "status": "Failure", "code": code.as_u16(),
        "reason": if code == StatusCode::NOT_FOUND { "NotFound" } else { "OfTheTest" },
        "message": "as the test wants it",
    });
    reply(code, &status)
}

async fn answer(State(api): State<Arc<Api>>, uri: Uri, RawQuery(query): RawQuery) -> Response {
    let (folder, last) = uri.path().rsplit_once('/').unwrap_or_default();
    if folder.ends_with("/namespaces/space/servicepoolings") {
        *api.reads.lock().expect("no panic") += 1;
        let found = api.stored.lock().expect("no panic").get(last).cloned().unwrap_or(Stored::Gone);
        return match found {
            Stored::Is(pooling) => reply(StatusCode::OK, &pooling),
            Stored::Gone => failure(StatusCode::NOT_FOUND),
            Stored::After(0, _, pooling) => reply(StatusCode::OK, &pooling),
            Stored::After(more, code, pooling) => {
                api.store(last, Stored::After(more - 1, code, pooling));
                failure(code)
            }
            Stored::Silent => std::future::pending().await,
        };
    }
    if query.is_some_and(|query| query.contains("watch=true")) {
        let told = (last == "servicepoolings").then(|| api.told.subscribe());
        let lines = futures::stream::unfold(told, |told| async {
            let Some(mut told) = told else { return std::future::pending().await };
            let event = told.recv().await.ok()?;
            Some((Ok::<_, std::io::Error>(Bytes::from(format!("{event}\n"))), Some(told)))
        });
        return Body::from_stream(lines.boxed()).into_response();
    }
    let list =
        json!({"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": "1"}, "items": api.items(last)});
    reply(StatusCode::OK, &list)
}

/// What is asked.
enum Asked {
    Delete,
    Evict,
    /// A change of this `ServicePooling` to that one.
    Change(Value, Value),
}

/// The code of a verdict, 200 where it is let pass, or of the answer; and its words.
async fn verdict(router: &Router, asked: Asked) -> (u16, String) {
    let (resource, sub, operation, name, old, new) = match asked {
        Asked::Delete => {
            (json!({"group": "", "version": "v1", "resource": "pods"}), "", "DELETE", "a-pod", pod(), Value::Null)
        }
        Asked::Evict => {
            let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "a-pod", "namespace": "space"}});
            let pods = json!({"group": "", "version": "v1", "resource": "pods"});
            (pods, "eviction", "CREATE", "a-pod", Value::Null, eviction)
        }
        Asked::Change(old, new) => {
            let kind = json!({"group": "poolguard.dev", "version": "v1alpha1", "resource": "servicepoolings"});
            (kind, "", "UPDATE", "one", old, new)
        }
    };
    let review = json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "7", "operation": operation, "resource": resource, "subResource": sub, "namespace": "space", "name": name,
            "userInfo": {"username": "alice"}, "object": new, "oldObject": old,
        },
    });
    let request = Request::post("/validate").body(Body::from(review.to_string())).expect("a request");
    let response = router.clone().oneshot(request).await.expect("the router never fails");
    let status = response.status();
    let body = to_bytes(response.into_body(), 1 << 20).await.expect("a body");
    if status != StatusCode::OK {
        return (status.as_u16(), String::from_utf8_lossy(&body).into_owned());
    }
    let answer: Value = serde_json::from_slice(&body).expect("JSON");
    let response = &answer["response"];
    match response["allowed"].as_bool().expect("a verdict") {
        true => (200, response["warnings"].to_string()),
        false => {
            let code = response["status"]["code"].as_u64().and_then(|code| u16::try_from(code).ok()).expect("a code");
            (code, response["status"]["message"].as_str().unwrap_or_default().to_owned())
        }
    }
}

const UNHEARD: &str = "ServicePooling space/one has just changed or gone, and the view has not heard of it yet";

fn elsewhere() -> Value {
    spec("one", 1, "one", "codfw", "Enforce")
}

fn here() -> Value {
    spec("one", 2, "one", "eqiad", "Enforce")
}

#[tokio::test]
async fn what_is_stored_decides_and_not_what_the_view_has_heard() {
    let api = Api::of(&[&elsewhere()]);
    let router = api.webhook("").await;
    assert_eq!(verdict(&router, Asked::Delete).await.0, 200, "the view is right");
    assert!(*api.reads.lock().expect("no panic") > 0, "it is read for a permission");
    for stored in [Stored::Is(here()), Stored::Gone] {
        api.store("one", stored);
        let (code, said) = verdict(&router, Asked::Delete).await;
        assert_eq!((code, said.as_str()), (500, format!("poolguard cannot tell: {UNHEARD}\n").as_str()));
        // A fault would let an eviction pass.
        let (code, said) = verdict(&router, Asked::Evict).await;
        assert!(code == 429 && said.contains(UNHEARD) && said.contains("try again"), "{code} {said}");
    }
}

#[tokio::test]
async fn a_view_that_hears_of_it_in_time_decides_by_it() {
    let api = Api::of(&[&elsewhere()]);
    let router = api.webhook("").await;
    api.store("one", Stored::Is(here()));
    let telling = async {
        // The webhook has read it, and waits.
        while *api.reads.lock().expect("no panic") == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        api.told.send(json!({"type": "MODIFIED", "object": here()})).expect("a watch");
    };
    let ((code, said), ()) = futures::future::join(verdict(&router, Asked::Delete), telling).await;
    assert!(code == 403 && said.contains("serves live traffic"), "{code} {said}");
}

#[tokio::test]
async fn a_service_that_refuses_does_so_whatever_became_of_another_one() {
    let other = spec("other", 1, "other", "eqiad", "Enforce");
    let api = Api::of(&[&elsewhere(), &other]);
    let router = api.webhook("").await;
    api.store("one", Stored::Is(here()));
    let (code, said) = verdict(&router, Asked::Delete).await;
    assert!(code == 403 && said.starts_with("other serves live traffic in eqiad"), "{code} {said}");
}

#[tokio::test]
async fn one_that_only_warned_and_is_to_enforce_warns_no_longer() {
    let warns = spec("one", 1, "one", "eqiad", "Warn");
    let api = Api::of(&[&warns]);
    let router = api.webhook("").await;
    let (code, said) = verdict(&router, Asked::Delete).await;
    assert!(code == 200 && said.contains("only warns here"), "{code} {said}");
    api.store("one", Stored::Is(here()));
    let (code, said) = verdict(&router, Asked::Delete).await;
    assert!(code == 500 && said.contains(UNHEARD), "{code} {said}");
    api.store("one", Stored::Silent);
    let (code, said) = verdict(&router, Asked::Delete).await;
    assert!(code == 500 && said.contains("cannot read ServicePooling space/one"), "{code} {said}");
}

#[tokio::test]
async fn an_installation_that_only_warns_reads_nothing() {
    let api = Api::of(&[&elsewhere()]);
    let router = api.webhook(", enforcement: Warn").await;
    api.store("one", Stored::Silent);
    assert_eq!(verdict(&router, Asked::Delete).await.0, 200);
    assert_eq!(*api.reads.lock().expect("no panic"), 0);
}

#[tokio::test]
async fn an_api_server_that_fails_for_a_moment_is_asked_again_and_one_that_is_silent_permits_nothing() {
    let api = Api::of(&[&elsewhere()]);
    let router = api.webhook("").await;
    for code in [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE] {
        api.store("one", Stored::After(2, code, elsewhere()));
        assert_eq!(verdict(&router, Asked::Delete).await.0, 200, "after {code}");
    }
    for stored in [Stored::Silent, Stored::After(1, StatusCode::FORBIDDEN, elsewhere())] {
        api.store("one", stored);
        let (code, said) = verdict(&router, Asked::Delete).await;
        assert!(code == 500 && said.contains("cannot read ServicePooling space/one"), "{code} {said}");
    }
}

#[tokio::test]
async fn a_service_pooling_under_review_is_not_waited_for() {
    let api = Api::of(&[&elsewhere()]);
    let router = api.webhook("").await;
    api.store("one", Stored::Is(here()));
    // A change that is judged by an old one, which others have changed meanwhile: the API server itself will not take it.
    let weaker = spec("one", 2, "one", "codfw", "Warn");
    let start = Instant::now();
    let (code, said) = verdict(&router, Asked::Change(elsewhere(), weaker)).await;
    assert!(code == 500 && said.contains(UNHEARD), "{code} {said}");
    assert!(start.elapsed() < Duration::from_secs(1), "it waited for what cannot come");
}
