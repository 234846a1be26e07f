//! Between a process of ours and the API server, request by request: notes what is written, can stop everything behind a write, and can
//! end every watch as the API server does.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum_server::tls_rustls::RustlsConfig;
use futures::StreamExt;
use poolguard_harness::datacenter::Datacenter;
use poolguard_harness::pki::{Authority, Subject};
use tokio::runtime::Runtime;
use tokio::sync::watch;

/// Nobody here writes more at a time.
const LIMIT: usize = 4 << 20;

/// A gate.
pub struct Gate {
    /// Where it listens.
    pub port: u16,
    /// The authority of its certificate.
    pub authority: PathBuf,
    shared: Arc<Shared>,
    _runtime: Runtime,
}

/// Who has to wait.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Held {
    Nobody,
    /// New watches.
    Watches,
    /// And lists of `ServicePooling`s.
    ListsToo,
}

struct Shared {
    server: String,
    client: reqwest::Client,
    writes: Mutex<Vec<String>>,
    /// How many more writes may go through; nothing where all may.
    left: Mutex<Option<u64>>,
    /// Counts up when every watch is to end.
    ends: watch::Sender<u64>,
    /// Who has to wait.
    held: watch::Sender<Held>,
    /// Whose next watch is to begin at the beginning of all history; nothing where nobody's is. With those that have done so.
    aged: Mutex<Option<HashSet<String>>>,
    /// Watches whose history was gone.
    gone: AtomicU64,
}

/// Whether a request changes something; a dry run does not.
fn write(request: &Request) -> Option<String> {
    let query = request.uri().query().unwrap_or_default();
    let writes = request.method() != Method::GET && !query.contains("dryRun=All");
    writes.then(|| format!("{} {}", request.method(), request.uri().path()))
}

/// The last part of a path: of a list, what is listed.
fn last_part(request: &Request) -> &str {
    request.uri().path().rsplit('/').next().unwrap_or_default()
}

/// A Lease is renewed all the time, whatever happens.
fn is_lease(write: &str) -> bool {
    write.contains("/leases")
}

impl Shared {
    /// Whether a write may go through, and whether it is the last one.
    fn admit(&self, write: &str) -> (bool, bool) {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        match left.as_mut() {
            Some(0) => return (false, true),
            Some(count) if !is_lease(write) => *count -= 1,
            _ => {}
        }
        (true, *left == Some(0))
    }

    /// Has a watch begin where no API server remembers anything, if it is the first one since [`Gate::age_watches`].
    fn age(&self, kind: &str, path: &mut String) {
        let mut aged = self.aged.lock().unwrap_or_else(PoisonError::into_inner);
        if aged.as_mut().is_some_and(|aged| aged.insert(kind.to_owned()))
            && let Some((before, rest)) = path.split_once("resourceVersion=")
        {
            let after = rest.find('&').map_or("", |end| &rest[end..]);
            *path = format!("{before}resourceVersion=1{after}");
        }
    }

    async fn forward(self: &Arc<Self>, request: Request) -> Result<Response, StatusCode> {
        let bad = |_| StatusCode::BAD_GATEWAY;
        let written = write(&request);
        let (admitted, last) = written.as_deref().map_or((true, false), |write| self.admit(write));
        if !admitted {
            // It never arrives.
            std::future::pending::<()>().await;
        }
        let watches = request.uri().query().is_some_and(|query| query.contains("watch=true"));
        // What a watch would tell, a list tells too.
        let listed = last_part(&request) == "servicepoolings" && request.method() == Method::GET;
        let waits = |held: &Held| (watches && *held != Held::Nobody) || (listed && *held == Held::ListsToo);
        let _ = self.held.subscribe().wait_for(|held| !waits(held)).await;
        let (head, body) = request.into_parts();
        let mut ends = self.ends.subscribe();
        ends.mark_unchanged();
        let mut path = head.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        if watches {
            self.age(head.uri.path(), &mut path);
        }
        let url = format!("{}{path}", self.server);
        let body = to_bytes(body, LIMIT).await.map_err(|_| StatusCode::PAYLOAD_TOO_LARGE)?;
        let mut headers = head.headers;
        for own in ["host", "content-length", "connection", "transfer-encoding"] {
            headers.remove(own);
        }
        let answer = self.client.request(head.method, url).headers(headers).body(body).send().await.map_err(bad)?;
        if let Some(write) = written {
            if answer.status().is_success() {
                self.writes.lock().unwrap_or_else(PoisonError::into_inner).push(write);
            }
            if last {
                // It has happened, and whoever asked never hears of it.
                std::future::pending::<()>().await;
            }
        }
        let mut response = Response::new(Body::empty());
        *response.status_mut() = answer.status();
        if answer.status() == StatusCode::GONE {
            self.gone.fetch_add(1, Ordering::SeqCst);
        }
        for (name, value) in answer.headers() {
            if !["content-length", "connection", "transfer-encoding"].contains(&name.as_str()) {
                response.headers_mut().insert(name, value.clone());
            }
        }
        if !watches {
            *response.body_mut() = Body::from(answer.bytes().await.map_err(bad)?);
            return Ok(response);
        }
        let told = Arc::clone(self);
        let stream = answer.bytes_stream().inspect(move |chunk| {
            let gone = |bytes: &[u8]| bytes.windows(10).any(|window| window == b"\"code\":410");
            if chunk.as_ref().is_ok_and(|bytes| bytes.starts_with(b"{\"type\":\"ERROR\"") && gone(bytes)) {
                told.gone.fetch_add(1, Ordering::SeqCst);
            }
        });
        let stream = stream.take_until(async move { drop(ends.changed().await) });
        *response.body_mut() = Body::from_stream(stream);
        Ok(response)
    }
}

