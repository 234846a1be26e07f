//! Traces, sent by OTLP over HTTP, in protobuf. A part of the build only with the feature `otlp`.
//!
//! Never waited for: spans that nobody takes are dropped, and no answer is later for it.

use std::time::Duration;

use axum::http::HeaderMap;
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::TracerProvider;
use opentelemetry_http::{Bytes, HeaderExtractor, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tokio::runtime::Handle;
use tracing::Span;
use tracing::level_filters::LevelFilter;
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::Registry;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::Layer;

/// How long sending a batch may take, and sending the last one.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is sent.
pub(super) struct Sent(SdkTracerProvider);

impl Sent {
    /// Sends the rest.
    pub(super) fn end(self) {
        if let Err(error) = self.0.shutdown_with_timeout(PATIENCE) {
            tracing::warn!(error = &error as &dyn std::error::Error, "the last traces were not sent");
        }
    }
}

/// Starts sending spans of ours to the receiver at this base URL.
pub(super) fn start(
    process: &'static str,
    endpoint: &str,
) -> Result<(Box<dyn Layer<Registry> + Send + Sync>, Sent), String> {
    let failed = |error: &dyn std::fmt::Display| format!("traces.endpoint: {endpoint:?} cannot be used ({error})");
    let authorities = super::authorities::public().map_err(|error| failed(&error))?;
    let client = reqwest::Client::builder()
        .tls_certs_merge(authorities)
        .redirect(reqwest::redirect::Policy::none())
        .timeout(PATIENCE)
        .no_proxy()
        .user_agent(concat!("poolguard/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|error| failed(&error))?;
    let exporter = SpanExporter::builder()
        .with_http()
        .with_http_client(Client { client, runtime: Handle::current() })
        // OTLP: a base URL gets the signal's path, https://opentelemetry.io/docs/specs/otel/protocol/exporter.
        .with_endpoint(format!("{}/v1/traces", endpoint.trim_end_matches('/')))
        .build()
        .map_err(|error| failed(&error))?;
    let resource = Resource::builder()
        .with_service_name(format!("poolguard-{process}"))
        .with_attribute(opentelemetry::KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .build();
    let provider = SdkTracerProvider::builder().with_resource(resource).with_batch_exporter(exporter).build();
    let ours = filter_fn(|metadata| metadata.is_span() && metadata.target().starts_with("poolguard"))
        .with_max_level_hint(LevelFilter::INFO);
    let layer = tracing_opentelemetry::layer()
        .with_tracer(provider.tracer("poolguard"))
        .with_location(false)
        .with_threads(false)
        .with_target(false)
        .with_tracked_inactivity(false)
        .with_filter(ours);
    Ok((layer.boxed(), Sent(provider)))
}

/// Makes a span a child of the one that `traceparent` names, as the API server sends it where its own tracing is on.
pub(super) fn continue_from(span: &Span, headers: &HeaderMap) {
    let parent = TraceContextPropagator::new().extract(&HeaderExtractor(headers));
    // It fails only where nobody takes the span.
    let _ = span.set_parent(parent);
}

/// The sources' HTTP client, which wants its runtime; spans are sent from a thread without one.
#[derive(Debug)]
struct Client {
    client: reqwest::Client,
    runtime: Handle,
}

#[async_trait::async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let client = self.client.clone();
        self.runtime.spawn(async move { client.send_bytes(request).await }).await?
    }
}
