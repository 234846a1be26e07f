//! The desired status of a service: pure. What it holds does not change with time alone, so that nothing is written while
//! nothing happens; the one exception is a TTL that runs out, and [`next_change`] says when.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use poolguard_policy::drift::Drift;
use poolguard_policy::evidence::{Answer, Datacenter, Says, State};
use poolguard_policy::overriding::Override;
use poolguard_policy::pooling::Enforcement;

use super::gather::Gathered;
use super::proof::Proved;
use crate::api::conditions::{CONSISTENT, Desired, GUARDED, READY, SERVING, SOURCES_READY, Truth, set_at};
use crate::api::{DatacenterStatus, DriftStatus, EvidenceStatus, OverrideStatus, ServicePoolingStatus, WorkloadStatus};

/// The reason of [`GUARDED`] before the first proof.
const NOT_CHECKED: &str = "WebhookNotChecked";

/// The status that a service should have.
pub(super) fn desired(
    service: &Gathered,
    before: Option<&ServicePoolingStatus>,
    proved: &Proved,
    now: Timestamp,
) -> ServicePoolingStatus {
    let generation = service.resource.metadata.generation;
    let here = service.conclusion.here();
    let mut conditions = before.map(|status| status.conditions.clone()).unwrap_or_default();
    for condition in [
        Desired {
            kind: READY,
            status: Truth::True,
            reason: "Observed",
            message: "the spec is accepted and followed".to_owned(),
        },
        serving(service),
        guarded(service, proved),
        consistent(service),
        sources_ready(service),
    ] {
        // What the leader before has proved stands until the first proof of this one: a change of leaders is no change of the guard.
        let not_yet = condition.kind == GUARDED && condition.reason == NOT_CHECKED;
        if not_yet && conditions.iter().any(|known| known.type_ == GUARDED) {
            continue;
        }
        set_at(&mut conditions, condition, generation, now);
    }
    let mut workloads: Vec<WorkloadStatus> = service
        .workloads
        .iter()
        .map(|workload| WorkloadStatus {
            kind: workload.kind.as_str().to_owned(),
            name: workload.name.clone(),
            replicas: workload.replicas,
            ready: workload.ready,
        })
        .collect();
    workloads.sort();
    ServicePoolingStatus {
        observed_generation: generation,
        serving: Some(here.state.as_str().to_owned()),
        summary: Some(
            service
                .conclusion
                .datacenters
                .iter()
                .map(|datacenter| format!("{}={}", datacenter.name, word(datacenter)))
                .collect::<Vec<_>>()
                .join(" "),
        ),
        releases: service.releases().map(|release| format!("{}/{}", release.namespace, release.name)).collect(),
        workloads,
        datacenters: service.conclusion.datacenters.iter().map(datacenter).collect(),
        drift: service.drifts.iter().map(drift).collect(),
        overrides: service.overrides.iter().map(glass).collect(),
        conditions,
    }
}

/// When time alone changes the status: when a TTL or an override runs out, or drift is accepted no longer.
pub(super) fn next_change(service: &Gathered, now: Timestamp) -> Option<Timestamp> {
    let answers = service.conclusion.datacenters.iter().flat_map(|datacenter| &datacenter.answers);
    let accepted = service.drifts.iter().filter_map(|drift| drift.accepted.as_ref().map(|accepted| accepted.until));
    let overrides = service.overrides.iter().map(|glass| glass.until);
    answers
        .filter_map(|answer| answer.not_serving_after)
        .chain(accepted)
        .chain(overrides)
        .filter(|after| *after > now)
        .min()
}

fn glass(glass: &Override) -> OverrideStatus {
    OverrideStatus {
        name: glass.name.clone(),
        requested_by: glass.requested_by.clone(),
        reason: glass.because.clone(),
        until: Time(whole_seconds(glass.until, false)),
        summary: format!("{} until {}", glass.requested_by, glass.until.strftime("%FT%H:%MZ")),
    }
}

fn drift(drift: &Drift) -> DriftStatus {
    DriftStatus {
        reason: drift.reason.as_str().to_owned(),
        message: drift.message.clone(),
        accepted_until: drift.accepted.as_ref().map(|accepted| Time(whole_seconds(accepted.until, false))),
    }
}

/// One word for the summary.
pub(super) fn word(datacenter: &Datacenter) -> &'static str {
    match datacenter.state {
        State::Serving if datacenter.answers.iter().any(|answer| answer.says == Says::Serving) => "serving",
        State::Serving => "draining",
        State::NotServing => "depooled",
        State::Unknown => "unknown",
    }
}

fn datacenter(datacenter: &Datacenter) -> DatacenterStatus {
    DatacenterStatus {
        name: datacenter.name.clone(),
        state: datacenter.state.as_str().to_owned(),
        evidence: datacenter.answers.iter().map(evidence).collect(),
    }
}

fn evidence(answer: &Answer) -> EvidenceStatus {
    EvidenceStatus {
        name: answer.evidence.clone(),
        says: match &answer.says {
            // Clients that hold the old answer still arrive.
            Says::Serving | Says::Draining => "Serving".to_owned(),
            Says::NotServing => "NotServing".to_owned(),
            Says::Unknown(why) => format!("Unknown: {}", why.as_str()),
        },
        detail: Some(answer.detail.clone()),
        revision: answer.revision.and_then(|revision| i64::try_from(revision).ok()),
        since: answer.since.map(|since| Time(whole_seconds(since, false))),
        // Rounded up: believed a moment too late rather than too early.
        not_serving_after: answer.not_serving_after.map(|after| Time(whole_seconds(after, true))),
    }
}

