//! A second opinion: the verdict as the documentation tells it, written without the chain, the concerns and the questions of the
//! real one. Slow and plain: it always knows everything.

use std::collections::BTreeSet;

use poolguard_policy::doors::{Effect, Operation};
use poolguard_policy::evidence::{Says, State as Concluded};
use poolguard_policy::guarded::WorkloadRef;
use poolguard_policy::overriding::OverrideRef;
use poolguard_policy::pooling::{Arm, Enforcement, Key, Mode, Pooling, Watched};
use poolguard_policy::request::{Body, Request};
use poolguard_policy::selector::{Labels, Operator, Requirement, Selector};
use poolguard_policy::state::{Kind, Namespace, Pod, Release, Route, Service, Workload};
use poolguard_policy::verdict::Reason;

use crate::driver::concluded;
use crate::world::{World, now};

/// What has to come out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Allowed, for one of these reasons.
    Allowed(BTreeSet<Reason>),
    /// Refused, for one of these reasons.
    Refused(BTreeSet<Reason>),
    /// Not known well enough.
    Fault,
}

/// What a request takes from a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Takes {
    Nothing,
    NoTraffic,
    Spare,
    NoGuard,
    UnknownPod,
    Traffic,
}

/// A service that is concerned: its key, its resource where that decodes, and what is taken.
type Concern = (Key, Option<Pooling>, Takes);

pub fn verdict(world: &World, request: &Request) -> Verdict {
    let settings = &world.settings;
    let in_canary = if request.door.effect == Effect::RemoveDefinition {
        request.name == "poolingoverrides.poolguard.dev"
    } else {
        !settings.canary_namespace.is_empty() && request.namespace == settings.canary_namespace
    };
    if request.dry_run && in_canary {
        return refused(Reason::Canary);
    }
    if let Some(Body::Override(glass)) = body(&request.new) {
        let own = glass.requested_by == request.user;
        return if own { allowed(Reason::OverrideCreated) } else { refused(Reason::NotTheRequester) };
    }
    let concerns: Vec<Concern> =
        concerns(world, request).into_iter().filter(|(.., takes)| *takes != Takes::Nothing).collect();
    if concerns.is_empty() {
        return nothing_concerned(world, request);
    }
    let (mut refusals, mut warned, mut overridden, mut passed) = (BTreeSet::new(), false, false, BTreeSet::new());
    for concern in &concerns {
        match one(world, request, concern) {
            Ok(Reason::Overridden) => overridden = true,
            Ok(reason) => drop(passed.insert(reason)),
            Err(reason) => {
                let own = concern.1.as_ref().map_or(Enforcement::Enforce, |pooling| pooling.enforcement);
                if [own, settings.enforcement].contains(&Enforcement::Warn) {
                    warned = true;
                } else {
                    refusals.insert(reason);
                }
            }
        }
    }
    if !refusals.is_empty() {
        Verdict::Refused(refusals)
    } else if overridden {
        allowed(Reason::Overridden)
    } else if warned {
        allowed(Reason::WarnOnly)
    } else {
        Verdict::Allowed(passed)
    }
}

fn allowed(reason: Reason) -> Verdict {
    Verdict::Allowed(BTreeSet::from([reason]))
}

fn refused(reason: Reason) -> Verdict {
    Verdict::Refused(BTreeSet::from([reason]))
}

fn body(object: &Option<poolguard_policy::request::Object>) -> Option<&Body> {
    object.as_ref().map(|object| &object.body)
}

