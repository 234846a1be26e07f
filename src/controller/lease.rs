//! What the library that holds the Lease does not see: that the Lease itself is gone, and that a holder is dead whose clock was ahead.
//! What a holder wrote as the time of its last renewal comes from another clock; here, only ours counts.

use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::Lease;
use kube::Client;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;

use crate::api::FIELD_MANAGER;

/// How often it is looked at.
const PERIOD: Duration = Duration::from_secs(3);

/// Returns once there is no Lease: who holds it holds nothing any more, and whoever waits for its end would wait for ever.
pub(super) async fn gone(client: &Client, namespace: &str, name: &str) {
    let leases = Api::<Lease>::namespaced(client.clone(), namespace);
    loop {
        tokio::time::sleep(PERIOD).await;
        if matches!(leases.get_opt(name).await, Ok(None)) {
            tracing::warn!(lease = name, "it is gone");
            return;
        }
    }
}

/// Returns once there is no Lease, or somebody has held it for longer than `lasts` without renewing it; it has been freed then.
pub(super) async fn abandoned(client: &Client, namespace: &str, name: &str, lasts: Duration) {
    let leases = Api::<Lease>::namespaced(client.clone(), namespace);
    let mut seen: Option<(String, Instant)> = None;
    loop {
        tokio::time::sleep(PERIOD).await;
        let lease = match leases.get_opt(name).await {
            Ok(Some(lease)) => lease,
            Ok(None) => {
                tracing::warn!(lease = name, "it is gone");
                return;
            }
            Err(_) => continue,
        };
        if lease.spec.and_then(|spec| spec.holder_identity).is_none() {
            seen = None;
            continue;
        }
        let version = lease.metadata.resource_version.unwrap_or_default();
        match &seen {
            Some((known, since)) if *known == version => {
                if since.elapsed() <= lasts {
                    continue;
                }
                let free = json!({
                    "metadata": {"resourceVersion": version},
                    "spec": {"holderIdentity": null, "acquireTime": null, "renewTime": null, "leaseDurationSeconds": null},
                });
                let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
                // A conflict means that it was renewed just now.
                match leases.patch(name, &params, &Patch::Merge(&free)).await {
                    Ok(_) => {
                        tracing::warn!(
                            lease = name,
                            "its holder has not renewed it for too long, whatever it says: freed"
                        );
                        return;
                    }
                    Err(error) => tracing::debug!(lease = name, error = %error, "it cannot be freed"),
                }
                seen = None;
            }
            _ => seen = Some((version, Instant::now())),
        }
    }
}
