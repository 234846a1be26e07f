//! Metrics of the controller: one set of series for each service, gone with it.

use poolguard_policy::drift::DriftReason;
use poolguard_policy::evidence::State;
use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts};

use super::gather::Gathered;
use crate::api::ServicePoolingStatus;
use crate::runtime::metrics::{self, Collectors};

/// The controller's metrics.
#[derive(Clone)]
pub(super) struct Metrics {
    pub(super) leader: IntGauge,
    pub(super) errors: IntCounter,
    state: IntGaugeVec,
    conditions: IntGaugeVec,
    drift: IntGaugeVec,
    overrides: IntGaugeVec,
    glass: IntCounterVec,
    pub(super) proved: IntGaugeVec,
    pub(super) registration: IntGauge,
    pub(super) proof: IntGauge,
    pub(super) repairs: IntCounterVec,
    pub(super) certificates: IntCounterVec,
    pub(super) authority: IntGauge,
}

const STATES: [State; 3] = [State::Serving, State::NotServing, State::Unknown];

impl metrics::Metrics for Metrics {
    fn new() -> Result<Self, prometheus::Error> {
        let this = Self {
            leader: IntGauge::new(
                "poolguard_controller_leader",
                "1 while this replica acts; alert when the sum over replicas is not 1 for 2 minutes.",
            )?,
            errors: IntCounter::new(
                "poolguard_controller_errors_total",
                "Writes that failed; alert on a rate above 0 for 10 minutes.",
            )?,
            state: IntGaugeVec::new(
                Opts::new(
                    "poolguard_service_state",
                    "1 for the state that a service has in a datacenter; alert on state=\"Unknown\" for 5 minutes.",
                ),
                &["namespace", "service", "datacenter", "state"],
            )?,
            conditions: IntGaugeVec::new(
                Opts::new(
                    "poolguard_service_condition",
                    "1 where a condition is True, 0 otherwise; alert on condition=\"Guarded\" at 0 for 2 minutes.",
                ),
                &["namespace", "service", "condition"],
            )?,
            drift: IntGaugeVec::new(
                Opts::new(
                    "poolguard_service_drift",
                    "1 for each disagreement of a service; alert on accepted=\"false\" for 15 minutes.",
                ),
                &["namespace", "service", "reason", "accepted"],
            )?,
            overrides: IntGaugeVec::new(
                Opts::new(
                    "poolguard_overrides_in_force",
                    "Overrides of a service that are in force here; alert when one is for longer than an incident lasts.",
                ),
                &["namespace", "service", "datacenter"],
            )?,
            glass: IntCounterVec::new(
                Opts::new(
                    "poolguard_overrides_total",
                    "Overrides by what became of them (created, expired, removed); for audits.",
                ),
                &["namespace", "service", "datacenter", "event"],
            )?,
            proved: IntGaugeVec::new(
                Opts::new(
                    "poolguard_guard_proved",
                    "1 where the last dry run of a webhook entry was refused as it should be; alert at 0 for 1 minute.",
                ),
                &["entry"],
            )?,
            registration: IntGauge::new(
                "poolguard_guard_registration_intact",
                "1 while the webhook's registration is as it should be; alert at 0 for 1 minute.",
            )?,
            proof: IntGauge::new(
                "poolguard_guard_proof_timestamp_seconds",
                "When the guard was last tried by the replica that acts; alert when it is older than 2 minutes.",
            )?,
            repairs: IntCounterVec::new(
                Opts::new(
                    "poolguard_repairs_total",
                    "What was mended (caBundle, namespaceLabel); alert on any increase, somebody else writes there.",
                ),
                &["what"],
            )?,
            certificates: IntCounterVec::new(
                Opts::new(
                    "poolguard_certificate_steps_total",
                    "Steps of the rotation of the webhook's certificate and its authority; for a look back.",
                ),
                &["step"],
            )?,
            authority: IntGauge::new(
                "poolguard_authority_not_after_timestamp_seconds",
                "When the authority of the webhook's certificate ends, where the controller makes it; alert when that is less \
                 than a week away.",
            )?,
        };
        // From the start: an increase from nothing to one would not be seen.
        for what in ["caBundle", "namespaceLabel"] {
            this.repairs.with_label_values(&[what]);
        }
        Ok(this)
    }

    fn collectors(&self) -> Collectors {
        let Self {
            leader,
            errors,
            state,
            conditions,
            drift,
            overrides,
            glass,
            proved,
            registration,
            proof,
            repairs,
            certificates,
            authority,
        } = self;
        vec![
            Box::new(leader.clone()),
            Box::new(errors.clone()),
            Box::new(state.clone()),
            Box::new(conditions.clone()),
            Box::new(drift.clone()),
            Box::new(overrides.clone()),
            Box::new(glass.clone()),
            Box::new(proved.clone()),
            Box::new(registration.clone()),
            Box::new(proof.clone()),
            Box::new(repairs.clone()),
            Box::new(certificates.clone()),
            Box::new(authority.clone()),
        ]
    }
}

impl Metrics {
    /// Sets the series of a service; those of a datacenter that only the status before names go.
    pub(super) fn set(&self, service: &Gathered, before: Option<&ServicePoolingStatus>, status: &ServicePoolingStatus) {
        let (namespace, name) = (service.pooling.key.namespace.as_str(), service.pooling.key.name.as_str());
        let there = |name: &str| service.conclusion.datacenters.iter().any(|datacenter| datacenter.name == name);
        let known = before.map(|before| before.datacenters.as_slice()).unwrap_or_default();
        for gone in known.iter().filter(|datacenter| !there(&datacenter.name)) {
            for state in STATES {
                let _ = self.state.remove_label_values(&[namespace, name, &gone.name, state.as_str()]);
            }
        }
        for datacenter in &service.conclusion.datacenters {
            for state in STATES {
                let labels = [namespace, name, datacenter.name.as_str(), state.as_str()];
                self.state.with_label_values(&labels).set(i64::from(datacenter.state == state));
            }
        }
        let datacenter = service.conclusion.here.as_str();
        self.overrides
            .with_label_values(&[namespace, name, datacenter])
            .set(i64::try_from(status.overrides.len()).unwrap_or(i64::MAX));
        for condition in &status.conditions {
            let labels = [namespace, name, condition.type_.as_str()];
            self.conditions.with_label_values(&labels).set(i64::from(condition.status == "True"));
        }
        for reason in DriftReason::ALL {
            let drift = service.drifts.iter().find(|drift| drift.reason == reason);
            for accepted in [false, true] {
                let labels = [namespace, name, reason.as_str(), if accepted { "true" } else { "false" }];
                let set = drift.is_some_and(|drift| drift.accepted.is_some() == accepted);
                // A series for each kind that a service might have would be many: they come with the first drift.
                if set {
                    self.drift.with_label_values(&labels).set(1);
                } else {
                    let _ = self.drift.remove_label_values(&labels);
                }
            }
        }
    }

    /// Counts what became of an override.
    pub(super) fn glass(&self, service: &Gathered, event: &str) {
        let key = &service.pooling.key;
        let labels = [key.namespace.as_str(), key.name.as_str(), service.conclusion.here.as_str(), event];
        self.glass.with_label_values(&labels).inc();
    }

    /// Starts over where a service is gone: its series go with it.
    pub(super) fn reset(&self) {
        self.state.reset();
        self.conditions.reset();
        self.drift.reset();
        self.overrides.reset();
    }
}
