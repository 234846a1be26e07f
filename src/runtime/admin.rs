//! `/metrics`, `/livez` and `/readyz`, over plain HTTP.

use std::net::SocketAddr;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use prometheus::{Encoder, Registry, TextEncoder};
use thiserror::Error;

use super::{Health, Shutdown};

/// The listener failed.
#[derive(Debug, Error)]
pub enum Error {
    /// The address is taken or not ours.
    #[error("cannot listen on {0} for metrics and health")]
    Listen(SocketAddr, #[source] std::io::Error),
    /// Serving ended.
    #[error("serving metrics and health failed")]
    Serve(#[source] std::io::Error),
}

/// The routes.
pub fn router(registry: Registry, health: Health) -> Router {
    Router::new().route("/metrics", get(metrics).with_state(registry)).merge(health_router(health))
}

/// `/livez` and `/readyz` alone.
pub fn health_router(health: Health) -> Router {
    Router::new().route("/livez", get(|| async { "ok\n" })).route("/readyz", get(readyz).with_state(health))
}

/// Serves until a stop is requested.
///
/// # Errors
/// If the address cannot be listened on.
pub async fn serve(listen: SocketAddr, router: Router, shutdown: Shutdown) -> Result<(), Error> {
    let listener = tokio::net::TcpListener::bind(listen).await.map_err(|error| Error::Listen(listen, error))?;
    axum::serve(listener, router)
        .with_graceful_shutdown(async move { shutdown.requested().await })
        .await
        .map_err(Error::Serve)
}

async fn metrics(State(registry): State<Registry>) -> impl IntoResponse {
    let mut text = Vec::new();
    match TextEncoder::new().encode(&registry.gather(), &mut text) {
        Ok(()) => (StatusCode::OK, [(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text),
        Err(error) => {
            (StatusCode::INTERNAL_SERVER_ERROR, [(header::CONTENT_TYPE, "text/plain")], error.to_string().into_bytes())
        }
    }
}

async fn readyz(State(health): State<Health>) -> impl IntoResponse {
    let missing = health.missing();
    if missing.is_empty() {
        (StatusCode::OK, "ok\n".to_owned())
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, format!("not ready\n{}\n", missing.join("\n")))
    }
}
