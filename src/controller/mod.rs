//! Keeps status true: what is pooled where, what disagrees, whether removals are refused. Also the namespace label that makes
//! the API server ask the webhook, the disruption budgets of services that have none, and the webhook's certificate.
//!
//! Never: a verdict. Nothing here has to be alive for a removal to be refused or allowed rightly.

mod apply;
mod backlog;
mod budgets;
mod certificates;
mod events;
mod gather;
mod lease;
mod metrics;
mod proof;
mod scope;
mod status;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use kube_lease_manager::{DurationSeconds, LeaseManagerBuilder, LeaseManagerError};
use poolguard_policy::pooling::{Key, Pooling};
use thiserror::Error;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::api::ServicePooling;
use crate::cluster::{Kinds, View};
use crate::config::{Config, Enforcement};
use crate::observe::Sources;
use crate::runtime::Environment;
use crate::runtime::metrics::{Collectors, Metrics as _};
use crate::runtime::tasks::essential;
use apply::Apply;
use backlog::Backlog;
use gather::Installation;
use metrics::Metrics;
use proof::Proved;
pub use proof::check;
use scope::Scope;

/// Changes that come together are worked off together.
const COALESCE: Duration = Duration::from_millis(5);
/// So long is everything worked off at a go: a switch of one service must not wait for thousands of others to be written.
const SLICE: Duration = Duration::from_millis(50);
/// Even when nothing seems to change, everything is compared again.
const RESYNC: Duration = Duration::from_secs(30);
/// The pause while the view is not whole.
const DOUBT: Duration = Duration::from_millis(100);
/// The pause after a write that failed.
const PAUSE: Duration = Duration::from_secs(1);
/// How long a lease outlives a holder that died, in seconds, and how long before its end it is renewed.
const LEASE: DurationSeconds = 15;
const RENEW: DurationSeconds = 5;
/// How long a Lease is not renewed, by our own clock, until its holder is believed to be dead.
const ABANDONED: Duration = Duration::from_secs(LEASE + RENEW);

