//! Whether the guard is up, for somebody who waits for it: one dry run of one's own, and what the controller says of all the
//! others.
//!
//! Never: a change, or a right beyond the canary's own Service and resource.

use std::time::{Duration, Instant};

use kube::Client;
use kube::api::Api;
use poolguard_policy::rules::CANARY;
use thiserror::Error;

use super::attempts;
use crate::api::ServicePooling;
use crate::api::conditions::GUARDED;

/// The pause before the next try.
const PAUSE: Duration = Duration::from_secs(1);

/// The guard is not up.
#[derive(Debug, Error)]
pub enum Error {
    /// What was found last.
    #[error("the guard is not up: {0}")]
    Down(String),
}

/// Waits until the guard is up. Returns what was found, in a sentence.
///
/// # Errors
/// If it is not in time.
pub async fn check(client: Client, namespace: &str, within: Duration) -> Result<String, Error> {
    let start = Instant::now();
    loop {
        match look(&client, namespace).await {
            Ok(found) => return Ok(found),
            Err(why) if start.elapsed() >= within => return Err(Error::Down(why)),
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

async fn look(client: &Client, namespace: &str) -> Result<String, String> {
    attempts::service(client, namespace).await.map_err(|finding| finding.message)?;
    let resources = Api::<ServicePooling>::namespaced(client.clone(), namespace);
    let canary = resources.get(CANARY).await.map_err(|error| format!("the canary cannot be read: {error}"))?;
    let conditions = canary.status.map(|status| status.conditions).unwrap_or_default();
    let guarded = conditions.into_iter().find(|condition| condition.type_ == GUARDED);
    let guarded = guarded.ok_or("no controller has said anything about it yet")?;
    if guarded.status == "True" {
        Ok("a dry run was refused as it should be, and so were those of the controller".to_owned())
    } else if guarded.reason == "WarnOnly" {
        Ok(format!("a dry run was refused as it should be; beyond the canary, {}", guarded.message))
    } else {
        Err(format!("{}: {}", guarded.reason, guarded.message))
    }
}
