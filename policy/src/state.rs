//! What the webhook knows of the cluster, kept current by watches: slim objects, by namespace.
//!
//! Never whole objects, and never a decision: the functions here only say what is there and how it hangs together.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::pooling::Watched;
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
#[derive(Debug, Clone, Default)]
pub struct Namespace {
    /// It bears the label that makes the API server ask us.
    pub protected: bool,
    /// It is being deleted.
    pub terminating: bool,
    /// The `ServicePooling` resources by name.
    pub poolings: BTreeMap<String, Watched>,
    /// Pods by name.
    pub pods: BTreeMap<String, Pod>,
    /// Workloads by kind and name.
    pub workloads: BTreeMap<(Kind, String), Workload>,
    /// Services by name.
    pub services: BTreeMap<String, Service>,
    /// Disruption budgets by name.
    pub budgets: BTreeMap<String, Budget>,
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
    pub controller: Option<Owner>,
    /// The condition `Ready`.
    pub ready: bool,
    /// The condition `ContainersReady`. A lost heartbeat of the node clears `Ready` and leaves this.
    pub containers_ready: bool,
    /// Its phase is `Succeeded` or `Failed`.
    pub finished: bool,
    /// The node that it runs on.
    pub node: Option<String>,
}

impl Pod {
    /// Whether requests may reach it.
    pub fn may_serve(&self) -> bool {
        !self.finished && (self.ready || self.containers_ready)
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
}

impl Kind {
    /// As the API writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Deployment => "Deployment",
            Self::StatefulSet => "StatefulSet",
            Self::DaemonSet => "DaemonSet",
            Self::ReplicaSet => "ReplicaSet",
        }
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
        let at_zero = self.replicas == 0 && self.current == 0;
        !(at_zero || self.never_up && self.ready == 0)
    }
}

impl Workload {
    /// Whether it is a ReplicaSet that a Deployment controls.
    pub fn of_a_deployment(&self) -> bool {
        self.kind == Kind::ReplicaSet && self.controller.as_ref().is_some_and(|owner| owner.kind == "Deployment")
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
    /// `protocol/port→targetPort` of each of its ports.
    pub ports: BTreeSet<String>,
}

impl Service {
    /// Whether it selects a pod with these labels.
    pub fn selects(&self, labels: &Labels) -> bool {
        !self.selector.is_empty() && contains(labels, &self.selector)
    }
}

/// An Ingress or HTTPRoute.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Route {
    /// Its name.
    pub name: String,
    /// The Services of its own namespace that it leads to.
    pub backends: BTreeSet<String>,
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
}

impl Budget {
    /// Whether it covers a pod with these labels.
    pub fn covers(&self, labels: &Labels) -> bool {
        self.selector.as_ref().is_some_and(|selector| selector.matches(labels))
    }
}

impl Namespace {
    /// Whether any Service selects pods of the selector: then a workload that none selects carries no traffic.
    pub fn any_service_selects(&self, selector: &Selector) -> bool {
        self.services.values().any(|service| {
            self.pods.values().any(|pod| selector.matches(&pod.labels) && service.selects(&pod.labels))
                || self.workloads.values().any(|workload| {
                    selector.matches(&workload.template_labels) && service.selects(&workload.template_labels)
                })
        })
    }

    /// Whether any Service selects a pod with these labels.
    pub fn is_selected(&self, labels: &Labels) -> bool {
        self.services.values().any(|service| service.selects(labels))
    }

    /// The workloads of the selector whose pods may carry traffic. The Deployment of a ReplicaSet stands for it.
    pub fn carrying<'a>(&'a self, selector: &'a Selector) -> impl Iterator<Item = &'a Workload> + 'a {
        let services = self.any_service_selects(selector);
        self.workloads.values().filter(move |workload| {
            selector.matches(&workload.template_labels)
                && !workload.of_a_deployment()
                && workload.may_carry()
                && (!services || self.is_selected(&workload.template_labels))
        })
    }

    /// Whether this Service leads to pods of the selector that may carry traffic.
    pub fn leads_to(&self, service: &Service, selector: &Selector) -> bool {
        self.pods.values().any(|pod| pod.may_serve() && selector.matches(&pod.labels) && service.selects(&pod.labels))
            || self.workloads.values().any(|workload| {
                !workload.of_a_deployment()
                    && workload.may_carry()
                    && selector.matches(&workload.template_labels)
                    && service.selects(&workload.template_labels)
            })
    }
}

impl State {
    /// What is known of a namespace.
    pub fn namespace(&self, name: &str) -> Option<&Namespace> {
        self.namespaces.get(name)
    }
}