/// The controller cannot run.
#[derive(Debug, Error)]
pub enum Error {
    /// A metric is there already.
    #[error("cannot register the controller's metrics")]
    Metrics(#[source] prometheus::Error),
    /// The Lease cannot be used.
    #[error("cannot hold the Lease {0}")]
    Lease(String, #[source] LeaseManagerError),
    /// Another replica holds the Lease now, or may take it.
    #[error("lost the Lease {0}: another replica acts, or may act")]
    Lost(String),
}

/// The controller's own metrics, for their documentation.
///
/// # Errors
/// If one of them cannot be made.
pub fn metrics() -> Result<Collectors, prometheus::Error> {
    Ok(Metrics::new()?.collectors())
}

/// Runs until a stop is requested or the Lease is lost.
///
/// # Errors
/// If the Lease cannot be held, or is lost.
pub async fn run(env: Environment, config: Arc<Config>, sources: Arc<Sources>) -> Result<(), Error> {
    let metrics = Metrics::register(&env.registry).map_err(Error::Metrics)?;
    let following = sources.follow(&env.shutdown);
    let view = View::new(Kinds::ForStatus, config.webhook.watch_silence);
    view.follow(&config.custom_kinds, &env.client, &env.shutdown);
    essential("view", &env.shutdown, Arc::clone(&view).report(env.health.clone(), env.shutdown.clone()));
    let name = config.controller.lease_name.clone();
    let failed = |error| Error::Lease(name.clone(), error);
    let namespace = &config.controller.namespace;
    let (mut leading, task, acquired) = loop {
        let lease = LeaseManagerBuilder::new(env.client.clone(), name.clone())
            .with_namespace(namespace.clone())
            .with_duration(LEASE)
            .with_grace(RENEW)
            .build()
            .await
            .map_err(failed)?;
        let (mut leading, task) = lease.watch().await;
        let acquired = tokio::select! {
            () = env.shutdown.requested() => Some(false),
            acquired = leading.wait_for(|leads| *leads) => Some(acquired.is_ok()),
            // What is known of it is waited for, so it is begun anew.
            () = lease::abandoned(&env.client, namespace, &name, ABANDONED) => None,
        };
        if let Some(acquired) = acquired {
            break (leading, task, acquired);
        }
        // Two managers of one process would release what the other one holds.
        release(leading, task).await;
    };
    let ended = if acquired {
        tracing::info!(lease = name, "acting");
        metrics.leader.set(1);
        let proved = proof::start(&env, &config, &metrics);
        let apply = Apply::new(env.client.clone(), metrics.clone());
        let controller = &config.controller;
        let place = Installation {
            here: sources.here().to_owned(),
            canary: controller.canary_namespace.clone(),
            excluded: controller.registration.excluded_namespaces.clone(),
            only_warns: config.enforcement == Enforcement::Warn,
        };
        let mut worker = Worker {
            view,
            following,
            proved,
            apply,
            place,
            records: BTreeMap::new(),
            due: HashMap::new(),
            backlog: Backlog::default(),
            again: true,
        };
        tokio::select! {
            () = env.shutdown.requested() => Ok(()),
            () = worker.work() => Ok(()),
            _ = leading.wait_for(|leads| !*leads) => Err(Error::Lost(name.clone())),
            () = lease::gone(&env.client, namespace, &name) => Err(Error::Lost(name.clone())),
        }
    } else {
        Ok(())
    };
    metrics.leader.set(0);
    release(leading, task).await;
    ended
}

/// Gives the Lease back, if it is held, so that the next one need not wait for its end: dropping the channel has its task do so.
async fn release<T>(leading: watch::Receiver<bool>, task: JoinHandle<T>) {
    drop(leading);
    if let Ok(Err(error)) = tokio::time::timeout(PAUSE * 5, task).await {
        tracing::warn!(error = %error, "the Lease was not released");
    }
}

/// What acts while the Lease is held.
struct Worker {
    view: Arc<View>,
    following: crate::observe::Following,
    proved: watch::Receiver<Proved>,
    apply: Apply,
    place: Installation,
    /// The namespaces of the release records of each service.
    records: BTreeMap<Key, BTreeSet<String>>,
    /// When time alone changes the status of a service.
    due: HashMap<Key, Timestamp>,
    /// What is still to be looked at because everything is.
    backlog: Backlog,
    /// Something failed or is not whole: everything is to be looked at again.
    again: bool,
}

impl Worker {
    /// Works off every change, for ever.
    async fn work(&mut self) {
        let (mut view, mut sources) = (self.view.news().listen(), self.following.news().listen());
        let mut proved = self.proved.clone();
        let mut full = Instant::now();
        let mut scope = Scope::all();
        loop {
            let pause = self.round(&scope).await.min(RESYNC.saturating_sub(full.elapsed()));
            let everything = tokio::select! {
                _ = view.changed() => false,
                _ = sources.changed() => false,
                _ = proved.changed() => true,
                () = tokio::time::sleep(pause) => false,
            };
            tokio::time::sleep(COALESCE).await;
            view.mark_unchanged();
            sources.mark_unchanged();
            scope = Scope::of(self.view.news().take(), self.following.news().take());
            if everything || self.again && self.backlog.is_empty() || full.elapsed() >= RESYNC {
                full = Instant::now();
                self.again = false;
                scope.widen();
            }
        }
    }

    /// Compares what the scope names and writes what differs. Returns when to look again at the latest.
    async fn round(&mut self, scope: &Scope) -> Duration {
        // Not before everything is listed: a service whose workloads are not known yet would look empty.
        if let Some(doubts) = self.view.doubts() {
            tracing::debug!(doubts, "waiting for the view");
            self.again = true;
            return DOUBT;
        }
        let now = Timestamp::now();
        let proved = self.proved.borrow().clone();
        let resources = self.view.resources();
        self.again |= self.forget(&resources);
        if scope.everything() {
            self.backlog.extend(resources.iter().map(|(key, _)| key));
        }
        for (key, resource) in &resources {
            let due = self.due.get(key).copied();
            // Once is enough, whatever comes of it.
            if due.is_some_and(|due| due <= now) {
                self.due.remove(key);
            }
            let urgent = |pooling: &Pooling| scope.concerns(pooling, due, now);
            self.again |= self.service(key, resource, urgent, &proved, now).await;
        }
        let slice = Instant::now();
        while slice.elapsed() < SLICE
            && let Some(key) = self.backlog.next()
        {
            let Some(resource) = self.view.resource(&key) else { continue };
            if self.service(&key, &resource, |_| true, &proved, now).await {
                // It has its turn again with the next whole pass; if nobody can be written at all, there is no hurry.
                self.again = true;
                return PAUSE;
            }
        }
        if scope.concerns_labels() || self.backlog.just_done() {
            let records = self.records.values().flatten().cloned();
            let mut labels = gather::labels(&self.view.read(), records, &self.place.excluded, &self.place.canary);
            // Not before the records of all services are known: a label that one of them needs must not go for a moment.
            labels.retain(|label| label.protected || self.backlog.is_empty());
            self.again |= self.apply.labels(&labels).await;
        }
        if !self.backlog.is_empty() {
            return Duration::ZERO;
        }
        let next = self.due.values().min().map(|due| due.duration_since(now));
        let next = next.map_or(RESYNC, |next| Duration::try_from(next).unwrap_or_default());
        if self.again { next.min(PAUSE) } else { next }
    }

    /// Writes what differs for one service, if it is wanted. Returns whether something failed.
    async fn service(
        &mut self,
        key: &Key,
        resource: &Arc<ServicePooling>,
        wanted: impl FnOnce(&Pooling) -> bool,
        proved: &Proved,
        now: Timestamp,
    ) -> bool {
        let gathered = gather::gather(&self.view, &self.following, &self.place, key, resource, wanted, now);
        let Some(service) = &gathered else { return false };
        let records = service.releases().map(|release| release.namespace.clone()).collect();
        self.records.insert(key.clone(), records);
        match status::next_change(service, now) {
            Some(due) => drop(self.due.insert(key.clone(), due)),
            None => drop(self.due.remove(key)),
        }
        let budgets = budgets::decide(&self.view.read(), std::slice::from_ref(service));
        let again = self.apply.budgets(&budgets).await;
        let before = self.apply.status_before(service);
        let desired = status::desired(service, before.as_ref(), proved, now);
        again | self.apply.status(service, before, desired, now).await
    }

    /// Forgets services that are gone. Returns whether there were any.
    fn forget(&mut self, resources: &[(Key, Arc<ServicePooling>)]) -> bool {
        let there = |key: &Key| resources.binary_search_by(|(known, _)| known.cmp(key)).is_ok();
        self.records.retain(|key, _| there(key));
        self.due.retain(|key, _| there(key));
        self.apply.forget_all_but(there)
    }
}
