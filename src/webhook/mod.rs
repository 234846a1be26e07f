//! Answers the API server: decodes a review, finds what it concerns, asks the sources where that is needed, and tells.
//!
//! Never: a network call between decoding and answering but for evidence, for a workload that a refusal would rest on, and for the
//! override or the `ServicePooling` that a permission would.
//! No verdict needs the controller to be alive.

mod decide;
mod events;
mod flights;
mod line;
mod metrics;
pub mod review;
mod serve;
mod stored;

use std::sync::Arc;
use std::time::Duration;

use poolguard_policy::pooling::Watched;
use thiserror::Error;

use crate::cluster::{Kinds, View};
use crate::config::Config;
use crate::observe::{Following, Sources};
use crate::runtime::metrics::{Collectors, Metrics as _};
use crate::runtime::tasks::{beside, essential};
use crate::runtime::{Environment, Shutdown, tls};

/// How soon a new service is remembered.
const REMIND: Duration = Duration::from_secs(1);
/// So many are remembered before others may have the view.
const AT_ONCE: usize = 100;

/// The webhook cannot run.
#[derive(Debug, Error)]
pub enum Error {
    /// The certificate cannot be followed.
    #[error("the serving certificate in webhook.tlsDir cannot be followed")]
    Certificate(#[source] tls::Error),
    /// A metric is there already.
    #[error("cannot register the webhook's metrics")]
    Metrics(#[source] prometheus::Error),
    /// The listener failed.
    #[error("serving admission reviews on {0} failed")]
    Serve(std::net::SocketAddr, #[source] std::io::Error),
}

/// The webhook's own metrics, for their documentation.
///
/// # Errors
/// If one of them cannot be made.
pub fn metrics() -> Result<Collectors, prometheus::Error> {
    Ok(metrics::Metrics::new()?.collectors().into_iter().chain(tls::Metrics::new()?.collectors()).collect())
}

/// Runs until a stop is requested.
///
/// # Errors
/// If the address cannot be listened on.
pub async fn run(env: Environment, config: Arc<Config>, sources: Arc<Sources>) -> Result<(), Error> {
    let (folder, name) = (&config.webhook.tls_dir, config.webhook.server_name.as_deref());
    let certificate = tls::Certificate::load(folder, name, &env.registry).map_err(Error::Certificate)?;
    let tls = certificate.config();
    let follow = certificate.follow(env.health.check("certificate"), env.shutdown.clone());
    essential("certificate", &env.shutdown, follow);
    // What verdicts rest on goes on for as long as there are new ones.
    let served = env.shutdown.later(serve::FAREWELL);
    let router = routes(&Environment { shutdown: served.clone(), ..env.clone() }, &config, sources, env.shutdown)?;
    serve::serve(config.webhook.listen, tls, router, served)
        .await
        .map_err(|error| Error::Serve(config.webhook.listen, error))
}

/// The routes, with a view that is being filled, and sources that are followed: for the memory of when a revision or an address
/// was seen, since verdicts ask live.
///
/// # Errors
/// If the metrics are registered already.
pub fn router(env: &Environment, config: &Config, sources: Arc<Sources>) -> Result<axum::Router, Error> {
    routes(env, config, sources, env.shutdown.clone())
}

/// The same, where answers are the last of their connection once `farewell` is requested.
fn routes(
    env: &Environment,
    config: &Config,
    sources: Arc<Sources>,
    farewell: Shutdown,
) -> Result<axum::Router, Error> {
    let view = View::new(Kinds::All, config.webhook.watch_silence);
    view.follow(&config.custom_kinds, &env.client, &env.shutdown);
    essential("view", &env.shutdown, Arc::clone(&view).report(env.health.clone(), env.shutdown.clone()));
    let metrics = metrics::Metrics::register(&env.registry).map_err(Error::Metrics)?;
    let following = sources.follow(&env.shutdown);
    if following.remembers() {
        essential("memory", &env.shutdown, remember(Arc::clone(&view), following, env.shutdown.clone()));
    }
    let judge = decide::Judge::new(view, sources, config.settings(), config.custom_kinds.clone(), env.client.clone());
    // As many as the configuration has, once in the life of a process.
    Ok(serve::router(judge, config.custom_doors().leak(), metrics, env, farewell))
}

/// Has the sources that need a memory of their own look at every service, also while nobody asks.
async fn remember(view: Arc<View>, following: Following, shutdown: Shutdown) {
    let mut ticks = tokio::time::interval(REMIND);
    loop {
        tokio::select! {
            () = shutdown.requested() => return,
            _ = ticks.tick() => {}
        }
        let (view, following) = (Arc::clone(&view), following.clone());
        // To go through thousands takes milliseconds, for which no review is to wait.
        beside(move || remind(&view, &following)).await;
    }
}

/// Names every service once. Reviews wait behind whoever waits to write, so that the view is never held for long.
fn remind(view: &View, following: &Following) {
    let namespaces: Vec<String> = view.read().namespaces.keys().cloned().collect();
    for namespace in namespaces {
        let names: Option<Vec<String>> =
            view.read().namespace(&namespace).map(|known| known.poolings.keys().cloned().collect());
        let names = names.unwrap_or_default();
        for some in names.chunks(AT_ONCE) {
            let state = view.read();
            let Some(known) = state.namespace(&namespace) else { break };
            for watched in some.iter().filter_map(|name| known.poolings.get(name)) {
                if let Watched::Known(pooling) = watched {
                    following.remember(pooling);
                }
            }
        }
    }
}
