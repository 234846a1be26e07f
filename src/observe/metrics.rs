//! Metrics of all sources.

use std::time::Duration;

use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts};

use super::Bad;
use crate::runtime::metrics::{self, Collectors};

/// Metrics of all sources.
#[derive(Debug, Clone)]
pub(super) struct Metrics {
    requests: IntCounterVec,
    duration: HistogramVec,
    up: IntGaugeVec,
}

impl metrics::Metrics for Metrics {
    fn new() -> Result<Self, prometheus::Error> {
        Ok(Self {
            requests: IntCounterVec::new(
                Opts::new(
                    "poolguard_source_requests_total",
                    "Questions to a source, by result; alert where result is not \"ok\" for 5 minutes.",
                ),
                &["source", "result"],
            )?,
            duration: HistogramVec::new(
                HistogramOpts::new("poolguard_source_request_duration_seconds", "How long a source takes to answer.")
                    .buckets(vec![0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5]),
                &["source"],
            )?,
            up: IntGaugeVec::new(
                Opts::new(
                    "poolguard_source_up",
                    "1 while a source can be followed, absent where nobody follows it; alert on 0 for 5 minutes.",
                ),
                &["source"],
            )?,
        })
    }

    fn collectors(&self) -> Collectors {
        let Self { requests, duration, up } = self;
        vec![Box::new(requests.clone()), Box::new(duration.clone()), Box::new(up.clone())]
    }
}

impl Metrics {
    /// Counts a question.
    pub(super) fn asked<T>(&self, source: &str, took: Duration, result: &Result<T, Bad>) {
        self.duration.with_label_values(&[source]).observe(took.as_secs_f64());
        self.counted(source, result);
    }

    /// Counts a question that was not even asked.
    pub(super) fn counted<T>(&self, source: &str, result: &Result<T, Bad>) {
        let result = match result {
            Ok(_) => "ok",
            Err(bad) => bad.why.as_str(),
        };
        self.requests.with_label_values(&[source, result]).inc();
    }

    /// Says whether a source can be followed.
    pub(super) fn up(&self, source: &str, up: bool) {
        self.up.with_label_values(&[source]).set(i64::from(up));
    }

    /// Nobody wants anything of a source, so nobody knows whether it could be followed.
    pub(super) fn idle(&self, source: &str) {
        let _ = self.up.remove_label_values(&[source]);
    }
}
