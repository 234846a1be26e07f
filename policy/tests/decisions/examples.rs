//! What the laws do not tell apart, one example each.

use std::collections::BTreeMap;
use std::sync::Arc;

use poolguard_policy::doors::{Door, Effect};
use poolguard_policy::evidence::{Answer, Says, Why, conclude};
use poolguard_policy::overriding::{Override, OverrideRef};
use poolguard_policy::pooling::{Arm, Enforcement, Evidence, Key, Mode, Pooling, Watched};
use poolguard_policy::request::{Body, Object, Request};
use poolguard_policy::rules::by_garbage_collector;
use poolguard_policy::selecting::Selects;
use poolguard_policy::selector::Selector;
use poolguard_policy::state::{
    Budget, Kind, Namespace, Owner, Placement, Pod, References, Replacement, Route, Service, State, Workload,
};
use poolguard_policy::verdict::{Decision, Reason};

use crate::driver::judge;
use crate::world::{World, doors, labels, now};

pub fn key() -> Key {
    Key { namespace: "one".to_owned(), name: "eventgate".to_owned() }
}

pub fn pooling() -> Pooling {
    Pooling {
        key: key(),
        version: "1/1".to_owned(),
        selector: Selector::labels([("app", "service")]),
        expendable: None,
        mode: Mode::ActiveActive,
        datacenters: vec!["eqiad".to_owned(), "codfw".to_owned()],
        min_pooled_datacenters: 1,
        evidence: vec![Evidence {
            name: "discovery".to_owned(),
            arm: Arm::Conftool { source: None, record: "eventgate".to_owned() },
        }],
        enforcement: Enforcement::Enforce,
        accepted: Vec::new(),
    }
}

pub fn pod() -> Pod {
    Pod { name: "web-0".to_owned(), labels: labels([("app", "service")]), ready: true, ..Pod::default() }
}

pub fn workload(kind: Kind, name: &str) -> Workload {
    Workload {
        kind,
        name: name.to_owned(),
        controller: None,
        release: None,
        template_labels: labels([("app", "service")]),
        replicas: 1,
        replacement: Replacement::Gradual,
        current: 1,
        ready: 1,
        first_ordinal: 0,
        never_up: false,
        references: References::default(),
        placement: Placement::default(),
    }
}

/// One guarded service with one pod, of which the source says this here, and that it is depooled in codfw.
pub fn world(says: &Says) -> World {
    let pooling = pooling();
    let answer = |datacenter: &str, says: &Says| Answer {
        evidence: "discovery".to_owned(),
        datacenter: datacenter.to_owned(),
        says: says.clone(),
        detail: "pooled=true".to_owned(),
        revision: Some(812),
        since: None,
        not_serving_after: None,
        read: now(),
    };
    let answers = [answer("eqiad", says), answer("codfw", &Says::NotServing)];
    let conclusions = BTreeMap::from([(key(), conclude("eqiad", &pooling, &answers, now()))]);
    let mut namespace = Namespace { protected: true, ..Namespace::default() };
    namespace.poolings.insert("eventgate".to_owned(), Watched::Known(pooling));
    namespace.pods.insert("web-0".to_owned(), pod());
    let mut state = State::default();
    state.namespaces.insert("one".to_owned(), namespace);
    World {
        state,
        settings: poolguard_policy::given::Settings {
            here: "eqiad".to_owned(),
            contact: Some("#sre".to_owned()),
            runbook_url: "https://runbook.example".to_owned(),
            trusted: Vec::new(),
            enforcement: Enforcement::Enforce,
            custom_kinds: Vec::new(),
            canary_namespace: String::new(),
        },
        conclusions,
        fresher: BTreeMap::new(),
        retaken: BTreeMap::new(),
        unheard: true,
    }
}

pub fn door(effect: Effect, resource: &str) -> &'static Door {
    doors().into_iter().find(|door| door.effect == effect && door.resource == resource).expect("a door")
}

pub fn request(door: &'static Door, name: &str, old: Body) -> Request {
    Request {
        door,
        namespace: "one".to_owned(),
        name: name.to_owned(),
        named: true,
        user: "alice".to_owned(),
        dry_run: false,
        old: Some(Object { body: old, ..Object::default() }),
        new: None,
    }
}