fn nothing_concerned(world: &World, request: &Request) -> Verdict {
    let effect = request.door.effect;
    let anywhere = [Effect::RemovePooling, Effect::ChangePooling, Effect::RemoveDefinition, Effect::CreateOverride];
    if anywhere.contains(&effect) || request.namespace == world.settings.canary_namespace {
        return allowed(Reason::NotGuarded);
    }
    if already_going(request) {
        return allowed(Reason::AlreadyGoing);
    }
    if controller(world, request) {
        return allowed(Reason::ControllerAtWork);
    }
    let records = world.state.namespaces.values().any(|other| {
        let kept = |workload: &Workload| matches!(&workload.release, Some(of) if of.namespace == request.namespace);
        !other.poolings.is_empty() && other.workloads.values().any(kept)
    });
    let known = match world.state.namespaces.get(&request.namespace) {
        Some(namespace) => {
            namespace.protected && (!namespace.poolings.is_empty() || records || effect == Effect::UnlabelNamespace)
        }
        None => false,
    };
    if known || !world.unheard { allowed(Reason::NotGuarded) } else { Verdict::Fault }
}

/// The exceptions in their order, then the evidence.
fn one(world: &World, request: &Request, (key, pooling, takes): &Concern) -> Result<Reason, Reason> {
    if already_going(request) {
        return Ok(Reason::AlreadyGoing);
    }
    if controller(world, request) {
        return Ok(Reason::ControllerAtWork);
    }
    match takes {
        Takes::NoTraffic => return Ok(Reason::CarriesNoTraffic),
        Takes::Spare => return Ok(Reason::Expendable),
        Takes::NoGuard => return Ok(Reason::NotWeakened),
        _ => {}
    }
    for trusted in &world.settings.trusted {
        let resource = trusted.resources.iter().any(|name| name == request.door.resource);
        let verb = trusted.verbs.iter().any(|name| name == request.door.operation.as_str());
        if trusted.user == request.user && resource && verb {
            return Ok(Reason::Trusted);
        }
    }
    if broken_glass(world, key) {
        return Ok(Reason::Overridden);
    }
    let evicted = request.door.effect == Effect::EvictPod;
    if evicted && budgeted(world, request, pooling.as_ref()) {
        return Ok(Reason::WithinBudget);
    }
    if pooling.is_none() {
        return Err(Reason::Undecodable);
    }
    let conclusion = concluded(world, request, key);
    let here = conclusion.datacenters.iter().find(|datacenter| datacenter.name == "eqiad").expect("this datacenter");
    match here.state {
        Concluded::NotServing => Ok(Reason::NotServing),
        _ if *takes == Takes::UnknownPod => Err(Reason::PodUnknown),
        _ if evicted => Err(Reason::NoBudget),
        Concluded::Unknown => Err(Reason::EvidenceUnknown),
        Concluded::Serving if here.answers.iter().any(|answer| answer.says == Says::Serving) => Err(Reason::Serving),
        Concluded::Serving => Err(Reason::Draining),
    }
}

pub fn already_going(request: &Request) -> bool {
    request.door.operation == Operation::Delete && matches!(&request.old, Some(old) if old.terminating)
}

/// Both sides have to have it in force: what is watched, and what the API server says now.
pub fn broken_glass(world: &World, key: &Key) -> bool {
    let counts = |glass: &poolguard_policy::overriding::Override| {
        glass.service == key.name && glass.datacenter == "eqiad" && !glass.terminating && glass.until > now()
    };
    let Some(namespace) = world.state.namespaces.get(&key.namespace) else { return false };
    namespace.overrides.values().filter(|glass| counts(glass)).any(|glass| {
        let reference = OverrideRef { namespace: key.namespace.clone(), name: glass.name.clone() };
        world.glass(&reference).as_ref().is_some_and(counts)
    })
}

