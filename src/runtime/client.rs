//! The client of the API server: in the cluster by its ServiceAccount, elsewhere by a kubeconfig.

use thiserror::Error;

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
    kube::Client::try_from(config).map_err(Error::Client)
}
