//! The rules: a named chain for each service that a request concerns; the first answer wins, and one refusal is enough.
//!
//! Never: a permission from silence. What the chain needs and does not have, it asks for.

use std::collections::BTreeSet;
use std::iter;

use jiff::Timestamp;

use crate::doors::Effect;
use crate::evidence::{Says, State as Serving};
use crate::given::{Known, Settings};
use crate::guarded::{Concern, Concerned, Touch, WorkloadRef, concerns};
use crate::overriding::{Override, OverrideRef};
use crate::pooling::{Enforcement, Key, Pooling};
use crate::request::{Body, Request};
use crate::state::{Budget, Pod, State};
use crate::verdict::{Allowed, Decision, Reason};
use crate::words;

/// What one rule looks at.
struct Input<'a> {
    request: &'a Request,
    state: &'a State,
    settings: &'a Settings,
    known: Known<'a>,
    concern: &'a Concern<'a>,
    now: Timestamp,
}

/// What one rule says.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Ruling {
    Allow(Reason),
    Refuse(Reason),
    Overridden(Override),
    Ask(Key),
    Read(Vec<WorkloadRef>),
    Confirm(Vec<OverrideRef>),
}

type Rule = fn(&Input<'_>) -> Option<Ruling>;

/// The chain, in its order. Each name is what the documentation calls the rule.
const CHAIN: &[(&str, Rule)] = &[
    ("already going", already_going),
    ("controllers at work", controllers_at_work),
    ("carries no traffic", carries_no_traffic),
    ("trusted", trusted),
    ("override", overridden),
    ("evidence", evidence),
];

/// The ServicePooling that the canary's refusals speak of.
pub const CANARY: &str = "canary";

/// The definition whose dry removal shows that definitions are guarded; without it the guard would only be closed further.
pub const CANARY_DEFINITION: &str = "poolingoverrides.poolguard.dev";

/// Decides about a request.
pub fn decide(request: &Request, state: &State, settings: &Settings, known: Known<'_>, now: Timestamp) -> Decision {
    if is_canary(request, settings) {
        let service = Key { namespace: settings.canary_namespace.clone(), name: CANARY.to_owned() };
        return Decision::Refuse(words::canary(service, settings));
    }
    if let Some(Body::Override(glass)) = request.new.as_ref().map(|object| &object.body) {
        return create_override(request, glass, state, settings);
    }
    let concerns = concerns(request, state, known.live);
    if concerns.is_empty() {
        return unconcerned(request, state, settings, known.unheard);
    }
    let (mut asks, mut reads, mut confirms) = (Vec::new(), BTreeSet::new(), Vec::new());
    let (mut allowed, mut warnings, mut warned) = (Vec::new(), Vec::new(), None);
    let mut glass = None;
    for concern in &concerns {
        let input = Input { request, state, settings, known, concern, now };
        let ruling = CHAIN.iter().find_map(|(_, rule)| rule(&input)).unwrap_or(Ruling::Refuse(Reason::EvidenceUnknown));
        match ruling {
            Ruling::Allow(reason) => allowed.push((reason, concern)),
            Ruling::Overridden(by) => {
                allowed.push((Reason::Overridden, concern));
                warnings.push(words::overridden(concern.service(), &by));
                glass = Some((by, concern.service().clone()));
            }
            Ruling::Ask(key) => asks.push(key),
            Ruling::Read(references) => {
                // Several services may depend on the same workload.
                reads.extend(references);
            }
            Ruling::Confirm(references) => confirms.extend(references),
            Ruling::Refuse(reason) => {
                let told = words::Told { request, state, settings, known, concern, reason, now };
                if !only_warns(concern, settings) {
                    return Decision::Refuse(words::refusal(&told));
                }
                // Another service that the request concerns may still refuse it.
                warnings.push(words::would_be_refused(&told));
                warned = Some((reason, concern.service().clone()));
            }
        }
    }
    warnings.truncate(words::WARNINGS);
    if !reads.is_empty() {
        Decision::Read(reads.into_iter().collect())
    } else if !confirms.is_empty() {
        Decision::Confirm(confirms)
    } else if !asks.is_empty() {
        Decision::Ask(asks)
    } else if let Some((glass, service)) = glass {
        let warned = warned.map(|(reason, _)| reason);
        let service = Some(service);
        Decision::Allow(Allowed { reason: Reason::Overridden, service, warnings, glass: Some(glass), warned })
    } else if let Some((reason, service)) = warned {
        let warned = Some(reason);
        Decision::Allow(Allowed { reason: Reason::WarnOnly, service: Some(service), warnings, glass: None, warned })
    } else {
        let (reason, service) =
            allowed.last().map_or((Reason::NotGuarded, None), |(reason, concern)| (*reason, key(concern)));
        Decision::Allow(Allowed::plain(reason, service))
    }
}

/// Dry runs in the canary's namespace, and of the definition that belongs to it: refused whatever they touch, so that whoever
/// sends them sees that the API server asks us. What is meant in earnest there is nobody's service.
fn is_canary(request: &Request, settings: &Settings) -> bool {
    let ours = match request.door.effect {
        Effect::RemoveDefinition => request.name == CANARY_DEFINITION,
        // The request about a namespace itself bears its name as namespace.
        _ => !settings.canary_namespace.is_empty() && request.namespace == settings.canary_namespace,
    };
    request.dry_run && ours
}

/// Whether a refusal about this service is only told.
fn only_warns(concern: &Concern<'_>, settings: &Settings) -> bool {
    let own = match &concern.pooling {
        Concerned::Known(pooling) => pooling.enforcement,
        Concerned::Undecodable { .. } => Enforcement::Enforce,
    };
    own == Enforcement::Warn || settings.enforcement == Enforcement::Warn
}

/// Whoever breaks the glass does so by their own name. Whether they may is a matter of RBAC.
fn create_override(request: &Request, glass: &Override, state: &State, settings: &Settings) -> Decision {
    let service = Key { namespace: request.namespace.clone(), name: glass.service.clone() };
    if glass.requested_by != request.user {
        return Decision::Refuse(words::not_the_requester(request, glass, settings, service));
    }
    let known = state.namespace(&request.namespace).is_some_and(|all| all.poolings.contains_key(&glass.service));
    let warnings = words::idle_override(glass, &settings.here, known);
    let glass = Some(glass.clone());
    Decision::Allow(Allowed { reason: Reason::OverrideCreated, service: Some(service), warnings, glass, warned: None })
}

fn key(concern: &Concern<'_>) -> Option<Key> {
    match &concern.pooling {
        Concerned::Known(pooling) => Some(pooling.key.clone()),
        Concerned::Undecodable { .. } => None,
    }
}

/// No service is concerned: fine, unless the namespace says that one should be. The API server asks about objects in guarded
/// namespaces only: where the view knows of nothing that is guarded there, it may know too little, or the last `ServicePooling` has just gone.
fn unconcerned(request: &Request, state: &State, settings: &Settings, unheard: Option<bool>) -> Decision {
    let allow = |reason| Decision::Allow(Allowed::plain(reason, None));
    let everywhere = matches!(
        request.door.effect,
        Effect::RemovePooling | Effect::ChangePooling | Effect::RemoveDefinition | Effect::CreateOverride
    );
    // The namespace of the canary holds nothing that is meant in earnest.
    if everywhere || request.namespace == settings.canary_namespace {
        return allow(Reason::NotGuarded);
    }
    if going(request) {
        return allow(Reason::AlreadyGoing);
    }
    if controller(request, state, settings) {
        return allow(Reason::ControllerAtWork);
    }
    let name = &request.namespace;
    let guarded = state.namespace(name).filter(|namespace| namespace.protected).is_some_and(|namespace| {
        let unlabelled = request.door.effect == Effect::UnlabelNamespace;
        unlabelled || !namespace.poolings.is_empty() || holds_records(state, name)
    });
    if guarded {
        return allow(Reason::NotGuarded);
    }
    match unheard {
        Some(false) => allow(Reason::NotGuarded),
        Some(true) => Decision::Fault(words::fault(
            name,
            "is guarded, and the view has not heard of a ServicePooling yet: run your command again",
        )),
        // What is guarded in another namespace may have its release's record here.
        None if matches!(request.door.effect, Effect::RemoveRelease | Effect::RemoveNamespace) => {
            Decision::Search(None)
        }
        None => Decision::Search(Some(name.clone())),
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
    controller(input.request, input.state, input.settings).then_some(Ruling::Allow(Reason::ControllerAtWork))
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

fn controller(request: &Request, state: &State, settings: &Settings) -> bool {
    let user = request.user.as_str();
    let account = user.strip_prefix("system:serviceaccount:kube-system:").unwrap_or_default();
    let single = user == SINGLE_IDENTITY;
    let of_namespaces = account == "namespace-controller" || (single && !request.named);
    if of_namespaces && request.door.is_delete() && request.door.effect != Effect::RemoveNamespace {
        return state.namespace(&request.namespace).is_none_or(|namespace| namespace.terminating);
    }
    // The garbage collector takes what lost its owner: fine where the owner's own removal came through a door.
    let of_owner = |kinds: &[&str]| {
        request.old.as_ref().and_then(|object| object.controller.as_ref()).is_some_and(|owner| {
            kinds.contains(&owner.kind.as_str()) || settings.custom_kinds.iter().any(|kind| *kind == owner.kind)
        })
    };
    let judged = |kinds: &[&str]| account == "generic-garbage-collector" && of_owner(kinds);
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
                        | "pod-garbage-collector"
                        | "node-controller"
                        | "taint-eviction-controller"
                        | "device-taint-eviction-controller"
                )
                || judged(&["ReplicaSet", "ReplicationController", "StatefulSet", "DaemonSet", "Job"])
        }
        Effect::RemoveWorkload | Effect::ScaleWorkload if request.door.kind == "ReplicaSet" => {
            single || account == "deployment-controller" || judged(&["Deployment"])
        }
        // A StatefulSet that is told so leaves the claims of pods that it removed to the collector, and waits until they are gone.
        Effect::RemoveReference if request.door.kind == "PersistentVolumeClaim" => {
            by_garbage_collector(request) && of_owner(&["Pod", "StatefulSet"])
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

/// Somebody has broken the glass for this service here: asked of the API server again, so that one that has just been taken
/// back counts no longer.
fn overridden(input: &Input<'_>) -> Option<Ruling> {
    let service = input.concern.service();
    let here = &input.settings.here;
    let namespace = input.state.namespace(&service.namespace)?;
    let mut unconfirmed = Vec::new();
    for glass in namespace.overrides.values().filter(|glass| glass.in_force(service, here, input.now)) {
        let reference = OverrideRef { namespace: service.namespace.clone(), name: glass.name.clone() };
        match input.known.overrides.get(&reference) {
            None => unconfirmed.push(reference),
            Some(Some(glass)) if glass.in_force(service, here, input.now) => {
                return Some(Ruling::Overridden(glass.clone()));
            }
            Some(_) => {}
        }
    }
    (!unconfirmed.is_empty()).then_some(Ruling::Confirm(unconfirmed))
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

/// Whether a disruption budget that surely keeps a pod of the service covers this one: then the API server decides, atomically. Where it
/// covers others too, it has to keep more than these are, or they may be all that it keeps.
fn within_budget(input: &Input<'_>) -> bool {
    let Some(namespace) = input.state.namespace(&input.request.namespace) else { return false };
    let Some(pod) = namespace.pods.get(&input.request.name) else { return false };
    let keeps_more_than_others = |budget: &Budget| match &input.concern.pooling {
        Concerned::Known(pooling) => budget.keeps_more_than(namespace.others(budget, &pooling.selector)),
        // Nobody knows which pods are others.
        Concerned::Undecodable { .. } => budget.keeps_more_than(iter::empty::<Pod>()),
    };
    namespace
        .budgets
        .values()
        .any(|budget| budget.observed && budget.is_asked_about(pod) && keeps_more_than_others(budget))
}