/// Some budget is in the way of the eviction, and what it keeps cannot be strangers alone.
fn budgeted(world: &World, request: &Request, pooling: Option<&Pooling>) -> bool {
    let name = &request.namespace;
    let Some(namespace) = world.state.namespaces.get(name) else { return false };
    let Some(pod) = namespace.pods.get(&request.name) else { return false };
    let place = Place { world, request, name, namespace };
    let stranger = |other: &Pod| match pooling {
        Some(pooling) => {
            let ours = selected(&pooling.selector, &other.labels) && place.reached(pooling, &other.labels);
            of_a_job(other) || !ours
        }
        None => false,
    };
    namespace.budgets.values().any(|budget| {
        let covered = |pod: &Pod| matches!(&budget.selector, Some(selector) if selected(selector, &pod.labels));
        let here = namespace.pods.values().filter(|other| covered(other) && !other.terminating && !other.finished);
        let strangers = here.filter(|other| stranger(other)).count();
        let asked = covered(pod) && (pod.ready || !budget.ready_alone);
        asked && budget.observed && i64::from(budget.desired_healthy) > strangers as i64
    })
}

/// Who may do what without being asked, as the documentation's table has it.
pub fn controller(world: &World, request: &Request) -> bool {
    let (user, effect) = (request.user.as_str(), request.door.effect);
    let single = user == "system:kube-controller-manager";
    let own = |name: &str| user == format!("system:serviceaccount:kube-system:{name}");
    let delete = request.door.operation == Operation::Delete;
    if (own("namespace-controller") || (single && !request.named)) && delete && effect != Effect::RemoveNamespace {
        return match world.state.namespaces.get(&request.namespace) {
            Some(namespace) => namespace.terminating,
            None => true,
        };
    }
    let owner = request.old.as_ref().and_then(|old| old.controller.as_ref()).map(|owner| owner.kind.as_str());
    let collected = |kinds: &[&str]| {
        let judged = matches!(owner, Some(kind) if kinds.contains(&kind) || kind == "Rollout");
        own("generic-garbage-collector") && judged
    };
    let pods = [
        "replicaset-controller",
        "replication-controller",
        "statefulset-controller",
        "daemon-set-controller",
        "job-controller",
        "pod-garbage-collector",
        "node-controller",
        "taint-eviction-controller",
        "device-taint-eviction-controller",
    ];
    let replicasets = request.door.kind == "ReplicaSet";
    match effect {
        Effect::RemovePod => {
            single
                || user == "system:kube-scheduler"
                || user.starts_with("system:node:")
                || pods.into_iter().any(own)
                || collected(&["ReplicaSet", "ReplicationController", "StatefulSet", "DaemonSet", "Job"])
        }
        Effect::RemoveWorkload | Effect::ScaleWorkload => {
            replicasets && (single || own("deployment-controller") || collected(&["Deployment"]))
        }
        Effect::RemoveReference if request.door.kind == "PersistentVolumeClaim" => {
            let collector = own("generic-garbage-collector") || single && request.named;
            collector && matches!(owner, Some("Pod" | "StatefulSet" | "Rollout"))
        }
        _ => false,
    }
}

/// What is taken from every service that there is.
pub fn concerns(world: &World, request: &Request) -> Vec<Concern> {
    let effect = request.door.effect;
    if [Effect::RemovePooling, Effect::ChangePooling].contains(&effect) {
        return vec![own(request)];
    }
    let mut found = Vec::new();
    for (name, namespace) in &world.state.namespaces {
        for watched in namespace.poolings.values() {
            let place = Place { world, request, name, namespace };
            found.push(match watched {
                Watched::Known(pooling) => {
                    let takes = match effect {
                        Effect::RemoveDefinition if request.name == "servicepoolings.poolguard.dev" => Takes::Traffic,
                        Effect::RemoveDefinition => Takes::Nothing,
                        _ => place.takes(pooling),
                    };
                    (pooling.key.clone(), Some(pooling.clone()), takes)
                }
                Watched::Undecodable { key, .. } => {
                    let takes = if place.takes_unread() { Takes::Traffic } else { Takes::Nothing };
                    (key.clone(), None, takes)
                }
            });
        }
    }
    found
}

