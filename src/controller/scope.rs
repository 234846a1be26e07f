//! What a round looks at: everything, or only the services that something has changed for. With many services, a switch of one
//! must not wait for all of them.

use std::collections::HashSet;

use jiff::Timestamp;
use poolguard_policy::pooling::{Key, Pooling};

use crate::cluster::Place;
use crate::observe::Asked;
use crate::runtime::news::Changes;

/// What has changed.
#[derive(Debug)]
pub(super) struct Scope {
    all: bool,
    services: HashSet<Key>,
    namespaces: HashSet<String>,
    asked: Changes<Asked>,
}

impl Scope {
    /// Everything.
    pub(super) fn all() -> Self {
        Self { all: true, services: HashSet::new(), namespaces: HashSet::new(), asked: Changes::default() }
    }

    /// What the view and the sources have news about.
    pub(super) fn of(view: Changes<Place>, asked: Changes<Asked>) -> Self {
        let all = view.all || asked.all;
        let mut this = Self { all, asked: Changes { all: false, some: asked.some }, ..Self::all() };
        for place in view.some {
            match place {
                Place::Service(key) => drop(this.services.insert(key)),
                Place::Namespace(name) => drop(this.namespaces.insert(name)),
            }
        }
        this
    }

    /// Everything besides.
    pub(super) fn widen(&mut self) {
        self.all = true;
    }

    /// Whether everything must be looked at, when nothing urgent is left.
    pub(super) fn everything(&self) -> bool {
        self.all
    }

    /// Whether a service must be looked at before others; `due` is when time alone changes its status.
    pub(super) fn concerns(&self, pooling: &Pooling, due: Option<Timestamp>, now: Timestamp) -> bool {
        due.is_some_and(|due| due <= now)
            || self.services.contains(&pooling.key)
            || self.namespaces.contains(&pooling.key.namespace)
            || pooling.evidence.iter().any(|entry| Asked::concerns(&self.asked, &entry.arm))
    }

    /// Whether the labels of namespaces may have to change.
    pub(super) fn concerns_labels(&self) -> bool {
        !self.namespaces.is_empty() || !self.services.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use poolguard_policy::pooling::{Arm, Enforcement, Evidence, Mode};
    use poolguard_policy::selector::Selector;

    use super::*;

    #[test]
    fn only_what_has_changed_is_looked_at() {
        let pooling = |namespace: &str, name: &str| Pooling {
            key: Key { namespace: namespace.to_owned(), name: name.to_owned() },
            version: String::new(),
            selector: Selector::labels([("app", name)]),
            expendable: None,
            mode: Mode::ActiveActive,
            datacenters: Vec::new(),
            min_pooled_datacenters: 1,
            evidence: vec![Evidence {
                name: "e".to_owned(),
                arm: Arm::Conftool { source: None, record: name.to_owned() },
            }],
            enforcement: Enforcement::Enforce,
            accepted: Vec::new(),
        };
        let now = Timestamp::UNIX_EPOCH;
        let view = Changes {
            all: false,
            some: [
                Place::Namespace("busy".to_owned()),
                Place::Service(Key { namespace: "calm".to_owned(), name: "own".to_owned() }),
            ]
            .into(),
        };
        let asked = Changes { all: false, some: [Asked::Record("switched".to_owned())].into() };
        let scope = Scope::of(view, asked);
        for (namespace, name, expected) in
            [("busy", "a", true), ("calm", "own", true), ("calm", "switched", true), ("calm", "other", false)]
        {
            assert_eq!(scope.concerns(&pooling(namespace, name), None, now), expected, "{namespace}/{name}");
        }
        assert!(scope.concerns(&pooling("calm", "other"), Some(now), now), "its time has come");
        let all = Scope::all();
        assert!(all.everything() && !all.concerns(&pooling("calm", "other"), None, now), "nothing is urgent");
    }
}