pub fn refused(world: &World, request: &Request) -> String {
    match judge(world, request) {
        Decision::Refuse(refusal) => refusal.message,
        other => unreachable!("{other:?}"),
    }
}

#[test]
fn a_permission_names_the_service_that_it_is_about() {
    let request = request(door(Effect::RemovePod, "pods"), "web-0", Body::Pod(pod()));
    let Decision::Allow(allowed) = judge(&world(&Says::NotServing), &request) else { unreachable!("a permission") };
    assert_eq!((allowed.reason, allowed.service), (Reason::NotServing, Some(key())));
    let mut unread = world(&Says::NotServing);
    let namespace = unread.state.namespaces.get_mut("one").expect("the namespace");
    let error = "no evidence".to_owned();
    namespace.poolings.insert("eventgate".to_owned(), Watched::Undecodable { key: key(), error });
    let mut going = request.clone();
    going.old.iter_mut().for_each(|object| object.terminating = true);
    let Decision::Allow(allowed) = judge(&unread, &going) else { unreachable!("a permission") };
    assert_eq!((allowed.reason, allowed.service), (Reason::AlreadyGoing, None));
}

#[test]
fn a_resource_that_does_not_decode_is_told_with_what_the_decoder_said() {
    let delete = door(Effect::RemovePooling, "servicepoolings");
    let unread = Body::Pooling(Err("no evidence".to_owned()));
    let told = refused(&world(&Says::Serving), &request(delete, "eventgate", unread));
    assert!(told.contains("\n  cause:     no evidence\n"), "{told}");
    let mut untold = request(delete, "eventgate", Body::Plain);
    untold.old = None;
    let told = refused(&world(&Says::Serving), &untold);
    assert!(told.contains("\n  cause:     the request does not contain it\n"), "{told}");
}

#[test]
fn the_garbage_collector_is_known_by_either_of_its_names() {
    let collector = "system:serviceaccount:kube-system:generic-garbage-collector";
    let single = "system:kube-controller-manager";
    let delete = door(Effect::RemoveWorkload, "deployments");
    let change = door(Effect::ScaleWorkload, "deployments");
    for (door, user, named, expected) in [
        (delete, collector, true, true),
        (delete, collector, false, true),
        (delete, single, true, true),
        (delete, single, false, false),
        (delete, "alice", true, false),
        (change, collector, true, false),
        (change, single, true, false),
    ] {
        let mut asked = request(door, "web", Body::Plain);
        (asked.user, asked.named) = (user.to_owned(), named);
        assert_eq!(by_garbage_collector(&asked), expected, "{user} {named} {:?}", door.operation);
    }
}

