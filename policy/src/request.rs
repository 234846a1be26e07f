//! A request, decoded: what is asked of which object, by whom.
//!
//! Never the content of a Secret or ConfigMap, and nothing of an object that no rule looks at.

use crate::doors::Door;
use crate::overriding::Override;
use crate::pooling::Pooling;
use crate::selector::Labels;
use crate::state::{Budget, Owner, Pod, Release, Route, Service, Workload};

/// A request that came through a door.
#[derive(Debug, Clone)]
pub struct Request {
    /// Which door.
    pub door: &'static Door,
    /// The namespace; empty for cluster-scoped resources.
    pub namespace: String,
    /// The object's name, from the request or, where it has none, from the old object.
    pub name: String,
    /// Whether the request itself named the object: a deletecollection does not.
    pub named: bool,
    /// Who asks.
    pub user: String,
    /// Nothing is going to be changed.
    pub dry_run: bool,
    /// The object before.
    pub old: Option<Object>,
    /// The object after.
    pub new: Option<Object>,
}

/// An object of a review.
#[derive(Debug, Clone, Default)]
pub struct Object {
    /// Its labels, where only its metadata counts; those of another body are in there.
    pub labels: Labels,
    /// The Helm release that it belongs to.
    pub release: Option<Release>,
    /// It is being deleted.
    pub terminating: bool,
    /// What controls it.
    pub controller: Option<Owner>,
    /// What only its kind has.
    pub body: Body,
}

/// What only one kind of object has.
#[derive(Debug, Clone, Default)]
pub enum Body {
    /// Nothing that a rule looks at.
    #[default]
    Plain,
    /// A pod.
    Pod(Pod),
    /// A workload.
    Workload(Box<Workload>),
    /// A `Scale`.
    Scale {
        /// `spec.replicas`; absent means 0.
        replicas: i32,
    },
    /// A Service.
    Service(Service),
    /// An Ingress or HTTPRoute.
    Route(Route),
    /// A PodDisruptionBudget.
    Budget(Budget),
    /// A `PoolingOverride` that is about to be made.
    Override(Override),
    /// A `ServicePooling`, or why it does not decode.
    Pooling(Result<Box<Pooling>, String>),
}
