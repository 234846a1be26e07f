//! The webhook's certificate and its authority: made, kept in two Secrets, and rotated long before they end.
//!
//! Never: a certificate that is not yet trusted. The bundle of authorities is registered with the API server first.

mod authority;
mod held;
mod plan;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::Client;
use kube::api::{Api, ObjectMeta, PostParams};
use thiserror::Error;

use super::metrics::Metrics;
use crate::config::{Certificates, Controller};
use held::{Data, Held};

/// More steps than one rotation has at a time.
const STEPS: usize = 6;

/// The certificates cannot be kept.
#[derive(Debug, Error)]
pub(super) enum Error {
    /// A Secret cannot be read.
    #[error("Secret {0} cannot be read")]
    Read(String, #[source] kube::Error),
    /// A Secret cannot be written.
    #[error("Secret {0} cannot be written")]
    Write(String, #[source] kube::Error),
    /// A certificate cannot be made.
    #[error(transparent)]
    Make(#[from] authority::Error),
}

/// Authorities that the API server has to trust, PEM.
pub(super) struct Bundles {
    /// Before this.
    pub(super) before: String,
    /// From now on.
    pub(super) now: String,
}

/// Does what is due, while the API server trusts what is `registered`, PEM.
pub(super) async fn keep(
    client: &Client,
    controller: &Controller,
    certificates: &Certificates,
    registered: &str,
    metrics: &Metrics,
) -> Result<Bundles, Error> {
    let secrets = Api::<Secret>::namespaced(client.clone(), &controller.namespace);
    let mut authority = Kept::read(&secrets, &certificates.authority_secret, "Opaque").await?;
    let mut serving = Kept::read(&secrets, &certificates.serving_secret, "kubernetes.io/tls").await?;
    let mut held = Held::read(authority.data(), serving.data());
    let before = held.bundle();
    for _ in 0..STEPS {
        let now = Timestamp::now();
        let Some(step) = held.step(certificates, registered, now) else { break };
        held.apply(step, certificates, now)?;
        tracing::info!(step = ?step, "the webhook's certificates go on");
        metrics.certificates.with_label_values(&[&format!("{step:?}")]).inc();
        // The authority first: what it has signed is worth nothing without it.
        authority.write(&secrets, held.authority_data()).await?;
        if let Some(data) = held.serving_data() {
            serving.write(&secrets, data).await?;
        }
    }
    // A replica may have ended between the two.
    if let Some(data) = held.serving_data() {
        serving.write(&secrets, data).await?;
    }
    if let Some(end) = held.end() {
        metrics.authority.set(end.as_second());
    }
    Ok(Bundles { before, now: held.bundle() })
}

/// A Secret as it was last read or written: a write fails where somebody else was faster.
struct Kept {
    name: String,
    kind: &'static str,
    secret: Option<Secret>,
    empty: Data,
}

impl Kept {
    async fn read(secrets: &Api<Secret>, name: &str, kind: &'static str) -> Result<Self, Error> {
        let secret = secrets.get_opt(name).await.map_err(|error| Error::Read(name.to_owned(), error))?;
        Ok(Self { name: name.to_owned(), kind, secret, empty: Data::new() })
    }

    fn data(&self) -> &Data {
        self.secret.as_ref().and_then(|secret| secret.data.as_ref()).unwrap_or(&self.empty)
    }

    async fn write(&mut self, secrets: &Api<Secret>, data: Data) -> Result<(), Error> {
        if *self.data() == data && self.secret.is_some() {
            return Ok(());
        }
        let failed = |error| Error::Write(self.name.clone(), error);
        let params = PostParams::default();
        let written = match &self.secret {
            Some(secret) => {
                let secret = Secret { data: Some(data), ..secret.clone() };
                secrets.replace(&self.name, &params, &secret).await
            }
            None => {
                let labels = [("app.kubernetes.io/name", "poolguard"), ("app.kubernetes.io/managed-by", "poolguard")];
                let metadata = ObjectMeta {
                    name: Some(self.name.clone()),
                    labels: Some(labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into()),
                    ..ObjectMeta::default()
                };
                let secret =
                    Secret { metadata, data: Some(data), type_: Some(self.kind.to_owned()), ..Secret::default() };
                secrets.create(&params, &secret).await
            }
        };
        self.secret = Some(written.map_err(failed)?);
        Ok(())
    }
}
