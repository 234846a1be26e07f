//! Generated clusters: small, so that everything in them has to do with everything else.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use jiff::{SignedDuration, Timestamp};
use poolguard_policy::doors::{DOORS, Door, custom};
use poolguard_policy::evidence::{Answer, Conclusion, Says, Why, conclude};
use poolguard_policy::given::{Settings, Trusted};
use poolguard_policy::guarded::WorkloadRef;
use poolguard_policy::overriding::{Override, OverrideRef};
use poolguard_policy::pooling::{Arm, Enforcement, Evidence, Key, Mode, Pooling, Threshold, Watched};
use poolguard_policy::selector::{Labels, Operator, Requirement, Selector};
use poolguard_policy::state::{
    Budget, Kind, Namespace, Owner, Placement, Pod, References, Release, Replacement, Service, State, Workload,
};

use crate::dice::Dice;

/// The custom workload's doors.
static CUSTOM: LazyLock<[Door; 3]> =
    LazyLock::new(|| custom(("example.dev", "v1"), "rollouts", "rollouts/scale", "Rollout"));

/// The namespaces that may exist; a request may also be about one that nobody knows.
pub const NAMESPACES: [&str; 2] = ["one", "two"];
/// Names of everything in a namespace.
pub const NAMES: [&str; 4] = ["web-0", "web-1", "web-2", "db"];
/// Names of nodes.
pub const NODES: [&str; 2] = ["node-1", "node-2"];
/// Users, with and without privileges.
pub const USERS: [&str; 15] = [
    "alice",
    "bob",
    "trusted",
    "system:kube-controller-manager",
    "system:kube-scheduler",
    "system:node:node-1",
    "system:serviceaccount:kube-system:namespace-controller",
    "system:serviceaccount:kube-system:generic-garbage-collector",
    "system:serviceaccount:kube-system:replicaset-controller",
    "system:serviceaccount:kube-system:deployment-controller",
    "system:serviceaccount:kube-system:horizontal-pod-autoscaler",
    "system:serviceaccount:one:replicaset-controller",
    "system:serviceaccount:kube-system:taint-eviction-controller",
    "system:serviceaccount:kube-system:device-taint-eviction-controller",
    "replicaset-controller",
];

/// The doors of the configuration.
pub fn further() -> &'static [Door] {
    &*CUSTOM
}

/// Every door, with those of the configuration.
pub fn doors() -> Vec<&'static Door> {
    DOORS.iter().chain(further()).collect()
}

pub fn now() -> Timestamp {
    "2026-01-02T03:04:05Z".parse().expect("a time")
}

/// A cluster, and everything that can be found out about it.
#[derive(Debug, Clone)]
pub struct World {
    pub state: State,
    pub settings: Settings,
    /// What the sources say of every service.
    pub conclusions: BTreeMap<Key, Conclusion>,
    /// Workloads that differ from what the view holds: changed or gone.
    pub fresher: BTreeMap<WorkloadRef, Option<Workload>>,
    /// Overrides that differ from what the view holds.
    pub retaken: BTreeMap<OverrideRef, Option<Override>>,
    /// A ServicePooling is stored that the view does not hold.
    pub unheard: bool,
}

pub fn world(dice: &mut Dice) -> World {
    let settings = settings(dice);
    let mut state = State::default();
    for name in NODES {
        let zone = dice.pick(&["a", "b"]);
        state.nodes.insert(name.to_owned(), labels([("zone", zone)]));
    }
    let mut world = World {
        state,
        settings,
        conclusions: BTreeMap::new(),
        fresher: BTreeMap::new(),
        retaken: BTreeMap::new(),
        unheard: dice.one_in(2),
    };
    for name in NAMESPACES {
        if name == "one" || dice.one_in(2) {
            let namespace = namespace(dice, name);
            for watched in namespace.poolings.values() {
                if let Watched::Known(pooling) = watched {
                    world.conclusions.insert(pooling.key.clone(), conclusion(dice, pooling));
                }
            }
            for (kind, workload) in namespace.workloads.keys() {
                let reference = WorkloadRef { namespace: name.to_owned(), kind: *kind, name: workload.clone() };
                if let Some(now) = dice.maybe(4, |dice| dice.maybe(2, |dice| self::workload(dice, *kind, workload))) {
                    world.fresher.insert(reference, now);
                }
            }
            for glass in namespace.overrides.keys() {
                let reference = OverrideRef { namespace: name.to_owned(), name: glass.clone() };
                if let Some(now) = dice.maybe(3, |dice| dice.maybe(2, |dice| self::glass(dice, glass))) {
                    world.retaken.insert(reference, now);
                }
            }
            world.state.namespaces.insert(name.to_owned(), namespace);
        }
    }
    world
}

