//! Plumbing without domain words: what every process of ours needs before it can do anything.
//!
//! Never: a service, a datacenter, a rule.

pub mod admin;
pub mod authorities;
pub mod certificate;
pub mod client;
pub mod health;
pub(crate) mod hedged;
pub mod metrics;
pub mod news;
pub mod shutdown;
pub mod tasks;
pub mod telemetry;
pub mod tls;
#[cfg(feature = "otlp")]
mod traces;

pub use health::{Check, Health};
pub use shutdown::Shutdown;

/// What a process hands to what it runs.
#[derive(Clone)]
pub struct Environment {
    /// The API server.
    pub client: kube::Client,
    /// Where metrics are registered.
    pub registry: prometheus::Registry,
    /// What readiness waits for.
    pub health: Health,
    /// When to stop.
    pub shutdown: Shutdown,
}

/// An error with everything beneath it, in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

/// What TLS libraries write before the time of a check of a certificate: rustls, and Go's `crypto/x509`.
const CHECKED_AT: [&str; 2] = [": verification time ", ": current time "];

/// An error's text without the time at which a certificate was checked: it would be another text every second.
pub fn timeless(text: &str) -> &str {
    let end = CHECKED_AT.iter().filter_map(|mark| text.find(mark)).min();
    end.map_or(text, |end| &text[..end])
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rustls::pki_types::UnixTime;
    use rustls::{CertificateError, Error};

    use super::*;

    #[test]
    fn the_time_of_a_check_is_left_out_of_what_rustls_says() {
        let at = |second| UnixTime::since_unix_epoch(Duration::from_secs(second));
        for (error, text) in [
            (
                CertificateError::ExpiredContext { time: at(9), not_after: at(5) },
                "invalid peer certificate: certificate expired",
            ),
            (
                CertificateError::NotValidYetContext { time: at(5), not_before: at(9) },
                "invalid peer certificate: certificate not valid yet",
            ),
        ] {
            let said = Error::InvalidCertificate(error).to_string();
            assert!(said.len() > text.len(), "{said}");
            assert_eq!(timeless(&said), text);
        }
    }

    #[test]
    fn the_time_of_a_check_is_left_out_of_what_go_says() {
        let kept = "failed calling webhook \"pods.poolguard.dev\": failed to call webhook: Post \
                    \"https://poolguard-webhook.poolguard.svc:443/validate?timeout=10s\": tls: failed to verify certificate: \
                    x509: certificate has expired or is not yet valid";
        for ending in [
            ": current time 2026-11-27T09:26:25Z is after 2026-11-27T09:26:00Z",
            ": current time 2026-11-27T09:26:25Z is before 2026-11-28T09:26:00Z",
            "",
        ] {
            assert_eq!(timeless(&format!("{kept}{ending}")), kept);
        }
    }
}
