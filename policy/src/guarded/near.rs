//! Which services a request has to be compared with: it must not cost more because there are thousands beside the one that it
//! concerns.
//!
//! Never decides whether something is taken from them: it only leaves out those that surely lose nothing.

use std::collections::BTreeMap;

use super::{Live, names, scaled};
use crate::doors::Effect;
use crate::pooling::Watched;
use crate::request::{Body, Request};
use crate::selector::Labels;
use crate::state::{Namespace, Service, Workload};

/// The services of a namespace that may lose something by a request, in order of their names: each selects something that it
/// is about, or may select anything. Of a request that cannot be read, all.
pub(super) fn near<'a>(request: &Request, namespace: &'a Namespace, live: &Live) -> Vec<&'a Watched> {
    let all = || namespace.poolings.values().collect();
    let old = request.old.as_ref().map(|object| &object.body);
    let new = request.new.as_ref().map(|object| &object.body);
    match (request.door.effect, old, new) {
        (Effect::RemovePod, Some(Body::Pod(pod)), _)
        | (Effect::RelabelPod, Some(Body::Pod(pod)), Some(Body::Pod(_))) => selecting(namespace, [&pod.labels]),
        (Effect::EvictPod, ..) => match namespace.pods.get(&request.name) {
            Some(pod) => selecting(namespace, [&pod.labels]),
            None => all(),
        },
        (Effect::RemoveWorkload, Some(Body::Workload(workload)), _)
        | (Effect::MoveDaemonSet, Some(Body::Workload(workload)), Some(Body::Workload(_)))
        | (Effect::ScaleWorkload, Some(Body::Workload(workload)), Some(Body::Workload(_) | Body::Scale { .. })) => {
            selecting(namespace, [&workload.template_labels])
        }
        (Effect::ScaleWorkload, _, Some(Body::Workload(_) | Body::Scale { .. })) => {
            match scaled(request, namespace, live) {
                Some(workload) => selecting(namespace, [&workload.template_labels]),
                None => all(),
            }
        }
        (Effect::RemoveService, Some(Body::Service(service)), _)
        | (Effect::ChangeService, Some(Body::Service(service)), Some(Body::Service(_))) => {
            selecting(namespace, behind(namespace, service))
        }
        (Effect::RemoveRoute, Some(Body::Route(route)), _)
        | (Effect::ChangeRoute, Some(Body::Route(route)), Some(Body::Route(_))) => {
            let services = route.backends().into_iter().filter_map(|name| namespace.services.get(name));
            selecting(namespace, services.flat_map(|service| behind(namespace, service)))
        }
        (Effect::RemoveReference, ..) => {
            selecting(namespace, templates(namespace, |workload| names(request, workload)))
        }
        (Effect::RemoveAccompanying, Some(_), _) => {
            let release = request.old.as_ref().and_then(|object| object.release.as_ref());
            let of_it = |workload: &&Workload| release.is_some() && workload.release.as_ref() == release;
            selecting(namespace, templates(namespace, of_it))
        }
        (Effect::ChangeBudget, Some(Body::Budget(budget)), Some(Body::Budget(_))) => {
            selecting(namespace, templates(namespace, |workload| budget.covers(&workload.template_labels)))
        }
        _ => all(),
    }
}

/// Those that may select one of these, each once, by name.
pub(super) fn selecting<'a, 'b>(
    namespace: &'a Namespace,
    labels: impl IntoIterator<Item = &'b Labels>,
) -> Vec<&'a Watched> {
    // Thousands of pods may lead to one service: put in one by one, it is kept once. Collected, all would be there for a moment.
    let mut found = BTreeMap::new();
    found.extend(namespace.poolings.of_any());
    found.extend(labels.into_iter().flat_map(|labels| namespace.poolings.candidates(labels)));
    found.into_values().collect()
}

/// The labels of the pods that some workloads make.
pub(super) fn templates(namespace: &Namespace, which: impl Fn(&&Workload) -> bool) -> impl Iterator<Item = &Labels> {
    namespace.workloads.values().filter(which).map(|workload| &workload.template_labels)
}

