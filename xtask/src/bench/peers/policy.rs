//! The policies, as each peer takes them.

use serde_json::{Value, json};

/// What both users of Rego decide by.
pub const POOLING: &str = include_str!("policies/pooling.rego");
/// What OPA's server answers.
pub const OPA: &str = include_str!("policies/opa.rego");
const GATEKEEPER: &str = include_str!("policies/gatekeeper.rego");
/// A ValidatingAdmissionPolicy and its binding.
pub const VALIDATING_ADMISSION_POLICY: &str = include_str!("policies/validatingadmissionpolicy.yaml");
/// Kyverno's policy, and which objects it holds.
pub const KYVERNO: &str = include_str!("policies/kyverno.yaml");

/// The kind of the constraint.
pub const CONSTRAINT: &str = "KeepPooledPods";

/// Gatekeeper's template, and which objects its inventory holds.
pub fn template() -> Vec<Value> {
    let source = json!({"version": "v1", "rego": GATEKEEPER, "libs": [POOLING]});
    vec![
        json!({
            "apiVersion": "templates.gatekeeper.sh/v1", "kind": "ConstraintTemplate",
            "metadata": {"name": CONSTRAINT.to_lowercase()},
            "spec": {
                "crd": {"spec": {"names": {"kind": CONSTRAINT}}},
                "targets": [{
                    "target": "admission.k8s.gatekeeper.sh",
                    "code": [{"engine": "Rego", "source": source}],
                }],
            },
        }),
        json!({
            "apiVersion": "syncset.gatekeeper.sh/v1alpha1", "kind": "SyncSet",
            "metadata": {"name": "servicepoolings"},
            "spec": {"gvks": [{"group": "poolguard.dev", "version": "v1alpha1", "kind": "ServicePooling"}]},
        }),
    ]
}

/// Gatekeeper's constraint.
pub fn constraint() -> Value {
    json!({
        "apiVersion": "constraints.gatekeeper.sh/v1beta1", "kind": CONSTRAINT,
        "metadata": {"name": "pods"},
        "spec": {"match": {"kinds": [{"apiGroups": [""], "kinds": ["Pod"]}]}},
    })
}
