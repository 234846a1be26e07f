//! Authorities and what they sign, as PEM.

use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::time::Duration;
use thiserror::Error;
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::plan::Life;
use crate::runtime::certificate::{self, Dates};

/// How long before it was made a certificate is valid: clocks differ, and some by an hour because of a wrong time zone.
const BACKDATED: Duration = Duration::from_secs(2 * 3600);

/// An authority or certificate that cannot be made or read.
#[derive(Debug, Error)]
pub enum Error {
    /// It cannot be made.
    #[error("a certificate cannot be made")]
    Make(#[from] rcgen::Error),
    /// It is not PEM.
    #[error("it is not PEM")]
    Pem(#[from] rustls::pki_types::pem::Error),
    /// It is no certificate.
    #[error(transparent)]
    Unreadable(#[from] certificate::Error),
    /// The key belongs to another certificate.
    #[error("the key does not belong to the certificate")]
    OtherKey,
    /// It would end after the calendar.
    #[error("it would end after all time")]
    Endless,
}

/// A certificate with its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pair {
    pub(super) certificate: String,
    pub(super) key: String,
}

/// An authority that can sign.
pub(super) struct Authority {
    pub(super) pair: Pair,
    pub(super) life: Life,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// A new one. Its name holds when it was made, so that two are never taken for each other.
    pub(super) fn make(valid: Duration, now: Timestamp) -> Result<Self, Error> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, format!("poolguard webhook authority {now:.0}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        (params.not_before, params.not_after) = validity(now, now.checked_add(valid).map_err(|_| Error::Endless)?)?;
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?.pem();
        Self::read(&Pair { certificate, key: key.serialize_pem() })
    }

    /// One that was kept.
    pub(super) fn read(pair: &Pair) -> Result<Self, Error> {
        let der = CertificateDer::from_pem_slice(pair.certificate.as_bytes())?;
        let key = KeyPair::from_pem(&pair.key)?;
        let (_, parsed) =
            X509Certificate::from_der(&der).map_err(|error| certificate::Error::Unreadable(error.to_string()))?;
        if parsed.public_key().raw != key.subject_public_key_info() {
            return Err(Error::OtherKey);
        }
        Ok(Self { pair: pair.clone(), life: life(&der)?, issuer: Issuer::from_ca_cert_der(&der, key)? })
    }

    /// A certificate for a server of these names, which does not outlive its authority.
    pub(super) fn issue(&self, names: &[String], valid: Duration, now: Timestamp) -> Result<Pair, Error> {
        let mut params = CertificateParams::new(names.to_vec())?;
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "poolguard webhook");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        let end = now.checked_add(valid).map_err(|_| Error::Endless)?.min(self.life.end);
        (params.not_before, params.not_after) = validity(now, end)?;
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?.pem();
        Ok(Pair { certificate, key: key.serialize_pem() })
    }
}

/// From when to when, backdated.
fn validity(now: Timestamp, end: Timestamp) -> Result<(OffsetDateTime, OffsetDateTime), Error> {
    let time = |time: Timestamp| OffsetDateTime::from_unix_timestamp(time.as_second()).map_err(|_| Error::Endless);
    Ok((time(now.saturating_sub(BACKDATED).map_err(|_| Error::Endless)?)?, time(end)?))
}

/// The life of a certificate that was made here.
pub(super) fn life(certificate: &CertificateDer<'_>) -> Result<Life, Error> {
    let Dates { not_before, not_after } = Dates::of(certificate)?;
    Ok(Life { made: not_before.checked_add(BACKDATED).map_err(|_| Error::Endless)?, end: not_after })
}
