//! Generated requests: each through a door of the table, about something that the world has, has otherwise, or has not.

use std::sync::Arc;

use poolguard_policy::doors::{Door, Effect};
use poolguard_policy::pooling::{Key, Watched};
use poolguard_policy::request::{Body, Object, Request};
use poolguard_policy::selector::{Labels, Selector};
use poolguard_policy::state::{Kind, Namespace, Owner, Route};

use crate::dice::Dice;
use crate::world::{
    NAMES, USERS, World, budget, doors, glass, labels, pod, pod_labels, pooling, release, service, workload,
};

/// A request through any door.
pub fn request(dice: &mut Dice, world: &World) -> Request {
    let door = dice.choose(&doors());
    through(dice, world, door)
}

/// A request through this door.
pub fn through(dice: &mut Dice, world: &World, door: &'static Door) -> Request {
    let namespace = dice.pick(&["one", "one", "one", "two", "three", "canary"]).to_owned();
    let empty = Namespace::default();
    let held = world.state.namespace(&namespace).unwrap_or(&empty);
    let (name, old, new) = bodies(dice, door, &namespace, held);
    let user = dice.pick(&USERS).to_owned();
    let mut object = |body: Option<Body>| -> Option<Object> {
        Some(Object {
            labels: record_labels(dice),
            release: release(dice),
            terminating: dice.one_in(10),
            controller: controller(dice),
            body: body?,
        })
    };
    let (mut old, mut new) = (object(old), object(new));
    if let (Some(Body::Pod(pod)), Some(object)) = (old.clone().map(|old| old.body), &mut old) {
        // The decoder reads both from the same place.
        object.controller = pod.controller.map(Arc::unwrap_or_clone);
        object.terminating = pod.terminating;
        object.labels = pod.labels;
    }
    if door.is_delete() {
        new = None;
    }
    // Something is missing: the decoder lets that through.
    match dice.below(24) {
        22 => old = None,
        23 => new = None,
        _ => {}
    }
    Request { door, namespace, name, named: !dice.one_in(3), user, dry_run: dice.one_in(6), old, new }
}

fn record_labels(dice: &mut Dice) -> Labels {
    let made = labels([("owner", "helm"), ("name", dice.pick(&["main", "canary"]))]);
    if dice.one_in(10) { Labels::new() } else { made }
}

fn controller(dice: &mut Dice) -> Option<Owner> {
    let kind = dice.pick(&["Deployment", "ReplicaSet", "Thing", "Rollout"]).to_owned();
    dice.maybe(2, |_| Owner { kind, name: "web".to_owned() })
}

type Bodies = (String, Option<Body>, Option<Body>);

fn bodies(dice: &mut Dice, door: &Door, namespace: &str, held: &Namespace) -> Bodies {
    let mut name = dice.pick(&NAMES).to_owned();
    let (old, new) = match door.effect {
        Effect::RemovePod | Effect::RelabelPod => {
            let old = held.pods.get(&name).filter(|_| !dice.one_in(8)).cloned().unwrap_or_else(|| pod(dice, &name));
            let mut new = old.clone();
            new.labels = pod_labels(dice);
            (Body::Pod(old), Body::Pod(new))
        }
        Effect::EvictPod => (Body::Plain, Body::Plain),
        Effect::RemoveWorkload | Effect::ScaleWorkload | Effect::MoveDaemonSet => {
            name = dice.pick(&["web", "db"]).to_owned();
            let kind = Kind::built_in(door.kind).unwrap_or(Kind::Custom("Rollout"));
            let known = held.workloads.get(&(kind, name.clone())).filter(|_| !dice.one_in(8)).cloned();
            let old = known.unwrap_or_else(|| workload(dice, kind, &name));
            let mut new = old.clone();
            new.replicas = dice.choose(&[0, 0, 1, 2]);
            new.first_ordinal = dice.choose(&[old.first_ordinal, 0, 1, 2]);
            new.placement = workload(dice, kind, &name).placement;
            if door.resource.contains('/') {
                (Body::Scale { replicas: old.replicas }, Body::Scale { replicas: new.replicas })
            } else {
                (Body::Workload(Box::new(old)), Body::Workload(Box::new(new)))
            }
        }
        Effect::RemoveService | Effect::ChangeService => {
            name = dice.pick(&["front", "back"]).to_owned();
            let old = held.services.get(&name).cloned().unwrap_or_else(|| service(dice, &name));
            let mut new = service(dice, &name);
            if dice.one_in(2) {
                new.selector.clone_from(&old.selector);
            }
            if dice.one_in(2) {
                new.kind.clone_from(&old.kind);
                new.ports.clone_from(&old.ports);
            }
            (Body::Service(old), Body::Service(new))
        }
        Effect::RemoveRoute | Effect::ChangeRoute => {
            let old = route(dice);
            let mut new = route(dice);
            if dice.one_in(2) {
                new.through.clone_from(&old.through);
            }
            (Body::Route(old), Body::Route(new))
        }
        Effect::ChangeBudget => (Body::Budget(budget(dice)), Body::Budget(budget(dice))),
        Effect::RemovePooling | Effect::ChangePooling => {
            name = dice.pick(&["eventgate", "mathoid"]).to_owned();
            let key = Key { namespace: namespace.to_owned(), name: name.clone() };
            let old = match held.poolings.get(&name) {
                Some(Watched::Known(pooling)) => Ok(Box::new(pooling.clone())),
                Some(Watched::Undecodable { error, .. }) => Err(error.clone()),
                None => Ok(Box::new(pooling(dice, key.clone()))),
            };
            let mut new = old.clone().unwrap_or_else(|_| Box::new(pooling(dice, key.clone())));
            let other = pooling(dice, key);
            match dice.below(7) {
                0 => new.selector = other.selector,
                1 => new.expendable = other.expendable,
                2 => new.mode = other.mode,
                3 => new.evidence = other.evidence,
                4 => new.enforcement = other.enforcement,
                5 => new.datacenters = other.datacenters,
                _ => new.selector = Selector::default(),
            }
            let new = if dice.one_in(10) { Err("unknown field".to_owned()) } else { Ok(new) };
            (Body::Pooling(old), Body::Pooling(new))
        }
        Effect::CreateOverride => {
            name = "glass-3".to_owned();
            (Body::Plain, Body::Override(glass(dice, "glass-3")))
        }
        Effect::RemoveNamespace | Effect::UnlabelNamespace => {
            name = namespace.to_owned();
            (Body::Plain, Body::Plain)
        }
        Effect::RemoveDefinition => {
            name = dice.pick(&["servicepoolings.poolguard.dev", "poolingoverrides.poolguard.dev"]).to_owned();
            (Body::Plain, Body::Plain)
        }
        Effect::RemoveRelease => {
            name = dice.pick(&["sh.helm.release.v1.main.v1", "sh.helm.release.v1.canary.v12", "main"]).to_owned();
            (Body::Plain, Body::Plain)
        }
        Effect::RemoveReference | Effect::RemoveAccompanying => (Body::Plain, Body::Plain),
    };
    let old = (door.effect != Effect::CreateOverride).then_some(old);
    (name, old, Some(new))
}

fn route(dice: &mut Dice) -> Route {
    let mut made = Route { name: "route".to_owned(), through: dice.some(&["gateway"]), ..Route::default() };
    for host in ["", "a.example"] {
        if !dice.one_in(3) {
            made.ways.insert(host.to_owned(), dice.some(&["front", "back", "gone"]));
        }
    }
    made
}
