//! Whom browsers trust, for clients of servers that have no authority of their own configured.

/// Their certificates, to be trusted besides whom the system trusts: in the image there is no system, and a client that trusts nobody
/// cannot even be built.
///
/// # Errors
/// If one of them cannot be read.
pub fn public() -> Result<Vec<reqwest::Certificate>, reqwest::Error> {
    webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter().map(|der| reqwest::Certificate::from_der(der)).collect()
}
