//! What we store: the resource types of group `poolguard.dev`, their conversion into what the policy reads, and the manifests
//! generated from them.
//!
//! Never: I/O. A resource names sources; endpoints, credentials and networks live in the operator's configuration only.

pub mod conditions;
mod convert;
#[allow(clippy::duplicated_attributes, reason = "each printer column has a type and a path of its own")]
mod pooling_override;
mod recalled;
#[allow(clippy::duplicated_attributes, reason = "each printer column has a type and a path of its own")]
mod service_pooling;

pub use convert::{ConvertError, pooling, pooling_override, remembered, selector, unknown_since};
pub use pooling_override::*;
pub use recalled::Recalled;
pub use service_pooling::*;

/// The label that the controller puts on namespaces which the webhooks guard.
pub const PROTECTED_LABEL: &str = "poolguard.dev/protected";

/// The field manager of everything that the controller writes.
pub const FIELD_MANAGER: &str = "poolguard";
