//! Objects as we need them: the few fields that decide, typed. Watches and reviews decode the same parts; whatever else an
//! object holds is skipped, not kept.
//!
//! Never: `data` of a ConfigMap or Secret, `serde_json::Value`, or a panic on anything that is missing.

/// One kind of object twice: as a review holds it, and as a watch delivers it.
macro_rules! slim {
    ($reviewed:ident, $watched:ident, $kind:path, { $($field:ident: $type:ty),* }) => {
        #[doc = concat!("Of a review: ", stringify!($reviewed), ".")]
        #[derive(Debug, Clone, Default, Deserialize)]
        #[serde(rename_all = "camelCase", default)]
        pub struct $reviewed {
            pub(crate) metadata: Meta,
            $($field: $type),*
        }

        #[doc = concat!("Of a watch: ", stringify!($reviewed), ".")]
        #[derive(Debug, Clone, Default, Deserialize, Resource)]
        #[serde(rename_all = "camelCase")]
        #[resource(inherit = $kind)]
        pub struct $watched {
            pub(crate) metadata: ObjectMeta,
            $(#[serde(default)] $field: $type),*
        }

        impl From<$watched> for $reviewed {
            fn from(watched: $watched) -> Self {
                let $watched { metadata, $($field),* } = watched;
                Self { metadata: Meta::from(&metadata), $($field),* }
            }
        }
    };
}

mod budget;
mod meta;
mod network;
mod pod;
mod template;
mod workload;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::Deserialize;

pub use budget::*;
pub use meta::*;
pub use network::*;
pub use pod::*;
pub use workload::*;

/// Of a watch: a Node's labels.
#[derive(Debug, Clone, Deserialize, Resource)]
#[resource(inherit = core::Node)]
pub struct WatchedNode {
    pub(crate) metadata: ObjectMeta,
}

/// Of a watch: a Namespace's labels, and whether it is going.
#[derive(Debug, Clone, Deserialize, Resource)]
#[resource(inherit = core::Namespace)]
pub struct WatchedNamespace {
    pub(crate) metadata: ObjectMeta,
}

/// Of a review: a `Scale`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct SlimScale {
    pub(crate) spec: ScaleSpec,
}

/// The spec of a `Scale`; `replicas` absent means 0.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct ScaleSpec {
    pub(crate) replicas: i32,
}

/// Any object of which only the metadata counts.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Plain {
    pub(crate) metadata: Meta,
    /// Of a Secret.
    pub(crate) r#type: Option<String>,
}
