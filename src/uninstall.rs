//! Opens the guard before the chart goes: Helm 3 removes the webhook's Service and Deployment before its registration, and in between
//! every removal in a guarded namespace would fail.
//!
//! Never: without being told to, while services are guarded.

use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use kube::api::{Api, DeleteParams, ListParams};
use kube::{Client, ResourceExt};
use thiserror::Error;

use crate::api::ServicePooling;

/// As many services are named.
const NAMED: usize = 5;

/// The guard stays.
#[derive(Debug, Error)]
pub enum Error {
    /// Services are guarded.
    #[error(
        "poolguard still guards services of this cluster: {named}. Without it, whatever serves live traffic can be removed. To \
         uninstall it all the same, say so first: helm rollback RELEASE REVISION --namespace NAMESPACE, with the revision that helm \
         status shows, then helm upgrade RELEASE CHART --namespace NAMESPACE --reuse-values --set uninstall.confirmed=true. Then run \
         helm uninstall again"
    )]
    Guarded {
        /// The first of them, and how many more there are.
        named: String,
    },
    /// They cannot be listed.
    #[error("cannot list the ServicePoolings")]
    List(#[source] kube::Error),
    /// The registration cannot be removed.
    #[error("cannot remove the ValidatingWebhookConfiguration {0}")]
    Remove(String, #[source] kube::Error),
}

/// Removes the registration, if nothing is guarded outside of the canary's namespace or it is `confirmed`.
///
/// # Errors
/// If something is guarded, or the API server refuses.
pub async fn run(client: Client, registration: &str, canary: &str, confirmed: bool) -> Result<(), Error> {
    let mut guarded: Vec<String> =
        match Api::<ServicePooling>::all(client.clone()).list_metadata(&ListParams::default()).await {
            Ok(list) => list.iter().filter(|one| one.namespace().as_deref() != Some(canary)).map(full_name).collect(),
            // Without the definition, nothing is guarded.
            Err(kube::Error::Api(status)) if status.is_not_found() => Vec::new(),
            Err(error) => return Err(Error::List(error)),
        };
    if !guarded.is_empty() && !confirmed {
        let count = guarded.len();
        guarded.sort();
        let more = if count > NAMED { format!(" and {} more", count - NAMED) } else { String::new() };
        guarded.truncate(NAMED);
        return Err(Error::Guarded { named: format!("{}{more}", guarded.join(", ")) });
    }
    let configurations = Api::<ValidatingWebhookConfiguration>::all(client);
    match configurations.delete(registration, &DeleteParams::default()).await {
        Ok(_) => {
            tracing::info!(registration, "the guard is open");
            Ok(())
        }
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        Err(error) => Err(Error::Remove(registration.to_owned(), error)),
    }
}

fn full_name(one: &impl ResourceExt) -> String {
    format!("{}/{}", one.namespace().unwrap_or_default(), one.name_any())
}
