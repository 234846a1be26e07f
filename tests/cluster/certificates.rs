//! The webhook's certificate and its authority, made and rotated by the controller while 200 reviews a second are asked for, by a
//! client that trusts what the API server trusts: most on connections that are kept, as the API server does, the rest each on one of
//! its own.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{Api, DeleteParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use poolguard_harness::datacenter::{Controllers, Datacenter, Who};
use poolguard_harness::http::get;
use poolguard_harness::mount::{Files, Mount};
use poolguard_harness::operator::{Operator, Truth};
use poolguard_harness::wait::wait_for;
use rcgen::{CertificateParams, Issuer, KeyPair};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use crate::scenario::{Alone, SOON};

const NAME: &str = "rotated";
/// One review each.
const PERIOD: Duration = Duration::from_millis(5);
/// One rotation of each kind.
const ROTATION: Duration = Duration::from_secs(150);

/// As many are under way at most: a machine that is slower than that is asked less.
const AT_ONCE: usize = 25;
/// Every so many reviews, one has a connection of its own.
const FRESH: u64 = 10;

/// What calls the webhook, straight and through the API server.
pub struct Load {
    runtime: Runtime,
    answered: Arc<AtomicU64>,
    failures: Arc<Mutex<Vec<String>>>,
}

/// Clients that trust what is registered: one that keeps its connections, one that does not.
#[derive(Clone)]
struct Clients {
    trusted: Vec<u8>,
    kept: reqwest::Client,
    fresh: reqwest::Client,
}

impl Clients {
    fn new(trusted: Vec<u8>) -> Self {
        let builder = || {
            let roots = reqwest::Certificate::from_pem_bundle(&trusted).expect("authorities");
            reqwest::Client::builder().tls_certs_only(roots).no_proxy().timeout(SOON / 6)
        };
        let kept = builder().pool_max_idle_per_host(AT_ONCE).build().expect("a client");
        let fresh = builder().pool_max_idle_per_host(0).build().expect("a client");
        Self { trusted, kept, fresh }
    }
}

impl Load {
    /// Against the Deployment of a guarded service.
    pub fn start(datacenter: &Datacenter, operator: &Operator, name: &'static str) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let runtime = Runtime::new().expect("a runtime");
        let this = Self { runtime, answered: Arc::default(), failures: Arc::default() };
        let client = this.runtime.block_on(connect(datacenter));
        let clients = this.runtime.block_on(registered(&client, &[])).expect("an authority is registered");
        let clients = Arc::new(RwLock::new(Clients::new(clients)));
        this.runtime.spawn(trust(client.clone(), Arc::clone(&clients)));
        let main = format!("{name}-main");
        let deployment = datacenter.get(&["-n", name, "deployment", &main]).expect("the Deployment");
        let url = format!("https://127.0.0.1:{}/validate", operator.webhook_port());
        let (answered, failures) = (Arc::clone(&this.answered), Arc::clone(&this.failures));
        this.runtime.spawn(straight(url, review(name, &deployment).to_string(), clients, answered, failures));
        let failures = Arc::clone(&this.failures);
        this.runtime.spawn(async move {
            let deployments = Api::<Deployment>::namespaced(client, name);
            loop {
                match deployments.delete(&main, &DeleteParams { dry_run: true, ..DeleteParams::default() }).await {
                    Err(kube::Error::Api(status)) if status.message.contains("serves live traffic") => {}
                    other => failures.lock().expect("no panic").push(format!("through the API server: {other:?}")),
                }
                tokio::time::sleep(PERIOD * 20).await;
            }
        });
        this
    }

    /// How many were answered; there may be no failure.
    pub fn check(&self, during: &str) -> u64 {
        let failures = self.failures.lock().expect("no panic").clone();
        assert!(failures.is_empty(), "{during}: {} failed, first: {}", failures.len(), failures[0]);
        self.answered.load(Ordering::Relaxed)
    }
}

/// Asks straight, for ever.
async fn straight(
    url: String,
    review: String,
    clients: Arc<RwLock<Clients>>,
    answered: Arc<AtomicU64>,
    failures: Arc<Mutex<Vec<String>>>,
) {
    let mut ticks = tokio::time::interval(PERIOD);
    let mut calls = JoinSet::new();
    for count in 0.. {
        ticks.tick().await;
        while calls.try_join_next().is_some() || calls.len() >= AT_ONCE && calls.join_next().await.is_some() {}
        let clients = clients.read().expect("no panic").clone();
        let client = if count % FRESH == 0 { clients.fresh } else { clients.kept };
        let (url, review) = (url.clone(), review.clone());
        let (answered, failures) = (Arc::clone(&answered), Arc::clone(&failures));
        calls.spawn(async move {
            match ask(&client, &url, review).await {
                Ok(true) => drop(answered.fetch_add(1, Ordering::Relaxed)),
                Ok(false) => failures.lock().expect("no panic").push("it was allowed".to_owned()),
                Err(error) => failures.lock().expect("no panic").push(format!("{error:#}")),
            }
        });
    }
}

