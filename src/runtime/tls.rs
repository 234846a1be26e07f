//! The certificate of a server, reloaded while serving by polling its folder: the kubelet swaps a mounted Secret by one
//! symlink, which change notifications of single files miss.
//!
//! A pair that a client would not accept never replaces one that it would. Without any, nothing is served and nothing is ready.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use axum_server::tls_rustls::RustlsConfig;
use prometheus::{IntCounterVec, IntGauge, Opts, Registry};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use thiserror::Error;

use super::metrics::{self, Collectors, Metrics as _};
use super::{Check, Shutdown, certificate};

/// How often the folder is looked at: a rotation is days ahead of an expiry, and reading three files costs nothing.
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
    /// The name to be called by is none.
    #[error("{0:?} is not a name that a server can be called by")]
    Name(String, #[source] rustls::pki_types::InvalidDnsNameError),
    /// A client would not accept it.
    #[error(transparent)]
    Unfit(#[from] certificate::Error),
    /// A metric is there already.
    #[error("cannot register metrics")]
    Metrics(#[source] prometheus::Error),
}

/// What there is to tell of the pair.
pub struct Metrics {
    reloads: IntCounterVec,
    usable: IntGauge,
    expiry: IntGauge,
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
            expiry: IntGauge::new(
                "poolguard_tls_not_after_timestamp_seconds",
                "When the served certificate ends; alert when that is less than a week away.",
            )?,
        })
    }

    fn collectors(&self) -> Collectors {
        let Self { reloads, usable, expiry } = self;
        vec![Box::new(reloads.clone()), Box::new(usable.clone()), Box::new(expiry.clone())]
    }
}

/// Contents of `tls.crt`, `tls.key` and, where there is one, `ca.crt`.
#[derive(PartialEq, Eq)]
struct Mounted {
    certificate: Vec<u8>,
    key: Vec<u8>,
    authority: Option<Vec<u8>>,
}

/// What is served.
struct Loaded {
    mounted: Mounted,
    pair: Arc<CertifiedKey>,
}

/// Hands the pair that is served to each handshake.
#[derive(Debug, Default)]
struct Slot(RwLock<Option<Arc<CertifiedKey>>>);

impl ResolvesServerCert for Slot {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A certificate that follows its folder.
pub struct Certificate {
    folder: PathBuf,
    name: Option<ServerName<'static>>,
    loaded: Option<Loaded>,
    slot: Arc<Slot>,
    /// What was last said to be wrong, so that it is said once.
    told: Option<String>,
    metrics: Metrics,
}

impl Certificate {
    /// Loads `tls.crt` and `tls.key`, if they are there already. Clients call the server by `name`, and check its certificate
    /// against `ca.crt`: where one is not known, it is not looked at.
    ///
    /// # Errors
    /// If the name is none or the metrics are registered already.
    pub fn load(folder: &Path, name: Option<&str>, registry: &Registry) -> Result<Self, Error> {
        let name = name
            .map(|name| ServerName::try_from(name.to_owned()).map_err(|error| Error::Name(name.to_owned(), error)))
            .transpose()?;
        let metrics = Metrics::register(registry).map_err(Error::Metrics)?;
        let folder = folder.to_path_buf();
        let mut this = Self { folder, name, loaded: None, slot: Arc::default(), told: None, metrics };
        this.look(UnixTime::now());
        Ok(this)
    }

    /// What the server is given; it changes with the folder.
    pub fn config(&self) -> RustlsConfig {
        let resolver: Arc<dyn ResolvesServerCert> = Arc::<Slot>::clone(&self.slot);
        let mut config = ServerConfig::builder().with_no_client_auth().with_cert_resolver(resolver);
        // The API server talks HTTP/1.1 to webhooks.
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        RustlsConfig::from_config(Arc::new(config))
    }

    /// Follows the folder until a stop is requested.
    pub async fn follow(mut self, check: Check, shutdown: Shutdown) {
        loop {
            match self.look(UnixTime::now()) {
                None => check.ready(),
                Some(why) => check.not_ready(&why),
            }
            tokio::select! {
                () = shutdown.requested() => return,
                () = tokio::time::sleep(PERIOD) => {}
            }
        }
    }

    /// Loads what is mounted, if it is new and better than what is served. Returns why clients would not accept what is served.
    fn look(&mut self, now: UnixTime) -> Option<String> {
        let problem = self.reload(now).err();
        let served = self.loaded.as_ref().and_then(|loaded| self.fit(loaded, now).err());
        self.metrics.usable.set(i64::from(self.loaded.is_some() && problem.is_none() && served.is_none()));
        let why = problem.as_ref().or(served.as_ref()).map(|error| super::chain(error));
        if self.told != why {
            if let Some(why) = &why {
                self.metrics.reloads.with_label_values(&["failed"]).inc();
                tracing::error!(error = why, "the mounted serving certificate cannot be used");
            }
            self.told = why.clone();
        }
        if self.loaded.is_none() || served.is_some() { why.or_else(|| Some("there is none".to_owned())) } else { None }
    }

    fn reload(&mut self, now: UnixTime) -> Result<(), Error> {
        let mounted = read(&self.folder)?;
        if self.loaded.as_ref().is_some_and(|loaded| loaded.mounted == mounted) {
            return Ok(());
        }
        let loaded = parse(&self.folder, mounted)?;
        let unfit = self.fit(&loaded, now).err();
        // One that clients do not accept is better than none: the answer says why, and theirs may be another clock.
        if let Some(error) = unfit
            && self.loaded.as_ref().is_some_and(|served| self.fit(served, now).is_ok())
        {
            return Err(error);
        }
        if let Ok(dates) = certificate::Dates::of(&loaded.pair.cert[0]) {
            self.metrics.expiry.set(dates.not_after.as_second());
        }
        *self.slot.0.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&loaded.pair));
        self.loaded = Some(loaded);
        self.metrics.reloads.with_label_values(&["ok"]).inc();
        tracing::info!("serving certificate loaded");
        Ok(())
    }

    /// Whether a client would accept it.
    fn fit(&self, loaded: &Loaded, now: UnixTime) -> Result<(), Error> {
        let authority = loaded.mounted.authority.as_deref();
        Ok(certificate::accepted(&loaded.pair.cert, authority, self.name.as_ref(), now)?)
    }
}

fn read(folder: &Path) -> Result<Mounted, Error> {
    let file = |name: &str| {
        let path = folder.join(name);
        std::fs::read(&path).map_err(|error| Error::Read(path, error))
    };
    Ok(Mounted { certificate: file("tls.crt")?, key: file("tls.key")?, authority: file("ca.crt").ok() })
}

fn parse(folder: &Path, mounted: Mounted) -> Result<Loaded, Error> {
    let wrong = |file: &str, error| Error::Pem(folder.join(file), error);
    let chain = certificate::chain(&mounted.certificate).map_err(|error| wrong("tls.crt", error))?;
    let key = PrivateKeyDer::from_pem_slice(&mounted.key).map_err(|error| wrong("tls.key", error))?;
    Ok(Loaded { mounted, pair: Arc::new(certificate::pair(chain, key).map_err(Error::Pair)?) })
}
