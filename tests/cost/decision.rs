//! The decision alone about what is not guarded: ordinary work must not even cost an allocation.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;
use poolguard_policy::doors::Effect;
use poolguard_policy::given::{Known, Settings};
use poolguard_policy::guarded::Live;
use poolguard_policy::pooling::{Arm, Enforcement, Evidence, Key, Mode, Pooling, Watched};
use poolguard_policy::request::{Body, Object, Request};
use poolguard_policy::rules::decide;
use poolguard_policy::selector::Selector;
use poolguard_policy::state::{Namespace, Pod, State};
use poolguard_policy::verdict::{Decision, Reason};

fn pooling(index: usize) -> Pooling {
    Pooling {
        key: Key { namespace: "space".to_owned(), name: format!("service-{index}") },
        version: "1/1".to_owned(),
        selector: Selector::labels([("app", format!("service-{index}").as_str())]),
        expendable: None,
        mode: Mode::ActiveActive,
        datacenters: vec!["eqiad".to_owned()],
        min_pooled_datacenters: 1,
        evidence: vec![Evidence {
            name: "switch".to_owned(),
            arm: Arm::Declared { pooled_in: vec!["eqiad".to_owned()] },
        }],
        enforcement: Enforcement::Enforce,
        accepted: Vec::new(),
    }
}

fn pod(app: &str) -> Pod {
    let labels = [("app", app), ("routed_via", "production")].into_iter().collect();
    Pod { name: "a-pod".to_owned(), labels, ready: true, ..Pod::default() }
}

/// What is decided about the removal of a pod, and how much is allocated meanwhile.
fn removal(app: &str, state: &State) -> (Decision, u64) {
    let request = Request {
        door: poolguard_policy::doors::DOORS.iter().find(|door| door.effect == Effect::RemovePod).expect("a door"),
        namespace: "space".to_owned(),
        name: "a-pod".to_owned(),
        named: true,
        user: "alice".to_owned(),
        dry_run: false,
        old: Some(Object { body: Body::Pod(pod(app)), ..Object::default() }),
        new: None,
    };
    let settings = Settings {
        here: "eqiad".to_owned(),
        contact: None,
        runbook_url: "https://runbook.example".to_owned(),
        trusted: Vec::new(),
        enforcement: Enforcement::Enforce,
        custom_kinds: Vec::new(),
        canary_namespace: "poolguard-canary".to_owned(),
    };
    let (conclusions, live, overrides) = (BTreeMap::new(), Live::new(), BTreeMap::new());
    let known = Known { conclusions: &conclusions, live: &live, overrides: &overrides, unheard: None };
    let now: Timestamp = "2026-01-02T03:04:05Z".parse().expect("a time");
    let mut decided = None;
    let counted = allocation_counter::measure(|| decided = Some(decide(&request, state, &settings, known, now)));
    (decided.expect("a decision"), counted.count_total)
}

#[test]
fn a_decision_about_what_is_not_guarded_allocates_nothing() {
    let mut namespace = Namespace { protected: true, ..Namespace::default() };
    for index in 0..1_000 {
        let pooling = pooling(index);
        namespace.poolings.insert(pooling.key.name.clone(), Watched::Known(pooling));
    }
    let state = State { namespaces: HashMap::from([("space".to_owned(), namespace)]), nodes: HashMap::new() };
    let (decision, allocations) = removal("bare", &state);
    assert!(matches!(&decision, Decision::Allow(allowed) if allowed.reason == Reason::NotGuarded), "{decision:?}");
    assert_eq!(allocations, 0);
    let (decision, allocations) = removal("service-7", &state);
    assert!(matches!(decision, Decision::Ask(_)), "{decision:?}");
    assert!(allocations > 0, "the counter counts");
}
