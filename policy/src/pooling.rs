//! A `ServicePooling` as the decision sees it: converted from the API type once, when the object is read.

use crate::selector::Selector;

/// Namespace and name of a `ServicePooling`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// The namespace that it guards.
    pub namespace: String,
    /// Its name, which messages use as the service's name.
    pub name: String,
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// A `ServicePooling` that a watch has delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Watched {
    /// It decodes.
    Known(Pooling),
    /// It does not: everything in its namespace is guarded as `Unknown`.
    Undecodable {
        /// Which one.
        key: Key,
        /// What the decoder said.
        error: String,
    },
}

/// The spec of a `ServicePooling`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pooling {
    /// Namespace and name.
    pub key: Key,
    /// Changes with every change of the spec, and between two objects of one name: `uid/generation`.
    pub version: String,
    /// The pods of the service; never empty.
    pub selector: Selector,
    /// Pods that may go while a Ready one that is not expendable exists.
    pub expendable: Option<Selector>,
    /// How the service is meant to be pooled.
    pub mode: Mode,
    /// Where the service is meant to exist.
    pub datacenters: Vec<String>,
    /// How many of them are meant to be pooled at the least.
    pub min_pooled_datacenters: u32,
    /// Where the truth is found.
    pub evidence: Vec<Evidence>,
    /// Refuse, or only warn.
    pub enforcement: Enforcement,
}

/// How a service is meant to be pooled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// In every datacenter.
    ActiveActive,
    /// In one at a time.
    ActivePassive,
}

/// What happens to a removal that the guard is closed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Enforcement {
    /// It is refused.
    Enforce,
    /// It is allowed, with a warning and a metric.
    Warn,
}

/// One entry of `spec.evidence`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// Its name in the list.
    pub name: String,
    /// What is asked.
    pub arm: Arm,
}

/// What one entry of `spec.evidence` asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Arm {
    /// The resource itself says where the service is pooled.
    Declared {
        /// The datacenters that it says are pooled.
        pooled_in: Vec<String>,
    },
    /// conftool's etcd.
    Conftool {
        /// The configured source; `None` is the only one of its kind.
        source: Option<String>,
        /// `dnsdisc` of the discovery record.
        record: String,
    },
}