impl World {
    /// A workload as the API server has it.
    pub fn workload(&self, reference: &WorkloadRef) -> Option<Workload> {
        let held = || {
            let namespace = self.state.namespace(&reference.namespace)?;
            namespace.workloads.get(&(reference.kind, reference.name.clone())).cloned()
        };
        self.fresher.get(reference).cloned().unwrap_or_else(held)
    }

    /// An override as the API server has it.
    pub fn glass(&self, reference: &OverrideRef) -> Option<Override> {
        let held = || self.state.namespace(&reference.namespace)?.overrides.get(&reference.name).cloned();
        self.retaken.get(reference).cloned().unwrap_or_else(held)
    }
}

fn settings(dice: &mut Dice) -> Settings {
    Settings {
        here: "eqiad".to_owned(),
        contact: dice.maybe(2, |_| "#sre".to_owned()),
        runbook_url: "https://runbook.example".to_owned(),
        trusted: vec![Trusted {
            user: "trusted".to_owned(),
            resources: dice.some(&["pods", "deployments", "services", "secrets", "ingresses"]).into_iter().collect(),
            verbs: dice.some(&["DELETE", "UPDATE"]).into_iter().collect(),
        }],
        enforcement: if dice.one_in(8) { Enforcement::Warn } else { Enforcement::Enforce },
        custom_kinds: vec!["Rollout"],
        canary_namespace: dice.pick(&["canary", "canary", "two", ""]).to_owned(),
    }
}

fn namespace(dice: &mut Dice, name: &str) -> Namespace {
    let mut made = Namespace { protected: !dice.one_in(8), terminating: dice.one_in(8), ..Namespace::default() };
    for service in &["eventgate", "mathoid"][..dice.choose(&[1, 2, 1, 0])] {
        let key = Key { namespace: name.to_owned(), name: (*service).to_owned() };
        let watched = if dice.one_in(10) {
            Watched::Undecodable { key, error: "missing field `evidence`".to_owned() }
        } else {
            Watched::Known(pooling(dice, key))
        };
        made.poolings.insert((*service).to_owned(), watched);
    }
    for name in &NAMES[..dice.below(NAMES.len() + 1)] {
        made.pods.insert((*name).to_owned(), pod(dice, name));
    }
    for _ in 0..dice.below(5) {
        let (kind, name) = (kind(dice), dice.pick(&["web", "db"]));
        made.workloads.insert((kind, name.to_owned()), workload(dice, kind, name));
    }
    for name in &["front", "back"][..dice.below(3)] {
        made.services.insert((*name).to_owned(), service(dice, name));
    }
    if !dice.one_in(4) {
        made.budgets.insert("budget".to_owned(), budget(dice));
    }
    for glass in &["glass-1", "glass-2"][..dice.choose(&[0, 1, 0, 2])] {
        made.overrides.insert((*glass).to_owned(), self::glass(dice, glass));
    }
    made
}