#[test]
fn the_next_step_about_a_pod_names_its_deployment() {
    let mut world = world(&Says::Serving);
    let namespace = world.state.namespaces.get_mut("one").expect("the namespace");
    let owned = |kind: &str, name: &str| Some(Owner { kind: kind.to_owned(), name: name.to_owned() });
    let pod = Pod { controller: owned("ReplicaSet", "web-5d").map(Arc::new), ..pod() };
    namespace.pods.insert("web-0".to_owned(), pod.clone());
    let set = Workload { controller: owned("Deployment", "web"), ..workload(Kind::ReplicaSet, "web-5d") };
    namespace.workloads.insert((Kind::ReplicaSet, "web-5d".to_owned()), set.clone());
    let delete = request(door(Effect::RemovePod, "pods"), "web-0", Body::Pod(pod.clone()));
    let restart = "  next:      kubectl -n one rollout restart deployment web   (replaces its pods one by one)\n";
    let told = refused(&world, &delete);
    assert!(told.contains(restart), "{told}");
    let mut relabel = request(door(Effect::RelabelPod, "pods"), "web-0", Body::Pod(pod.clone()));
    let body = Body::Pod(Pod { labels: labels([("app", "other")]), ..pod.clone() });
    relabel.new = Some(Object { body, ..Object::default() });
    assert!(refused(&world, &relabel).contains(restart));
    let evict = request(door(Effect::EvictPod, "pods/eviction"), "web-0", Body::Plain);
    let told = refused(&world, &evict);
    let scale = "  next:      kubectl -n one scale deployment web --replicas=2   (or depool the service)\n";
    assert!(told.contains(scale), "{told}");
    let why = "eventgate serves in eqiad, and no disruption budget keeps a pod of it. Pod one/web-0 was not evicted.\n";
    assert!(told.starts_with(why), "{told}");
    // Two replicas are enough: what is missing is the budget.
    let namespace = world.state.namespaces.get_mut("one").expect("the namespace");
    let deployment = Workload { replicas: 2, ..workload(Kind::Deployment, "web") };
    namespace.workloads.insert((Kind::Deployment, "web".to_owned()), deployment);
    let told = refused(&world, &evict);
    assert!(
        told.contains("  next:      kubectl -n one get pdb   (poolguard makes one within seconds; then try again)\n"),
        "{told}"
    );
    // Owners of other kinds are not restarted.
    let namespace = world.state.namespaces.get_mut("one").expect("the namespace");
    let other = Workload { controller: owned("Rollout", "web"), ..set };
    namespace.workloads.insert((Kind::ReplicaSet, "web-5d".to_owned()), other);
    let told = refused(&world, &delete);
    assert!(!told.contains("rollout restart") && told.contains("set/pooled=true"), "{told}");
    let told = refused(&world, &evict);
    assert!(
        told.contains(
            "  next:      kubectl -n one get pods   (two replicas let one be evicted; else depool the service)\n"
        ),
        "{told}"
    );
    let namespace = world.state.namespaces.get_mut("one").expect("the namespace");
    namespace.pods.insert("web-0".to_owned(), Pod { controller: owned("StatefulSet", "web-5d").map(Arc::new), ..pod });
    assert!(!refused(&world, &delete).contains("rollout restart"));
}

#[test]
fn a_pod_that_is_not_known_is_to_be_tried_again() {
    let world = world(&Says::Serving);
    let evict = request(door(Effect::EvictPod, "pods/eviction"), "web-9", Body::Plain);
    assert_eq!(
        refused(&world, &evict),
        "The pod is not known yet, and eventgate serves in eqiad. Pod one/web-9 was not evicted.\n  \
         evidence:  conftool: eqiad pooled=true, codfw pooled=true (revision 812, read 0 ms ago)\n  \
         next:      1. kubectl -n one get pod web-9   (it has just been made, or is gone)\n             2. run your command again\n  \
         help:      #sre   emergency: https://runbook.example#override"
    );
}

#[test]
fn what_cannot_be_told_is_not_said_for_sure() {
    let world = world(&Says::Unknown(Why::TimedOut));
    let evict = request(door(Effect::EvictPod, "pods/eviction"), "web-9", Body::Plain);
    assert!(refused(&world, &evict).starts_with("The pod is not known yet, and eventgate may serve in eqiad."));
}

#[test]
fn an_override_that_was_taken_back_or_made_for_something_else_meanwhile_counts_no_longer() {
    let mut world = world(&Says::Serving);
    let glass = Override {
        name: "glass".to_owned(),
        service: "eventgate".to_owned(),
        datacenter: "eqiad".to_owned(),
        because: "an emergency".to_owned(),
        requested_by: "alice".to_owned(),
        since: now(),
        until: now().checked_add(jiff::SignedDuration::from_hours(1)).expect("a time"),
        terminating: false,
    };
    let namespace = world.state.namespaces.get_mut("one").expect("the namespace");
    namespace.overrides.insert("glass".to_owned(), glass.clone());
    let delete = request(door(Effect::RemovePod, "pods"), "web-0", Body::Pod(pod()));
    assert!(matches!(judge(&world, &delete), Decision::Allow(allowed) if allowed.reason == Reason::Overridden));
    let going = Override { terminating: true, ..glass.clone() };
    let other = Override { service: "another".to_owned(), ..glass };
    for now in [None, Some(going), Some(other)] {
        let reference = OverrideRef { namespace: "one".to_owned(), name: "glass".to_owned() };
        world.retaken.insert(reference, now);
        assert!(refused(&world, &delete).starts_with("eventgate serves live traffic in eqiad"));
    }
}

