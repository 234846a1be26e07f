//! Metadata, as far as it decides: of a review by itself, of a watch by what it was made from.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use poolguard_policy::selector::Labels;
use poolguard_policy::state::{Owner, RELEASE_NAME, RELEASE_NAMESPACE, Release};
use serde::Deserialize;

/// Metadata of an object in a review.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Meta {
    pub(crate) name: Option<String>,
    pub(crate) namespace: Option<String>,
    pub(crate) labels: Option<Labels>,
    pub(crate) annotations: Option<BTreeMap<String, String>>,
    pub(crate) deletion_timestamp: Option<serde::de::IgnoredAny>,
    pub(crate) owner_references: Option<Vec<Reference>>,
}

/// An entry of `ownerReferences`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Reference {
    kind: String,
    name: String,
    controller: Option<bool>,
}

impl Meta {
    pub(crate) fn release(&self) -> Option<Release> {
        self.annotations.as_ref().and_then(release)
    }

    pub(crate) fn controller(&self) -> Option<Owner> {
        let owner = self.owner_references.iter().flatten().find(|owner| owner.controller == Some(true))?;
        Some(Owner { kind: owner.kind.clone(), name: owner.name.clone() })
    }

    pub(crate) fn name(&self) -> String {
        self.name.clone().unwrap_or_default()
    }

    pub(crate) fn labels(&self) -> Labels {
        self.labels.clone().unwrap_or_default()
    }
}

impl From<&ObjectMeta> for Meta {
    fn from(meta: &ObjectMeta) -> Self {
        let owner = meta.owner_references.iter().flatten().find(|owner| owner.controller == Some(true));
        let ours = |(key, _): &(&String, &String)| key.as_str() == RELEASE_NAME || key.as_str() == RELEASE_NAMESPACE;
        Self {
            name: meta.name.clone(),
            namespace: meta.namespace.clone(),
            labels: meta.labels.clone(),
            annotations: meta
                .annotations
                .as_ref()
                .map(|all| all.iter().filter(ours).map(|(key, value)| (key.clone(), value.clone())).collect()),
            deletion_timestamp: meta.deletion_timestamp.as_ref().map(|_| serde::de::IgnoredAny),
            owner_references: owner.map(|owner| {
                vec![Reference { kind: owner.kind.clone(), name: owner.name.clone(), controller: Some(true) }]
            }),
        }
    }
}

fn release(annotations: &BTreeMap<String, String>) -> Option<Release> {
    Some(Release {
        namespace: annotations.get(RELEASE_NAMESPACE)?.clone(),
        name: annotations.get(RELEASE_NAME)?.clone(),
    })
}
