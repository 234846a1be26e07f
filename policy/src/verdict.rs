//! Verdicts: the closed list of reasons that message, metric label, Event, status and documentation share.

use crate::guarded::WorkloadRef;
use crate::overriding::{Override, OverrideRef};
use crate::pooling::Key;

/// Why a request was allowed or refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// Allowed: no service is concerned.
    NotGuarded,
    /// Allowed: the object is already being deleted.
    AlreadyGoing,
    /// Allowed: a built-in controller does its ordinary work.
    ControllerAtWork,
    /// Allowed: what goes cannot carry traffic.
    CarriesNoTraffic,
    /// Allowed: a Ready pod that is not expendable stays.
    Expendable,
    /// Allowed: the change does not weaken the guard.
    NotWeakened,
    /// Allowed: the configuration trusts this identity with this.
    Trusted,
    /// Allowed: the service is not served here.
    NotServing,
    /// Allowed: a disruption budget decides about the eviction.
    WithinBudget,
    /// Allowed with a warning: somebody has broken the glass.
    Overridden,
    /// Allowed: an override that names the one who asks for it.
    OverrideCreated,
    /// Allowed with a warning: the `ServicePooling`, or the whole installation, only warns.
    WarnOnly,
    /// Refused: the service is served here.
    Serving,
    /// Refused: depooled, but clients may still hold the old answer.
    Draining,
    /// Refused: it cannot be told whether the service is served here.
    EvidenceUnknown,
    /// Refused: the `ServicePooling` does not decode.
    Undecodable,
    /// Refused for now: no disruption budget covers the pod.
    NoBudget,
    /// Refused for now: the pod is not known yet.
    PodUnknown,
    /// Refused: the override names somebody else.
    NotTheRequester,
    /// Refused: a dry run in the canary's namespace, which shows that the guard is up.
    Canary,
}

impl Reason {
    /// All of them, for documentation and tests.
    pub const ALL: [Self; 20] = [
        Self::NotGuarded,
        Self::AlreadyGoing,
        Self::ControllerAtWork,
        Self::CarriesNoTraffic,
        Self::Expendable,
        Self::NotWeakened,
        Self::Trusted,
        Self::NotServing,
        Self::WithinBudget,
        Self::Overridden,
        Self::OverrideCreated,
        Self::WarnOnly,
        Self::Serving,
        Self::Draining,
        Self::EvidenceUnknown,
        Self::Undecodable,
        Self::NoBudget,
        Self::PodUnknown,
        Self::NotTheRequester,
        Self::Canary,
    ];

    /// The CamelCase name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotGuarded => "NotGuarded",
            Self::AlreadyGoing => "AlreadyGoing",
            Self::ControllerAtWork => "ControllerAtWork",
            Self::CarriesNoTraffic => "CarriesNoTraffic",
            Self::Expendable => "Expendable",
            Self::NotWeakened => "NotWeakened",
            Self::Trusted => "Trusted",
            Self::NotServing => "NotServing",
            Self::WithinBudget => "WithinBudget",
            Self::Overridden => "Overridden",
            Self::OverrideCreated => "OverrideCreated",
            Self::WarnOnly => "WarnOnly",
            Self::Serving => "Serving",
            Self::Draining => "Draining",
            Self::EvidenceUnknown => "EvidenceUnknown",
            Self::Undecodable => "Undecodable",
            Self::NoBudget => "NoBudget",
            Self::PodUnknown => "PodUnknown",
            Self::NotTheRequester => "NotTheRequester",
            Self::Canary => "Canary",
        }
    }
}

/// What to do with a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Let it pass.
    Allow(Allowed),
    /// Refuse it.
    Refuse(Refusal),
    /// It depends on the live conclusion about these services.
    Ask(Vec<Key>),
    /// It depends on these workloads as they are now.
    Read(Vec<WorkloadRef>),
    /// It depends on whether these overrides are still there.
    Confirm(Vec<OverrideRef>),
    /// It depends on whether a `ServicePooling` is stored that the view has not heard of: in this namespace, or anywhere.
    Search(Option<String>),
    /// We cannot tell, by a fault of our own: an HTTP 5xx.
    Fault(String),
}

/// A permission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allowed {
    /// Why.
    pub reason: Reason,
    /// The service that it is about, where there is one.
    pub service: Option<Key>,
    /// Lines for the user.
    pub warnings: Vec<String>,
    /// The override that it rests on, or that it makes.
    pub glass: Option<Override>,
    /// With what reason it would have been refused, if the guard did not only warn.
    pub warned: Option<Reason>,
}

impl Allowed {
    /// A permission that needs no words.
    pub fn plain(reason: Reason, service: Option<Key>) -> Self {
        Self { reason, service, warnings: Vec::new(), glass: None, warned: None }
    }
}

/// A refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Why.
    pub reason: Reason,
    /// The service that it is about.
    pub service: Key,
    /// The HTTP status: 403, or 429 where trying again later is right.
    pub code: u16,
    /// What, why, and what to type next; at most 1 KiB.
    pub message: String,
    /// Lines for those who do not see the message: at most 3 of 256 characters.
    pub warnings: Vec<String>,
}
