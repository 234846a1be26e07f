//! What may never happen, whatever is asked, whatever the cluster holds, and whatever the sources say.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use poolguard_policy::doors::Effect;
use poolguard_policy::evidence::{Answer, Says, State as Concluded, Why, conclude};
use poolguard_policy::given::Known;
use poolguard_policy::guarded::Live;
use poolguard_policy::pooling::{Enforcement, Key, Pooling, Watched};
use poolguard_policy::request::Request;
use poolguard_policy::rules::decide;
use poolguard_policy::selecting::Selecting;
use poolguard_policy::state::{Namespace, Pod};
use poolguard_policy::verdict::{Decision, Reason};
use proptest::prelude::*;

use crate::asked::{request, through};
use crate::dice::{Dice, always_the_same, holds};
use crate::driver::{concluded, judge};
use crate::oracle::{Takes, Verdict, already_going, broken_glass, concerns, controller, verdict};
use crate::world::{NAMES, World, conclusion, doors, now, pod, pod_labels, pooling, world};

fn made(dice: &mut Dice) -> (World, Request) {
    let world = world(dice);
    let request = request(dice, &world);
    (world, request)
}

fn is_allowed(decision: &Decision) -> bool {
    matches!(decision, Decision::Allow(_))
}

fn is_refused(decision: &Decision) -> bool {
    matches!(decision, Decision::Refuse(_))
}

/// The second opinion comes to the same verdict, for the same reason.
#[test]
fn the_verdict_is_the_one_of_the_second_opinion() {
    holds(2000, |dice| {
        let (world, request) = made(dice);
        match (judge(&world, &request), verdict(&world, &request)) {
            // Who may do it anyway is allowed before a workload is read that the view does not hold.
            (Decision::Allow(allowed), Verdict::Allowed(reasons))
                if reasons == BTreeSet::from([Reason::NotGuarded])
                    && matches!(request.door.effect, Effect::ScaleWorkload)
                    && request.namespace == world.settings.canary_namespace
                    && (allowed.reason == Reason::ControllerAtWork && controller(&world, &request)
                        || allowed.reason == Reason::AlreadyGoing && already_going(&request)) => {}
            (Decision::Allow(allowed), Verdict::Allowed(reasons)) => prop_assert!(
                reasons.contains(&allowed.reason),
                "allowed by {:?} instead of {reasons:?} at {}",
                allowed.reason,
                told(&world, &request)
            ),
            (Decision::Refuse(refusal), Verdict::Refused(reasons)) => prop_assert!(
                reasons.contains(&refusal.reason),
                "refused by {:?} instead of {reasons:?} at {}",
                refusal.reason,
                told(&world, &request)
            ),
            (Decision::Fault(_), Verdict::Fault) => {}
            (decided, expected) => {
                prop_assert!(false, "{decided:?} instead of {expected:?} at {}", told(&world, &request))
            }
        }
        Ok(())
    });
}

/// What carries traffic of a service that is served here, or may be, goes only by an exception that has a name.
#[test]
fn what_carries_traffic_goes_only_by_a_named_exception() {
    holds(500, |dice| {
        let (world, request) = made(dice);
        let Decision::Allow(allowed) = judge(&world, &request) else { return Ok(()) };
        if matches!(request.door.effect, Effect::CreateOverride) {
            return Ok(());
        }
        for (key, pooling, takes) in concerns(&world, &request) {
            if !matches!(takes, Takes::Traffic | Takes::UnknownPod) {
                continue;
            }
            let budgeted =
                request.door.effect == Effect::EvictPod && kept_by_a_budget(&world, &request, pooling.as_ref());
            let served = pooling.is_none() || concluded(&world, &request, &key).here().state != Concluded::NotServing;
            let warns = pooling.is_some_and(|pooling| pooling.enforcement == Enforcement::Warn)
                || world.settings.enforcement == Enforcement::Warn;
            let listed = world.settings.trusted.iter().any(|trusted| {
                trusted.user == request.user
                    && trusted.resources.iter().any(|name| name == request.door.resource)
                    && trusted.verbs.iter().any(|name| name == request.door.operation.as_str())
            });
            let excepted = already_going(&request)
                || controller(&world, &request)
                || listed
                || broken_glass(&world, &key)
                || budgeted
                || warns;
            prop_assert!(!served || excepted, "{key} lost what carries its traffic: {:?}", allowed.reason);
        }
        Ok(())
    });
}

