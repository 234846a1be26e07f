//! The certificate of a server, reloaded while serving by polling its folder: the kubelet swaps a mounted Secret by one
//! symlink, which change notifications of single files miss.
//!
//! A pair that cannot be used never replaces one that can.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum_server::tls_rustls::RustlsConfig;
use prometheus::{IntCounterVec, IntGauge, Opts, Registry};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use thiserror::Error;

use super::metrics::{self, Collectors, Metrics as _};
use super::{Check, Shutdown};

/// How often the folder is looked at: a rotation is days ahead of an expiry, and reading two files costs nothing.
const PERIOD: Duration = Duration::from_secs(1);

/// A certificate that cannot be used.
#[derive(Debug, Error)]
pub enum Error {
    /// A file cannot be read.
    #[error("cannot read {0}")]
    Read(PathBuf, #[source] std::io::Error),
    /// A file is not PEM.
    #[error("{0} is not the PEM file that it should be")]
    Pem(PathBuf, #[source] rustls::pki_types::pem::Error),
    /// Certificate and key do not go together.
    #[error("certificate and key cannot be used together")]
    Pair(#[source] rustls::Error),
    /// A metric is there already.
    #[error("cannot register metrics")]
    Metrics(#[source] prometheus::Error),
}

/// What there is to tell of the pair.
pub struct Metrics {
    reloads: IntCounterVec,
    usable: IntGauge,
}

impl metrics::Metrics for Metrics {
    fn new() -> Result<Self, prometheus::Error> {
        Ok(Self {
            reloads: IntCounterVec::new(
                Opts::new(
                    "poolguard_tls_reloads_total",
                    "Reloads of the serving certificate; alert on result=\"failed\".",
                ),
                &["result"],
            )?,
            usable: IntGauge::new(
                "poolguard_tls_pair_usable",
                "1 while the mounted certificate and key can be used; alert on 0 for 5 minutes.",
            )?,
        })
    }

    fn collectors(&self) -> Collectors {
        let Self { reloads, usable } = self;
        vec![Box::new(reloads.clone()), Box::new(usable.clone())]
    }
}

/// Contents of `tls.crt` and `tls.key`.
type Pair = (Vec<u8>, Vec<u8>);

/// A certificate that follows its folder.
pub struct Certificate {
    folder: PathBuf,
    loaded: Pair,
    config: RustlsConfig,
    metrics: Metrics,
}

impl Certificate {
    /// Loads `tls.crt` and `tls.key`.
    ///
    /// # Errors
    /// If they cannot be used.
    pub fn load(folder: &Path, registry: &Registry) -> Result<Self, Error> {
        let metrics = Metrics::register(registry).map_err(Error::Metrics)?;
        let loaded = read(folder)?;
        let config = RustlsConfig::from_config(Arc::new(server(folder, &loaded)?));
        metrics.usable.set(1);
        Ok(Self { folder: folder.to_path_buf(), loaded, config, metrics })
    }

    /// What the server is given; it changes with the folder.
    pub fn config(&self) -> RustlsConfig {
        self.config.clone()
    }

    /// Follows the folder until a stop is requested.
    pub async fn follow(mut self, check: Check, shutdown: Shutdown) {
        check.ready();
        loop {
            tokio::select! {
                () = shutdown.requested() => return,
                () = tokio::time::sleep(PERIOD) => {}
            }
            match self.reload() {
                Ok(changed) => {
                    self.metrics.usable.set(1);
                    if changed {
                        self.metrics.reloads.with_label_values(&["ok"]).inc();
                        tracing::info!("serving certificate reloaded");
                    }
                }
                Err(error) => {
                    if self.metrics.usable.get() == 1 {
                        tracing::error!(
                            error = &error as &dyn std::error::Error,
                            "serving certificate not usable, the old one stays"
                        );
                        self.metrics.reloads.with_label_values(&["failed"]).inc();
                    }
                    self.metrics.usable.set(0);
                }
            }
        }
    }

    fn reload(&mut self) -> Result<bool, Error> {
        let pair = read(&self.folder)?;
        if pair == self.loaded {
            return Ok(false);
        }
        self.config.reload_from_config(Arc::new(server(&self.folder, &pair)?));
        self.loaded = pair;
        Ok(true)
    }
}

fn read(folder: &Path) -> Result<Pair, Error> {
    let file = |name: &str| {
        let path = folder.join(name);
        std::fs::read(&path).map_err(|error| Error::Read(path, error))
    };
    Ok((file("tls.crt")?, file("tls.key")?))
}

fn server(folder: &Path, (certificate, key): &Pair) -> Result<ServerConfig, Error> {
    let chain = CertificateDer::pem_slice_iter(certificate)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| Error::Pem(folder.join("tls.crt"), error))?;
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| Error::Pem(folder.join("tls.key"), error))?;
    let mut config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).map_err(Error::Pair)?;
    // The API server talks HTTP/1.1 to webhooks.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}
