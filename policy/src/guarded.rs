//! What belongs to a service: which `ServicePooling` resources a request concerns, and whether what it takes away can carry
//! traffic at all.
//!
//! Never counts how many others are left: two Deployments of a release are deleted a millisecond apart. Only a pod that the
//! spec calls expendable may go because another one stays.

use std::collections::{BTreeMap, BTreeSet};

use crate::doors::Effect;
use crate::pooling::{Key, Pooling, Watched};
use crate::request::{Body, Object, Request};
use crate::selector::{Labels, Selector};
use crate::state::{Kind, Namespace, Pod, Release, Route, Service, State, Workload};
use crate::weakening::weakens;

mod near;

use near::{near, selecting, templates};

/// A `ServicePooling` that a request concerns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Concern<'a> {
    /// Which one.
    pub pooling: Concerned<'a>,
    /// What the request would take from it.
    pub touch: Touch,
}

impl Concern<'_> {
    /// Namespace and name of the resource.
    pub fn service(&self) -> &Key {
        match &self.pooling {
            Concerned::Known(pooling) => &pooling.key,
            Concerned::Undecodable { key, .. } => key,
        }
    }
}

/// The resource that is concerned, decoded or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Concerned<'a> {
    /// It decodes.
    Known(&'a Pooling),
    /// It does not.
    Undecodable {
        /// Which one.
        key: Key,
        /// What the decoder said.
        error: &'a str,
    },
}

/// What a request would take from a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Touch {
    /// Something that may carry traffic.
    Carries,
    /// Something that cannot.
    CarriesNoTraffic,
    /// A pod that others stand in for.
    Expendable,
    /// The change does not weaken the guard.
    Strengthens,
    /// A pod that the view does not hold.
    UnknownPod,
    /// It depends on these workloads as they are now, which the view may not have yet.
    Read(Vec<WorkloadRef>),
}

/// A workload by name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkloadRef {
    /// Its namespace.
    pub namespace: String,
    /// Its kind.
    pub kind: Kind,
    /// Its name.
    pub name: String,
}

/// The definition without which nothing is guarded.
pub const DEFINITION: &str = "servicepoolings.poolguard.dev";

/// Workloads as they were read for this request; `None` where there is none of that name.
pub type Live = BTreeMap<WorkloadRef, Option<Workload>>;

/// The `ServicePooling` resources that a request concerns.
pub fn concerns<'a>(request: &'a Request, state: &'a State, live: &Live) -> Vec<Concern<'a>> {
    match request.door.effect {
        Effect::RemovePooling | Effect::ChangePooling => own(request).into_iter().collect(),
        // Without the definition of overrides the guard is only closed further.
        Effect::RemoveDefinition if request.name != DEFINITION => Vec::new(),
        Effect::RemoveDefinition => everywhere(state).map(|watched| carries(watched)).collect(),
        Effect::RemoveRelease => {
            let Some(release) = released(request) else { return Vec::new() };
            let ours = |workload: &&Workload| workload.release.as_ref() == Some(&release);
            state
                .namespaces
                .values()
                .map(|namespace| (namespace, templates(namespace, ours)))
                .flat_map(|(namespace, labels)| selecting(namespace, labels).into_iter().map(move |it| (namespace, it)))
                .filter_map(|(namespace, watched)| of_release(namespace, watched, &release))
                .collect()
        }
        Effect::RemoveNamespace | Effect::UnlabelNamespace => of_namespace(request, state),
        _ => {
            let Some(namespace) = state.namespace(&request.namespace) else { return Vec::new() };
            near(request, namespace, live)
                .into_iter()
                .filter_map(|watched| match watched {
                    Watched::Undecodable { .. } => whole_namespace(request, namespace).then(|| carries(watched)),
                    Watched::Known(pooling) => touch(request, state, namespace, pooling, live)
                        .map(|touch| Concern { pooling: Concerned::Known(pooling), touch }),
                })
                .collect()
        }
    }
}