#[test]
fn a_claim_is_named_by_itself_or_by_what_it_begins_with_and_an_ordinal() {
    let references = References {
        claims: ["scratch".to_owned()].into(),
        claim_prefixes: ["data-web-".to_owned()].into(),
        ..References::default()
    };
    for (name, named) in [
        ("scratch", true),
        ("data-web-0", true),
        ("data-web-12", true),
        ("data-web-", false),
        ("data-web-x", false),
        ("data-web-1x", false),
        ("log-web-0", false),
    ] {
        assert_eq!(references.names_claim(name), named, "{name}");
    }
}

#[test]
fn a_replicaset_of_a_deployment_carries_traffic_by_its_pods_alone() {
    let mut namespace = Namespace::default();
    let owner = Owner { kind: "Deployment".to_owned(), name: "web".to_owned() };
    let set = Workload { controller: Some(owner), ready: 0, ..workload(Kind::ReplicaSet, "web-1") };
    assert!(!namespace.may_carry(&set), "there is no pod of it");
    assert!(namespace.may_carry(&Workload { ready: 1, ..set.clone() }));
    let of_it = Owner { kind: "ReplicaSet".to_owned(), name: "web-1".to_owned() };
    namespace.put(Pod { controller: Some(of_it.into()), ..pod() });
    assert!(namespace.may_carry(&set));
}

#[test]
fn a_service_lies_under_what_it_selects() {
    let service = Service { selector: labels([("app", "service")]), ..Service::default() };
    assert_eq!(service.wanted(), &service.selector);
}

#[test]
fn a_daemonset_that_keeps_a_pod_where_it_is_may_move() {
    let mut world = world(&Says::Serving);
    for (node, zone) in [("node-1", "a"), ("node-2", "b")] {
        world.state.nodes.insert(node.to_owned(), labels([("zone", zone)]));
    }
    let moved = |zone: &str| {
        let old = workload(Kind::DaemonSet, "daemon");
        let placement = Placement { node_selector: labels([("zone", zone)]), ..Placement::default() };
        let new = Workload { placement, ..old.clone() };
        let mut asked = request(door(Effect::MoveDaemonSet, "daemonsets"), "daemon", Body::Workload(Box::new(old)));
        asked.new = Some(Object { body: Body::Workload(Box::new(new)), ..Object::default() });
        asked
    };
    let mut put = |pod: Pod| {
        let owner = Owner { kind: "DaemonSet".to_owned(), name: "daemon".to_owned() };
        let namespace = world.state.namespaces.get_mut("one").expect("the namespace");
        namespace.pods.insert(
            "web-0".to_owned(),
            Pod { controller: Some(Arc::new(owner)), node: Some("node-1".to_owned()), ..pod },
        );
        [judge(&world, &moved("a")), judge(&world, &moved("b"))].map(|decided| matches!(decided, Decision::Allow(_)))
    };
    assert_eq!(put(pod()), [true, false], "its node is allowed, another one's is not");
    assert_eq!(put(Pod { terminating: true, ..pod() }), [false, false], "it does not stay");
    assert_eq!(put(Pod { finished: true, ..pod() }), [false, false], "it does not serve");
}

fn service(selector: &[(&str, &str)], kind: &str, ports: &[&str]) -> Service {
    Service {
        name: "front".to_owned(),
        selector: labels(selector.iter().copied()),
        kind: kind.to_owned(),
        ports: ports.iter().map(|port| (*port).to_owned()).collect(),
    }
}