/// Whoever knows less permits no more: what the decision needs and does not have, it asks for.
#[test]
fn no_permission_comes_from_what_is_not_known() {
    holds(500, |dice| {
        let kept = dice.below(4);
        let (world, request) = made(dice);
        let full = judge(&world, &request);
        let nothing = (BTreeMap::new(), Live::new(), BTreeMap::new());
        let mut known = nothing.clone();
        let mut unheard = None;
        // Some of what would have been asked for is there.
        for _ in 0..kept {
            let given = Known { conclusions: &known.0, live: &known.1, overrides: &known.2, unheard };
            match decide(&request, &world.state, &world.settings, given, now()) {
                Decision::Ask(keys) => {
                    let key = keys[dice.below(keys.len())].clone();
                    known.0.insert(key.clone(), Arc::new(concluded(&world, &request, &key)));
                }
                Decision::Read(all) => {
                    let reference = all[dice.below(all.len())].clone();
                    known.1.insert(reference.clone(), world.workload(&reference));
                }
                Decision::Confirm(all) => {
                    let reference = all[dice.below(all.len())].clone();
                    known.2.insert(reference.clone(), world.glass(&reference));
                }
                Decision::Search(_) => unheard = Some(world.unheard),
                _ => break,
            }
        }
        let given = Known { conclusions: &known.0, live: &known.1, overrides: &known.2, unheard };
        let decided = decide(&request, &world.state, &world.settings, given, now());
        match &decided {
            Decision::Allow(allowed) => {
                prop_assert!(is_allowed(&full), "{decided:?}, and with everything known {full:?}");
                let rests = |reason| allowed.reason == reason;
                prop_assert!(!rests(Reason::NotServing) || !known.0.is_empty());
                prop_assert!(!rests(Reason::Overridden) || !known.2.is_empty());
            }
            Decision::Refuse(_) => prop_assert!(is_refused(&full)),
            Decision::Fault(_) => prop_assert_eq!(&decided, &full),
            Decision::Ask(_) | Decision::Read(_) | Decision::Confirm(_) | Decision::Search(_) => {}
        }
        Ok(())
    });
}

/// A further ServicePooling, worse evidence, an override less, or a stand-in that goes: none of it makes a permission of a
/// refusal.
#[test]
fn what_closes_the_guard_further_never_opens_it() {
    holds(500, |dice| {
        let how = dice.below(5);
        let (world, request) = made(dice);
        let before = judge(&world, &request);
        if !is_refused(&before) {
            return Ok(());
        }
        let mut closer = world.clone();
        match how {
            0 => further(dice, &mut closer),
            1 => worse(dice, &mut closer, &request, None),
            2 => worse(dice, &mut closer, &request, Some(Says::Unknown(Why::Unreachable))),
            3 => {
                for namespace in closer.state.namespaces.values_mut() {
                    namespace.overrides.retain(|_, _| dice.one_in(2));
                }
                closer.retaken.values_mut().for_each(|glass| *glass = None);
            }
            _ => {
                let pods = closer.state.namespaces.values_mut().flat_map(|namespace| namespace.pods.values_mut());
                pods.filter(|_| dice.one_in(2)).for_each(|pod| pod.terminating = true);
            }
        }
        let after = judge(&closer, &request);
        prop_assert!(is_refused(&after), "{after:?} after {before:?}");
        Ok(())
    });
}

/// A permission that does not rest on evidence is the same whatever the sources say.
#[test]
fn only_permissions_by_evidence_depend_on_evidence() {
    holds(500, |dice| {
        let (world, request) = made(dice);
        let before = judge(&world, &request);
        let mut other = world.clone();
        worse(dice, &mut other, &request, Some(Says::Serving));
        if let Decision::Allow(allowed) = &before
            && allowed.reason != Reason::NotServing
            && allowed.warned.is_none()
            && concerns(&world, &request).iter().filter(|(.., takes)| *takes != Takes::Nothing).count() < 2
        {
            prop_assert_eq!(judge(&other, &request), before);
        }
        Ok(())
    });
}

/// Names of users are compared whole: nobody passes as a controller by a name that only resembles one.
#[test]
fn only_the_controllers_of_kube_system_pass_as_such() {
    holds(500, |dice| {
        let name = dice.pick(&["", "a", "system:", "-controller"]).to_owned();
        let world = world(dice);
        let mut request = request(dice, &world);
        let genuine = request.user.clone();
        for user in [format!("{name}{genuine}x"), format!("x{name}{genuine}"), name] {
            if user.starts_with("system:node:") || user == "trusted" {
                continue;
            }
            request.user = user;
            if let Decision::Allow(allowed) = judge(&world, &request) {
                prop_assert!(allowed.reason != Reason::ControllerAtWork, "{} passed", request.user);
                prop_assert!(allowed.reason != Reason::Trusted, "{} was trusted", request.user);
            }
        }
        Ok(())
    });
}

