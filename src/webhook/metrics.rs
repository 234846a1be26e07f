//! Metrics of the webhook. No names of objects or users beyond service and datacenter.

use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, Opts};

use crate::runtime::metrics::{self, Collectors};

/// The webhook's metrics.
pub(super) struct Metrics {
    pub(super) reviews: IntCounterVec,
    pub(super) refusals: IntCounterVec,
    pub(super) permissions: IntCounterVec,
    pub(super) warnings: IntCounterVec,
    pub(super) duration: HistogramVec,
}

impl metrics::Metrics for Metrics {
    fn new() -> Result<Self, prometheus::Error> {
        Ok(Self {
            reviews: IntCounterVec::new(
                Opts::new(
                    "poolguard_reviews_total",
                    "Reviews by door, decision (allowed, warned, refused, fault) and reason; alert on decision=\"fault\".",
                ),
                &["door", "decision", "reason", "dry_run"],
            )?,
            refusals: IntCounterVec::new(
                Opts::new("poolguard_refusals_total", "Refused requests by service; for dashboards, not for alerts."),
                &["namespace", "service", "datacenter", "reason"],
            )?,
            permissions: IntCounterVec::new(
                Opts::new(
                    "poolguard_permissions_total",
                    "Guarded removals that were allowed, on evidence, by trust or by an override, by service; for dashboards and audits.",
                ),
                &["namespace", "service", "datacenter", "reason"],
            )?,
            warnings: IntCounterVec::new(
                Opts::new(
                    "poolguard_warnings_total",
                    "Requests that would have been refused where the guard only warns, by service; look at it before it refuses.",
                ),
                &["namespace", "service", "datacenter", "reason"],
            )?,
            duration: HistogramVec::new(
                HistogramOpts::new(
                    "poolguard_review_duration_seconds",
                    "From reading a review to its answer; alert when the 99th percentile exceeds 2 s.",
                )
                .buckets(vec![0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0]),
                &["decision"],
            )?,
        })
    }

    fn collectors(&self) -> Collectors {
        let Self { reviews, refusals, permissions, warnings, duration } = self;
        vec![
            Box::new(reviews.clone()),
            Box::new(refusals.clone()),
            Box::new(permissions.clone()),
            Box::new(warnings.clone()),
            Box::new(duration.clone()),
        ]
    }
}
