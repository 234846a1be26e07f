//! Breaking the glass: a permission by somebody's name, for one service in one datacenter, with a reason and an end.
//!
//! Never longer than its duration, and never for another service or datacenter than it names. Whether one is in force is asked
//! of the API server again before a permission rests on it.

use jiff::Timestamp;

use crate::pooling::Key;

/// A `PoolingOverride`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Override {
    /// Its name; its namespace is that of the service.
    pub name: String,
    /// The `ServicePooling` that it is about, in the same namespace.
    pub service: String,
    /// The only datacenter in which it counts.
    pub datacenter: String,
    /// Why, in the words of whoever asked for it.
    pub because: String,
    /// Who asked for it. Admission has compared this with who sent the request.
    pub requested_by: String,
    /// When it was made.
    pub since: Timestamp,
    /// When it ends.
    pub until: Timestamp,
    /// It is being deleted, and counts no longer.
    pub terminating: bool,
}

/// A `PoolingOverride` by name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OverrideRef {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl Override {
    /// Whether it lets removals of this service pass at `now`, in the datacenter `here`.
    pub fn in_force(&self, service: &Key, here: &str, now: Timestamp) -> bool {
        self.service == service.name && self.datacenter == here && !self.terminating && now < self.until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_counts_for_its_service_in_its_datacenter_until_its_end() {
        let at = |second| Timestamp::from_second(second).expect("a time");
        let glass = Override {
            name: "o".to_owned(),
            service: "eventgate-main".to_owned(),
            datacenter: "eqiad".to_owned(),
            because: "INC-1 is on fire".to_owned(),
            requested_by: "alice".to_owned(),
            since: at(100),
            until: at(200),
            terminating: false,
        };
        let key = |name: &str| Key { namespace: "space".to_owned(), name: name.to_owned() };
        assert!(glass.in_force(&key("eventgate-main"), "eqiad", at(199)));
        assert!(!glass.in_force(&key("eventgate-main"), "eqiad", at(200)), "it has ended");
        assert!(!glass.in_force(&key("eventgate-main"), "codfw", at(150)), "another datacenter");
        assert!(!glass.in_force(&key("eventgate"), "eqiad", at(150)), "another service");
        assert!(!Override { terminating: true, ..glass }.in_force(&key("eventgate-main"), "eqiad", at(150)));
    }
}
