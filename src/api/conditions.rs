//! Conditions of a `ServicePooling`: their types, and how one is set without moving its `lastTransitionTime` needlessly.
//!
//! Source: <https://github.com/kubernetes/community/blob/master/contributors/devel/sig-architecture/api-conventions.md>.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// Accepted, observed, and the controller alive. Drift does not change it.
pub const READY: &str = "Ready";
/// This datacenter serves the service.
pub const SERVING: &str = "Serving";
/// Removals are refused while it serves.
pub const GUARDED: &str = "Guarded";
/// Intent and evidence agree.
pub const CONSISTENT: &str = "Consistent";
/// Every source answers.
pub const SOURCES_READY: &str = "SourcesReady";

/// The status of a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Truth {
    /// It holds.
    True,
    /// It does not.
    False,
    /// It cannot be told.
    Unknown,
}

impl Truth {
    /// As the API writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

impl From<bool> for Truth {
    fn from(holds: bool) -> Self {
        if holds { Self::True } else { Self::False }
    }
}

/// A condition as it should be, without the time that depends on what it was before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Desired {
    /// One of the types above.
    pub kind: &'static str,
    /// Its status.
    pub status: Truth,
    /// A CamelCase reason.
    pub reason: &'static str,
    /// A sentence for people.
    pub message: String,
}

/// Sets a condition at `now`; `lastTransitionTime` moves only when the status does.
pub fn set_at(conditions: &mut Vec<Condition>, desired: Desired, generation: Option<i64>, now: Timestamp) {
    let Desired { kind, status, reason, message } = desired;
    let before = conditions.iter().position(|condition| condition.type_ == kind);
    let transition = match before.map(|index| &conditions[index]) {
        Some(condition) if condition.status == status.as_str() => condition.last_transition_time.clone(),
        _ => Time(now),
    };
    let condition = Condition {
        type_: kind.to_owned(),
        status: status.as_str().to_owned(),
        reason: reason.to_owned(),
        message,
        observed_generation: generation,
        last_transition_time: transition,
    };
    match before {
        Some(index) => conditions[index] = condition,
        None => conditions.push(condition),
    }
}
