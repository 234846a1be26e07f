//! The HTTPS endpoint: `/validate`, and `/livez` and `/readyz` beside it.
//!
//! A refusal is an answer; a fault of ours is an HTTP 5xx, never a refusal in disguise, unless that were a permission (evictions fail
//! open); a body that is no review is a 4xx.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::State;
use axum::http::{self, HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use axum_server::{Handle, Server};
use hyper_util::rt::TokioTimer;
use poolguard_policy::doors::Door;
use poolguard_policy::overriding::Override;
use poolguard_policy::pooling::Key;
use poolguard_policy::request::Request;
use poolguard_policy::verdict::{Allowed, Decision, Reason, Refusal};
use poolguard_policy::words::plain;
use tokio::net::{TcpListener, TcpSocket};
use tracing::field::Empty;
use tracing::{Instrument, Span};

use super::decide::{Judge, Judged};
use super::events::Events;
use super::line::{self, Seen};
use super::metrics::Metrics;
use super::review::{Annotation, Answer, Decoded, decode};
use crate::runtime::{Environment, Shutdown, admin, telemetry};

/// The API server sends objects of at most 3 MiB, the old and the new one: this leaves room.
const BODY_LIMIT: usize = 7 << 20;
/// How long answers say that their connection ends with them, before the listener closes: a request that comes just as a connection
/// is closed for being idle would fail, and the API server uses most of them more often than that.
pub(super) const FAREWELL: Duration = Duration::from_secs(2);
/// How long reviews under way may take to finish when a stop is requested.
const DRAIN: Duration = Duration::from_secs(12);
/// How long a connection may be open without a whole request: whoever opens thousands and says nothing gets them closed. The API
/// server opens a new one when it has something to ask.
const SILENCE: Duration = Duration::from_secs(15);
/// Connections that the kernel holds until they are taken: whoever comes while there are more waits for a second and longer. The
/// kernel's own limit is no more than that.
const BACKLOG: u32 = 4096;

struct Shared {
    judge: Judge,
    /// The doors of the configuration.
    further: &'static [Door],
    metrics: Metrics,
    events: Events,
    /// From then on, every answer is the last one of its connection.
    farewell: Shutdown,
}

/// The routes.
pub(super) fn router(
    judge: Judge,
    further: &'static [Door],
    metrics: Metrics,
    env: &Environment,
    farewell: Shutdown,
) -> Router {
    let events = Events::start(env.client.clone());
    let shared = Shared { judge, further, metrics, events, farewell };
    Router::new()
        .route("/validate", post(validate).with_state(Arc::new(shared)))
        .merge(admin::health_router(env.health.clone()))
}

/// Serves until `end` and what is under way then has been answered.
pub(super) async fn serve(
    listen: SocketAddr,
    tls: RustlsConfig,
    router: Router,
    end: Shutdown,
) -> Result<(), std::io::Error> {
    let handle = Handle::new();
    let stop = handle.clone();
    tokio::spawn(async move {
        end.requested().await;
        stop.graceful_shutdown(Some(DRAIN));
    });
    // With one protocol only, its time-out counts from the first byte on, and not from the first line.
    let mut server = Server::<SocketAddr>::from_listener(bind(listen)?)
        .acceptor(RustlsAcceptor::new(tls))
        .http1_only()
        .handle(handle);
    server.http_builder().http1().timer(TokioTimer::new()).header_read_timeout(SILENCE);
    server.serve(router.into_make_service()).await
}

/// Listens, with room for many who come at once.
fn bind(listen: SocketAddr) -> Result<TcpListener, std::io::Error> {
    let socket = if listen.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(listen)?;
    socket.listen(BACKLOG)
}

/// The whole body of a request, which is waited for no longer than its head was, or the answer that ends the connection.
async fn whole(body: Body) -> Result<Bytes, Response> {
    let refused = |status: StatusCode, why: String| last((status, why).into_response());
    match tokio::time::timeout(SILENCE, to_bytes(body, BODY_LIMIT)).await {
        Ok(Ok(body)) => Ok(body),
        Ok(Err(error)) => Err(refused(StatusCode::PAYLOAD_TOO_LARGE, format!("{error}\n"))),
        Err(_) => {
            Err(refused(StatusCode::REQUEST_TIMEOUT, "the body of the request did not come in time\n".to_owned()))
        }
    }
}

/// An answer that ends its connection.
fn last(mut response: Response) -> Response {
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

/// Answers a review.
async fn validate(State(shared): State<Arc<Shared>>, request: http::Request<Body>) -> Response {
    let (head, body) = request.into_parts();
    let response = match whole(body).await {
        Ok(body) => review(&shared, &head.headers, &body).await,
        Err(refused) => refused,
    };
    if shared.farewell.is_requested() { last(response) } else { response }
}

async fn review(shared: &Shared, headers: &HeaderMap, body: &[u8]) -> Response {
    let start = Instant::now();
    let Decoded { uid, request } = match decode(body, shared.further) {
        Ok(decoded) => decoded,
        Err(error) => {
            shared.count("none", "fault", "BadReview", false, start);
            tracing::warn!(error = %error, "a body that is no review");
            return (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response();
        }
    };
    let Some(request) = request else {
        shared.count("none", "allowed", "NotGuarded", false, start);
        return json(&Answer::allow(&uid, &[], &[]));
    };
    let span = tracing::info_span!(
        "review",
        otel.kind = "server",
        door = request.door.entry,
        datacenter = shared.judge.here(),
        user = request.user,
        verb = request.door.operation.as_str(),
        resource = request.door.resource,
        namespace = request.namespace,
        object = request.name,
        dry_run = request.dry_run,
        service = Empty,
        decision = Empty,
        reason = Empty,
        otel.status_code = Empty,
    );
    telemetry::continue_trace(&span, headers);
    shared.answer(&uid, &request, start).instrument(span).await
}

/// Who breaks, or broke, the glass.
fn told_for_audit(glass: &Override) -> String {
    format!("{} by {} until {}: {}", glass.name, glass.requested_by, glass.until, glass.because)
}

/// What the API server's audit log keeps of a verdict.
fn audit<'a>(shared: &'a Shared, service: Option<&Key>, decision: &'a str, reason: &'a str) -> Vec<Annotation<'a>> {
    Span::current().record("service", service.map(tracing::field::display));
    let service = service.map(|service| ("service", Cow::Owned(service.to_string())));
    let rest = [("datacenter", shared.judge.here()), ("decision", decision), ("reason", reason)];
    service.into_iter().chain(rest.map(|(key, value)| (key, Cow::Borrowed(value)))).collect()
}

impl Shared {
    /// Decides, and tells whoever wants to know.
    async fn answer(&self, uid: &str, request: &Request, start: Instant) -> Response {
        let door = request.door.entry;
        let Judged { decision, seen } = self.judge.judge(request).await;
        match decision {
            Decision::Allow(allowed) => {
                // A removal that was only warned about is counted with the reason that it would have been refused with.
                let (decision, reason) = match allowed.warned {
                    Some(reason) => ("warned", reason),
                    None => ("allowed", allowed.reason),
                };
                self.count(door, decision, reason.as_str(), request.dry_run, start);
                self.permit(request, &allowed);
                let mut audit = audit(self, allowed.service.as_ref(), decision, reason.as_str());
                audit.extend(allowed.glass.as_ref().map(|glass| ("override", Cow::Owned(told_for_audit(glass)))));
                json(&Answer::allow(uid, &allowed.warnings, &audit))
            }
            Decision::Refuse(refusal) => {
                let reason = refusal.reason.as_str();
                self.count(door, "refused", reason, request.dry_run, start);
                self.tell(request, &refusal, &seen);
                let audit = audit(self, Some(&refusal.service), "refused", reason);
                json(&Answer::refuse(uid, refusal.code, &refusal.message, &refusal.warnings, &audit))
            }
            Decision::Fault(why) => self.fault(door, request, &why, start),
            Decision::Ask(_) | Decision::Read(_) | Decision::Confirm(_) | Decision::Search(_) => {
                self.fault(door, request, "the decision is not final", start)
            }
        }
    }

    fn count(&self, door: &str, decision: &str, reason: &str, dry_run: bool, start: Instant) {
        let dry_run = if dry_run { "true" } else { "false" };
        self.metrics.reviews.with_label_values(&[door, decision, reason, dry_run]).inc();
        self.metrics.duration.with_label_values(&[decision]).observe(start.elapsed().as_secs_f64());
        Span::current().record("decision", decision).record("reason", reason);
    }

    /// The labels of what is counted by service. One that nobody knows may have any name, and is counted without it.
    fn labels<'a>(&'a self, service: &'a Key, reason: Reason) -> [&'a str; 4] {
        let known = self.judge.knows(service);
        let name = |name: &'a str| if known { name } else { "" };
        [name(&service.namespace), name(&service.name), self.judge.here(), reason.as_str()]
    }

    /// One count by service for a removal that was guarded, and allowed, and an Event where somebody has broken the glass. A dry
    /// run leaves neither.
    fn permit(&self, request: &Request, allowed: &Allowed) {
        let guarded = matches!(
            allowed.reason,
            Reason::NotServing | Reason::Trusted | Reason::WarnOnly | Reason::Overridden | Reason::OverrideCreated
        );
        let Some(service) = allowed.service.as_ref().filter(|_| guarded && !request.dry_run) else { return };
        if allowed.reason != Reason::OverrideCreated {
            self.metrics.permissions.with_label_values(&self.labels(service, allowed.reason)).inc();
        }
        if let Some(reason) = allowed.warned {
            self.metrics.warnings.with_label_values(&self.labels(service, reason)).inc();
        }
        if let Some(glass) = &allowed.glass {
            tracing::warn!(
                service = plain(&service.to_string()),
                datacenter = self.judge.here(),
                user = plain(&request.user),
                verb = request.door.operation.as_str(),
                resource = request.door.resource,
                namespace = plain(&request.namespace),
                object = plain(&request.name),
                reason = allowed.reason.as_str(),
                by = plain(&told_for_audit(glass)),
                "the glass is broken"
            );
        }
        if let (Reason::Overridden, Some(glass)) = (allowed.reason, &allowed.glass) {
            self.events.overridden(request, service, glass);
        }
    }

    /// One line for each refusal, one count by service, and an Event off the request path. A dry run leaves only the metric.
    fn tell(&self, request: &Request, refusal: &Refusal, seen: &[Seen]) {
        if request.dry_run {
            return;
        }
        self.metrics.refusals.with_label_values(&self.labels(&refusal.service, refusal.reason)).inc();
        line::refused(self.judge.here(), request, refusal, seen);
        self.events.refused(request, refusal);
    }

    fn fault(&self, door: &str, request: &Request, why: &str, start: Instant) -> Response {
        self.count(door, "fault", "Fault", request.dry_run, start);
        Span::current().record("otel.status_code", "ERROR");
        tracing::error!(why, namespace = plain(&request.namespace), object = plain(&request.name), "cannot answer");
        (StatusCode::INTERNAL_SERVER_ERROR, format!("poolguard cannot tell: {why}\n")).into_response()
    }
}

fn json(answer: &Answer<'_>) -> Response {
    match serde_json::to_vec(answer) {
        Ok(body) => ([(header::CONTENT_TYPE, "application/json")], body).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