fn own(request: &Request) -> Concern {
    let key = Key { namespace: request.namespace.clone(), name: request.name.clone() };
    let Some(Body::Pooling(Ok(old))) = body(&request.old) else { return (key, None, Takes::Traffic) };
    let kept = match body(&request.new) {
        Some(Body::Pooling(Ok(new))) if request.door.effect == Effect::ChangePooling => guards_as_well(old, new),
        _ => false,
    };
    (old.key.clone(), Some(old.as_ref().clone()), if kept { Takes::NoGuard } else { Takes::Traffic })
}

fn guards_as_well(old: &Pooling, new: &Pooling) -> bool {
    let evidence = old.evidence.iter().all(|entry| {
        new.evidence.iter().any(|other| {
            let switches = |arm: &Arm| matches!(arm, Arm::Declared { .. });
            other.name == entry.name && (other.arm == entry.arm || (switches(&other.arm) && switches(&entry.arm)))
        })
    });
    let expendable = new.expendable.is_none() || new.expendable == old.expendable;
    let mode = new.mode == old.mode || new.mode == Mode::ActivePassive;
    let enforcement = new.enforcement == old.enforcement || new.enforcement == Enforcement::Enforce;
    new.selector == old.selector && evidence && expendable && mode && enforcement
}

/// The release that a record is of: Helm writes it into the record's name.
fn release_of_record(request: &Request) -> Option<Release> {
    let name = match request.name.strip_prefix("sh.helm.release.v1.") {
        Some(rest) => rest.rsplit_once(".v").map(|(name, _)| name.to_owned()),
        None => None,
    };
    let labelled = || request.old.as_ref().or(request.new.as_ref())?.labels.get("name").map(str::to_owned);
    let name = name.or_else(labelled)?;
    Some(Release { namespace: request.namespace.clone(), name })
}

fn selected(selector: &Selector, labels: &Labels) -> bool {
    let expected = |requirement: &Requirement| {
        let one_of_them = requirement.values.iter().any(|value| labels.get(&requirement.key) == Some(value));
        let there = labels.iter().any(|(key, _)| key == requirement.key);
        match requirement.operator {
            Operator::In => one_of_them,
            Operator::NotIn => !one_of_them,
            Operator::Exists => there,
            Operator::DoesNotExist => !there,
        }
    };
    selector.match_labels.iter().all(|(key, value)| labels.get(key) == Some(value))
        && selector.match_expressions.iter().all(expected)
}

fn serves(pod: &Pod) -> bool {
    (pod.ready || pod.containers_ready) && !pod.finished
}

fn leads(service: &Service, labels: &Labels) -> bool {
    !service.selector.is_empty() && service.selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}

/// A namespace, and a request that may take something from a service in it.
struct Place<'a> {
    world: &'a World,
    request: &'a Request,
    name: &'a str,
    namespace: &'a Namespace,
}

