//! One guarded namespace that is always the same, and the decision about a request in it: for bytes that nobody has written, from
//! proptest or from a fuzzer.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, LazyLock};

use jiff::Timestamp;
use poolguard_policy::doors::{Door, custom};
use poolguard_policy::evidence::conclude;
use poolguard_policy::given::{Known, Settings};
use poolguard_policy::guarded::Live;
use poolguard_policy::pooling::{Arm, Enforcement, Evidence, Key, Mode, Pooling, Watched};
use poolguard_policy::request::{Body, Request};
use poolguard_policy::rules::decide;
use poolguard_policy::selector::{Labels, Selector};
use poolguard_policy::state::{Kind, Namespace, Pod, Service, State, Workload};
use poolguard_policy::verdict::Decision;

static STATE: LazyLock<State> = LazyLock::new(state);

/// The doors of a custom workload.
pub fn further() -> &'static [Door] {
    static FURTHER: LazyLock<[Door; 3]> =
        LazyLock::new(|| custom(("example.dev", "v1alpha1"), "rollouts", "rollouts/scale", "Rollout"));
    &*FURTHER
}

/// The final decision, with no source that answers and no workload that is there.
///
/// # Panics
/// If it takes more rounds than the webhook allows.
pub fn judge(request: &Request) -> Decision {
    let now: Timestamp = "2026-01-02T03:04:05Z".parse().expect("a time");
    let settings = Settings {
        here: "eqiad".to_owned(),
        contact: None,
        runbook_url: "https://runbook.example".to_owned(),
        trusted: Vec::new(),
        enforcement: Enforcement::Enforce,
        custom_kinds: vec!["Rollout"],
        canary_namespace: "poolguard-canary".to_owned(),
    };
    let (mut conclusions, mut live, overrides) = (BTreeMap::new(), Live::new(), BTreeMap::new());
    let mut unheard = None;
    for _ in 0..6 {
        let known = Known { conclusions: &conclusions, live: &live, overrides: &overrides, unheard };
        match decide(request, &STATE, &settings, known, now) {
            Decision::Ask(keys) => {
                for key in keys {
                    let pooling = match request.old.as_ref().map(|object| &object.body) {
                        Some(Body::Pooling(Ok(old))) => old.as_ref().clone(),
                        _ => pooling(),
                    };
                    conclusions.insert(key, Arc::new(conclude("eqiad", &pooling, &[], now)));
                }
            }
            Decision::Read(references) => live.extend(references.into_iter().map(|reference| (reference, None))),
            Decision::Search(_) => unheard = Some(true),
            Decision::Confirm(_) => unreachable!("the state has no overrides"),
            decided => return decided,
        }
    }
    unreachable!("the decision kept asking");
}

fn labels() -> Labels {
    [("app", "recorded"), ("routed_via", "production")].into_iter().collect()
}

fn pooling() -> Pooling {
    Pooling {
        key: Key { namespace: "recorded".to_owned(), name: "recorded".to_owned() },
        version: "1/1".to_owned(),
        selector: Selector { match_labels: labels(), match_expressions: Vec::new() },
        expendable: None,
        mode: Mode::ActiveActive,
        datacenters: vec!["eqiad".to_owned(), "codfw".to_owned()],
        min_pooled_datacenters: 1,
        evidence: vec![Evidence {
            name: "discovery".to_owned(),
            arm: Arm::Conftool { source: None, record: "recorded".to_owned() },
        }],
        enforcement: Enforcement::Enforce,
        accepted: Vec::new(),
    }
}

/// A guarded namespace as the recordings of `tests/reviews` have it.
fn state() -> State {
    let mut namespace = Namespace { protected: true, ..Namespace::default() };
    namespace.poolings.insert("recorded".to_owned(), Watched::Known(pooling()));
    let pod = Pod { name: "bare-a".to_owned(), labels: labels(), ready: true, ..Pod::default() };
    namespace.pods.insert(pod.name.clone(), pod);
    let service = Service { name: "front".to_owned(), selector: labels(), ..Service::default() };
    namespace.services.insert(service.name.clone(), service);
    let workload = Workload {
        kind: Kind::Deployment,
        name: "front".to_owned(),
        controller: None,
        release: None,
        template_labels: labels(),
        replicas: 2,
        replacement: Default::default(),
        current: 2,
        ready: 2,
        first_ordinal: 0,
        never_up: false,
        references: Default::default(),
        placement: Default::default(),
    };
    namespace.workloads.insert((Kind::Deployment, "front".to_owned()), workload);
    State { namespaces: HashMap::from([("recorded".to_owned(), namespace)]), nodes: HashMap::new() }
}