impl Gate {
    pub fn start(datacenter: &Datacenter, name: &str) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let folder = datacenter.folder.join(format!("gate-{name}"));
        let authority = Authority::new(folder, "gate").expect("an authority");
        let (certificate, key) = authority.sign("gate", Subject::Server(&[])).expect("a certificate");
        let trusted = std::fs::read(datacenter.authority()).expect("the API server's authority");
        let trusted = reqwest::Certificate::from_pem_bundle(&trusted).expect("an authority");
        let client = reqwest::Client::builder().tls_certs_only(trusted).no_proxy().build().expect("a client");
        let shared = Arc::new(Shared {
            server: datacenter.server.clone(),
            client,
            writes: Mutex::default(),
            left: Mutex::default(),
            ends: watch::Sender::new(0),
            held: watch::Sender::new(Held::Nobody),
            aged: Mutex::default(),
            gone: AtomicU64::new(0),
        });
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.set_nonblocking(true).expect("a socket");
        let port = listener.local_addr().expect("a port").port();
        let router = Router::new().fallback(answer).with_state(Arc::clone(&shared));
        let runtime = Runtime::new().expect("a runtime");
        runtime.spawn(async move {
            let tls = RustlsConfig::from_pem_file(certificate, key).await.expect("a certificate and its key");
            let server = axum_server::from_tcp_rustls(listener, tls).expect("a listener");
            server.serve(router.into_make_service()).await.expect("it serves");
        });
        Self { port, authority: authority.file(), shared, _runtime: runtime }
    }

    /// What was written, in order, Leases aside; counting begins anew.
    pub fn writes(&self) -> Vec<String> {
        let mut writes = std::mem::take(&mut *self.shared.writes.lock().unwrap_or_else(PoisonError::into_inner));
        writes.retain(|write| !is_lease(write));
        writes
    }

    /// Lets so many writes through and no further ones; the last one is not answered. Leases do not count.
    pub fn admit(&self, writes: u64) {
        *self.shared.left.lock().unwrap_or_else(PoisonError::into_inner) = Some(writes);
    }

    /// Lets everything through.
    pub fn admit_all(&self) {
        *self.shared.left.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Ends every watch in good order; new ones wait until [`Gate::release`].
    pub fn hold_watches(&self) {
        self.hold(Held::Watches);
    }

    /// The same, and so do lists of `ServicePooling`s.
    pub fn hold_lists_too(&self) {
        self.hold(Held::ListsToo);
    }

    fn hold(&self, held: Held) {
        self.shared.held.send_replace(held);
        self.shared.ends.send_modify(|count| *count += 1);
    }

    /// Ends every watch, and has the next one of each kind begin so long ago that its history is gone.
    pub fn age_watches(&self) {
        *self.shared.aged.lock().unwrap_or_else(PoisonError::into_inner) = Some(HashSet::new());
        self.shared.ends.send_modify(|count| *count += 1);
    }

    /// Of how many kinds a watch has begun so since then.
    pub fn aged(&self) -> usize {
        self.shared.aged.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map_or(0, HashSet::len)
    }

    /// Lets the watches that wait go on, from where they were.
    pub fn release(&self) {
        self.shared.held.send_replace(Held::Nobody);
    }

    /// How many watches were told that their history is gone.
    pub fn gone(&self) -> u64 {
        self.shared.gone.load(Ordering::SeqCst)
    }
}

async fn answer(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    match shared.forward(request).await {
        Ok(response) => response,
        Err(status) => status.into_response(),
    }
}
