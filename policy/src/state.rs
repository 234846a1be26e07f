//! What the webhook knows of the cluster, kept current by watches: slim objects, by namespace.
//!
//! Never whole objects, and never a decision: the functions here only say what is there and how it hangs together.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use crate::held::Held;
use crate::overriding::Override;
use crate::pooling::Watched;
use crate::selecting::{Selecting, Selects};
use crate::selector::{Labels, Selector, contains};

/// The annotation with the name of the Helm release that an object belongs to.
pub const RELEASE_NAME: &str = "meta.helm.sh/release-name";
/// The annotation with the namespace of that release.
pub const RELEASE_NAMESPACE: &str = "meta.helm.sh/release-namespace";

/// Everything known, by namespace.
#[derive(Debug, Clone, Default)]
pub struct State {
    /// Namespaces by name.
    pub namespaces: HashMap<String, Namespace>,
    /// Labels of nodes by name.
    pub nodes: HashMap<String, Labels>,
}

/// What is known of one namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Namespace {
    /// It is there itself, and not only what it held.
    pub exists: bool,
    /// It bears the label that makes the API server ask us.
    pub protected: bool,
    /// It is being deleted.
    pub terminating: bool,
    /// The `ServicePooling` resources by name.
    pub poolings: Selecting<Watched>,
    /// Pods by name.
    pub pods: Held<String, Pod>,
    /// Workloads by kind and name.
    pub workloads: Held<(Kind, String), Workload>,
    /// Services by name.
    pub services: Selecting<Service>,
    /// Disruption budgets by name.
    pub budgets: Held<String, Budget>,
    /// `PoolingOverride` resources by name.
    pub overrides: BTreeMap<String, Override>,
}

/// A Helm release.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Release {
    /// The namespace of its record.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// The controller of an object, by `ownerReferences`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: String,
}

/// A pod.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pod {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: Labels,
    /// What controls it.
    pub controller: Option<Arc<Owner>>,
    /// The condition `Ready`.
    pub ready: bool,
    /// The condition `ContainersReady`. A lost heartbeat of the node clears `Ready` and leaves this.
    pub containers_ready: bool,
    /// Its phase is `Succeeded` or `Failed`.
    pub finished: bool,
    /// The node that it runs on.
    pub node: Option<String>,
    /// It is being deleted: it may serve until it is gone, but it does not stay.
    pub terminating: bool,
}

impl Pod {
    /// Whether requests may reach it.
    pub fn may_serve(&self) -> bool {
        !self.finished && (self.ready || self.containers_ready)
    }

    /// Whether requests may reach it, and it is here to stay.
    pub fn stays(&self) -> bool {
        self.may_serve() && !self.terminating
    }

    /// Whether it stands in for others: Ready, and here to stay.
    pub fn stands_in(&self) -> bool {
        self.ready && !self.finished && !self.terminating
    }

    /// Whether a Job made it.
    pub fn of_a_job(&self) -> bool {
        self.controller.as_ref().is_some_and(|owner| owner.kind == "Job")
    }

    /// The ordinal of a StatefulSet's pod.
    pub fn ordinal(&self) -> Option<i32> {
        self.name.rsplit_once('-').and_then(|(_, ordinal)| ordinal.parse().ok())
    }
}

/// The kinds of workloads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// `apps/v1` Deployment.
    Deployment,
    /// `apps/v1` StatefulSet.
    StatefulSet,
    /// `apps/v1` DaemonSet.
    DaemonSet,
    /// `apps/v1` ReplicaSet.
    ReplicaSet,
    /// `v1` ReplicationController.
    ReplicationController,
    /// A kind of the configuration, by its name.
    Custom(&'static str),
}

impl Kind {
    /// As the API writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Deployment => "Deployment",
            Self::StatefulSet => "StatefulSet",
            Self::DaemonSet => "DaemonSet",
            Self::ReplicaSet => "ReplicaSet",
            Self::ReplicationController => "ReplicationController",
            Self::Custom(kind) => kind,
        }
    }

    /// The kind of this name, if it is built in.
    pub fn built_in(name: &str) -> Option<Self> {
        let all = [Self::Deployment, Self::StatefulSet, Self::DaemonSet, Self::ReplicaSet, Self::ReplicationController];
        all.into_iter().find(|kind| kind.as_str() == name)
    }
}

/// How a workload's pods are replaced by newer ones.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Replacement {
    /// Some at a time.
    #[default]
    Gradual,
    /// `maxUnavailable` lets all of them go at once.
    AllAtOnce,
    /// `strategy: Recreate`: all go before the first new one comes.
    Recreate,
}

