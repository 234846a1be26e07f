//! Custom workloads: kinds that are not Kubernetes' own, with pods of a template, `replicas` and a subresource `scale`.

use kube::core::ApiResource;
use poolguard_policy::doors::{Door, custom};
use poolguard_policy::state::Kind;
use schemars::JsonSchema;
use serde::Deserialize;

/// A custom workload, as an Argo Rollout is one.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CustomWorkload {
    /// Its API group: `argoproj.io`.
    pub group: String,
    /// Its version: `v1alpha1`.
    pub version: String,
    /// Its resource, in the plural: `rollouts`.
    pub resource: String,
    /// Its kind: `Rollout`.
    pub kind: String,
}

/// The same, for as long as the process lives: doors and states name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CustomKind {
    /// Its API group.
    pub group: &'static str,
    /// Its version.
    pub version: &'static str,
    /// Its resource, in the plural.
    pub resource: &'static str,
    /// Its scale subresource, behind the resource and a slash.
    pub scale: &'static str,
    /// Its kind.
    pub kind: &'static str,
}

impl CustomKind {
    /// How the API server knows it.
    pub fn api_resource(self) -> ApiResource {
        ApiResource {
            api_version: format!("{}/{}", self.group, self.version),
            group: self.group.to_owned(),
            version: self.version.to_owned(),
            kind: self.kind.to_owned(),
            plural: self.resource.to_owned(),
        }
    }

    /// The requests that could cut a service off by it.
    pub fn doors(self) -> [Door; 3] {
        custom((self.group, self.version), self.resource, self.scale, self.kind)
    }
}

/// The configured kinds. The configuration is read once in the life of a process, so their names are kept for ever.
pub(super) fn kinds(workloads: &[CustomWorkload]) -> Vec<CustomKind> {
    let keep = |text: &str| -> &'static str { Box::leak(text.to_owned().into_boxed_str()) };
    workloads
        .iter()
        .map(|CustomWorkload { group, version, resource, kind }| CustomKind {
            group: keep(group),
            version: keep(version),
            resource: keep(resource),
            scale: keep(&format!("{resource}/scale")),
            kind: keep(kind),
        })
        .collect()
}

/// What is wrong with one, given those before it.
pub(super) fn wrong(custom: &CustomKind, before: &[CustomKind]) -> Option<String> {
    let CustomKind { group, version, resource, scale: _, kind } = *custom;
    let plain = |text: &str| {
        !text.is_empty() && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.')
    };
    if Kind::built_in(kind).is_some() && matches!(group, "apps" | "") {
        Some(format!("{kind} is guarded anyway: leave it out"))
    } else if Kind::built_in(kind).is_some() {
        Some(format!(
            "{kind} of {group} is named like a built-in kind and cannot be told from it: leave it out, its pods are guarded one by one"
        ))
    } else if !(group.contains('.') && plain(group)) {
        Some(format!("group {group:?} is not an API group such as argoproj.io"))
    } else if !(plain(version) && plain(resource)) {
        Some(format!("version {version:?} and resource {resource:?} are not such as v1alpha1 and rollouts"))
    } else if !(kind.starts_with(|c: char| c.is_ascii_uppercase()) && kind.chars().all(|c| c.is_ascii_alphanumeric())) {
        Some(format!("kind {kind:?} is not one such as Rollout"))
    } else if before.iter().any(|other| other.kind == kind) {
        Some(format!("kind {kind} stands twice"))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn custom(group: &str, kind: &str) -> CustomKind {
        let own = |text: &str| text.to_owned();
        let workload =
            CustomWorkload { group: own(group), version: own("v1alpha1"), resource: own("rollouts"), kind: own(kind) };
        kinds(&[workload])[0]
    }

    #[test]
    fn a_custom_workload_is_a_kind_of_its_own() {
        let rollout = custom("argoproj.io", "Rollout");
        assert_eq!(wrong(&rollout, &[]), None);
        assert_eq!(wrong(&rollout, std::slice::from_ref(&rollout)).as_deref(), Some("kind Rollout stands twice"));
        for (group, kind) in [("apps.x", "Deployment"), ("apps", "Rollout"), ("*", "Rollout"), ("a.b", "rollout")] {
            assert!(wrong(&custom(group, kind), &[]).is_some(), "{group} {kind}");
        }
        let [remove, replicas, scale] = rollout.doors();
        assert_eq!((remove.resource, replicas.resource, scale.resource), ("rollouts", "rollouts", "rollouts/scale"));
    }
}