/// The API writes whole seconds.
fn whole_seconds(time: Timestamp, up: bool) -> Timestamp {
    let up = i64::from(up && time.subsec_nanosecond() > 0);
    Timestamp::from_second(time.as_second() + up).unwrap_or(time)
}

fn serving(service: &Gathered) -> Desired {
    let here = service.conclusion.here();
    let name = &service.pooling.key.name;
    let (status, reason, what) = match here.state {
        State::Serving if word(here) == "draining" => (Truth::True, "Draining", "is being drained from"),
        State::Serving => (Truth::True, "Pooled", "is served from"),
        State::NotServing => (Truth::False, "Depooled", "is not served from"),
        State::Unknown => (Truth::Unknown, "EvidenceUnknown", "may or may not be served from"),
    };
    let says: Vec<String> =
        here.answers.iter().map(|answer| format!("{}: {}", answer.evidence, answer.detail)).collect();
    let message = format!("{name} {what} {} ({})", here.name, says.join("; "));
    Desired { kind: SERVING, status, reason, message }
}

fn guarded(service: &Gathered, proved: &Proved) -> Desired {
    let desired = |status: bool, reason, message: &str| Desired {
        kind: GUARDED,
        status: status.into(),
        reason,
        message: message.to_owned(),
    };
    if service.pooling.enforcement == Enforcement::Warn {
        return desired(false, "WarnOnly", "spec.enforcement is Warn: removals are allowed with a warning");
    }
    if service.only_warns {
        let message = "the operator's configuration has enforcement: Warn: removals are allowed with a warning";
        return desired(false, "WarnOnly", message);
    }
    if service.excluded {
        return desired(
            false,
            "NamespaceExcluded",
            "the operator's configuration excludes this namespace from the guard",
        );
    }
    if !service.labelled {
        return desired(false, "NamespaceNotLabelled", "the namespace does not bear the label that guards it yet");
    }
    match proved {
        Proved::NotYet => desired(false, "WebhookNotChecked", "whether the webhook answers is not known yet"),
        Proved::Down(finding) => desired(false, finding.kind.as_str(), &finding.message),
        Proved::Up => match service.overrides.first() {
            Some(glass) => {
                let who =
                    format!("{} has opened the guard until {}: {}", glass.requested_by, glass.until, glass.because);
                desired(false, "Overridden", &who)
            }
            None => desired(true, "Guarded", "removals are refused while it serves"),
        },
    }
}

fn consistent(service: &Gathered) -> Desired {
    let desired = |status, reason, message| Desired { kind: CONSISTENT, status, reason, message };
    // What nobody has accepted comes first.
    let open = service.drifts.iter().find(|drift| drift.accepted.is_none());
    if let Some(first) = open.or(service.drifts.first()) {
        let told = |drift: &Drift| match &drift.accepted {
            Some(accepted) => {
                format!("{} (accepted until {}: {})", drift.message, accepted.until.strftime("%F"), accepted.because)
            }
            None => drift.message.clone(),
        };
        let messages: Vec<String> = service.drifts.iter().map(told).collect();
        return desired(Truth::False, first.reason.as_str(), messages.join("; "));
    }
    let unknown = service.conclusion.datacenters.iter().filter(|datacenter| datacenter.state == State::Unknown);
    let unknown: Vec<&str> = unknown.map(|datacenter| datacenter.name.as_str()).collect();
    if unknown.is_empty() {
        desired(Truth::True, "AsIntended", "intent and evidence agree".to_owned())
    } else {
        desired(Truth::Unknown, "EvidenceUnknown", format!("nothing certain is known about {}", unknown.join(" and ")))
    }
}

fn sources_ready(service: &Gathered) -> Desired {
    let unknown: Vec<String> = service
        .conclusion
        .datacenters
        .iter()
        .flat_map(|datacenter| &datacenter.answers)
        .filter(|answer| matches!(answer.says, Says::Unknown(_)))
        .map(|answer| format!("{} about {}: {}", answer.evidence, answer.datacenter, answer.detail))
        .collect();
    let message = if unknown.is_empty() {
        "every source answers".to_owned()
    } else {
        let since = service.unreachable.iter().cloned();
        unknown.into_iter().chain(since).collect::<Vec<_>>().join("; ")
    };
    let ready = message == "every source answers";
    let reason = if ready { "Answering" } else { "NotAnswering" };
    Desired { kind: SOURCES_READY, status: ready.into(), reason, message }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rounded_to_the_careful_side() {
        let time: Timestamp = "2026-01-02T03:04:05.6Z".parse().expect("a time");
        assert_eq!(whole_seconds(time, true).to_string(), "2026-01-02T03:04:06Z");
        assert_eq!(whole_seconds(time, false).to_string(), "2026-01-02T03:04:05Z");
        let whole: Timestamp = "2026-01-02T03:04:05Z".parse().expect("a time");
        assert_eq!(whole_seconds(whole, true), whole);
    }
}