/// A workload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workload {
    /// Its kind.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// What controls it: a Deployment, for most ReplicaSets.
    pub controller: Option<Owner>,
    /// The Helm release that it belongs to.
    pub release: Option<Release>,
    /// The labels of its pod template: by these it belongs to a service.
    pub template_labels: Labels,
    /// How many pods it wants.
    pub replicas: i32,
    /// How its pods are replaced.
    pub replacement: Replacement,
    /// How many it has.
    pub current: i32,
    /// How many of them are Ready.
    pub ready: i32,
    /// The ordinal of a StatefulSet's first pod.
    pub first_ordinal: i32,
    /// A Deployment's first revision that has never become available.
    pub never_up: bool,
    /// What its template names.
    pub references: References,
    /// Where its pods may run.
    pub placement: Placement,
}

impl Workload {
    /// Whether pods of it may carry traffic: not at zero, and not a first Deployment that never came up.
    pub fn may_carry(&self) -> bool {
        !(self.is_at_zero() || self.never_up && self.ready == 0)
    }

    /// Whether it has no pods, and wants none.
    fn is_at_zero(&self) -> bool {
        self.replicas == 0 && self.current == 0
    }

    /// Whether it is a ReplicaSet that something else controls: a Deployment, a Rollout.
    pub fn is_owned_set(&self) -> bool {
        self.kind == Kind::ReplicaSet && self.controller.is_some()
    }
}

/// What a pod template names, by kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct References {
    /// ConfigMaps.
    pub config_maps: BTreeSet<String>,
    /// Secrets.
    pub secrets: BTreeSet<String>,
    /// The ServiceAccount.
    pub service_accounts: BTreeSet<String>,
    /// PersistentVolumeClaims.
    pub claims: BTreeSet<String>,
    /// What the names of the claims of a StatefulSet's pods begin with, up to the ordinal: `data-web-`.
    pub claim_prefixes: BTreeSet<String>,
}

impl References {
    /// Whether a claim of this name is named, by itself or by a template of claims.
    pub fn names_claim(&self, name: &str) -> bool {
        let of_ordinal = |prefix: &String| {
            let ordinal = name.strip_prefix(prefix.as_str()).unwrap_or_default();
            !ordinal.is_empty() && ordinal.bytes().all(|byte| byte.is_ascii_digit())
        };
        self.claims.contains(name) || self.claim_prefixes.iter().any(of_ordinal)
    }
}

/// Where a template's pods may run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Placement {
    /// `nodeSelector`.
    pub node_selector: Labels,
    /// The required terms of the node affinity; one of them must match. Empty: no requirement.
    pub required_terms: Vec<Selector>,
    /// A required term has something that is not a label requirement.
    pub beyond_labels: bool,
}

impl Placement {
    /// Whether a node with these labels is surely allowed.
    pub fn allows(&self, node: &Labels) -> bool {
        !self.beyond_labels
            && contains(node, &self.node_selector)
            && (self.required_terms.is_empty() || self.required_terms.iter().any(|term| term.matches(node)))
    }
}

/// A Service.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// Its selector; empty where it has none.
    pub selector: Labels,
    /// `spec.type`.
    pub kind: String,
    /// `protocol/port→targetPort` of each of its ports, with its port on the nodes, where it has one.
    pub ports: BTreeSet<String>,
}

impl Service {
    /// Whether it selects a pod with these labels.
    pub fn selects(&self, labels: &Labels) -> bool {
        !self.selector.is_empty() && contains(labels, &self.selector)
    }
}

impl Selects for Service {
    fn wanted(&self) -> &Labels {
        &self.selector
    }
}

/// An Ingress or HTTPRoute.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Route {
    /// Its name.
    pub name: String,
    /// The Services of its own namespace that it leads to, by host; an empty host is any.
    pub ways: BTreeMap<String, BTreeSet<String>>,
    /// What requests come through to it: the class of an Ingress, the parents of an HTTPRoute.
    pub through: BTreeSet<String>,
}

impl Route {
    /// Every Service that it leads to, once.
    pub fn backends(&self) -> BTreeSet<&String> {
        self.ways.values().flatten().collect()
    }
}

