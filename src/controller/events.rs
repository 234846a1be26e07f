//! Events, on transitions of conditions and of drift only.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::runtime::events::{Event, EventType};
use poolguard_policy::drift::DriftReason;
use poolguard_policy::evidence::State;
use poolguard_policy::words::cut;

use crate::api::conditions::{CONSISTENT, GUARDED, SERVING};
use crate::api::{OverrideStatus, ServicePoolingStatus};

/// The Events of a change of status. The first status of a service tells only what is wrong.
pub(super) fn transitions(before: Option<&ServicePoolingStatus>, after: &ServicePoolingStatus) -> Vec<Event> {
    let of = |status: Option<&ServicePoolingStatus>, kind: &str| -> Option<Condition> {
        status?.conditions.iter().find(|condition| condition.type_ == kind).cloned()
    };
    let conditions = [SERVING, GUARDED, CONSISTENT].into_iter().filter_map(|kind| {
        let after = of(Some(after), kind)?;
        let before = of(before, kind);
        let same = before.as_ref().is_some_and(|before| before.status == after.status && before.reason == after.reason);
        let bad = kind != SERVING && after.status == "False" || after.status == "Unknown";
        let young = before.is_none() && (!bad || kind == GUARDED);
        // Drift has Events of its own, one for each kind.
        let drift = kind == CONSISTENT && after.status == "False";
        (!same && !young && !drift).then(|| {
            event(if bad { EventType::Warning } else { EventType::Normal }, &after.reason, &after.message, kind)
        })
    });
    let known = |status: Option<&ServicePoolingStatus>, reason: &str| {
        status.is_some_and(|status| status.drift.iter().any(|drift| drift.reason == reason))
    };
    let appeared = after.drift.iter().filter(|drift| !known(before, &drift.reason)).map(|drift| {
        let accepted = drift.accepted_until.is_some();
        event(if accepted { EventType::Normal } else { EventType::Warning }, &drift.reason, &drift.message, CONSISTENT)
    });
    // Drift that is not told any more because the evidence is lost is not over.
    let lost = after.datacenters.iter().any(|datacenter| datacenter.state == State::Unknown.as_str());
    let over = |reason: &str| !lost || reason == DriftReason::UncoveredWorkload.as_str();
    let gone = before.map(|before| before.drift.as_slice()).unwrap_or_default().iter();
    let gone = gone.filter(|drift| !known(Some(after), &drift.reason) && over(&drift.reason)).map(|drift| {
        event(EventType::Normal, "DriftResolved", &format!("no longer {}: {}", drift.reason, drift.message), CONSISTENT)
    });
    conditions.chain(appeared).chain(gone).collect()
}

/// What became of an override.
pub(super) struct Glass {
    /// As the metric counts it.
    pub(super) counted: &'static str,
    pub(super) event: Event,
}

/// Overrides that came, and those that went: by their end, or before it.
pub(super) fn overridden(
    before: Option<&ServicePoolingStatus>,
    after: &ServicePoolingStatus,
    now: Timestamp,
) -> Vec<Glass> {
    let before = before.map(|before| before.overrides.as_slice()).unwrap_or_default();
    let lacks = |all: &[OverrideStatus], glass: &OverrideStatus| {
        !all.iter().any(|other| other.name == glass.name && other.until == glass.until)
    };
    let told = |counted, reason: &str, what: &str, kind, glass: &OverrideStatus| Glass {
        counted,
        event: event(
            kind,
            reason,
            &format!("override {} of {} {what}: {}", glass.name, glass.requested_by, glass.reason),
            GUARDED,
        ),
    };
    let came = after.overrides.iter().filter(|glass| lacks(before, glass)).map(|glass| {
        let what = format!("opens the guard until {}", glass.until.0);
        told("created", "OverrideCreated", &what, EventType::Warning, glass)
    });
    let went = before.iter().filter(|glass| lacks(&after.overrides, glass)).map(|glass| {
        if glass.until.0 <= now {
            told("expired", "OverrideExpired", "has ended", EventType::Normal, glass)
        } else {
            told("removed", "OverrideRemoved", "was taken back", EventType::Normal, glass)
        }
    });
    came.chain(went).collect()
}

fn event(kind: EventType, reason: &str, message: &str, condition: &str) -> Event {
    Event {
        type_: kind,
        reason: reason.to_owned(),
        // The API server takes at most 1,024 bytes.
        note: Some(cut(message, 1000)),
        action: format!("{condition}Changed"),
        secondary: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{DatacenterStatus, DriftStatus};

    fn status(state: State, drift_of: &[DriftReason]) -> ServicePoolingStatus {
        let drift = |reason: &DriftReason| DriftStatus {
            reason: reason.as_str().to_owned(),
            message: "they disagree".to_owned(),
            accepted_until: None,
        };
        ServicePoolingStatus {
            datacenters: vec![DatacenterStatus {
                name: "eqiad".to_owned(),
                state: state.as_str().to_owned(),
                evidence: Vec::new(),
            }],
            drift: drift_of.iter().map(drift).collect(),
            ..ServicePoolingStatus::default()
        }
    }

    #[test]
    fn drift_is_resolved_by_evidence_and_not_by_the_loss_of_it() {
        let before = status(State::Serving, &[DriftReason::Snowflake, DriftReason::UncoveredWorkload]);
        let told = |state| -> Vec<String> {
            let events = transitions(Some(&before), &status(state, &[]));
            events.into_iter().map(|event| format!("{}: {}", event.reason, event.note.unwrap_or_default())).collect()
        };
        let snowflake = "DriftResolved: no longer Snowflake: they disagree".to_owned();
        let uncovered = "DriftResolved: no longer UncoveredWorkload: they disagree".to_owned();
        assert_eq!(told(State::Serving), [snowflake, uncovered.clone()]);
        assert_eq!(told(State::Unknown), [uncovered]);
    }
}
