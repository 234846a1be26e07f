//! Metadata, as far as it decides: of a review by itself, of a watch by what it was made from.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use poolguard_policy::selector::Labels;
use poolguard_policy::state::{Owner, RELEASE_NAME, RELEASE_NAMESPACE, Release};
use serde::de::{DeserializeSeed, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// Metadata of an object in a review.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Meta {
    pub(crate) name: Option<String>,
    pub(crate) namespace: Option<String>,
    #[serde(deserialize_with = "labels")]
    pub(crate) labels: Option<Labels>,
    /// Those that we look at: others may be as long as the object.
    #[serde(deserialize_with = "ours")]
    pub(crate) annotations: Option<BTreeMap<String, String>>,
    pub(crate) deletion_timestamp: Option<serde::de::IgnoredAny>,
    pub(crate) owner_references: Option<Vec<Reference>>,
}

/// An entry of `ownerReferences`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Reference {
    api_version: String,
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
        Some(Owner { kind: kind(&owner.api_version, &owner.kind), name: owner.name.clone() })
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
            labels: meta
                .labels
                .as_ref()
                .map(|all| all.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect()),
            annotations: meta
                .annotations
                .as_ref()
                .map(|all| all.iter().filter(ours).map(|(key, value)| (key.clone(), value.clone())).collect()),
            deletion_timestamp: meta.deletion_timestamp.as_ref().map(|_| serde::de::IgnoredAny),
            owner_references: owner.map(|owner| {
                let (api_version, kind, name) = (owner.api_version.clone(), owner.kind.clone(), owner.name.clone());
                vec![Reference { api_version, kind, name, controller: Some(true) }]
            }),
        }
    }
}

/// The kinds that built-in controllers make pods of, and what of them makes more, with their groups.
const BUILT_IN: [(&str, &str); 7] = [
    ("Pod", ""),
    ("ReplicationController", ""),
    ("Deployment", "apps"),
    ("ReplicaSet", "apps"),
    ("StatefulSet", "apps"),
    ("DaemonSet", "apps"),
    ("Job", "batch"),
];

/// The kind of an owner, with its group where it is named like a built-in kind and is none: nobody takes it for that one then.
fn kind(api_version: &str, kind: &str) -> String {
    let group = api_version.split_once('/').map_or("", |(group, _)| group);
    let foreign = |(built_in, own): &(&str, &str)| *built_in == kind && *own != group;
    if !api_version.is_empty() && BUILT_IN.iter().any(foreign) { format!("{kind}.{group}") } else { kind.to_owned() }
}

fn release(annotations: &BTreeMap<String, String>) -> Option<Release> {
    Some(Release {
        namespace: annotations.get(RELEASE_NAMESPACE)?.clone(),
        name: annotations.get(RELEASE_NAME)?.clone(),
    })
}

/// Reads labels, without a map in between.
pub(super) fn labels<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Labels>, D::Error> {
    struct All;

    impl<'de> Visitor<'de> for All {
        type Value = Option<Labels>;

        fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            formatter.write_str("labels")
        }

        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_map<A: MapAccess<'de>>(self, mut all: A) -> Result<Self::Value, A::Error> {
            let mut pairs: Vec<(Box<str>, Box<str>)> = Vec::new();
            while let Some(pair) = all.next_entry()? {
                pairs.push(pair);
            }
            Ok(Some(pairs.into_iter().collect()))
        }
    }

    deserializer.deserialize_any(All)
}

/// The annotation with a Deployment's revision.
pub(super) const REVISION: &str = "deployment.kubernetes.io/revision";

/// Reads all, and keeps those that we look at.
fn ours<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<BTreeMap<String, String>>, D::Error> {
    struct Ours;

    impl<'de> Visitor<'de> for Ours {
        type Value = Option<BTreeMap<String, String>>;

        fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            formatter.write_str("annotations")
        }

        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_map<A: MapAccess<'de>>(self, mut all: A) -> Result<Self::Value, A::Error> {
            let mut kept = BTreeMap::new();
            while let Some(key) = all.next_key_seed(Known)? {
                match key {
                    Some(key) => drop(kept.insert(key.to_owned(), all.next_value()?)),
                    None => {
                        all.next_value_seed(Known)?;
                    }
                }
            }
            Ok(Some(kept))
        }
    }

    deserializer.deserialize_any(Ours)
}

/// Reads a string, and tells whether it is a key that we look at.
struct Known;

impl<'de> DeserializeSeed<'de> for Known {
    type Value = Option<&'static str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Known {
    type Value = Option<&'static str>;

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("a string")
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok([RELEASE_NAME, RELEASE_NAMESPACE, REVISION].into_iter().find(|key| *key == text))
    }
}
