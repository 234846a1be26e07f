//! The rules: a named chain for each service that a request concerns; the first answer wins, and one refusal is enough.
//!
//! Never: a permission from silence. What the chain needs and does not have, it asks for.

use jiff::Timestamp;

use crate::doors::Effect;
use crate::evidence::{Says, State as Serving};
use crate::given::{Known, Settings};
use crate::guarded::{Concern, Concerned, Touch, WorkloadRef, concerns};
use crate::pooling::{Enforcement, Key, Pooling};
use crate::request::Request;
use crate::state::State;
use crate::verdict::{Allowed, Decision, Reason};
use crate::words;

/// What one rule looks at.
struct Input<'a> {
    request: &'a Request,
    state: &'a State,
    settings: &'a Settings,
    known: Known<'a>,
    concern: &'a Concern<'a>,
}

/// What one rule says.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Ruling {
    Allow(Reason),
    Refuse(Reason),
    Ask(Key),
    Read(Vec<WorkloadRef>),
}

type Rule = fn(&Input<'_>) -> Option<Ruling>;

/// The chain, in its order. Each name is what the documentation calls the rule.
const CHAIN: &[(&str, Rule)] = &[
    ("already going", already_going),
    ("controllers at work", controllers_at_work),
    ("carries no traffic", carries_no_traffic),
    ("trusted", trusted),
    ("evidence", evidence),
];

/// Decides about a request.
pub fn decide(request: &Request, state: &State, settings: &Settings, known: Known<'_>, now: Timestamp) -> Decision {
    let concerns = concerns(request, state, known.live);
    if concerns.is_empty() {
        return unconcerned(request, state);
    }
    let (mut asks, mut reads, mut allowed) = (Vec::new(), Vec::new(), Vec::new());
    let (mut warnings, mut warned) = (Vec::new(), None);
    for concern in &concerns {
        let input = Input { request, state, settings, known, concern };
        let ruling = CHAIN.iter().find_map(|(_, rule)| rule(&input)).unwrap_or(Ruling::Refuse(Reason::EvidenceUnknown));
        match ruling {
            Ruling::Allow(reason) => allowed.push((reason, concern)),
            Ruling::Ask(key) => asks.push(key),
            Ruling::Read(references) => reads.extend(references),
            Ruling::Refuse(reason) => {
                let told = words::refusal(&words::Told { request, state, settings, known, concern, reason, now });
                match &concern.pooling {
                    // Another service that the request concerns may still refuse it.
                    Concerned::Known(pooling) if pooling.enforcement == Enforcement::Warn => {
                        warnings.extend(words::would_be_refused(&told.message));
                        warned = Some(pooling.key.clone());
                    }
                    _ => return Decision::Refuse(told),
                }
            }
        }
    }
    if !reads.is_empty() {
        Decision::Read(reads)
    } else if !asks.is_empty() {
        Decision::Ask(asks)
    } else if let Some(key) = warned {
        warnings.truncate(words::WARNINGS);
        Decision::Allow(Allowed { reason: Reason::WarnOnly, service: Some(key), warnings })
    } else {
        let (reason, service) =
            allowed.last().map_or((Reason::NotGuarded, None), |(reason, concern)| (*reason, key(concern)));
        Decision::Allow(Allowed { reason, service, warnings: Vec::new() })
    }
}

fn key(concern: &Concern<'_>) -> Option<Key> {
    match &concern.pooling {
        Concerned::Known(pooling) => Some(pooling.key.clone()),
        Concerned::Undecodable { .. } => None,
    }
}

/// No service is concerned: fine, unless the namespace says that one should be.
fn unconcerned(request: &Request, state: &State) -> Decision {
    let allow = |reason| Decision::Allow(Allowed { reason, service: None, warnings: Vec::new() });
    let about_objects = !matches!(
        request.door.effect,
        Effect::RemoveRelease
            | Effect::RemoveNamespace
            | Effect::UnlabelNamespace
            | Effect::RemovePooling
            | Effect::ChangePooling
            | Effect::RemoveDefinition
    );
    let Some(namespace) = state.namespace(&request.namespace).filter(|_| about_objects) else {
        return allow(Reason::NotGuarded);
    };
    if !namespace.protected || !namespace.poolings.is_empty() || holds_records(state, &request.namespace) {
        allow(Reason::NotGuarded)
    } else if going(request) {
        allow(Reason::AlreadyGoing)
    } else if controller(request, state) {
        allow(Reason::ControllerAtWork)
    } else {
        Decision::Fault(format!(
            "namespace {} is labelled as guarded, but no ServicePooling in it is known: if none is meant to be there, \
             remove the label poolguard.dev/protected",
            request.namespace
        ))
    }
}

/// Whether a guarded workload's release has its record in this namespace: then the label is there for that.
fn holds_records(state: &State, name: &str) -> bool {
    state.namespaces.values().filter(|namespace| !namespace.poolings.is_empty()).any(|namespace| {
        namespace
            .workloads
            .values()
            .any(|workload| workload.release.as_ref().is_some_and(|release| release.namespace == name))
    })
}

/// A DELETE of an object that is being deleted changes nothing. An UPDATE of one may: with a finalizer it still serves.
fn already_going(input: &Input<'_>) -> Option<Ruling> {
    going(input.request).then_some(Ruling::Allow(Reason::AlreadyGoing))
}

fn going(request: &Request) -> bool {
    request.door.is_delete() && request.old.as_ref().is_some_and(|object| object.terminating)
}

/// Built-in controllers, by pairs of user and resource: what they remove fell because of something that was judged, or by
/// the loss of a node.
fn controllers_at_work(input: &Input<'_>) -> Option<Ruling> {
    controller(input.request, input.state).then_some(Ruling::Allow(Reason::ControllerAtWork))
}

/// Whether the garbage collector asks, because the object's owner went. Refused, it tries again for ever: somebody has to
/// know.
pub fn by_garbage_collector(request: &Request) -> bool {
    request.door.is_delete()
        && (request.user == "system:serviceaccount:kube-system:generic-garbage-collector"
            || (request.user == SINGLE_IDENTITY && request.named))
}

/// The controller-manager's single identity, where it runs without per-controller credentials.
const SINGLE_IDENTITY: &str = "system:kube-controller-manager";

fn controller(request: &Request, state: &State) -> bool {
    let user = request.user.as_str();
    let account = user.strip_prefix("system:serviceaccount:kube-system:").unwrap_or_default();
    let single = user == SINGLE_IDENTITY;
    let of_namespaces = account == "namespace-controller" || (single && !request.named);
    if of_namespaces && request.door.is_delete() && request.door.effect != Effect::RemoveNamespace {
        return state.namespace(&request.namespace).is_none_or(|namespace| namespace.terminating);
    }
    match request.door.effect {
        Effect::RemovePod => {
            single
                || user == "system:kube-scheduler"
                || user.starts_with("system:node:")
                || matches!(
                    account,
                    "replicaset-controller"
                        | "replication-controller"
                        | "statefulset-controller"
                        | "daemon-set-controller"
                        | "job-controller"
                        | "generic-garbage-collector"
                        | "pod-garbage-collector"
                        | "node-controller"
                        | "taint-eviction-controller"
                )
        }
        Effect::RemoveWorkload | Effect::ScaleWorkload if request.door.kind == "ReplicaSet" => {
            single || matches!(account, "deployment-controller" | "generic-garbage-collector")
        }
        _ => false,
    }
}

fn carries_no_traffic(input: &Input<'_>) -> Option<Ruling> {
    match &input.concern.touch {
        Touch::CarriesNoTraffic => Some(Ruling::Allow(Reason::CarriesNoTraffic)),
        Touch::Expendable => Some(Ruling::Allow(Reason::Expendable)),
        Touch::Strengthens => Some(Ruling::Allow(Reason::NotWeakened)),
        Touch::Read(references) => Some(Ruling::Read(references.clone())),
        Touch::Carries | Touch::UnknownPod => None,
    }
}

fn trusted(input: &Input<'_>) -> Option<Ruling> {
    let door = input.request.door;
    let listed = |list: &[String], word: &str| list.iter().any(|entry| entry == word);
    input
        .settings
        .trusted
        .iter()
        .any(|trusted| {
            trusted.user == input.request.user
                && listed(&trusted.resources, door.resource)
                && listed(&trusted.verbs, door.operation.as_str())
        })
        .then_some(Ruling::Allow(Reason::Trusted))
}

fn evidence(input: &Input<'_>) -> Option<Ruling> {
    let evicted = input.request.door.effect == Effect::EvictPod;
    if evicted && within_budget(input) {
        return Some(Ruling::Allow(Reason::WithinBudget));
    }
    let pooling: &Pooling = match &input.concern.pooling {
        Concerned::Known(pooling) => pooling,
        Concerned::Undecodable { .. } => return Some(Ruling::Refuse(Reason::Undecodable)),
    };
    let Some(conclusion) = input.known.conclusions.get(&pooling.key) else {
        return Some(Ruling::Ask(pooling.key.clone()));
    };
    let here = conclusion.here();
    Some(match here.state {
        Serving::NotServing => Ruling::Allow(Reason::NotServing),
        _ if input.concern.touch == Touch::UnknownPod => Ruling::Refuse(Reason::PodUnknown),
        _ if evicted => Ruling::Refuse(Reason::NoBudget),
        Serving::Unknown => Ruling::Refuse(Reason::EvidenceUnknown),
        Serving::Serving if here.answers.iter().any(|answer| answer.says == Says::Serving) => {
            Ruling::Refuse(Reason::Serving)
        }
        Serving::Serving => Ruling::Refuse(Reason::Draining),
    })
}

/// Whether a disruption budget with something to keep covers the pod: then the API server decides, atomically.
fn within_budget(input: &Input<'_>) -> bool {
    let Some(namespace) = input.state.namespace(&input.request.namespace) else { return false };
    let Some(pod) = namespace.pods.get(&input.request.name) else { return false };
    namespace
        .budgets
        .values()
        .any(|budget| budget.observed && budget.desired_healthy >= 1 && budget.covers(&pod.labels))
}