pub fn pooling(dice: &mut Dice, key: Key) -> Pooling {
    let arm = |dice: &mut Dice| match dice.below(4) {
        0 => Arm::Conftool { source: None, record: "eventgate".to_owned() },
        1 => Arm::Dns { source: None, name: "eventgate.example".to_owned() },
        2 => Arm::Prometheus { source: None, query: "q".to_owned(), threshold: Threshold::default() },
        _ => Arm::Declared { pooled_in: dice.some(&["codfw", "eqiad"]).into_iter().collect() },
    };
    Pooling {
        key,
        version: "1/1".to_owned(),
        selector: selector(dice),
        expendable: dice.maybe(2, |dice| {
            dice.choose(&[
                Selector::labels([("release", "canary")]),
                expecting([], "release", Operator::NotIn, &["main"]),
            ])
        }),
        mode: dice.choose(&[Mode::ActiveActive, Mode::ActivePassive]),
        datacenters: dice
            .choose(&[vec!["eqiad", "codfw"], vec!["codfw", "eqiad", "ulsfo"], vec!["codfw"]])
            .into_iter()
            .map(str::to_owned)
            .collect(),
        min_pooled_datacenters: 1,
        evidence: (0..1 + dice.below(2)).map(|index| Evidence { name: format!("e{index}"), arm: arm(dice) }).collect(),
        enforcement: if dice.one_in(6) { Enforcement::Warn } else { Enforcement::Enforce },
        accepted: Vec::new(),
    }
}

/// What selects the pods of a service: by labels, by expressions, or by both.
pub fn selector(dice: &mut Dice) -> Selector {
    dice.choose(&[
        Selector::labels([("app", "service")]),
        Selector::labels([("app", "other")]),
        Selector::labels([("app", "service"), ("route", "yes")]),
        Selector::labels([("app", "service")]),
        expecting([], "app", Operator::In, &["service", "third"]),
        expecting([("app", "service")], "release", Operator::NotIn, &["canary"]),
        expecting([], "route", Operator::Exists, &[]),
        expecting([("app", "service")], "route", Operator::DoesNotExist, &[]),
    ])
}

fn expecting<const N: usize>(labels: [(&str, &str); N], key: &str, operator: Operator, values: &[&str]) -> Selector {
    let values = values.iter().map(|value| (*value).to_owned()).collect();
    let match_expressions = vec![Requirement { key: key.to_owned(), operator, values }];
    Selector { match_expressions, ..Selector::labels(labels) }
}

/// What the sources say of a service: mostly one thing, so that all three conclusions are frequent.
pub fn conclusion(dice: &mut Dice, pooling: &Pooling) -> Conclusion {
    let usual = dice.choose(&[Says::Serving, Says::NotServing, Says::Draining, Says::Unknown(Why::Missing)]);
    let mut answers = Vec::new();
    for entry in &pooling.evidence {
        for datacenter in ["eqiad", "codfw", "ulsfo"] {
            let says = if dice.one_in(6) {
                dice.choose(&[Says::NotServing, Says::Serving, Says::Unknown(Why::TimedOut)])
            } else {
                usual.clone()
            };
            answers.push(Answer {
                evidence: entry.name.clone(),
                datacenter: datacenter.to_owned(),
                not_serving_after: (says == Says::Draining).then(|| now() + SignedDuration::from_millis(2500)),
                says,
                detail: "pooled=true".to_owned(),
                revision: dice.maybe(2, |_| 7),
                since: dice.maybe(2, |_| now()),
                read: now(),
            });
        }
    }
    conclude("eqiad", pooling, &answers, now())
}

pub fn labels<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Labels {
    pairs.into_iter().collect()
}

/// Labels of a pod: mostly those of the service.
pub fn pod_labels(dice: &mut Dice) -> Labels {
    let app = ("app", if dice.one_in(5) { "other" } else { "service" });
    let release = ("release", dice.pick(&["main", "canary"]));
    let route = (!dice.one_in(4)).then_some(("route", "yes"));
    labels([app, release].into_iter().chain(route))
}

fn owner(dice: &mut Dice, kinds: &[&str]) -> Option<Owner> {
    let kind = dice.pick(kinds).to_owned();
    dice.maybe(2, |dice| Owner { kind, name: dice.pick(&["web", "db"]).to_owned() })
}

const OWNERS: [&str; 7] = ["ReplicaSet", "StatefulSet", "DaemonSet", "Job", "Rollout", "Thing", "Deployment"];

