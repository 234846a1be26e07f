//! What belongs to a service: which `ServicePooling` resources a request concerns, and whether what it takes away can carry
//! traffic at all.
//!
//! Never counts how many others are left: two Deployments of a release are deleted a millisecond apart. Only a pod that the
//! spec calls expendable may go because another one stays.

use std::collections::{BTreeMap, BTreeSet};

use crate::doors::Effect;
use crate::pooling::{Pooling, Watched};
use crate::request::{Body, Object, Request};
use crate::selector::{Labels, Selector};
use crate::state::{Kind, Namespace, Pod, Release, Service, State, Workload};
use crate::weakening::weakens;

/// A `ServicePooling` that a request concerns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Concern<'a> {
    /// Which one.
    pub pooling: Concerned<'a>,
    /// What the request would take from it.
    pub touch: Touch,
}

/// The resource that is concerned, decoded or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Concerned<'a> {
    /// It decodes.
    Known(&'a Pooling),
    /// It does not.
    Undecodable {
        /// `namespace/name`.
        name: String,
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

/// Workloads as they were read for this request; `None` where there is none of that name.
pub type Live = BTreeMap<WorkloadRef, Option<Workload>>;

/// The `ServicePooling` resources that a request concerns.
pub fn concerns<'a>(request: &'a Request, state: &'a State, live: &Live) -> Vec<Concern<'a>> {
    match request.door.effect {
        Effect::RemovePooling | Effect::ChangePooling => own(request).into_iter().collect(),
        Effect::RemoveDefinition => everywhere(state).map(|watched| carries(watched)).collect(),
        Effect::RemoveRelease => {
            let Some(release) = released(request) else { return Vec::new() };
            state
                .namespaces
                .values()
                .flat_map(|namespace| namespace.poolings.values().map(move |watched| (namespace, watched)))
                .filter(|(namespace, watched)| of_release(namespace, watched, &release))
                .map(|(_, watched)| carries(watched))
                .collect()
        }
        _ => {
            let Some(namespace) = state.namespace(&request.namespace) else { return Vec::new() };
            namespace
                .poolings
                .values()
                .filter_map(|watched| match watched {
                    Watched::Undecodable { .. } => whole_namespace(request).then(|| carries(watched)),
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
        Watched::Undecodable { key, error } => Concerned::Undecodable { name: key.to_string(), error },
    };
    Concern { pooling, touch: Touch::Carries }
}

fn everywhere(state: &State) -> impl Iterator<Item = &Watched> {
    state.namespaces.values().flat_map(|namespace| namespace.poolings.values())
}

/// A resource that does not decode guards everything in its namespace but what cannot carry traffic by itself.
fn whole_namespace(request: &Request) -> bool {
    match request.old.as_ref().map(|object| &object.body) {
        Some(Body::Pod(pod)) => pod.may_serve() && !pod.of_a_job(),
        Some(Body::Workload(workload)) => workload.may_carry(),
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
            let name = format!("{}/{}", request.namespace, request.name);
            Some(Concern { pooling: Concerned::Undecodable { name, error }, touch: Touch::Carries })
        }
        _ => None,
    }
}

/// The release whose record the request is about.
fn released(request: &Request) -> Option<Release> {
    let name = request.old.as_ref().or(request.new.as_ref())?.labels.get("name")?;
    Some(Release { namespace: request.namespace.clone(), name: name.clone() })
}

fn of_release(namespace: &Namespace, watched: &Watched, release: &Release) -> bool {
    match watched {
        Watched::Known(pooling) => {
            namespace.carrying(&pooling.selector).any(|workload| workload.release.as_ref() == Some(release))
        }
        Watched::Undecodable { .. } => {
            namespace.workloads.values().any(|workload| workload.release.as_ref() == Some(release))
        }
    }
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
                    .values()
                    .any(|service| service.selects(&old.labels) && !service.selects(&new.labels));
            if leaves { pod_touch(namespace, pooling, old) } else { None }
        }
        (Effect::RemoveWorkload, Some(Body::Workload(workload)), _) => workload_touch(namespace, pooling, workload),
        (Effect::ScaleWorkload, ..) => scale_touch(request, namespace, pooling, live),
        (Effect::MoveDaemonSet, Some(Body::Workload(old)), Some(Body::Workload(new))) => {
            let stays = pods_of(namespace, Kind::DaemonSet, &old.name).any(|pod| {
                pod.may_serve()
                    && pod
                        .node
                        .as_ref()
                        .and_then(|node| state.nodes.get(node))
                        .is_some_and(|node| new.placement.allows(node))
            });
            if stays { None } else { workload_touch(namespace, pooling, old) }
        }
        (Effect::RemoveService, Some(Body::Service(service)), _) => {
            namespace.leads_to(service, selector).then_some(Touch::Carries)
        }
        (Effect::ChangeService, Some(Body::Service(old)), Some(Body::Service(new))) => {
            (namespace.leads_to(old, selector) && service_cut(namespace, selector, old, new)).then_some(Touch::Carries)
        }
        (Effect::RemoveRoute, Some(Body::Route(route)), _) => {
            leads(namespace, route.backends.iter(), selector).then_some(Touch::Carries)
        }
        (Effect::ChangeRoute, Some(Body::Route(old)), Some(Body::Route(new))) => {
            leads(namespace, old.backends.difference(&new.backends), selector).then_some(Touch::Carries)
        }
        (Effect::RemoveReference, ..) => reference_touch(request, namespace, pooling, live),
        (Effect::RemoveAccompanying, ..) => {
            let release = request.old.as_ref()?.release.as_ref()?;
            namespace
                .carrying(selector)
                .any(|workload| workload.release.as_ref() == Some(release))
                .then_some(Touch::Carries)
        }
        (Effect::ChangeBudget, Some(Body::Budget(old)), Some(Body::Budget(new))) => {
            let covers = namespace.carrying(selector).any(|workload| old.covers(&workload.template_labels));
            (covers && !old.floor_is_zero && new.floor_is_zero).then_some(Touch::Carries)
        }
        (Effect::RemoveNamespace | Effect::UnlabelNamespace, ..) => Some(Touch::Carries),
        // The decoder gives each door's object its own body; another one is a request that we cannot read.
        _ => Some(Touch::Carries),
    }
}

/// Whether a pod with these labels is outside all Services although some Service leads to the service's pods.
fn unselected(namespace: &Namespace, selector: &Selector, labels: &Labels) -> bool {
    !namespace.is_selected(labels) && namespace.any_service_selects(selector)
}

fn pod_touch(namespace: &Namespace, pooling: &Pooling, pod: &Pod) -> Option<Touch> {
    if !pooling.selector.matches(&pod.labels) || pod.of_a_job() {
        return None;
    }
    Some(if !pod.may_serve() || unselected(namespace, &pooling.selector, &pod.labels) {
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
    // Whether a Deployment ever came up says nothing of one of its ReplicaSets; its pods do.
    let empty = workload.of_a_deployment() && !pods_of(namespace, Kind::ReplicaSet, &workload.name).any(Pod::may_serve);
    Some(if empty || !workload.may_carry() || unselected(namespace, &pooling.selector, &workload.template_labels) {
        Touch::CarriesNoTraffic
    } else if expendable(namespace, pooling, &workload.template_labels) {
        Touch::Expendable
    } else {
        Touch::Carries
    })
}

/// Whether pods with these labels may go because a Ready pod that is not expendable, and that is reached, exists.
fn expendable(namespace: &Namespace, pooling: &Pooling, labels: &Labels) -> bool {
    pooling.expendable.as_ref().is_some_and(|expendable| {
        expendable.matches(labels)
            && namespace.pods.values().any(|pod| {
                pod.ready
                    && !pod.finished
                    && pooling.selector.matches(&pod.labels)
                    && !expendable.matches(&pod.labels)
                    && !unselected(namespace, &pooling.selector, &pod.labels)
            })
    })
}

fn pods_of<'a>(namespace: &'a Namespace, kind: Kind, name: &'a str) -> impl Iterator<Item = &'a Pod> {
    namespace.pods.values().filter(move |pod| {
        pod.controller.as_ref().is_some_and(|owner| owner.kind == kind.as_str() && owner.name == name)
    })
}

fn scale_touch(request: &Request, namespace: &Namespace, pooling: &Pooling, live: &Live) -> Option<Touch> {
    let kind = [Kind::Deployment, Kind::StatefulSet, Kind::DaemonSet, Kind::ReplicaSet]
        .into_iter()
        .find(|kind| kind.as_str() == request.door.kind)?;
    let replicas = match request.new.as_ref().map(|object| &object.body) {
        Some(Body::Workload(workload)) => workload.replicas,
        Some(Body::Scale { replicas }) => *replicas,
        _ => return Some(Touch::Carries),
    };
    let reference = WorkloadRef { namespace: request.namespace.clone(), kind, name: request.name.clone() };
    let workload = match request.old.as_ref().map(|object| &object.body) {
        Some(Body::Workload(workload)) => workload.as_ref(),
        // A Scale has neither labels nor a template: the view knows the workload, or it is read.
        _ => match (namespace.workloads.get(&(kind, request.name.clone())), live.get(&reference)) {
            (Some(workload), _) | (None, Some(Some(workload))) => workload,
            (None, Some(None)) => return None,
            (None, None) => return Some(Touch::Read(vec![reference])),
        },
    };
    let touch = workload_touch(namespace, pooling, workload)?;
    let kept = if kind == Kind::StatefulSet && replicas > 0 {
        let end = workload.first_ordinal.saturating_add(replicas);
        pods_of(namespace, kind, &workload.name)
            .any(|pod| pod.may_serve() && pod.ordinal().is_some_and(|ordinal| ordinal < end))
    } else {
        replicas > 0
    };
    if kept { None } else { Some(touch) }
}

fn service_cut(namespace: &Namespace, selector: &Selector, old: &Service, new: &Service) -> bool {
    let moved = old.selector != new.selector
        && !namespace
            .pods
            .values()
            .any(|pod| pod.ready && !pod.finished && selector.matches(&pod.labels) && new.selects(&pod.labels));
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

fn leads<'a>(namespace: &Namespace, backends: impl Iterator<Item = &'a String>, selector: &Selector) -> bool {
    let mut backends = backends.filter_map(|name| namespace.services.get(name));
    backends.any(|service| namespace.leads_to(service, selector))
}

/// What a ReplicaSet of a Deployment names is the Deployment's business: an old one still names an old ConfigMap. The view
/// may be a moment behind Helm, so the workload itself is read before a refusal rests on it.
fn reference_touch(request: &Request, namespace: &Namespace, pooling: &Pooling, live: &Live) -> Option<Touch> {
    let names = |workload: &Workload| {
        let references = &workload.references;
        let list: &BTreeSet<String> = match request.door.kind {
            "ConfigMap" => &references.config_maps,
            "Secret" => &references.secrets,
            "ServiceAccount" => &references.service_accounts,
            _ => &references.claims,
        };
        list.contains(&request.name)
    };
    let mut unread = Vec::new();
    for workload in namespace.carrying(&pooling.selector) {
        if !names(workload) {
            continue;
        }
        let reference =
            WorkloadRef { namespace: request.namespace.clone(), kind: workload.kind, name: workload.name.clone() };
        match live.get(&reference) {
            None => unread.push(reference),
            Some(Some(now)) if names(now) && now.may_carry() => return Some(Touch::Carries),
            Some(_) => {}
        }
    }
    if unread.is_empty() { None } else { Some(Touch::Read(unread)) }
}
