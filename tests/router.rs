//! The real router and the real TLS listener, without an API server: bodies that are no reviews, a view that is not whole, a
//! certificate that is swapped while serving.

use std::path::Path;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use poolguard::config::{Config, Overrides};
use poolguard::observe::Sources;
use poolguard::runtime::{Environment, Health, Shutdown, tls};
use poolguard::webhook;
use proptest::prelude::*;
use rcgen::{CertificateParams, KeyPair};
use tower::ServiceExt;

/// A router whose API server cannot be reached: its view is never whole.
fn router() -> Router {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let config = Config::parse("datacenter: eqiad", Overrides::default()).expect("a configuration");
    let nowhere = kube::Config::new("http://127.0.0.1:1".parse().expect("a URL"));
    let env = Environment {
        client: kube::Client::try_from(nowhere).expect("a client"),
        registry: prometheus::Registry::new(),
        health: Health::default(),
        shutdown: Shutdown::default(),
    };
    let sources = Sources::new(&config, &env.registry).expect("sources");
    webhook::router(&env, &config, sources).expect("a router")
}

async fn post(router: &Router, body: Vec<u8>) -> (StatusCode, String) {
    let request = Request::post("/validate").body(Body::from(body)).expect("a request");
    let response = router.clone().oneshot(request).await.expect("the router never fails");
    let status = response.status();
    let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.expect("a body");
    (status, String::from_utf8_lossy(&body).into_owned())
}

fn review(resource: &str, old: &str) -> String {
    format!(
        r#"{{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{{"uid":"7","operation":"DELETE",
        "resource":{{"group":"","version":"v1","resource":"{resource}"}},"namespace":"x","name":"y","userInfo":{{}},"oldObject":{old}}}}}"#
    )
}

