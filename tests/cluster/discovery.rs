//! The doors against the API server's own discovery: every request that can be sent about something in a namespace is a door, or
//! stands on the written list with a reason.

use std::collections::{BTreeMap, BTreeSet};

use poolguard_harness::datacenter::Datacenter;
use poolguard_harness::lists;
use poolguard_policy::doors::{DOORS, Door, Operation, custom};
use serde_json::Value;

use crate::scenario::Scenario;

/// A resource as the list writes it: its group behind a dot, its subresource behind a slash.
fn written(group: &str, resource: &str) -> String {
    let (name, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    let dot = if group.is_empty() { "" } else { "." };
    let slash = if subresource.is_empty() { "" } else { "/" };
    format!("{name}{dot}{group}{slash}{subresource}")
}

/// Which verbs of the API a door is about.
fn verbs(door: &Door) -> &'static [&'static str] {
    match door.operation {
        Operation::Create => &["create"],
        Operation::Update => &["update", "patch"],
        Operation::Delete => &["delete", "deletecollection"],
    }
}

/// Every changing verb of every resource in a namespace.
fn discovered(datacenter: &Datacenter) -> BTreeMap<String, BTreeSet<String>> {
    let raw = |path: &str| -> Value {
        let text = datacenter.kubectl(&["get", "--raw", path]).expect("kubectl").success().expect("discovery");
        serde_json::from_str(&text).expect("JSON")
    };
    let mut found = BTreeMap::new();
    let mut add = |group: &str, path: &str| {
        for resource in raw(path)["resources"].as_array().expect("resources") {
            if resource["namespaced"] != true {
                continue;
            }
            let changing = ["create", "update", "patch", "delete", "deletecollection"];
            let verbs = resource["verbs"].as_array().into_iter().flatten().filter_map(Value::as_str);
            let verbs: BTreeSet<String> = verbs.filter(|verb| changing.contains(verb)).map(str::to_owned).collect();
            found.insert(written(group, resource["name"].as_str().expect("a name")), verbs);
        }
    };
    add("", "/api/v1");
    for group in raw("/apis")["groups"].as_array().expect("groups") {
        let (name, version) = (&group["name"], &group["preferredVersion"]["groupVersion"]);
        add(name.as_str().expect("a name"), &format!("/apis/{}", version.as_str().expect("a version")));
    }
    found
}

#[test]
fn every_request_about_something_in_a_namespace_is_a_door_or_has_a_reason_to_be_none() {
    let found = discovered(&Scenario::shared().fleet.eqiad);
    assert!(found.len() > 60, "only {} resources were discovered", found.len());
    let rollouts = custom(("example.dev", "v1alpha1"), "rollouts", "rollouts/scale", "Rollout");
    let mut doors: BTreeSet<(String, String)> = BTreeSet::new();
    for door in DOORS.iter().chain(&rollouts) {
        let name = written(door.group, door.resource);
        doors.extend(verbs(door).iter().map(|verb| (name.clone(), (*verb).to_owned())));
    }
    let mut excused: BTreeSet<(String, String)> = BTreeSet::new();
    let mut stale = Vec::new();
    for row in lists::outside().expect("the list") {
        for resource in &row.resources {
            let Some(has) = found.get(resource) else {
                stale.push(format!("{resource} is on the list, and the API server has no such resource"));
                continue;
            };
            let verbs = if row.verbs.is_empty() { has.iter().cloned().collect() } else { row.verbs.clone() };
            for verb in verbs {
                let request = (resource.clone(), verb.clone());
                if doors.contains(&request) {
                    stale.push(format!("{verb} {resource} is on the list, and there is a door for it"));
                } else if !has.contains(&verb) {
                    stale.push(format!("{verb} {resource} is on the list, and cannot be asked for"));
                }
                excused.insert(request);
            }
        }
    }
    assert!(stale.is_empty(), "{}", stale.join("\n"));
    let open: Vec<String> = found
        .iter()
        .flat_map(|(resource, verbs)| verbs.iter().map(move |verb| (resource.clone(), verb.clone())))
        .filter(|request| !doors.contains(request) && !excused.contains(request))
        .map(|(resource, verb)| format!("{verb} {resource}"))
        .collect();
    assert!(open.is_empty(), "neither a door nor on tests/lists/outside.yaml: {}", open.join(", "));
}
