//! Logs, on standard error; and traces, where the build has them.

use axum::http::HeaderMap;
use tracing::Span;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::{FilterExt, filter_fn};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, fmt};

#[cfg(feature = "otlp")]
use super::traces;
use crate::config::{Log, LogFormat};

/// What becomes of the things that a process tells of itself.
type Telling = Box<dyn Layer<Registry> + Send + Sync>;

/// What has been started.
#[must_use = "what is under way is lost if nobody ends it"]
#[derive(Default)]
pub struct Telemetry {
    #[cfg(feature = "otlp")]
    traces: Option<traces::Sent>,
}

impl Telemetry {
    /// Sends what has not been sent yet. Blocks for some seconds at most; the runtime must be alive.
    pub fn end(self) {
        #[cfg(feature = "otlp")]
        if let Some(sent) = self.traces {
            sent.end();
        }
    }
}

/// Starts logging, and sending traces of `process` to `endpoint`, where there is one. Must be called inside the runtime.
///
/// # Errors
/// If the level is not a filter or the endpoint cannot be used, in words for the user.
pub fn start(log: &Log, process: &'static str, endpoint: Option<&str>) -> Result<Telemetry, String> {
    let mut telling = vec![lines(log, std::io::stderr)?];
    #[cfg(feature = "otlp")]
    let started = {
        let traces = endpoint.map(|endpoint| traces::start(process, endpoint)).transpose()?;
        let (layer, sent) = traces.unzip();
        telling.extend(layer);
        Telemetry { traces: sent }
    };
    #[cfg(not(feature = "otlp"))]
    let started = Telemetry::default();
    #[cfg(not(feature = "otlp"))]
    let _ = (process, endpoint, &mut telling);
    let all = tracing_subscriber::registry().with(telling);
    all.try_init().map_err(|error| format!("logging cannot be started: {error}"))?;
    Ok(started)
}

/// A line for each event. Spans are left out, so that nothing is kept of them where nobody else wants them.
///
/// # Errors
/// If the level is not a filter, in words for the user.
pub fn lines<W>(log: &Log, writer: W) -> Result<Telling, String>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let filter = EnvFilter::try_new(&log.level)
        .map_err(|error| format!("log.level: {:?} is not a level such as info ({error})", log.level))?;
    let events = filter_fn(|metadata| metadata.is_event()).with_max_level_hint(LevelFilter::TRACE);
    let filter = filter.and(events);
    let lines = fmt::layer().with_writer(writer).with_target(false);
    Ok(match log.format {
        LogFormat::Json => lines.json().flatten_event(true).with_filter(filter).boxed(),
        LogFormat::Text => lines.with_ansi(false).with_filter(filter).boxed(),
    })
}

/// Makes a span a part of the trace that the headers of a request name.
pub fn continue_trace(span: &Span, headers: &HeaderMap) {
    #[cfg(feature = "otlp")]
    traces::continue_from(span, headers);
    #[cfg(not(feature = "otlp"))]
    let _ = (span, headers);
}