fn carries(watched: &Watched) -> Concern<'_> {
    let pooling = match watched {
        Watched::Known(pooling) => Concerned::Known(pooling),
        Watched::Undecodable { key, error } => Concerned::Undecodable { key: key.clone(), error },
    };
    Concern { pooling, touch: Touch::Carries }
}

fn everywhere(state: &State) -> impl Iterator<Item = &Watched> {
    state.namespaces.values().flat_map(|namespace| namespace.poolings.values())
}

/// A resource that does not decode guards everything in its namespace but what cannot carry traffic by itself.
fn whole_namespace(request: &Request, namespace: &Namespace) -> bool {
    let counts = |pod: &Pod| pod.may_serve() && !pod.of_a_job();
    if request.door.effect == Effect::EvictPod {
        return namespace.pods.get(&request.name).is_none_or(counts);
    }
    match request.old.as_ref().map(|object| &object.body) {
        Some(Body::Pod(pod)) => counts(pod),
        Some(Body::Workload(workload)) => workload.may_carry() || namespace.may_carry(workload),
        _ => true,
    }
}

/// The resource that the request itself is about: judged by its old spec.
fn own(request: &Request) -> Option<Concern<'_>> {
    let decoded = |object: &'_ Option<Object>| match object.as_ref().map(|object| &object.body) {
        Some(Body::Pooling(Ok(pooling))) => Some(pooling.as_ref().clone()),
        _ => None,
    };
    match request.old.as_ref().map(|object| &object.body) {
        Some(Body::Pooling(Ok(old))) => {
            let strengthens = request.door.effect == Effect::ChangePooling
                && decoded(&request.new).is_some_and(|new| !weakens(old, &new));
            let touch = if strengthens { Touch::Strengthens } else { Touch::Carries };
            Some(Concern { pooling: Concerned::Known(old), touch })
        }
        Some(Body::Pooling(Err(error))) => {
            let key = Key { namespace: request.namespace.clone(), name: request.name.clone() };
            Some(Concern { pooling: Concerned::Undecodable { key, error }, touch: Touch::Carries })
        }
        // Whoever does not say what goes gets nothing let through.
        _ => {
            let key = Key { namespace: request.namespace.clone(), name: request.name.clone() };
            Some(Concern { pooling: Concerned::Undecodable { key, error: NOT_SAID }, touch: Touch::Carries })
        }
    }
}

/// What is told of a request about a resource that does not contain it.
const NOT_SAID: &str = "the request does not contain it";

/// The release whose record the request is about: its name says so, which nobody can change; a label, everybody.
pub(crate) fn released(request: &Request) -> Option<Release> {
    let labels = request.old.as_ref().or(request.new.as_ref()).map(|object| &object.labels);
    let name = released_by_name(&request.name).or_else(|| labels?.get("name"))?;
    Some(Release { namespace: request.namespace.clone(), name: name.to_owned() })
}

/// The release in a record's name: `sh.helm.release.v1.main.v3`.
fn released_by_name(name: &str) -> Option<&str> {
    name.strip_prefix("sh.helm.release.v1.")?.rsplit_once(".v").map(|(release, _)| release)
}

/// A namespace goes, or leaves the guard: with its services, and with the records of releases that services elsewhere are of.
fn of_namespace<'a>(request: &Request, state: &'a State) -> Vec<Concern<'a>> {
    let mut concerns = Vec::new();
    for (name, namespace) in &state.namespaces {
        if *name == request.namespace {
            concerns.extend(namespace.poolings.values().map(carries));
            continue;
        }
        let kept_there =
            |workload: &&Workload| workload.release.as_ref().is_some_and(|of| of.namespace == request.namespace);
        for watched in selecting(namespace, templates(namespace, kept_there)) {
            let Watched::Known(pooling) = watched else { continue };
            let labels = namespace.carrying(&pooling.selector).filter(kept_there);
            let labels = labels.map(|workload| &workload.template_labels);
            if let Some(touch) = all_of(namespace, pooling, labels) {
                concerns.push(Concern { pooling: Concerned::Known(pooling), touch });
            }
        }
    }
    concerns
}