/// The namespace controller takes things only out of a namespace that is going, or that is gone from view.
#[test]
fn the_namespace_controller_works_only_in_namespaces_that_go() {
    holds(500, |dice| {
        let single = dice.one_in(2);
        let world = world(dice);
        let mut request = request(dice, &world);
        let name = if single {
            "system:kube-controller-manager"
        } else {
            "system:serviceaccount:kube-system:namespace-controller"
        };
        request.user = name.to_owned();
        request.named = false;
        let going = world.state.namespace(&request.namespace).is_none_or(|namespace| namespace.terminating);
        if let Decision::Allow(allowed) = judge(&world, &request)
            && allowed.reason == Reason::ControllerAtWork
        {
            let pruned = single && request.door.kind == "ReplicaSet" && !request.door.is_delete();
            prop_assert!(going && request.door.is_delete() || pruned);
            prop_assert!(request.door.effect != Effect::RemoveNamespace);
        }
        Ok(())
    });
}

/// An installation that only warns refuses nothing of anybody's service, tells what it would have refused, and decides about
/// everything else as it always does.
#[test]
fn an_installation_that_only_warns_changes_refusals_alone() {
    holds(500, |dice| {
        let (mut world, request) = made(dice);
        world.settings.enforcement = Enforcement::Enforce;
        let enforced = judge(&world, &request);
        world.settings.enforcement = Enforcement::Warn;
        let warned = judge(&world, &request);
        match (enforced, warned) {
            (Decision::Refuse(refusal), Decision::Allow(allowed)) => {
                prop_assert!(allowed.warned.is_some());
                prop_assert!(matches!(allowed.reason, Reason::WarnOnly | Reason::Overridden));
                let told = allowed.warnings.iter().any(|line| line.contains("would have refused this"));
                prop_assert!(told, "{:?} instead of {}", allowed.warnings, refusal.message);
            }
            (Decision::Refuse(refusal), again) => {
                prop_assert!(matches!(refusal.reason, Reason::Canary | Reason::NotTheRequester));
                prop_assert_eq!(Decision::Refuse(refusal), again);
            }
            (enforced, warned) => prop_assert_eq!(enforced, warned),
        }
        Ok(())
    });
}

/// A permission that rests on an override names one that is in force, and warns.
#[test]
fn an_override_that_lets_something_pass_is_in_force_named_and_told() {
    holds(500, |dice| {
        let (world, request) = made(dice);
        let Decision::Allow(allowed) = judge(&world, &request) else { return Ok(()) };
        if allowed.reason != Reason::Overridden {
            let made = allowed.reason == Reason::OverrideCreated;
            prop_assert_eq!(allowed.glass.is_some(), made);
            return Ok(());
        }
        let (glass, service) = (allowed.glass.expect("an override"), allowed.service.expect("a service"));
        prop_assert!(now() < glass.until && !glass.terminating);
        prop_assert_eq!((glass.service.as_str(), glass.datacenter.as_str()), (service.name.as_str(), "eqiad"));
        prop_assert!(broken_glass(&world, &service));
        prop_assert!(!allowed.warnings.is_empty());
        Ok(())
    });
}

/// Whether some budget that covers the pod keeps more than it covers of what the service does not select.
fn kept_by_a_budget(world: &World, request: &Request, pooling: Option<&Pooling>) -> bool {
    let Some(namespace) = world.state.namespace(&request.namespace) else { return false };
    let Some(pod) = namespace.pods.get(&request.name) else { return false };
    let selects = |other: &Pod| pooling.is_none_or(|pooling| pooling.selector.matches(&other.labels));
    namespace.budgets.values().filter(|budget| budget.observed && budget.covers(&pod.labels)).any(|budget| {
        let covered = namespace.pods.values().filter(|other| budget.covers(&other.labels));
        let others = covered.filter(|other| !other.finished && !other.terminating && !selects(other)).count();
        usize::try_from(budget.desired_healthy).is_ok_and(|kept| kept > others)
    })
}

/// One ServicePooling more, of the same pods or of others.
fn further(dice: &mut Dice, world: &mut World) {
    let names: Vec<String> = world.state.namespaces.keys().cloned().collect();
    for name in names {
        let key = Key { namespace: name.clone(), name: "further".to_owned() };
        let made = pooling(dice, key.clone());
        world.conclusions.insert(key.clone(), conclusion(dice, &made));
        let undecodable = Watched::Undecodable { key, error: "no spec".to_owned() };
        let watched = if dice.one_in(4) { undecodable } else { Watched::Known(made) };
        let namespace = world.state.namespaces.get_mut(&name).expect("it is there");
        namespace.poolings.insert("further".to_owned(), watched);
    }
}