/// A PodDisruptionBudget.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Budget {
    /// Its name.
    pub name: String,
    /// The pods that it covers.
    pub selector: Option<Selector>,
    /// `status.desiredHealthy`.
    pub desired_healthy: i32,
    /// Its status is about its present spec.
    pub observed: bool,
    /// What controls it: a `ServicePooling`, where it is one of ours.
    pub controller: Option<Owner>,
    /// `minAvailable` and `maxUnavailable` leave nothing that must stay.
    pub floor_is_zero: bool,
    /// `maxUnavailable`, where it is a number.
    pub max_unavailable: Option<i32>,
    /// `unhealthyPodEvictionPolicy: AlwaysAllow`: it keeps no pod that is not Ready.
    pub ready_alone: bool,
}

impl Budget {
    /// Whether nothing of this many pods must stay.
    pub fn lets_all_go(&self, replicas: i32) -> bool {
        self.floor_is_zero || self.max_unavailable.is_some_and(|most| most >= replicas)
    }

    /// Whether it covers a pod with these labels.
    pub fn covers(&self, labels: &Labels) -> bool {
        self.selector.as_ref().is_some_and(|selector| selector.matches(labels))
    }

    /// Whether the API server looks at it before it evicts this pod.
    pub fn is_asked_about(&self, pod: &Pod) -> bool {
        self.covers(&pod.labels) && (pod.ready || !self.ready_alone)
    }

    /// Whether it keeps more pods than these are.
    pub fn keeps_more_than<T>(&self, others: impl Iterator<Item = T>) -> bool {
        let kept = usize::try_from(self.desired_healthy).unwrap_or_default();
        others.take(kept).count() < kept
    }
}

impl Namespace {
    /// Puts a pod in. What it has in common with those beside it, which are of the same workload for the most part, is kept once.
    pub fn put(&mut self, mut pod: Pod) {
        for beside in self.pods.neighbours(&pod.name) {
            if beside.labels == pod.labels {
                pod.labels = beside.labels.clone();
            }
            if beside.controller == pod.controller {
                pod.controller = beside.controller.clone();
            }
        }
        self.pods.insert(pod.name.clone(), pod);
    }

    /// Whether any Service selects pods of the selector: then a workload that none selects carries no traffic.
    fn any_service_selects(&self, selector: &Selector) -> bool {
        // Where nothing could lead to them, thousands of pods need not be looked at.
        !self.services.is_empty() && self.labels().any(|labels| selector.matches(labels) && self.is_selected(labels))
    }

    /// The labels of all pods, and of those that workloads make.
    pub fn labels(&self) -> impl Iterator<Item = &Labels> {
        let templates = self.workloads.values().map(|workload| &workload.template_labels);
        templates.chain(self.pods.values().map(|pod| &pod.labels))
    }

    /// Whether any Service selects a pod with these labels.
    pub fn is_selected(&self, labels: &Labels) -> bool {
        self.services.candidates(labels).any(|(_, service)| service.selects(labels))
    }

    /// Pods of the selector that a Service leads to, one of each labels and owner that stand side by side.
    fn reached<'a>(&'a self, selector: &'a Selector) -> impl Iterator<Item = &'a Pod> {
        let mut before: Option<&Pod> = None;
        self.pods.values().filter(move |pod| {
            let same = before.is_some_and(|before| before.labels == pod.labels && before.controller == pod.controller);
            let counts = !same && !pod.finished && selector.matches(&pod.labels) && self.is_selected(&pod.labels);
            if counts {
                before = Some(pod);
            }
            counts
        })
    }

    /// Says of labels whether a pod with them is outside all Services although some Service leads to pods of the selector.
    pub fn outside<'a>(&'a self, selector: &'a Selector) -> impl Fn(&Labels) -> bool + 'a {
        let services = OnceCell::new();
        move |labels| !self.is_selected(labels) && *services.get_or_init(|| self.any_service_selects(selector))
    }

    /// Says of workloads whether requests may reach their pods: they are not outside, by the labels of the template or by what pods bear
    /// besides, such as a hash, a role or an ordinal.
    pub fn reaching<'a>(&'a self, selector: &'a Selector) -> impl Fn(&Workload) -> bool + 'a {
        let (outside, reached) = (self.outside(selector), OnceCell::<Vec<&Pod>>::new());
        move |workload| {
            let reached = || reached.get_or_init(|| self.reached(selector).collect()).iter();
            !outside(&workload.template_labels) || reached().any(|pod| self.may_have_made(workload, pod))
        }
    }