fn of_release<'a>(namespace: &Namespace, watched: &'a Watched, release: &Release) -> Option<Concern<'a>> {
    match watched {
        Watched::Known(pooling) => {
            let touch = release_touch(namespace, pooling, release)?;
            Some(Concern { pooling: Concerned::Known(pooling), touch })
        }
        Watched::Undecodable { .. } => namespace
            .workloads
            .values()
            .any(|workload| workload.release.as_ref() == Some(release))
            .then(|| carries(watched)),
    }
}

/// What a Helm release has of a service: nothing, pods that others stand in for, or more.
fn release_touch(namespace: &Namespace, pooling: &Pooling, release: &Release) -> Option<Touch> {
    let workloads = namespace.carrying(&pooling.selector);
    let labels = workloads.filter(|workload| workload.release.as_ref() == Some(release));
    all_of(namespace, pooling, labels.map(|workload| &workload.template_labels))
}

/// What goes with pods of these labels: nothing where there are none, something expendable where all of them are.
fn all_of<'a>(namespace: &Namespace, pooling: &Pooling, labels: impl Iterator<Item = &'a Labels>) -> Option<Touch> {
    let (mut some, mut expendable_all) = (false, true);
    for labels in labels {
        some = true;
        expendable_all &= expendable(namespace, pooling, labels);
    }
    some.then_some(if expendable_all { Touch::Expendable } else { Touch::Carries })
}

fn touch(request: &Request, state: &State, namespace: &Namespace, pooling: &Pooling, live: &Live) -> Option<Touch> {
    let selector = &pooling.selector;
    let old = request.old.as_ref().map(|object| &object.body);
    let new = request.new.as_ref().map(|object| &object.body);
    match (request.door.effect, old, new) {
        (Effect::RemovePod, Some(Body::Pod(pod)), _) => pod_touch(namespace, pooling, pod),
        (Effect::EvictPod, ..) => match namespace.pods.get(&request.name) {
            Some(pod) => pod_touch(namespace, pooling, pod),
            None => Some(Touch::UnknownPod),
        },
        (Effect::RelabelPod, Some(Body::Pod(old)), Some(Body::Pod(new))) => {
            let leaves = !selector.matches(&new.labels)
                || namespace
                    .services
                    .candidates(&old.labels)
                    .any(|(_, service)| service.selects(&old.labels) && !service.selects(&new.labels));
            if leaves { pod_touch(namespace, pooling, old) } else { None }
        }
        (Effect::RemoveWorkload, Some(Body::Workload(workload)), _) => workload_touch(namespace, pooling, workload),
        (Effect::ScaleWorkload, ..) => scale_touch(request, namespace, pooling, live),
        (Effect::MoveDaemonSet, Some(Body::Workload(old)), Some(Body::Workload(new))) => {
            let stays = namespace.pods_of(Kind::DaemonSet, &old.name).any(|pod| {
                pod.stays()
                    && pod
                        .node
                        .as_ref()
                        .and_then(|node| state.nodes.get(node))
                        .is_some_and(|node| new.placement.allows(node))
            });
            if stays { None } else { workload_touch(namespace, pooling, old) }
        }
        (Effect::RemoveService, Some(Body::Service(service)), _) => {
            all_of(namespace, pooling, namespace.led_to(service, selector))
        }
        (Effect::ChangeService, Some(Body::Service(old)), Some(Body::Service(new))) => {
            all_of(namespace, pooling, namespace.led_to(old, selector))
                .filter(|_| service_cut(namespace, selector, old, new))
        }
        (Effect::RemoveRoute, Some(Body::Route(route)), _) => leads(namespace, pooling, route.backends()),
        (Effect::ChangeRoute, Some(Body::Route(old)), Some(Body::Route(new))) => {
            leads(namespace, pooling, old.backends()).filter(|_| route_cut(namespace, selector, old, new))
        }
        (Effect::RemoveReference, ..) => reference_touch(request, namespace, pooling, live),
        (Effect::RemoveAccompanying, Some(_), _) => {
            release_touch(namespace, pooling, request.old.as_ref()?.release.as_ref()?)
        }
        (Effect::ChangeBudget, Some(Body::Budget(old)), Some(Body::Budget(new))) => {
            let covered = || namespace.carrying(selector).filter(|workload| old.covers(&workload.template_labels));
            let replicas = covered().map(|workload| workload.replicas).fold(0, i32::saturating_add);
            let lowered = !old.lets_all_go(replicas) && new.lets_all_go(replicas);
            (covered().next().is_some() && lowered).then_some(Touch::Carries)
        }
        // The decoder gives each door's object its own body; another one is a request that we cannot read.
        _ => Some(Touch::Carries),
    }
}