impl Place<'_> {
    /// A resource that does not decode: everything counts that may carry traffic.
    fn takes_unread(&self) -> bool {
        let here = self.name == self.request.namespace;
        match (self.request.door.effect, body(&self.request.old)) {
            (Effect::RemoveDefinition, _) => self.request.name == "servicepoolings.poolguard.dev",
            (Effect::RemoveRelease, _) => {
                let release = release_of_record(self.request);
                release.is_some() && self.namespace.workloads.values().any(|workload| workload.release == release)
            }
            (Effect::EvictPod, _) => match self.namespace.pods.get(&self.request.name) {
                Some(pod) => here && serves(pod) && !of_a_job(pod),
                None => here,
            },
            (_, Some(Body::Pod(pod))) => here && serves(pod) && !of_a_job(pod),
            (_, Some(Body::Workload(workload))) => here && (carries_alone(workload) || self.may_carry(workload)),
            _ => here,
        }
    }

    fn takes(&self, pooling: &Pooling) -> Takes {
        let effect = self.request.door.effect;
        let here = self.name == self.request.namespace;
        match effect {
            Effect::RemoveRelease => {
                let Some(release) = release_of_record(self.request) else { return Takes::Nothing };
                self.what_has(pooling, self.templates_of(pooling, |of| of == &release))
            }
            Effect::RemoveNamespace | Effect::UnlabelNamespace if here => Takes::Traffic,
            Effect::RemoveNamespace | Effect::UnlabelNamespace => {
                self.what_has(pooling, self.templates_of(pooling, |of| of.namespace == self.request.namespace))
            }
            _ if here => self.takes_here(pooling),
            _ => Takes::Nothing,
        }
    }

    fn takes_here(&self, pooling: &Pooling) -> Takes {
        let request = self.request;
        let selects = |labels: &Labels| selected(&pooling.selector, labels);
        match (request.door.effect, body(&request.old), body(&request.new)) {
            (Effect::EvictPod, ..) => match self.namespace.pods.get(&request.name) {
                Some(pod) => self.pod(pooling, pod),
                None => Takes::UnknownPod,
            },
            (Effect::RemovePod, Some(Body::Pod(pod)), _) => self.pod(pooling, pod),
            (Effect::RelabelPod, Some(Body::Pod(old)), Some(Body::Pod(new))) => {
                let lost = |service: &Service| leads(service, &old.labels) && !leads(service, &new.labels);
                if selects(&new.labels) && !self.namespace.services.values().any(lost) {
                    Takes::Nothing
                } else {
                    self.pod(pooling, old)
                }
            }
            (Effect::RemoveWorkload, Some(Body::Workload(old)), _) => self.workload(pooling, old),
            (Effect::ScaleWorkload, _, Some(_)) => self.scaled(pooling),
            (Effect::MoveDaemonSet, Some(Body::Workload(old)), Some(Body::Workload(new))) => {
                let kept = self.owned_pods("DaemonSet", &old.name).any(|pod| {
                    let node = pod.node.as_ref().and_then(|node| self.world.state.nodes.get(node));
                    let place = &new.placement;
                    let fits = |node: &Labels| {
                        let terms = &place.required_terms;
                        place.node_selector.iter().all(|(key, value)| node.get(key) == Some(value))
                            && (terms.is_empty() || terms.iter().any(|term| selected(term, node)))
                    };
                    serves(pod) && !pod.terminating && !place.beyond_labels && node.is_some_and(fits)
                });
                if kept { Takes::Nothing } else { self.workload(pooling, old) }
            }
            (Effect::RemoveService, Some(Body::Service(old)), _) => self.what_has(pooling, self.behind(pooling, old)),
            (Effect::ChangeService, Some(Body::Service(old)), Some(Body::Service(new))) => {
                let reach = |kind: &str| match kind {
                    "LoadBalancer" => 3,
                    "NodePort" => 2,
                    "ExternalName" => 0,
                    _ => 1,
                };
                let led = self.spares(pooling, false).any(|pod| leads(new, &pod.labels));
                let cut = (old.selector != new.selector && !led)
                    || reach(&old.kind) > reach(&new.kind)
                    || old.ports.difference(&new.ports).next().is_some();
                if cut { self.what_has(pooling, self.behind(pooling, old)) } else { Takes::Nothing }
            }
            (Effect::RemoveRoute, Some(Body::Route(old)), _) => self.routed(pooling, old),
            (Effect::ChangeRoute, Some(Body::Route(old)), Some(Body::Route(new))) => {
                if self.route_cut(pooling, old, new) { self.routed(pooling, old) } else { Takes::Nothing }
            }
            (Effect::RemoveReference, ..) => self.what_has(pooling, self.templates_that_name(pooling)),
            (Effect::RemoveAccompanying, Some(_), _) => {
                let release = request.old.as_ref().and_then(|old| old.release.clone());
                let Some(release) = release else { return Takes::Nothing };
                self.what_has(pooling, self.templates_of(pooling, |of| of == &release))
            }
            (Effect::ChangeBudget, Some(Body::Budget(old)), Some(Body::Budget(new))) => {
                let covered: Vec<&Workload> = self
                    .carrying(pooling)
                    .filter(|workload| {
                        matches!(&old.selector, Some(selector) if selected(selector, &workload.template_labels))
                    })
                    .collect();
                let pods: i32 = covered.iter().map(|workload| workload.replicas).sum();
                let none_stays = |budget: &poolguard_policy::state::Budget| {
                    budget.floor_is_zero || matches!(budget.max_unavailable, Some(most) if most >= pods)
                };
                let cut = !covered.is_empty() && !none_stays(old) && none_stays(new);
                if cut { Takes::Traffic } else { Takes::Nothing }
            }
            // The request lacks what its door is about: nobody can tell.
            _ => Takes::Traffic,
        }
    }

    fn pod(&self, pooling: &Pooling, pod: &Pod) -> Takes {
        if !selected(&pooling.selector, &pod.labels) || of_a_job(pod) {
            Takes::Nothing
        } else if !serves(pod) || !self.reached(pooling, &pod.labels) {
            Takes::NoTraffic
        } else {
            self.what_has(pooling, vec![pod.labels.clone()])
        }
    }

    fn workload(&self, pooling: &Pooling, workload: &Workload) -> Takes {
        let labels = &workload.template_labels;
        if !selected(&pooling.selector, labels) {
            Takes::Nothing
        } else if !self.may_carry(workload) || !self.workload_reached(pooling, workload) {
            Takes::NoTraffic
        } else {
            self.what_has(pooling, vec![labels.clone()])
        }
    }

    fn scaled(&self, pooling: &Pooling) -> Takes {
        let request = self.request;
        let kind = Kind::built_in(request.door.kind).unwrap_or(Kind::Custom("Rollout"));
        let reference = WorkloadRef { namespace: request.namespace.clone(), kind, name: request.name.clone() };
        let (replicas, start) = match body(&request.new) {
            Some(Body::Workload(new)) => (new.replicas, Some(new.first_ordinal)),
            Some(Body::Scale { replicas }) => (*replicas, None),
            _ => return Takes::Traffic,
        };
        let watched = self.namespace.workloads.get(&(kind, request.name.clone())).cloned();
        let before = match body(&request.old) {
            Some(Body::Workload(old)) => Some(old.as_ref().clone()),
            _ => watched.or_else(|| self.world.workload(&reference)),
        };
        let Some(before) = before else { return Takes::Nothing };
        let start = start.unwrap_or(before.first_ordinal);
        let kept = if kind == Kind::StatefulSet {
            self.owned_pods("StatefulSet", &before.name).any(|pod| {
                let ordinal = pod.name.rsplit('-').next().and_then(|last| last.parse::<i32>().ok());
                let inside = ordinal.is_some_and(|ordinal| ordinal >= start && ordinal < start + replicas);
                serves(pod) && !pod.terminating && inside
            })
        } else {
            replicas > 0
        };
        if kept { Takes::Nothing } else { self.workload(pooling, &before) }
    }

    /// Something is taken with these labels: nothing where there are none, spares where others stay for all of them.
    fn what_has(&self, pooling: &Pooling, taken: Vec<Labels>) -> Takes {
        let stays = self.spares(pooling, true).next().is_some();
        let spare = |labels: &Labels| matches!(&pooling.expendable, Some(spare) if selected(spare, labels));
        match taken.as_slice() {
            [] => Takes::Nothing,
            all if stays && all.iter().all(spare) => Takes::Spare,
            _ => Takes::Traffic,
        }
    }

    /// Ready pods of the service that stay; for those that stand in for others, only ones that are reached and no spares.
    fn spares(&self, pooling: &Pooling, stand_in: bool) -> impl Iterator<Item = &Pod> {
        self.namespace.pods.values().filter(move |pod| {
            let spare = matches!(&pooling.expendable, Some(spare) if selected(spare, &pod.labels));
            let right = !stand_in || (!spare && self.reached(pooling, &pod.labels));
            pod.ready && !pod.finished && !pod.terminating && selected(&pooling.selector, &pod.labels) && right
        })
    }

    /// Some Service leads to it, or none leads to anything of the service: then it is reached in some other way.
    fn reached(&self, pooling: &Pooling, labels: &Labels) -> bool {
        let pods = self.namespace.pods.values().map(|pod| &pod.labels);
        let of_the_service: Vec<&Labels> = pods
            .chain(self.namespace.workloads.values().map(|workload| &workload.template_labels))
            .filter(|labels| selected(&pooling.selector, labels))
            .collect();
        let leading: Vec<&Service> = self
            .namespace
            .services
            .values()
            .filter(|service| of_the_service.iter().any(|labels| leads(service, labels)))
            .collect();
        leading.is_empty() || self.namespace.services.values().any(|service| leads(service, labels))
    }

    /// The same of a workload: its pods may bear more than its template says.
    fn workload_reached(&self, pooling: &Pooling, workload: &Workload) -> bool {
        let template = &workload.template_labels;
        let pods = self.namespace.pods.values().filter(|pod| !pod.finished && self.looks_made_by(pod, workload));
        self.reached(pooling, template)
            || pods.filter(|pod| selected(&pooling.selector, &pod.labels)).any(|pod| self.reached(pooling, &pod.labels))
    }

    /// It has the template's labels, and nobody else is known to whom it belongs in the end.
    fn looks_made_by(&self, pod: &Pod, workload: &Workload) -> bool {
        let name = |workload: &Workload| (workload.kind.as_str().to_owned(), workload.name.clone());
        let find = |wanted: &(String, String)| self.namespace.workloads.values().find(|other| name(other) == *wanted);
        let mut owners = Vec::new();
        let mut next = pod.controller.as_ref().map(|owner| (owner.kind.clone(), owner.name.clone()));
        // Its owner, and that one's.
        for _ in 0..2 {
            let Some(owner) = next.take() else { break };
            let above =
                find(&owner).map(|found| found.controller.as_ref().map(|up| (up.kind.clone(), up.name.clone())));
            owners.push((owner, above.is_some()));
            next = above.flatten();
        }
        let mine = owners.iter().any(|(owner, _)| *owner == name(workload));
        let whole = !owners.is_empty() && owners.iter().all(|(_, known)| *known);
        let labels = workload.template_labels.iter().all(|(key, value)| pod.labels.get(key) == Some(value));
        labels && (mine || !whole)
    }

    fn owned_pods<'b>(&'b self, kind: &'b str, name: &'b str) -> impl Iterator<Item = &'b Pod> {
        let ours = move |pod: &&Pod| matches!(&pod.controller, Some(owner) if owner.kind == kind && owner.name == name);
        self.namespace.pods.values().filter(ours)
    }

    fn may_carry(&self, workload: &Workload) -> bool {
        if workload.kind == Kind::ReplicaSet && workload.controller.is_some() {
            workload.ready > 0 || self.owned_pods("ReplicaSet", &workload.name).any(serves)
        } else {
            let left = workload.replicas != 0 || workload.current != 0;
            let up = || self.namespace.pods.values().any(|pod| serves(pod) && self.looks_made_by(pod, workload));
            carries_alone(workload) || left && up()
        }
    }

    /// Workloads whose pods may carry traffic of the service; a ReplicaSet not where what controls it is known.
    fn carrying<'b>(&'b self, pooling: &'b Pooling) -> impl Iterator<Item = &'b Workload> {
        self.namespace.workloads.values().filter(|workload| {
            selected(&pooling.selector, &workload.template_labels)
                && self.may_carry(workload)
                && self.stands_alone(workload)
                && self.workload_reached(pooling, workload)
        })
    }

    fn stands_alone(&self, workload: &Workload) -> bool {
        let Some(owner) = workload.controller.as_ref().filter(|_| workload.kind == Kind::ReplicaSet) else {
            return true;
        };
        !self.namespace.workloads.keys().any(|(kind, name)| kind.as_str() == owner.kind && *name == owner.name)
    }

    fn templates_of(&self, pooling: &Pooling, of: impl Fn(&Release) -> bool) -> Vec<Labels> {
        let ours = self.carrying(pooling).filter(|workload| workload.release.as_ref().is_some_and(&of));
        ours.map(|workload| workload.template_labels.clone()).collect()
    }

    /// The view may be behind: a workload counts where both the view and the API server say that it names this.
    fn templates_that_name(&self, pooling: &Pooling) -> Vec<Labels> {
        let name = &self.request.name;
        let names = |workload: &Workload| {
            let named = &workload.references;
            match self.request.door.kind {
                "ConfigMap" => named.config_maps.contains(name),
                "Secret" => named.secrets.contains(name),
                "ServiceAccount" => named.service_accounts.contains(name),
                _ => {
                    let of_template = |prefix: &String| {
                        name.strip_prefix(prefix.as_str()).is_some_and(|rest| rest.parse::<u32>().is_ok())
                    };
                    named.claims.contains(name) || named.claim_prefixes.iter().any(of_template)
                }
            }
        };
        let mut found = Vec::new();
        for workload in self.carrying(pooling).filter(|workload| names(workload)) {
            let reference =
                WorkloadRef { namespace: self.name.to_owned(), kind: workload.kind, name: workload.name.clone() };
            let Some(now) = self.world.workload(&reference) else { continue };
            if names(&now) && (carries_alone(&now) || self.may_carry(&now)) {
                found.push(now.template_labels);
            }
        }
        found
    }

    /// Labels of what a Service leads to and may carry traffic of the service.
    fn behind(&self, pooling: &Pooling, service: &Service) -> Vec<Labels> {
        let pods = self.namespace.pods.values().filter(|pod| serves(pod)).map(|pod| &pod.labels);
        let workloads = self.namespace.workloads.values();
        let workloads = workloads.filter(|workload| self.may_carry(workload) && self.stands_alone(workload));
        pods.chain(workloads.map(|workload| &workload.template_labels))
            .filter(|labels| selected(&pooling.selector, labels) && leads(service, labels))
            .cloned()
            .collect()
    }

    fn routed(&self, pooling: &Pooling, route: &Route) -> Takes {
        let services = route.ways.values().flatten().filter_map(|name| self.namespace.services.get(name));
        self.what_has(pooling, services.flat_map(|service| self.behind(pooling, service)).collect())
    }

    fn route_cut(&self, pooling: &Pooling, old: &Route, new: &Route) -> bool {
        let services = |names: &BTreeSet<String>| -> Vec<Service> {
            names.iter().filter_map(|name| self.namespace.services.get(name)).cloned().collect()
        };
        let host_cut = |host: &String, before: &BTreeSet<String>| {
            if services(before).iter().all(|service| self.behind(pooling, service).is_empty()) {
                return false;
            }
            let Some(after) = new.ways.get(host).or_else(|| new.ways.get("")) else { return true };
            let kept = before.iter().all(|name| after.contains(name));
            let ready = services(after)
                .iter()
                .any(|service| self.spares(pooling, false).any(|pod| leads(service, &pod.labels)));
            !kept && !ready
        };
        old.through.iter().any(|way| !new.through.contains(way))
            || old.ways.iter().any(|(host, before)| host_cut(host, before))
    }
}

fn of_a_job(pod: &Pod) -> bool {
    matches!(&pod.controller, Some(owner) if owner.kind == "Job")
}

fn carries_alone(workload: &Workload) -> bool {
    let gone = workload.replicas == 0 && workload.current == 0;
    let never = workload.never_up && workload.ready == 0;
    !gone && !never
}
