//! What a namespace holds, to be compared before and after: by uid and content, status aside.

use std::collections::BTreeMap;

use anyhow::Result;
use serde_json::Value;

use crate::datacenter::Datacenter;

/// Every kind that a service is made of.
const KINDS: &str = "deployments,replicasets,pods,services,ingresses,configmaps,secrets,serviceaccounts,roles,rolebindings,\
                     horizontalpodautoscalers,networkpolicies,poddisruptionbudgets,servicepoolings,statefulsets,daemonsets,\
                     replicationcontrollers,persistentvolumeclaims,httproutes,rollouts.example.dev";

/// Objects by kind and name, without what changes by itself.
pub type Objects = BTreeMap<String, Value>;

/// What a namespace holds now.
///
/// # Errors
/// If `kubectl` fails.
pub fn objects(datacenter: &Datacenter, namespace: &str) -> Result<Objects> {
    let mut list = datacenter.get(&["-n", namespace, KINDS])?;
    let items = list["items"].as_array_mut().map(std::mem::take).unwrap_or_default();
    Ok(items
        .into_iter()
        .map(|mut item| {
            let name = format!(
                "{} {}",
                item["kind"].as_str().unwrap_or_default(),
                item["metadata"]["name"].as_str().unwrap_or_default()
            );
            if let Some(object) = item.as_object_mut() {
                object.remove("status");
            }
            if let Some(meta) = item["metadata"].as_object_mut() {
                meta.remove("managedFields");
                meta.remove("resourceVersion");
            }
            (name, item)
        })
        .collect())
}

/// What differs, in words; nothing where all is as before.
pub fn differences(before: &Objects, after: &Objects) -> Vec<String> {
    let gone = before.keys().filter(|name| !after.contains_key(*name)).map(|name| format!("{name} is gone"));
    let new = after.keys().filter(|name| !before.contains_key(*name)).map(|name| format!("{name} is new"));
    let changed = before.iter().filter(|(name, object)| after.get(*name).is_some_and(|now| now != *object));
    gone.chain(new).chain(changed.map(|(name, _)| format!("{name} changed"))).collect()
}

/// How many pods of a namespace are Ready.
///
/// # Errors
/// If `kubectl` fails.
pub fn ready_pods(datacenter: &Datacenter, namespace: &str) -> Result<usize> {
    let list = datacenter.get(&["-n", namespace, "pods"])?;
    let ready = |pod: &&Value| {
        let conditions = pod["status"]["conditions"].as_array();
        conditions.into_iter().flatten().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
            && pod["metadata"]["deletionTimestamp"].is_null()
    };
    Ok(list["items"].as_array().into_iter().flatten().filter(ready).count())
}

/// The status that Helm's newest record of a release bears; nothing where there is none.
///
/// # Errors
/// If `kubectl` fails.
pub fn record(datacenter: &Datacenter, namespace: &str, release: &str) -> Result<Option<String>> {
    let list = datacenter.get(&["-n", namespace, "secrets", "-l", &format!("owner=helm,name={release}")])?;
    let version = |secret: &Value| {
        secret["metadata"]["labels"]["version"].as_str().and_then(|version| version.parse::<u32>().ok())
    };
    let newest = list["items"].as_array().into_iter().flatten().max_by_key(|secret| version(secret));
    Ok(newest.and_then(|secret| secret["metadata"]["labels"]["status"].as_str().map(str::to_owned)))
}