fn pod_touch(namespace: &Namespace, pooling: &Pooling, pod: &Pod) -> Option<Touch> {
    if !pooling.selector.matches(&pod.labels) || pod.of_a_job() {
        return None;
    }
    Some(if !pod.may_serve() || namespace.outside(&pooling.selector)(&pod.labels) {
        Touch::CarriesNoTraffic
    } else if expendable(namespace, pooling, &pod.labels) {
        Touch::Expendable
    } else {
        Touch::Carries
    })
}

fn workload_touch(namespace: &Namespace, pooling: &Pooling, workload: &Workload) -> Option<Touch> {
    if !pooling.selector.matches(&workload.template_labels) {
        return None;
    }
    Some(if !namespace.may_carry(workload) || !namespace.reaching(&pooling.selector)(workload) {
        Touch::CarriesNoTraffic
    } else if expendable(namespace, pooling, &workload.template_labels) {
        Touch::Expendable
    } else {
        Touch::Carries
    })
}

/// Whether pods with these labels may go because a Ready pod that is not expendable, and that is reached, exists.
fn expendable(namespace: &Namespace, pooling: &Pooling, labels: &Labels) -> bool {
    let outside = namespace.outside(&pooling.selector);
    pooling.expendable.as_ref().is_some_and(|expendable| {
        expendable.matches(labels)
            && namespace.pods.values().any(|pod| {
                pod.stands_in()
                    && pooling.selector.matches(&pod.labels)
                    && !expendable.matches(&pod.labels)
                    && !outside(&pod.labels)
            })
    })
}

fn kind_of(request: &Request) -> Kind {
    Kind::built_in(request.door.kind).unwrap_or(Kind::Custom(request.door.kind))
}

fn reference(request: &Request) -> WorkloadRef {
    WorkloadRef { namespace: request.namespace.clone(), kind: kind_of(request), name: request.name.clone() }
}

/// The workload that a Scale is about: as the view has it, or as it was read.
fn scaled<'a>(request: &Request, namespace: &'a Namespace, live: &'a Live) -> Option<&'a Workload> {
    let known = namespace.workloads.get(&(kind_of(request), request.name.clone()));
    known.or_else(|| live.get(&reference(request))?.as_ref())
}

fn scale_touch(request: &Request, namespace: &Namespace, pooling: &Pooling, live: &Live) -> Option<Touch> {
    let kind = kind_of(request);
    let replicas = match request.new.as_ref().map(|object| &object.body) {
        Some(Body::Workload(workload)) => workload.replicas,
        Some(Body::Scale { replicas }) => *replicas,
        _ => return Some(Touch::Carries),
    };
    let reference = reference(request);
    let workload = match request.old.as_ref().map(|object| &object.body) {
        Some(Body::Workload(workload)) => workload.as_ref(),
        // A Scale has neither labels nor a template: the view knows the workload, or it is read.
        _ => match (scaled(request, namespace, live), live.get(&reference)) {
            (Some(workload), _) => workload,
            (None, Some(_)) => return None,
            (None, None) => return Some(Touch::Read(vec![reference])),
        },
    };
    let touch = workload_touch(namespace, pooling, workload)?;
    let kept = if kind == Kind::StatefulSet {
        let first = match request.new.as_ref().map(|object| &object.body) {
            Some(Body::Workload(new)) => new.first_ordinal,
            _ => workload.first_ordinal,
        };
        let kept = first..first.saturating_add(replicas);
        namespace
            .pods_of(kind, &workload.name)
            .any(|pod| pod.stays() && pod.ordinal().is_some_and(|ordinal| kept.contains(&ordinal)))
    } else {
        replicas > 0
    };
    if kept { None } else { Some(touch) }
}

