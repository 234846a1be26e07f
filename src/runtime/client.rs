//! The client of the API server: in the cluster by its ServiceAccount, elsewhere by a kubeconfig.

use std::time::Duration;

use kube::client::ClientBuilder;
use thiserror::Error;
use tower::BoxError;
use tower::util::MapFutureLayer;

/// How soon an answer has to begin: a connection that has fallen silent is given up after that. Longer than the API server itself
/// waits for a webhook, since dry runs go through one.
const ANSWER: Duration = Duration::from_secs(35);
/// How long an answer may pause: a watch hears a bookmark each minute.
const PAUSE: Duration = Duration::from_secs(100);

/// The API server cannot be reached for lack of a configuration.
#[derive(Debug, Error)]
pub enum Error {
    /// Neither a ServiceAccount nor a kubeconfig.
    #[error("neither a ServiceAccount of a pod nor a kubeconfig says how to reach the API server")]
    Infer(#[source] kube::config::InferConfigError),
    /// The configuration cannot be used.
    #[error("cannot make a client of the API server")]
    Client(#[source] kube::Error),
}

/// A client that does not retry by itself: our loops know better when to try again, and 429 is an answer.
///
/// # Errors
/// If there is no configuration.
pub async fn connect() -> Result<kube::Client, Error> {
    let mut config = kube::Config::infer().await.map_err(Error::Infer)?;
    config.default_retry = false;
    config.read_timeout = Some(PAUSE);
    config.reset_reader_on_write = true;
    let builder = ClientBuilder::try_from(config).map_err(Error::Client)?;
    Ok(builder.with_layer(&MapFutureLayer::new(in_time)).build())
}

/// An answer, or that it did not begin in time.
async fn in_time<T>(answer: impl Future<Output = Result<T, BoxError>>) -> Result<T, BoxError> {
    tokio::time::timeout(ANSWER, answer).await?
}
