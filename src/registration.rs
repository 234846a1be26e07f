//! What the API server is asked to send us: derived from the door table, for the chart and for tests.
//!
//! Never: a wildcard, or anything that depends on an installation. The chart adds where the webhook is, the release's
//! namespace, and what its values say.

use poolguard_policy::doors::{DOORS, Door, ENTRIES, Entry, Selection};
use serde_json::{Value, json};

use crate::api::PROTECTED_LABEL;

/// The webhooks of the configuration, each without `clientConfig`; `further` are the doors of custom workloads.
pub fn webhooks(further: &[Door]) -> Vec<Value> {
    ENTRIES.iter().map(|entry| webhook(entry, further)).collect()
}

fn webhook(entry: &Entry, further: &[Door]) -> Value {
    let mut rules: Vec<(&str, &str, Vec<&str>, Vec<&str>)> = Vec::new();
    for door in DOORS.iter().filter(|door| door.entry == entry.name) {
        let operation = door.operation.as_str();
        let rule = rules.iter_mut().find(|(group, version, resources, _)| {
            *group == door.group && *version == door.version && resources.contains(&door.resource)
        });
        match rule {
            Some((.., operations)) => operations.push(operation),
            None => rules.push((door.group, door.version, vec![door.resource], vec![operation])),
        }
    }
    // Rules of one group with the same verbs are one rule.
    let mut merged: Vec<(&str, &str, Vec<&str>, Vec<&str>)> = Vec::new();
    for (group, version, resources, operations) in rules {
        match merged.iter_mut().find(|other| (other.0, other.1, &other.3) == (group, version, &operations)) {
            Some(other) => other.2.extend(resources),
            None => merged.push((group, version, resources, operations)),
        }
    }
    let scope = if entry.cluster_scoped { "Cluster" } else { "Namespaced" };
    // Those of the configuration stay apart, as the chart adds them.
    let further = further
        .iter()
        .filter(|door| door.entry == entry.name)
        .map(|door| (door.group, door.version, vec![door.resource], vec![door.operation.as_str()]));
    let rules: Vec<Value> = merged
        .into_iter()
        .chain(further)
        .map(|(group, version, resources, operations)| {
            json!({
                "apiGroups": [group], "apiVersions": [version], "resources": resources,
                "operations": operations, "scope": scope,
            })
        })
        .collect();
    let mut webhook = json!({
        "name": format!("{}.poolguard.dev", entry.name),
        "admissionReviewVersions": ["v1"],
        "sideEffects": "None",
        "matchPolicy": "Equivalent",
        "failurePolicy": if entry.fails_closed { "Fail" } else { "Ignore" },
        "rules": rules,
    });
    let label = json!({"matchLabels": {PROTECTED_LABEL: "true"}});
    match entry.selection {
        Selection::ProtectedNamespaces => webhook["namespaceSelector"] = label,
        Selection::ProtectedObject => webhook["objectSelector"] = label,
        Selection::Everywhere => {}
    }
    if !entry.conditions.is_empty() {
        webhook["matchConditions"] = entry
            .conditions
            .iter()
            .map(|condition| json!({"name": condition.name, "expression": condition.expression}))
            .collect();
    }
    webhook
}