pub fn pod(dice: &mut Dice, name: &str) -> Pod {
    let ready = !dice.one_in(3);
    Pod {
        name: name.to_owned(),
        labels: pod_labels(dice),
        controller: owner(dice, &OWNERS).map(Arc::new),
        ready,
        containers_ready: ready ^ dice.one_in(6),
        finished: dice.one_in(10),
        node: Some(dice.pick(&NODES).to_owned()),
        terminating: dice.one_in(6),
    }
}

pub fn kind(dice: &mut Dice) -> Kind {
    dice.choose(&[
        Kind::Deployment,
        Kind::StatefulSet,
        Kind::ReplicaSet,
        Kind::DaemonSet,
        Kind::ReplicationController,
        Kind::Custom("Rollout"),
    ])
}

pub fn release(dice: &mut Dice) -> Option<Release> {
    dice.maybe(2, |dice| Release {
        namespace: dice.pick(&NAMESPACES).to_owned(),
        name: dice.pick(&["main", "canary"]).to_owned(),
    })
}

pub fn workload(dice: &mut Dice, kind: Kind, name: &str) -> Workload {
    let count = |dice: &mut Dice| dice.choose(&[1, 2, 0, 3]);
    Workload {
        kind,
        name: name.to_owned(),
        controller: if kind == Kind::ReplicaSet { owner(dice, &["Deployment", "Rollout", "Thing"]) } else { None },
        release: release(dice),
        template_labels: pod_labels(dice),
        replicas: count(dice),
        replacement: Replacement::Gradual,
        current: count(dice),
        ready: count(dice),
        first_ordinal: dice.choose(&[0, 0, 1]),
        never_up: dice.one_in(5),
        references: References {
            config_maps: dice.some(&["web-0", "db"]),
            secrets: dice.some(&["web-1", "db"]),
            service_accounts: dice.some(&["web-2", "db"]),
            claims: dice.some(&["web-0", "db"]),
            claim_prefixes: dice.some(&["web-"]),
        },
        placement: Placement {
            node_selector: dice.choose(&[Labels::new(), labels([("zone", "a")]), labels([("zone", "b")])]),
            required_terms: dice.choose(&[
                Vec::new(),
                vec![Selector::labels([("zone", "a")]), Selector::labels([("zone", "c")])],
                vec![Selector::labels([("zone", "c")])],
            ]),
            beyond_labels: dice.one_in(8),
        },
    }
}

pub fn service(dice: &mut Dice, name: &str) -> Service {
    Service {
        name: name.to_owned(),
        selector: dice.choose(&[
            labels([("app", "service")]),
            labels([("app", "service"), ("release", "main")]),
            labels([("app", "service"), ("release", "canary")]),
            labels([("app", "other")]),
            Labels::new(),
        ]),
        kind: dice.pick(&["ClusterIP", "NodePort", "LoadBalancer", "ExternalName", ""]).to_owned(),
        ports: dice.some(&["TCP/80→8080", "TCP/443→8443"]),
    }
}

pub fn budget(dice: &mut Dice) -> Budget {
    Budget {
        name: "budget".to_owned(),
        selector: dice.choose(&[
            Some(Selector::labels([("app", "service")])),
            Some(Selector::labels([("release", "canary")])),
            Some(expecting([], "release", Operator::In, &["canary"])),
            None,
        ]),
        desired_healthy: dice.choose(&[1, 2, 4, 0]),
        observed: !dice.one_in(4),
        controller: None,
        floor_is_zero: dice.one_in(3),
        max_unavailable: dice.maybe(2, |dice| dice.choose(&[1, 2, 3, 5, 0])),
        ready_alone: dice.one_in(4),
    }
}

pub fn glass(dice: &mut Dice, name: &str) -> Override {
    let ends = dice.choose(&[60, 0, -60]);
    Override {
        name: name.to_owned(),
        service: dice.pick(&["eventgate", "mathoid", "nothing"]).to_owned(),
        datacenter: dice.pick(&["eqiad", "eqiad", "codfw"]).to_owned(),
        because: "INC-1 is on fire".to_owned(),
        requested_by: dice.pick(&["alice", "bob"]).to_owned(),
        since: now() - SignedDuration::from_secs(600),
        until: now() + SignedDuration::from_secs(ends),
        terminating: dice.one_in(5),
    }
}