    /// Whether a pod may be one of a workload's: it has the labels of the template, and belongs to no other one that is known.
    fn may_have_made(&self, workload: &Workload, pod: &Pod) -> bool {
        let this = |owner: &Owner| owner.kind == workload.kind.as_str() && owner.name == workload.name;
        let of_another = |owner: &Arc<Owner>| {
            !this(owner)
                && self.owning(owner).is_some_and(|between| match &between.controller {
                    None => true,
                    Some(above) => !this(above) && self.owning(above).is_some(),
                })
        };
        contains(&pod.labels, &workload.template_labels) && !pod.controller.as_ref().is_some_and(of_another)
    }

    /// Whether a DaemonSet has pods of the selector: the API server's budget of a share needs a scale, and it has none.
    pub fn has_daemons(&self, selector: &Selector) -> bool {
        self.workloads.values().any(|workload| {
            workload.kind == Kind::DaemonSet && !workload.is_at_zero() && selector.matches(&workload.template_labels)
        })
    }

    /// The pods that a workload controls.
    pub fn pods_of<'a>(&'a self, kind: Kind, name: &'a str) -> impl Iterator<Item = &'a Pod> {
        self.pods.values().filter(move |pod| {
            pod.controller.as_ref().is_some_and(|owner| owner.kind == kind.as_str() && owner.name == name)
        })
    }

    /// Whether pods of a workload may carry traffic. Of a ReplicaSet that something controls, only pods count: whether a
    /// first install ever came up is its owner's to say. A Deployment that seems never to have come up may have stopped to report
    /// it, or have lost its pods' heartbeats: then its pods say that they may serve.
    pub fn may_carry(&self, workload: &Workload) -> bool {
        if workload.is_owned_set() {
            workload.ready > 0 || self.pods_of(workload.kind, &workload.name).any(Pod::may_serve)
        } else {
            let up_after_all = || self.pods.values().any(|pod| pod.may_serve() && self.may_have_made(workload, pod));
            workload.may_carry() || workload.never_up && !workload.is_at_zero() && up_after_all()
        }
    }

    /// Whether another workload that is known stands for this one: the Deployment or Rollout of a ReplicaSet.
    fn is_stood_for(&self, workload: &Workload) -> bool {
        workload
            .controller
            .as_ref()
            .filter(|_| workload.is_owned_set())
            .is_some_and(|owner| self.owning(owner).is_some())
    }

    /// The workload that is somebody's owner, where it is known.
    fn owning(&self, owner: &Owner) -> Option<&Workload> {
        match Kind::built_in(&owner.kind) {
            Some(kind) => self.workloads.get(&(kind, owner.name.clone())),
            None => self
                .workloads
                .iter()
                .find(|((kind, name), _)| kind.as_str() == owner.kind && *name == owner.name)
                .map(|(_, workload)| workload),
        }
    }

    /// The workloads of the selector whose pods may carry traffic. The Deployment of a ReplicaSet stands for it.
    pub fn carrying<'a>(&'a self, selector: &'a Selector) -> impl Iterator<Item = &'a Workload> + 'a {
        let reaching = self.reaching(selector);
        self.workloads.values().filter(move |workload| {
            selector.matches(&workload.template_labels)
                && self.may_carry(workload)
                && !self.is_stood_for(workload)
                && reaching(workload)
        })
    }

    /// The pods that a budget may keep in place of those that carry traffic of the selector. One that is not Ready may be in a moment.
    pub fn others<'a>(&'a self, budget: &'a Budget, selector: &'a Selector) -> impl Iterator<Item = &'a Pod> + 'a {
        let outside = self.outside(selector);
        self.pods.values().filter(move |pod| {
            !pod.finished
                && !pod.terminating
                && budget.covers(&pod.labels)
                && (!selector.matches(&pod.labels) || pod.of_a_job() || outside(&pod.labels))
        })
    }

    /// The labels of everything of the selector that this Service leads to and that may carry traffic: pods, and pods that a
    /// workload makes.
    pub fn led_to<'a>(&'a self, service: &'a Service, selector: &'a Selector) -> impl Iterator<Item = &'a Labels> + 'a {
        let pods = self.pods.values().filter(|pod| pod.may_serve()).map(|pod| &pod.labels);
        let workloads = self
            .workloads
            .values()
            .filter(|workload| self.may_carry(workload) && !self.is_stood_for(workload))
            .map(|workload| &workload.template_labels);
        pods.chain(workloads).filter(move |labels| selector.matches(labels) && service.selects(labels))
    }
}

impl State {
    /// What is known of a namespace.
    pub fn namespace(&self, name: &str) -> Option<&Namespace> {
        self.namespaces.get(name)
    }
}
