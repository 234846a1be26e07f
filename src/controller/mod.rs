//! Keeps status true: what is pooled where, what disagrees, whether removals are refused. Also the namespace label that makes
//! the API server ask the webhook, and the disruption budgets of services that have none.
//!
//! Never: a verdict. Nothing here has to be alive for a removal to be refused or allowed rightly.

mod apply;
mod budgets;
mod events;
mod gather;
mod metrics;
mod probe;
mod status;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube_lease_manager::{DurationSeconds, LeaseManagerBuilder, LeaseManagerError};
use thiserror::Error;

use crate::cluster::{Kinds, View};
use crate::config::Config;
use crate::observe::Sources;
use crate::runtime::Environment;
use crate::runtime::tasks::essential;
use apply::Apply;
use metrics::Metrics;

/// Changes that come together are worked off together.
const COALESCE: Duration = Duration::from_millis(5);
/// Even when nothing seems to change, everything is compared again.
const RESYNC: Duration = Duration::from_secs(30);
/// The pause after a write that failed.
const PAUSE: Duration = Duration::from_secs(1);
/// How long a lease outlives a holder that died, in seconds, and how long before its end it is renewed.
const LEASE: DurationSeconds = 15;
const RENEW: DurationSeconds = 5;

/// The controller cannot run.
#[derive(Debug, Error)]
pub enum Error {
    /// A metric is there already.
    #[error("cannot register the controller's metrics")]
    Metrics(#[source] prometheus::Error),
    /// The Lease cannot be used.
    #[error("cannot hold the Lease {0}")]
    Lease(String, #[source] LeaseManagerError),
    /// Another replica holds the Lease now.
    #[error("lost the Lease {0}: another replica acts now")]
    Lost(String),
}

/// Runs until a stop is requested or the Lease is lost.
///
/// # Errors
/// If the Lease cannot be held, or is lost.
pub async fn run(env: Environment, config: Arc<Config>, sources: Arc<Sources>) -> Result<(), Error> {
    let metrics = Metrics::new(&env.registry).map_err(Error::Metrics)?;
    let following = sources.follow(&env.shutdown);
    let view = View::new(config.webhook.watch_silence);
    view.follow(Kinds::ForStatus, &env.client, &env.shutdown);
    essential("view", &env.shutdown, Arc::clone(&view).report(env.health.clone(), env.shutdown.clone()));
    let probed = probe::start(&env, &config.controller.webhook_configuration);

    let name = config.controller.lease_name.clone();
    let failed = |error| Error::Lease(name.clone(), error);
    let lease = LeaseManagerBuilder::new(env.client.clone(), name.clone())
        .with_namespace(config.controller.namespace.clone())
        .with_duration(LEASE)
        .with_grace(RENEW)
        .build()
        .await
        .map_err(failed)?;
    let (mut leading, task) = lease.watch().await;
    let acquired = tokio::select! {
        () = env.shutdown.requested() => false,
        acquired = leading.wait_for(|leads| *leads) => acquired.is_ok(),
    };
    let ended = if acquired {
        tracing::info!(lease = name, "acting");
        metrics.leader.set(1);
        let apply = Apply::new(env.client.clone(), metrics.clone());
        let mut worker = Worker {
            view,
            following,
            probed,
            apply,
            here: sources.here().to_owned(),
            own: config.controller.namespace.clone(),
        };
        tokio::select! {
            () = env.shutdown.requested() => Ok(()),
            () = worker.work() => Ok(()),
            _ = leading.wait_for(|leads| !*leads) => Err(Error::Lost(name.clone())),
        }
    } else {
        Ok(())
    };
    metrics.leader.set(0);
    // Dropping the channel releases the Lease, so that the next replica need not wait for its end.
    drop(leading);
    if let Ok(Err(error)) = tokio::time::timeout(PAUSE * 5, task).await {
        tracing::warn!(error = %error, "the Lease was not released");
    }
    ended
}

/// What acts while the Lease is held.
struct Worker {
    view: Arc<View>,
    following: crate::observe::Following,
    probed: tokio::sync::watch::Receiver<probe::Probed>,
    apply: Apply,
    here: String,
    own: String,
}

impl Worker {
    /// Works off every change, for ever.
    async fn work(&mut self) {
        let (mut view, mut sources) = (self.view.changed(), self.following.changed());
        loop {
            let next = self.round().await;
            let pause = next.unwrap_or(RESYNC).min(RESYNC);
            tokio::select! {
                _ = view.changed() => {}
                _ = sources.changed() => {}
                _ = self.probed.changed() => {}
                () = tokio::time::sleep(pause) => {}
            }
            tokio::time::sleep(COALESCE).await;
            view.mark_unchanged();
            sources.mark_unchanged();
        }
    }

    /// Compares everything once and writes what differs. Returns when time alone changes something.
    async fn round(&mut self) -> Option<Duration> {
        // Not before everything is listed: a service whose workloads are not known yet would look empty.
        if let Some(doubts) = self.view.doubts() {
            tracing::debug!(doubts, "waiting for the view");
            return Some(Duration::from_millis(100));
        }
        let now = Timestamp::now();
        let probed = self.probed.borrow().clone();
        let gathered = gather::gather(&self.view, &self.following, &self.here, now);
        let labels = gather::labels(&self.view.read(), &gathered, &self.own);
        let budgets = budgets::decide(&self.view.read(), &gathered);
        self.apply.forget_all_but(&gathered);
        let mut failed = self.apply.labels(&labels).await;
        failed |= self.apply.budgets(&budgets).await;
        for service in &gathered {
            let before = self.apply.status_before(service);
            let desired = status::desired(service, before.as_ref(), &probed, now);
            failed |= self.apply.status(service, before, desired).await;
        }
        let next = status::next_change(&gathered, now);
        if failed { Some(next.unwrap_or(PAUSE).min(PAUSE)) } else { next }
    }
}
