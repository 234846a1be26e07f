//! A webhook that keeps what it is sent, and allows it.

use std::net::TcpListener;
use std::path::Path;
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result};
use axum::Router;
use axum::body::Bytes;
use axum::extract::{self, State};
use axum::routing::post;
use axum_server::tls_rustls::RustlsConfig;
use base64::Engine;
use base64::prelude::BASE64_STANDARD as BASE64;
use poolguard_harness::pki::{Authority, Subject};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

/// One review.
#[derive(Debug, Clone)]
pub struct Review {
    /// The entry of the registration that it came through.
    pub entry: String,
    /// The whole of it.
    pub body: Value,
}

type Kept = Arc<Mutex<Vec<Review>>>;

/// The server; it ends with its owner.
pub struct Receiver {
    /// Where it listens.
    pub url: String,
    /// What signed its certificate, as a registration writes it.
    pub authority: String,
    kept: Kept,
    _runtime: Runtime,
}

impl Receiver {
    /// Starts it.
    ///
    /// # Errors
    /// If it cannot listen.
    pub fn start(folder: &Path) -> Result<Self> {
        // Only the first call decides; all of them choose the same.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let authority = Authority::new(folder.join("recorder"), "recorder")?;
        let (certificate, key) = authority.sign("recorder", Subject::Server(&[]))?;
        let listener = TcpListener::bind("127.0.0.1:0").context("cannot listen")?;
        listener.set_nonblocking(true)?;
        let url = format!("https://{}", listener.local_addr()?);
        let kept = Kept::default();
        let router = Router::new().route("/{entry}", post(keep)).with_state(Arc::clone(&kept));
        let runtime = Runtime::new().context("cannot start a runtime")?;
        let tls =
            runtime.block_on(RustlsConfig::from_pem_file(certificate, key)).context("cannot read the certificate")?;
        let _guard = runtime.enter();
        let server = axum_server::from_tcp_rustls(listener, tls)?;
        runtime.spawn(server.serve(router.into_make_service()));
        drop(_guard);
        Ok(Self { url, authority: BASE64.encode(&authority.pem), kept, _runtime: runtime })
    }

    /// How many have arrived.
    pub fn count(&self) -> usize {
        self.kept.lock().map(|kept| kept.len()).unwrap_or_default()
    }

    /// Those that have arrived since there were this many.
    pub fn since(&self, count: usize) -> Vec<Review> {
        self.kept.lock().map(|kept| kept[count..].to_vec()).unwrap_or_default()
    }
}

async fn keep(State(kept): State<Kept>, extract::Path(entry): extract::Path<String>, body: Bytes) -> String {
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let answer = json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "response": {"uid": body["request"]["uid"], "allowed": true},
    });
    if let Ok(mut kept) = kept.lock() {
        kept.push(Review { entry, body });
    }
    answer.to_string()
}