/// The labels of everything that a Service selects.
fn behind<'a>(namespace: &'a Namespace, service: &'a Service) -> impl Iterator<Item = &'a Labels> {
    namespace.labels().filter(|labels| service.selects(labels))
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::sync::Arc;

    use super::*;
    use crate::doors::DOORS;
    use crate::pooling::{Enforcement, Key, Mode, Pooling};
    use crate::request::Object;
    use crate::selector::Selector;
    use crate::state::{Budget, Kind, Owner, Pod, References, Release, Replacement, Route};

    fn labels(app: &str) -> Labels {
        [("app", app)].into_iter().collect()
    }

    fn pooling(name: &str) -> Watched {
        Watched::Known(Pooling {
            key: Key { namespace: "space".to_owned(), name: name.to_owned() },
            version: "1/1".to_owned(),
            selector: Selector { match_labels: labels(name), match_expressions: Vec::new() },
            expendable: None,
            mode: Mode::ActiveActive,
            datacenters: Vec::new(),
            min_pooled_datacenters: 1,
            evidence: Vec::new(),
            enforcement: Enforcement::Enforce,
            accepted: Vec::new(),
        })
    }

    fn pod(app: &str) -> Pod {
        let owner = Owner { kind: "ReplicaSet".to_owned(), name: app.to_owned() };
        Pod { name: app.to_owned(), labels: labels(app), controller: Some(Arc::new(owner)), ..Pod::default() }
    }

    fn release(name: &str) -> Release {
        Release { namespace: "space".to_owned(), name: name.to_owned() }
    }

    fn workload(app: &str) -> Workload {
        let references = References { config_maps: BTreeSet::from([app.to_owned()]), ..References::default() };
        Workload {
            kind: Kind::Deployment,
            name: app.to_owned(),
            controller: None,
            release: Some(release(app)),
            template_labels: labels(app),
            replicas: 1,
            replacement: Replacement::Gradual,
            current: 1,
            ready: 1,
            first_ordinal: 0,
            never_up: false,
            references,
            placement: Default::default(),
        }
    }

    fn service(app: &str) -> Service {
        Service { name: app.to_owned(), selector: labels(app), ..Service::default() }
    }

    fn route(app: &str) -> Body {
        let ways = ["a", "b"].map(|host| (host.to_owned(), BTreeSet::from([app.to_owned()])));
        Body::Route(Route { ways: ways.into_iter().collect(), ..Route::default() })
    }

    /// Two services, `one` and `two`, with everything that belongs to each.
    fn namespace() -> Namespace {
        let mut namespace = Namespace { protected: true, ..Namespace::default() };
        for app in ["one", "two"] {
            namespace.poolings.insert(app.to_owned(), pooling(app));
            namespace.pods.insert(app.to_owned(), pod(app));
            namespace.workloads.insert((Kind::Deployment, app.to_owned()), workload(app));
            namespace.services.insert(app.to_owned(), service(app));
        }
        namespace
    }

    fn body(effect: Effect, app: &str) -> Body {
        match effect {
            Effect::RemovePod | Effect::RelabelPod => Body::Pod(pod(app)),
            Effect::RemoveWorkload | Effect::MoveDaemonSet | Effect::ScaleWorkload => {
                Body::Workload(Box::new(workload(app)))
            }
            Effect::RemoveService | Effect::ChangeService => Body::Service(service(app)),
            Effect::RemoveRoute | Effect::ChangeRoute => route(app),
            Effect::ChangeBudget => Body::Budget(Budget {
                selector: Some(Selector { match_labels: labels(app), match_expressions: Vec::new() }),
                ..Budget::default()
            }),
            _ => Body::Plain,
        }
    }

    fn request(effect: Effect, old: Option<Body>, new: Option<Body>) -> Request {
        let object = |body| Object { body, release: Some(release("one")), ..Object::default() };
        Request {
            door: DOORS.iter().find(|door| door.effect == effect).expect("a door"),
            namespace: "space".to_owned(),
            name: "one".to_owned(),
            named: true,
            user: "alice".to_owned(),
            dry_run: false,
            old: old.map(object),
            new: new.map(object),
        }
    }

    fn seen(request: &Request, namespace: &Namespace) -> Vec<String> {
        let found = near(request, namespace, &BTreeMap::new());
        let name = |watched: &Watched| match watched {
            Watched::Known(pooling) => pooling.key.name.clone(),
            Watched::Undecodable { key, .. } => key.name.clone(),
        };
        found.into_iter().map(name).collect()
    }

    const ALL: [Effect; 13] = [
        Effect::RemovePod,
        Effect::EvictPod,
        Effect::RelabelPod,
        Effect::RemoveWorkload,
        Effect::ScaleWorkload,
        Effect::MoveDaemonSet,
        Effect::RemoveService,
        Effect::ChangeService,
        Effect::RemoveRoute,
        Effect::ChangeRoute,
        Effect::RemoveReference,
        Effect::RemoveAccompanying,
        Effect::ChangeBudget,
    ];

    #[test]
    fn only_those_are_looked_at_that_select_something_of_the_request() {
        let namespace = namespace();
        for effect in ALL {
            let request = request(effect, Some(body(effect, "one")), Some(body(effect, "one")));
            assert_eq!(seen(&request, &namespace), ["one"], "{effect:?}");
        }
        // What a workload makes is enough, before there are pods, and so are pods without one.
        for effect in [Effect::RemoveService, Effect::RemoveRoute] {
            let request = request(effect, Some(body(effect, "one")), None);
            let (mut made, mut alone) = (namespace.clone(), namespace.clone());
            made.pods.clear();
            alone.workloads.clear();
            assert_eq!([seen(&request, &made), seen(&request, &alone)], [["one"], ["one"]], "{effect:?}");
        }
    }

    #[test]
    fn of_a_scale_alone_the_workload_counts_that_is_known() {
        let (namespace, effect) = (namespace(), Effect::ScaleWorkload);
        let scale = || Some(Body::Scale { replicas: 0 });
        let mut request = request(effect, scale(), scale());
        assert_eq!(seen(&request, &namespace), ["one"]);
        request.name = "nobody".to_owned();
        assert_eq!(seen(&request, &namespace), ["one", "two"], "it may be anything");
    }

    #[test]
    fn those_that_may_select_anything_are_always_looked_at() {
        let mut namespace = namespace();
        let key = Key { namespace: "space".to_owned(), name: "broken".to_owned() };
        namespace.poolings.insert(key.name.clone(), Watched::Undecodable { key, error: "why".to_owned() });
        for effect in ALL {
            let request = request(effect, Some(body(effect, "one")), Some(body(effect, "one")));
            assert_eq!(seen(&request, &namespace), ["broken", "one"], "{effect:?}");
        }
    }

    #[test]
    fn of_what_cannot_be_read_or_is_not_known_everybody_is_looked_at() {
        let namespace = namespace();
        for effect in ALL {
            // These are about what the view holds under the name.
            if !matches!(effect, Effect::EvictPod | Effect::RemoveReference) {
                assert_eq!(seen(&request(effect, None, None), &namespace), ["one", "two"], "{effect:?}");
            }
        }
        let mut unknown = request(Effect::EvictPod, None, None);
        unknown.name = "three".to_owned();
        assert_eq!(seen(&unknown, &namespace), ["one", "two"]);
        let mut loose = request(Effect::RemoveAccompanying, Some(Body::Plain), None);
        loose.old = loose.old.map(|old| Object { release: None, ..old });
        let mut without = namespace.clone();
        without.workloads.clear();
        without.workloads.insert((Kind::Deployment, "one".to_owned()), Workload { release: None, ..workload("one") });
        assert!(seen(&loose, &without).is_empty(), "what is of no release accompanies nobody");
    }
}
