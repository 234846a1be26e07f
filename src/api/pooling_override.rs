//! `PoolingOverride`, version `v1alpha1`: breaking the glass, by name, with a reason and an end.

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

/// Lets removals of one service pass in one datacenter, for a time. Who may make one is a matter of RBAC: the chart's role
/// `poolguard-override` is bound to nobody.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[kube(
    group = "poolguard.dev",
    version = "v1alpha1",
    kind = "PoolingOverride",
    plural = "poolingoverrides",
    shortname = "pover",
    category = "poolguard",
    namespaced,
    derive = "PartialEq",
    doc = "Lets removals of one service pass in one datacenter, for a time.",
    printcolumn(
        name = "Service",
        type_ = "string",
        json_path = ".spec.servicePoolingRef.name",
        description = "The ServicePooling that it is about"
    ),
    printcolumn(
        name = "Datacenter",
        type_ = "string",
        json_path = ".spec.datacenter",
        description = "The only datacenter in which it counts"
    ),
    printcolumn(name = "By", type_ = "string", json_path = ".spec.requestedBy", description = "Who asked for it"),
    printcolumn(
        name = "Duration",
        type_ = "string",
        json_path = ".spec.duration",
        description = "How long it counts from its creation"
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp",
        description = "How long ago it was made"
    ),
    printcolumn(name = "Reason", type_ = "string", json_path = ".spec.reason", description = "Why", priority = 1)
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = kube::core::Rule::new("self == oldSelf")
        .message("an override cannot be changed: delete it, and make another one")
)]
pub struct PoolingOverrideSpec {
    /// The `ServicePooling` that it is about, in this namespace.
    pub service_pooling_ref: ServicePoolingRef,

    /// The only datacenter in which it counts, by the name that the sources of truth use too.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub datacenter: String,

    /// Why, for whoever reads the audit log: a ticket and a sentence, at least ten characters.
    #[schemars(length(max = 512))]
    #[x_kube(
        validation = kube::core::Rule::new("self.matches('^(\\\\s*\\\\S){10}')")
            .message("the reason is too short: write what is going on and the ticket, in at least ten characters")
    )]
    pub reason: String,

    /// How long it counts, from its creation: `30m`, `2h`; at most 24 hours.
    #[schemars(length(max = 16), regex(pattern = r"^([0-9]{1,5}h)?([0-9]{1,5}m)?([0-9]{1,5}s)?$"))]
    #[x_kube(
        validation = kube::core::Rule::new("self != '' && duration(self) > duration('0s') && duration(self) <= duration('24h')")
            .message("the duration must lie above 0s and at most at 24h: write for example 30m")
    )]
    pub duration: String,

    /// Who asks for it: the name that the API server knows the requester by (`kubectl auth whoami`).
    #[schemars(length(min = 1, max = 253))]
    pub requested_by: String,
}

/// A `ServicePooling` of the same namespace.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct ServicePoolingRef {
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}