async fn connect(datacenter: &Datacenter) -> kube::Client {
    let file = Kubeconfig::read_from(datacenter.kubeconfig(Who::Admin)).expect("a kubeconfig");
    let config =
        kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.expect("a configuration");
    kube::Client::try_from(config).expect("a client")
}

/// The authorities that are registered, if they are others than these.
async fn registered(client: &kube::Client, known: &[u8]) -> Option<Vec<u8>> {
    let live = Api::<ValidatingWebhookConfiguration>::all(client.clone()).get("poolguard").await.ok()?;
    let bundle = live.webhooks.into_iter().flatten().find_map(|entry| entry.client_config.ca_bundle)?;
    (bundle.0 != known).then_some(bundle.0)
}

/// Trusts what the API server trusts.
async fn trust(client: kube::Client, clients: Arc<RwLock<Clients>>) {
    loop {
        let known = clients.read().expect("no panic").trusted.clone();
        if let Some(trusted) = registered(&client, &known).await {
            *clients.write().expect("no panic") = Clients::new(trusted);
        }
        tokio::time::sleep(PERIOD * 10).await;
    }
}

/// Whether the review was refused.
async fn ask(client: &reqwest::Client, url: &str, review: String) -> anyhow::Result<bool> {
    let answer = client.post(url).header("Content-Type", "application/json").body(review).send().await?;
    let answer: Value = serde_json::from_slice(&answer.error_for_status()?.bytes().await?)?;
    Ok(answer["response"]["allowed"] == json!(false))
}

fn review(namespace: &str, deployment: &Value) -> Value {
    json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": {
        "uid": "2a3b1e0f-0000-4000-8000-000000000001",
        "kind": {"group": "apps", "version": "v1", "kind": "Deployment"},
        "resource": {"group": "apps", "version": "v1", "resource": "deployments"},
        "name": deployment["metadata"]["name"], "namespace": namespace, "operation": "DELETE", "dryRun": true,
        "userInfo": {"username": "deployer", "groups": ["deployers", "system:authenticated"]},
        "object": null, "oldObject": deployment, "options": {"kind": "DeleteOptions", "apiVersion": "meta.k8s.io/v1"},
    }})
}

/// A pair for `name` by the authority of this Secret, which may have ended long ago.
fn pair(authority: &Value, name: &str, ended: bool) -> Files {
    let text = |key: &str| {
        let data = serde_json::from_value::<k8s_openapi::ByteString>(authority["data"][key].clone()).expect("data");
        String::from_utf8(data.0).expect("PEM")
    };
    let signer = KeyPair::from_pem(&text("ca.key")).expect("a key");
    let issuer = Issuer::from_ca_cert_pem(&text("ca.crt"), signer).expect("an authority");
    let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
    if ended {
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2021, 11, 25);
    }
    params.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate().expect("a key");
    let certificate = params.signed_by(&key, &issuer).expect("a certificate").pem();
    let files = [("tls.crt", certificate), ("tls.key", key.serialize_pem()), ("ca.crt", text("ca.crt"))];
    files.map(|(name, content)| (name.to_owned(), content.into_bytes())).into()
}

#[test]
fn certificates_are_made_and_rotated_and_no_call_fails_while_there_is_a_valid_pair() {
    let certificates = json!({"authorityValidity": "60s", "servingValidity": "24s", "overlap": "4s"});
    let truth = Truth { certificates: Some(certificates), ..Truth::nothing() };
    let alone = Alone::with(Controllers::Apart, &truth);
    let Alone { datacenter, operator, .. } = &alone;
    alone.guarded(NAME);

    let load = Load::start(datacenter, operator, NAME);
    let mount = operator.mount().expect("a mounted certificate");
    let steps = |step: &str| {
        let label = format!("step=\"{step}\"");
        operator.metric("controller", "poolguard_certificate_steps_total", &[&label]).expect("the metric")
    };
    wait_for("an authority to be rotated", ROTATION, || {
        anyhow::ensure!(steps("Drop") > 0.5, "the steps so far: {} new certificates", steps("Issue"));
        Ok(())
    })
    .expect("a rotation");
    let answered = load.check("rotation");
    assert!(answered > 1000, "only {answered} reviews were asked for");
    assert!(steps("Issue") > 2.5 && steps("Introduce") > 0.5 && steps("Promote") > 0.5, "not all steps were seen");
    let reloads = operator.metric("webhook", "poolguard_tls_reloads_total", &["result=\"ok\""]).expect("the metric");
    assert!(reloads > 2.5, "the webhook has loaded {reloads} certificates");
    let label = "what=\"caBundle\"";
    let repairs = operator.metric("controller", "poolguard_repairs_total", &[label]).expect("the metric");
    assert!(repairs < 0.5, "a rotation is no repair");
    eprintln!("  {answered} reviews during {} new certificates, none failed", steps("Issue"));

    spoil(datacenter, operator, mount, &load);
    drop(load);
    without_any(datacenter, operator, mount);
}