fn service_cut(namespace: &Namespace, selector: &Selector, old: &Service, new: &Service) -> bool {
    let moved = old.selector != new.selector && !leads_to_ready(namespace, selector, new);
    moved || reach(&new.kind) < reach(&old.kind) || !old.ports.is_subset(&new.ports)
}

/// How far a type of Service reaches: one that reaches less loses those who came from farther.
fn reach(kind: &str) -> u8 {
    match kind {
        "LoadBalancer" => 3,
        "NodePort" => 2,
        // The API's default.
        "ClusterIP" | "" => 1,
        _ => 0,
    }
}

/// Whether a Service selects a Ready pod of the selector that is here to stay.
fn leads_to_ready(namespace: &Namespace, selector: &Selector, service: &Service) -> bool {
    let mut pods = namespace.pods.values();
    pods.any(|pod| pod.stands_in() && selector.matches(&pod.labels) && service.selects(&pod.labels))
}

/// Whether requests that a route led to pods of the selector do not arrive any more: it lost what they came through, or one of
/// its hosts no longer leads to a Ready pod of the selector.
fn route_cut(namespace: &Namespace, selector: &Selector, old: &Route, new: &Route) -> bool {
    let service = |name: &String| namespace.services.get(name);
    let led = |services: &BTreeSet<String>| {
        services.iter().filter_map(service).any(|service| namespace.led_to(service, selector).next().is_some())
    };
    let reached = |services: &BTreeSet<String>| {
        services.iter().filter_map(service).any(|service| leads_to_ready(namespace, selector, service))
    };
    let cut = |(host, before): (&String, &BTreeSet<String>)| {
        let after = new.ways.get(host).or_else(|| new.ways.get(""));
        // What stays as it was is no cut, whether anything is Ready just now or not.
        led(before) && after.is_none_or(|after| !before.is_subset(after) && !reached(after))
    };
    !old.through.is_subset(&new.through) || old.ways.iter().any(cut)
}

fn leads<'a>(
    namespace: &Namespace,
    pooling: &Pooling,
    backends: impl IntoIterator<Item = &'a String>,
) -> Option<Touch> {
    let services = backends.into_iter().filter_map(|name| namespace.services.get(name));
    all_of(namespace, pooling, services.flat_map(|service| namespace.led_to(service, &pooling.selector)))
}

/// Whether a workload's template names the object of the request.
fn names(request: &Request, workload: &Workload) -> bool {
    let references = &workload.references;
    let list: &BTreeSet<String> = match request.door.kind {
        "ConfigMap" => &references.config_maps,
        "Secret" => &references.secrets,
        "ServiceAccount" => &references.service_accounts,
        _ => return references.names_claim(&request.name),
    };
    list.contains(&request.name)
}

/// What a ReplicaSet of a Deployment names is the Deployment's business: an old one still names an old ConfigMap. The view
/// may be a moment behind Helm, so the workload itself is read before a refusal rests on it.
fn reference_touch(request: &Request, namespace: &Namespace, pooling: &Pooling, live: &Live) -> Option<Touch> {
    let (mut unread, mut named) = (Vec::new(), Vec::new());
    for workload in namespace.carrying(&pooling.selector) {
        if !names(request, workload) {
            continue;
        }
        let reference =
            WorkloadRef { namespace: request.namespace.clone(), kind: workload.kind, name: workload.name.clone() };
        match live.get(&reference) {
            None => unread.push(reference),
            Some(Some(now)) if names(request, now) && (now.may_carry() || namespace.may_carry(now)) => {
                named.push(&now.template_labels)
            }
            Some(_) => {}
        }
    }
    if unread.is_empty() { all_of(namespace, pooling, named.into_iter()) } else { Some(Touch::Read(unread)) }
}
