//! What a decision is given besides the request and the view: what the configuration says, and what was asked for.

use std::collections::BTreeMap;

use crate::evidence::Conclusion;
use crate::guarded::Live;
use crate::pooling::Key;

/// What the operator's configuration says about deciding.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// This datacenter.
    pub here: String,
    /// Whom to ask, in the configuration's words.
    pub contact: Option<String>,
    /// Where the runbook is.
    pub runbook_url: String,
    /// Identities that may remove what they manage.
    pub trusted: Vec<Trusted>,
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
    pub conclusions: &'a BTreeMap<Key, Conclusion>,
    /// Workloads that were read.
    pub live: &'a Live,
}
