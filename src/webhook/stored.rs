//! Reads a `ServicePooling` as it is stored now, before anything is permitted because of it.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use kube::Client;
use kube::api::Api;
use kube::core::DeserializeGuard;
use poolguard_policy::pooling::{Enforcement, Key, Pooling};
use tokio::sync::Semaphore;

use super::flights::Stored;
use crate::api::{self, ServicePooling};
use crate::runtime::hedged::hedged;

/// How long reading one may take. It comes on top of what the sources take.
const READ: Duration = Duration::from_millis(1500);
/// How soon something is asked for once more.
pub(super) const AGAIN: Duration = Duration::from_millis(400);
/// How many are asked for at the same time.
const AT_ONCE: usize = 32;

type Found = Option<DeserializeGuard<ServicePooling>>;

/// How `ServicePooling`s are read. An installation that only warns takes the view's word for them.
pub(super) fn stored(client: &Client, enforcement: Enforcement) -> Option<Stored> {
    if enforcement == Enforcement::Warn {
        return None;
    }
    let (client, room) = (client.clone(), Arc::new(Semaphore::new(AT_ONCE)));
    Some(Arc::new(move |key: &Key| {
        let (key, room) = (key.clone(), Arc::clone(&room));
        let objects = Api::<DeserializeGuard<ServicePooling>>::namespaced(client.clone(), &key.namespace);
        async move {
            let attempt = || {
                let (objects, name) = (objects.clone(), key.name.clone());
                async move { objects.get_opt(&name).await }.boxed()
            };
            let reading = async {
                // Nobody closes it.
                let _one = room.acquire().await;
                hedged(AGAIN, attempt, passing).await
            };
            match tokio::time::timeout(READ, reading).await {
                Ok(Ok(found)) => Ok(understood(found)),
                Ok(Err(error)) => Err(error.to_string()),
                Err(_) => Err(format!("no answer within {} ms", READ.as_millis())),
            }
        }
        .boxed()
    }))
}

/// Whether the next attempt may do better: a connection that broke, an API server that has no time.
pub(super) fn passing(error: &kube::Error) -> bool {
    match error {
        kube::Error::Api(status) => status.code == 429 || status.code >= 500,
        _ => true,
    }
}

fn understood(found: Found) -> Option<Pooling> {
    api::pooling(&found?.0.ok()?).ok()
}