#[test]
fn a_service_is_cut_by_a_selector_a_type_or_a_port_and_by_nothing_else() {
    let mut world = world(&Says::Serving);
    let old = service(&[("app", "service")], "NodePort", &["TCP/80", "TCP/443"]);
    let namespace = world.state.namespaces.get_mut("one").expect("the namespace");
    namespace.services.insert("front".to_owned(), old.clone());
    namespace.pods.insert("web-0".to_owned(), Pod { labels: labels([("app", "service"), ("new", "yes")]), ..pod() });
    let both = ["TCP/80", "TCP/443"];
    let app: &[(&str, &str)] = &[("app", "service")];
    for (what, new, passes) in [
        ("nothing", old.clone(), true),
        ("a selector that leads to a Ready pod", service(&[("new", "yes")], "NodePort", &both), true),
        ("a selector that leads nowhere", service(&[("app", "other")], "NodePort", &both), false),
        ("no selector", service(&[], "NodePort", &both), false),
        ("a type that reaches farther", service(app, "LoadBalancer", &both), true),
        ("a type that reaches less far", service(app, "ClusterIP", &both), false),
        ("the default type", service(app, "", &both), false),
        ("an alias", service(app, "ExternalName", &both), false),
        ("a port more", service(app, "NodePort", &["TCP/80", "TCP/443", "TCP/8443"]), true),
        ("a port less", service(app, "NodePort", &["TCP/80"]), false),
        ("another port", service(app, "NodePort", &["TCP/80", "TCP/8443"]), false),
    ] {
        let mut asked = request(door(Effect::ChangeService, "services"), "front", Body::Service(old.clone()));
        asked.new = Some(Object { body: Body::Service(new), ..Object::default() });
        assert_eq!(matches!(judge(&world, &asked), Decision::Allow(_)), passes, "{what}");
    }
    // From the least reach to the most, each step down cuts and none up does.
    let kinds = ["ExternalName", "ClusterIP", "NodePort", "LoadBalancer"];
    for (before, from) in kinds.iter().enumerate() {
        for (after, to) in kinds.iter().enumerate() {
            let mut asked =
                request(door(Effect::ChangeService, "services"), "front", Body::Service(service(app, from, &both)));
            asked.new = Some(Object { body: Body::Service(service(app, to, &both)), ..Object::default() });
            assert_eq!(matches!(judge(&world, &asked), Decision::Allow(_)), after >= before, "{from} to {to}");
        }
    }
}

#[test]
fn a_statefulset_keeps_serving_with_an_ordinal_that_stays() {
    let mut world = world(&Says::Serving);
    let scaled = |name: &str, from: (i32, i32), to: (i32, i32)| {
        let sized = |(first_ordinal, replicas): (i32, i32)| {
            Body::Workload(Box::new(Workload {
                first_ordinal,
                replicas,
                current: replicas,
                ..workload(Kind::StatefulSet, name)
            }))
        };
        let mut asked = request(door(Effect::ScaleWorkload, "statefulsets"), name, sized(from));
        asked.new = Some(Object { body: sized(to), ..Object::default() });
        asked
    };
    let owner = Owner { kind: "StatefulSet".to_owned(), name: "web".to_owned() };
    let namespace = world.state.namespaces.get_mut("one").expect("the namespace");
    namespace.pods.clear();
    let only = Pod { name: "web-2".to_owned(), controller: Some(Arc::new(owner)), ..pod() };
    namespace.pods.insert("web-2".to_owned(), only.clone());
    for (from, to, passes) in [
        ((0, 3), (0, 3), true),
        ((0, 3), (0, 2), false),
        ((0, 3), (0, 0), false),
        ((0, 3), (1, 2), true),
        ((0, 3), (2, 1), true),
        ((0, 3), (3, 3), false),
        ((1, 3), (0, 2), false),
        ((0, 3), (i32::MAX, 3), false),
    ] {
        let decided = judge(&world, &scaled("web", from, to));
        assert_eq!(matches!(decided, Decision::Allow(_)), passes, "from {from:?} to {to:?}");
    }
    assert!(matches!(judge(&world, &scaled("db", (0, 3), (0, 3))), Decision::Refuse(_)), "another one's pod");
    // A Scale says nothing of ordinals: the workload does.
    let namespace = world.state.namespaces.get_mut("one").expect("the namespace");
    let held = Workload { first_ordinal: 2, ..workload(Kind::StatefulSet, "web") };
    namespace.workloads.insert((Kind::StatefulSet, "web".to_owned()), held);
    let mut asked = request(door(Effect::ScaleWorkload, "statefulsets/scale"), "web", Body::Scale { replicas: 3 });
    asked.new = Some(Object { body: Body::Scale { replicas: 1 }, ..Object::default() });
    assert!(matches!(judge(&world, &asked), Decision::Allow(_)));
    let namespace = world.state.namespaces.get_mut("one").expect("the namespace");
    namespace.pods.insert("web-2".to_owned(), Pod { terminating: true, ..only });
    assert!(matches!(judge(&world, &asked), Decision::Refuse(_)));
}

