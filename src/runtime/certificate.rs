//! What a client looks at before it talks to a server: who signed the certificate, for which name, until when.

use std::sync::Arc;

use jiff::Timestamp;
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use thiserror::Error;
use x509_parser::prelude::{FromDer, X509Certificate};

/// A certificate that a client does not accept.
#[derive(Debug, Error)]
pub enum Error {
    /// It is no certificate.
    #[error("the certificate cannot be read: {0}")]
    Unreadable(String),
    /// It has ended, or not begun.
    #[error("the certificate is valid from {0} to {1} only")]
    Time(Timestamp, Timestamp),
    /// It is for somebody else.
    #[error("the certificate is not for the name that the server is called by")]
    Name(#[source] rustls::Error),
    /// The authority cannot be used.
    #[error("the authority cannot be used: {0}")]
    Authority(String),
    /// No authority that is trusted has signed it.
    #[error("no authority that is trusted has signed the certificate")]
    Chain(#[source] rustls::Error),
}

/// From when to when a certificate is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dates {
    /// Not before.
    pub not_before: Timestamp,
    /// Not after.
    pub not_after: Timestamp,
}

impl Dates {
    /// Those of a certificate.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn of(certificate: &CertificateDer<'_>) -> Result<Self, Error> {
        let unreadable = |error: &dyn std::fmt::Display| Error::Unreadable(error.to_string());
        let (_, parsed) = X509Certificate::from_der(certificate).map_err(|error| unreadable(&error))?;
        let validity = parsed.validity();
        let second = |time: i64| Timestamp::from_second(time).map_err(|error| unreadable(&error));
        Ok(Self {
            not_before: second(validity.not_before.timestamp())?,
            not_after: second(validity.not_after.timestamp())?,
        })
    }
}

/// Whether a client that trusts `authority` (PEM) accepts the certificate of a server that it calls by `name`.
///
/// # Errors
/// Why it does not.
pub fn accepted(
    chain: &[CertificateDer<'_>],
    authority: Option<&[u8]>,
    name: Option<&ServerName<'_>>,
    now: UnixTime,
) -> Result<(), Error> {
    let (leaf, further) = chain.split_first().ok_or_else(|| Error::Unreadable("there is none".to_owned()))?;
    let dates = Dates::of(leaf)?;
    let second = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    if !(dates.not_before.as_second()..=dates.not_after.as_second()).contains(&second) {
        return Err(Error::Time(dates.not_before, dates.not_after));
    }
    let Some(name) = name else { return Ok(()) };
    let parsed = ParsedCertificate::try_from(leaf).map_err(|error| Error::Unreadable(error.to_string()))?;
    rustls::client::verify_server_name(&parsed, name).map_err(Error::Name)?;
    let Some(authority) = authority else { return Ok(()) };
    let unusable = |error: &dyn std::fmt::Display| Error::Authority(error.to_string());
    let mut roots = RootCertStore::empty();
    for root in CertificateDer::pem_slice_iter(authority) {
        roots.add(root.map_err(|error| unusable(&error))?).map_err(|error| unusable(&error))?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(|error| unusable(&error))?;
    verifier.verify_server_cert(leaf, further, name, &[], now).map(drop).map_err(Error::Chain)
}
