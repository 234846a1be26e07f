//! What a decision is given besides the request and the view: what the configuration says, and what was asked for.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::evidence::Conclusion;
use crate::guarded::Live;
use crate::overriding::{Override, OverrideRef};
use crate::pooling::{Enforcement, Key};

/// What the operator's configuration says about deciding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// This datacenter.
    pub here: String,
    /// Whom to ask, in the configuration's words.
    pub contact: Option<String>,
    /// Where the runbook is.
    pub runbook_url: String,
    /// Identities that may remove what they manage.
    pub trusted: Vec<Trusted>,
    /// `Warn` lets everything pass in the whole cluster, told and counted: for the first weeks.
    pub enforcement: Enforcement,
    /// The kinds of the configured custom workloads. What controls their pods is guarded like a Deployment.
    pub custom_kinds: Vec<&'static str>,
    /// The namespace in which every dry run is refused, to show that the guard is up.
    pub canary_namespace: String,
}

/// An identity that the configuration trusts with some requests: for operators that replace pods themselves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trusted {
    /// The user name, as the API server writes it.
    pub user: String,
    /// Resources, with their subresource behind a slash: `pods`, `deployments/scale`.
    pub resources: Vec<String>,
    /// Verbs of the admission request: `DELETE`, `UPDATE`, `CREATE`.
    pub verbs: Vec<String>,
}

/// What is known besides the view.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    /// Conclusions about services that were asked about.
    pub conclusions: &'a BTreeMap<Key, Arc<Conclusion>>,
    /// Workloads that were read.
    pub live: &'a Live,
    /// Overrides that were read again; `None` where there is none of that name any more.
    pub overrides: &'a BTreeMap<OverrideRef, Option<Override>>,
    /// Whether a `ServicePooling` is stored that the view has not heard of, where that was looked up.
    pub unheard: Option<bool>,
}