#[test]
fn a_budget_lets_all_go_where_nothing_must_stay() {
    let with = |floor_is_zero, max_unavailable| Budget { floor_is_zero, max_unavailable, ..Budget::default() };
    for (budget, all) in [
        (with(false, None), false),
        (with(true, None), true),
        (with(false, Some(2)), false),
        (with(false, Some(3)), true),
        (with(false, Some(4)), true),
        (with(true, Some(0)), true),
    ] {
        assert_eq!(budget.lets_all_go(3), all, "{budget:?}");
    }
}

#[test]
fn a_replicaset_is_stood_for_by_the_workload_that_owns_it_and_by_no_other() {
    let selector = Selector::labels([("app", "service")]);
    let carrying = |controller: Option<(&str, &str)>, others: &[(Kind, &str)]| {
        let mut namespace = Namespace::default();
        let owner = controller.map(|(kind, name)| Owner { kind: kind.to_owned(), name: name.to_owned() });
        let set = Workload { controller: owner, ..workload(Kind::ReplicaSet, "set") };
        let others = others.iter().map(|(kind, name)| workload(*kind, name));
        for workload in others.chain([set]) {
            namespace.workloads.insert((workload.kind, workload.name.clone()), workload);
        }
        let led = namespace.led_to(&service(&[("app", "service")], "ClusterIP", &[]), &selector).count();
        let carrying: Vec<&str> = namespace.carrying(&selector).map(|workload| workload.name.as_str()).collect();
        assert_eq!(carrying.len(), led, "a Service leads to what carries");
        carrying.contains(&"set")
    };
    let rollout = Kind::Custom("Rollout");
    assert!(carrying(None, &[(Kind::Deployment, "web")]), "nobody owns it");
    assert!(!carrying(Some(("Deployment", "web")), &[(Kind::Deployment, "web")]));
    assert!(carrying(Some(("Deployment", "web")), &[(Kind::Deployment, "db")]), "its owner is not known");
    assert!(carrying(Some(("Deployment", "web")), &[(rollout, "web")]), "another kind");
    assert!(!carrying(Some(("Rollout", "web")), &[(rollout, "web")]));
    assert!(carrying(Some(("Rollout", "web")), &[(rollout, "db"), (Kind::Deployment, "web")]), "neither is its owner");
    // What is at zero carries nothing, whoever stands for it.
    let mut namespace = Namespace::default();
    let idle = Workload { replicas: 0, current: 0, ready: 0, ..workload(Kind::Deployment, "web") };
    namespace.workloads.insert((idle.kind, idle.name.clone()), idle);
    assert_eq!(namespace.led_to(&service(&[("app", "service")], "ClusterIP", &[]), &selector).count(), 0);
}

#[test]
fn a_route_is_cut_where_a_host_loses_what_serves_it() {
    let mut world = world(&Says::Serving);
    let namespace = world.state.namespaces.get_mut("one").expect("the namespace");
    namespace.services.insert("front".to_owned(), service(&[("app", "service")], "", &[]));
    namespace.services.insert("other".to_owned(), service(&[("app", "other")], "", &[]));
    namespace.services.insert("spare".to_owned(), service(&[("app", "service")], "", &[]));
    let route = |ways: &[(&str, &[&str])], through: &[&str]| {
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let ways = ways.iter().map(|(host, services)| ((*host).to_owned(), set(services))).collect();
        Body::Route(Route { name: "route".to_owned(), ways, through: set(through) })
    };
    let old = route(&[("a", &["front"]), ("b", &["other"])], &["gateway"]);
    for (what, new, passes) in [
        ("nothing", old.clone(), true),
        ("another way to the service", route(&[("a", &["spare"])], &["gateway"]), true),
        ("a way more", route(&[("a", &["front", "other"])], &["gateway"]), true),
        ("no way", route(&[("a", &[])], &["gateway"]), false),
        ("a way elsewhere", route(&[("a", &["other"])], &["gateway"]), false),
        ("the host is gone", route(&[("b", &["front"])], &["gateway"]), false),
        ("any host", route(&[("", &["front"])], &["gateway"]), true),
        ("any host elsewhere", route(&[("", &["other"])], &["gateway"]), false),
        ("no gateway", route(&[("a", &["front"])], &[]), false),
        ("a gateway more", route(&[("a", &["front"])], &["gateway", "second"]), true),
    ] {
        let mut asked = request(door(Effect::ChangeRoute, "ingresses"), "route", old.clone());
        asked.new = Some(Object { body: new, ..Object::default() });
        assert_eq!(matches!(judge(&world, &asked), Decision::Allow(_)), passes, "{what}");
    }
}