#[tokio::test]
async fn a_body_that_is_no_review_is_a_4xx_and_the_process_goes_on() {
    let router = router();
    let deep = format!("{}1{}", r#"{"a":"#.repeat(100_000), "}".repeat(100_000));
    let huge = vec![b' '; 8 << 20];
    for (what, body, expected) in [
        ("empty", Vec::new(), StatusCode::BAD_REQUEST),
        ("8 MiB", huge, StatusCode::PAYLOAD_TOO_LARGE),
        ("of another kind", br#"{"apiVersion":"v1","kind":"Pod"}"#.to_vec(), StatusCode::BAD_REQUEST),
        (
            "without a request",
            br#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview"}"#.to_vec(),
            StatusCode::BAD_REQUEST,
        ),
        ("without a uid", review("pods", "{}").replace(r#""uid":"7","#, "").into_bytes(), StatusCode::BAD_REQUEST),
        ("deeply nested", deep.clone().into_bytes(), StatusCode::BAD_REQUEST),
        ("not UTF-8", vec![0xff, 0xfe, b'{'], StatusCode::BAD_REQUEST),
        (
            "not UTF-8 where nobody looks",
            review("pods", "{}")
                .replacen('{', "{\"extra\":\"?\",", 1)
                .bytes()
                .map(|byte| if byte == b'?' { 0xff } else { byte })
                .collect(),
            StatusCode::BAD_REQUEST,
        ),
        ("truncated", review("pods", "{}").as_bytes()[..80].to_vec(), StatusCode::BAD_REQUEST),
        (
            "with an object of wrong types",
            review("pods", r#"{"metadata":{"labels":7}}"#).into_bytes(),
            StatusCode::BAD_REQUEST,
        ),
    ] {
        let (status, body) = post(&router, body).await;
        assert_eq!(status, expected, "{what}: {body}");
    }
    let (status, body) = post(&router, review("jobs", &deep).into_bytes()).await;
    assert!(status.is_client_error() || status == StatusCode::OK, "deep inside an object: {status} {body}");
    let (status, body) = post(&router, review("jobs", "{}").into_bytes()).await;
    assert_eq!(status, StatusCode::OK, "and then a review is answered: {body}");
    assert!(body.contains(r#""uid":"7","allowed":true"#), "{body}");
}

#[tokio::test]
async fn a_view_that_is_not_whole_is_a_5xx_never_a_verdict() {
    let (status, body) = post(&router(), review("pods", "{}").into_bytes()).await;
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(body.contains("not current") && body.contains("pods not listed yet"), "{body}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Whatever happens to the bytes of a review, decoding ends, and does not panic.
    #[test]
    fn no_mutation_of_a_review_panics(at in 0usize..400, byte in any::<u8>(), cut in 0usize..400) {
        let whole = review("pods", r#"{"metadata":{"name":"p","labels":{"a":"b"},"ownerReferences":[{"kind":"Job","name":"j","controller":true}]},"status":{"phase":"Running","conditions":[{"type":"Ready","status":"True"}]}}"#);
        let mut bytes = whole.into_bytes();
        let length = bytes.len();
        bytes[at % length] = byte;
        bytes.truncate(length - cut % 40);
        let _ = webhook::review::decode(&bytes, &[]);
    }
}

/// A self-signed pair, written the way the kubelet mounts a Secret: files link to `..data`, which links to a dated folder.
fn mount(folder: &Path, generation: &str) -> String {
    let key = KeyPair::generate().expect("a key");
    let certificate =
        CertificateParams::new(vec!["localhost".to_owned()]).expect("a name").self_signed(&key).expect("a certificate");
    let dated = folder.join(generation);
    std::fs::create_dir(&dated).expect("a folder");
    std::fs::write(dated.join("tls.crt"), certificate.pem()).expect("a file");
    std::fs::write(dated.join("tls.key"), key.serialize_pem()).expect("a file");
    let fresh = folder.join("..data_tmp");
    std::os::unix::fs::symlink(generation, &fresh).expect("a link");
    std::fs::rename(fresh, folder.join("..data")).expect("a swap");
    for file in ["tls.crt", "tls.key"] {
        let _ = std::os::unix::fs::symlink(Path::new("..data").join(file), folder.join(file));
    }
    certificate.pem()
}

async fn ask(port: u16, authority: &str) -> Result<StatusCode, reqwest::Error> {
    let root = reqwest::Certificate::from_pem(authority.as_bytes())?;
    let client = reqwest::Client::builder().tls_certs_only([root]).no_proxy().build()?;
    Ok(client.get(format!("https://localhost:{port}/livez")).send().await?.status())
}

#[tokio::test]
async fn a_certificate_is_swapped_while_serving_and_a_broken_one_is_not_taken() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let folder = tempfile::tempdir().expect("a folder");
    let first = mount(folder.path(), "..2026_01");
    let registry = prometheus::Registry::new();
    let certificate = tls::Certificate::load(folder.path(), Some("localhost"), &registry).expect("a certificate");
    let config = certificate.config();
    let (health, shutdown) = (Health::default(), Shutdown::default());
    tokio::spawn(certificate.follow(health.check("certificate"), shutdown.clone()));
    let handle = axum_server::Handle::<std::net::SocketAddr>::new();
    let routes = Router::new().route("/livez", axum::routing::get(|| async { "ok" }));
    let server = axum_server::bind_rustls("127.0.0.1:0".parse().expect("an address"), config);
    tokio::spawn(server.handle(handle.clone()).serve(routes.into_make_service()));
    let port = handle.listening().await.expect("it listens").port();
    assert_eq!(ask(port, &first).await.expect("the first certificate"), StatusCode::OK);

    let second = mount(folder.path(), "..2026_02");
    until("the second certificate is served", || async { ask(port, &second).await.is_ok() }).await;
    assert!(ask(port, &first).await.is_err(), "the first one is gone");

    std::fs::write(folder.path().join("..2026_02/tls.key"), "half a k").expect("a file");
    let usable = || {
        let families = registry.gather();
        let family = families.iter().find(|family| family.name() == "poolguard_tls_pair_usable").expect("the metric");
        family.get_metric()[0].get_gauge().get_value()
    };
    until("the metric says that the pair is broken", || async { usable() == 0.0 }).await;
    assert_eq!(ask(port, &second).await.expect("the old pair stays"), StatusCode::OK);
    shutdown.trigger();
}

async fn until<F: Future<Output = bool>>(what: &str, condition: impl Fn() -> F) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while !condition().await {
        assert!(tokio::time::Instant::now() < deadline, "waited 20 s until {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