/// Every service has one answer less about this datacenter, or one that says this.
fn worse(dice: &mut Dice, world: &mut World, request: &Request, says: Option<Says>) {
    let held = world.state.namespaces.values().flat_map(|namespace| namespace.poolings.values());
    let mut poolings: Vec<_> = held
        .filter_map(|watched| match watched {
            Watched::Known(pooling) => Some(pooling.clone()),
            Watched::Undecodable { .. } => None,
        })
        .collect();
    if let Some(poolguard_policy::request::Body::Pooling(Ok(old))) = request.old.as_ref().map(|object| &object.body) {
        poolings.push(old.as_ref().clone());
    }
    for pooling in poolings {
        let before = concluded(world, request, &pooling.key);
        let mut answers: Vec<Answer> =
            before.datacenters.iter().flat_map(|datacenter| datacenter.answers.clone()).collect();
        let ours: Vec<usize> = (0..answers.len()).filter(|index| answers[*index].datacenter == "eqiad").collect();
        let Some(at) = ours.get(dice.below(ours.len().max(1))) else { continue };
        match &says {
            // An answer that saw traffic is not the worse for being missing.
            None if answers[*at].says.is_traffic() => {}
            None => drop(answers.remove(*at)),
            Some(Says::Unknown(_)) if answers[*at].says.is_traffic() => {}
            Some(says) => answers[*at].says = says.clone(),
        }
        world.conclusions.insert(pooling.key.clone(), conclude("eqiad", &pooling, &answers, now()));
    }
}

/// What a failure has to say besides its bytes.
fn told(world: &World, request: &Request) -> String {
    format!("{request:?}\nin {:#?}", world.state.namespaces)
}

/// Generated requests reach every door and come to every verdict: the laws above are about something.
#[test]
fn generated_requests_come_to_every_reason_through_every_door() {
    let (mut reasons, mut refused) = (BTreeSet::new(), BTreeSet::new());
    let doors = doors();
    let mut next = doors.iter().cycle();
    always_the_same(120 * doors.len(), |dice| {
        let door = next.next().expect("a door");
        let world = world(dice);
        let request = through(dice, &world, door);
        match judge(&world, &request) {
            Decision::Allow(allowed) => drop(reasons.insert(allowed.reason)),
            Decision::Refuse(refusal) => {
                reasons.insert(refusal.reason);
                if refusal.reason != Reason::Canary {
                    refused.insert(door.effect as usize);
                }
            }
            Decision::Fault(_) => {}
            undecided => unreachable!("{undecided:?}"),
        }
    });
    let missing: Vec<_> = Reason::ALL.into_iter().filter(|reason| !reasons.contains(reason)).collect();
    assert!(missing.is_empty(), "no request came to {missing:?}");
    let never: Vec<_> = doors.into_iter().filter(|door| !refused.contains(&(door.effect as usize))).collect();
    assert!(never.is_empty(), "nothing was refused at {never:?}");
}

/// Whatever came, changed and went before: a service that selects an object is found by the object's labels.
#[test]
fn a_service_that_selects_an_object_is_among_its_candidates() {
    holds(1000, |dice| {
        let mut all = Selecting::default();
        let mut plain = BTreeMap::new();
        for _ in 0..dice.below(12) {
            let name = dice.pick(&["one", "two", "three", "four"]).to_owned();
            if dice.one_in(4) {
                prop_assert_eq!(all.remove(&name), plain.remove(&name));
                continue;
            }
            let key = Key { namespace: "one".to_owned(), name: name.clone() };
            let watched = if dice.one_in(6) {
                Watched::Undecodable { key, error: "missing field `evidence`".to_owned() }
            } else {
                Watched::Known(pooling(dice, key))
            };
            prop_assert_eq!(all.insert(name.clone(), watched.clone()), plain.insert(name, watched));
        }
        prop_assert!(all.iter().eq(plain.iter()), "it reads like a map");
        let labels = pod_labels(dice);
        let found: BTreeSet<&String> = all.candidates(&labels).map(|(name, _)| name).collect();
        for (name, watched) in &plain {
            let concerned = match watched {
                Watched::Known(pooling) => pooling.selector.matches(&labels),
                Watched::Undecodable { .. } => true,
            };
            prop_assert!(!concerned || found.contains(name), "{name} is not found by {labels:?}");
        }
        Ok(())
    });
}

/// Pods share what they have in common with those beside them, and nothing else.
#[test]
fn a_pod_is_kept_as_it_came_whoever_is_beside_it() {
    holds(500, |dice| {
        let mut namespace = Namespace::default();
        let mut plain = BTreeMap::new();
        for _ in 0..dice.below(8) {
            let pod = pod(dice, dice.clone().pick(&NAMES));
            namespace.put(pod.clone());
            plain.insert(pod.name.clone(), pod);
        }
        prop_assert!(namespace.pods.iter().eq(plain.iter()), "{:?} instead of {plain:?}", namespace.pods);
        Ok(())
    });
}