#[test]
fn a_route_that_keeps_its_ways_is_not_cut_while_nothing_is_ready() {
    let mut world = world(&Says::Serving);
    let namespace = world.state.namespaces.get_mut("one").expect("the namespace");
    namespace.services.insert("front".to_owned(), service(&[("app", "service")], "", &[]));
    namespace.pods.insert("web-0".to_owned(), Pod { ready: false, containers_ready: true, ..pod() });
    let route = |services: &[&str]| {
        let services = services.iter().map(|name| (*name).to_owned()).collect();
        Body::Route(Route { ways: BTreeMap::from([("a".to_owned(), services)]), ..Route::default() })
    };
    let mut asked = request(door(Effect::ChangeRoute, "ingresses"), "route", route(&["front"]));
    for (services, passes) in [(&["front", "more"][..], true), (&["more"][..], false)] {
        asked.new = Some(Object { body: route(services), ..Object::default() });
        assert_eq!(matches!(judge(&world, &asked), Decision::Allow(_)), passes, "{services:?}");
    }
}

#[test]
fn what_a_workload_names_counts_as_it_is_now() {
    let mut world = world(&Says::Serving);
    let named = References { config_maps: ["settings".to_owned()].into(), ..References::default() };
    let held = Workload { references: named, ..workload(Kind::Deployment, "web") };
    let namespace = world.state.namespaces.get_mut("one").expect("the namespace");
    namespace.workloads.insert((Kind::Deployment, "web".to_owned()), held.clone());
    let asked = request(door(Effect::RemoveReference, "configmaps"), "settings", Body::Plain);
    let reference = poolguard_policy::guarded::WorkloadRef {
        namespace: "one".to_owned(),
        kind: Kind::Deployment,
        name: "web".to_owned(),
    };
    for (what, now, passes) in [
        ("as it was", Some(held.clone()), false),
        ("it names it no more", Some(workload(Kind::Deployment, "web")), true),
        ("it is at zero", Some(Workload { replicas: 0, current: 0, ..held.clone() }), true),
        ("it is gone", None, true),
    ] {
        world.fresher.insert(reference.clone(), now);
        assert_eq!(matches!(judge(&world, &asked), Decision::Allow(_)), passes, "{what}");
    }
}

#[test]
fn a_selector_is_empty_only_without_any_requirement() {
    use poolguard_policy::selector::{Operator, Requirement};
    let exists = Requirement { key: "app".to_owned(), operator: Operator::Exists, values: Vec::new() };
    assert!(Selector::default().is_empty());
    assert!(!Selector::labels([("app", "service")]).is_empty());
    assert!(!Selector { match_expressions: vec![exists], ..Selector::default() }.is_empty());
}

#[test]
fn a_door_is_found_by_all_of_its_words_and_by_no_others() {
    let further: &'static [Door] = crate::world::further();
    for door in doors() {
        let (resource, subresource) = door.resource.split_once('/').unwrap_or((door.resource, ""));
        let record = door.effect == Effect::RemoveRelease;
        let verb = door.operation.as_str();
        let find = |group, resource, subresource, verb, record| {
            Door::find(further, group, resource, subresource, verb, record)
        };
        assert_eq!(find(door.group, resource, subresource, verb, record), Some(door));
        for (what, found) in [
            ("group", find("other", resource, subresource, verb, record)),
            ("resource", find(door.group, "others", subresource, verb, record)),
            ("subresource", find(door.group, resource, "other", verb, record)),
            ("verb", find(door.group, resource, subresource, "CONNECT", record)),
        ] {
            assert_eq!(found, None, "another {what} than that of {door:?}");
        }
        let other = find(door.group, resource, subresource, verb, !record);
        assert!(other.is_none_or(|other| (other.effect == Effect::RemoveRelease) != record), "{door:?}");
        assert_eq!(door.is_delete(), verb == "DELETE");
    }
    assert_eq!(Door::find(&[], "example.dev", "rollouts", "", "DELETE", false), None, "it is of a configuration");
}
