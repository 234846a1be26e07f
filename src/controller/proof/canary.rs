//! The canary's ServicePooling. The chart makes its namespace and everything else in it; a resource of a kind that the chart
//! itself defines cannot come with it.

use kube::api::{Api, Patch, PatchParams};
use kube::{Client, Resource};
use poolguard_policy::rules::CANARY;
use serde_json::json;

use crate::api::{FIELD_MANAGER, ServicePooling};

/// Makes the ServicePooling, where it is missing. It is pooled nowhere, so nothing that is meant in earnest is refused for it.
pub(super) async fn keep(client: &Client, namespace: &str, here: &str) -> Result<(), kube::Error> {
    let resources = Api::<ServicePooling>::namespaced(client.clone(), namespace);
    if resources.get_opt(CANARY).await?.is_some() {
        return Ok(());
    }
    let resource = json!({
        "apiVersion": ServicePooling::api_version(&()), "kind": ServicePooling::kind(&()),
        "metadata": {"name": CANARY, "namespace": namespace},
        "spec": {
            "selector": {"matchLabels": {"app.kubernetes.io/component": "canary"}},
            "datacenters": [{"name": here}],
            "evidence": [{"name": "nowhere", "declared": {"pooledIn": []}}],
        },
    });
    let params = PatchParams::apply(FIELD_MANAGER).force();
    resources.patch(CANARY, &params, &Patch::Apply(&resource)).await.map(drop)
}