/// Spoils what is mounted in every way: the webhook goes on with what it has, and says so.
fn spoil(datacenter: &Datacenter, operator: &Operator, mount: &Mount, load: &Load) {
    let authority = || datacenter.get(&["-n", "poolguard", "secret", "poolguard-webhook-ca"]).expect("the authority");
    let with = |name: &str, change: &dyn Fn(Vec<u8>) -> Vec<u8>| -> Files {
        let files = mount.shown().into_iter();
        files.map(|(file, content)| if file == name { (file, change(content)) } else { (file, content) }).collect()
    };
    let half = |mut content: Vec<u8>| {
        content.truncate(content.len() / 2);
        content
    };
    let becomes = |usable: bool, what: &str| {
        wait_for(what, SOON, || {
            let says = operator.metric("webhook", "poolguard_tls_pair_usable", &[])?;
            anyhow::ensure!((says > 0.5) == usable, "it says {says}");
            Ok(())
        })
        .expect("the metric");
    };
    let other = |_| KeyPair::generate().expect("a key").serialize_pem().into_bytes();
    for (what, files) in [
        ("a half-written certificate", with("tls.crt", &half)),
        ("a half-written key", with("tls.key", &half)),
        ("a key of another certificate", with("tls.key", &other)),
        ("an expired certificate", pair(&authority(), "127.0.0.1", true)),
        ("a certificate for another name", pair(&authority(), "other.example", false)),
    ] {
        mount.hold(files).expect("mounted");
        becomes(false, &format!("the metric to tell of {what}"));
        let ready = get(operator.metrics_port("webhook"), "/readyz").expect("an answer");
        assert_eq!(ready.status, 200, "{what}: what is served is still good: {}", ready.body);
        mount.release();
        becomes(true, &format!("recovery from {what}"));
        load.check(what);
    }
}

/// Without a pair that anybody would accept, the webhook is not ready and says why.
fn without_any(datacenter: &Datacenter, operator: &Operator, mount: &Mount) {
    let authority = datacenter.get(&["-n", "poolguard", "secret", "poolguard-webhook-ca"]).expect("the authority");
    let ready = |expected: u16, says: &str| {
        wait_for(&format!("readiness to be {expected} and to say {says:?}"), SOON, || {
            let answer = get(operator.metrics_port("webhook"), "/readyz")?;
            anyhow::ensure!(
                answer.status == expected && answer.body.contains(says),
                "it is {}: {}",
                answer.status,
                answer.body
            );
            Ok(())
        })
        .expect("readiness");
    };
    operator.stop(datacenter, "webhook", false).expect("the webhook ends");
    mount.hold(pair(&authority, "127.0.0.1", true)).expect("mounted");
    operator.start(datacenter, "webhook").expect("it starts again");
    ready(503, "the certificate is valid from 2020-01-01");
    mount.hold(pair(&authority, "other.example", false)).expect("mounted");
    ready(503, "not for the name");
    mount.hold(vec![("tls.crt".to_owned(), b"nothing".to_vec()), ("tls.key".to_owned(), Vec::new())]).expect("mounted");
    operator.stop(datacenter, "webhook", false).expect("the webhook ends");
    operator.start(datacenter, "webhook").expect("it starts without a certificate");
    ready(503, "certificate");
    let address = SocketAddr::from(([127, 0, 0, 1], operator.webhook_port()));
    wait_for("the webhook to listen", SOON, || {
        std::net::TcpStream::connect(address)?;
        Ok(())
    })
    .expect("it listens");
    let usable = operator.metric("webhook", "poolguard_tls_pair_usable", &[]).expect("the metric");
    assert!(usable < 0.5, "there is nothing to use");
    mount.release();
    ready(200, "");
}
