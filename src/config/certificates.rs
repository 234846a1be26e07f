//! The webhook's certificate and its authority, where the controller makes them itself.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::duration;

/// Where they are kept and how long they are valid. Each is made anew after two thirds of that.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Certificates {
    /// The Secret with the authority's key, which only the controller reads.
    pub authority_secret: String,
    /// The Secret that the webhook mounts: `tls.crt`, `tls.key`, and all trusted authorities as `ca.crt`.
    pub serving_secret: String,
    /// The names and addresses that the API server calls the webhook by.
    pub names: Vec<String>,
    /// How long an authority is valid.
    #[serde(deserialize_with = "duration::deserialize")]
    #[schemars(with = "String")]
    pub authority_validity: Duration,
    /// How long a serving certificate is valid.
    #[serde(deserialize_with = "duration::deserialize")]
    #[schemars(with = "String")]
    pub serving_validity: Duration,
    /// How long the old and the new are both trusted at each step of an authority's rotation: longer than a kubelet takes to
    /// show a changed Secret to its pods (two minutes at most).
    #[serde(deserialize_with = "duration::deserialize")]
    #[schemars(with = "String")]
    pub overlap: Duration,
}

impl Default for Certificates {
    fn default() -> Self {
        Self {
            authority_secret: "poolguard-webhook-ca".to_owned(),
            serving_secret: "poolguard-webhook-tls".to_owned(),
            names: vec!["poolguard-webhook.poolguard.svc".to_owned()],
            authority_validity: Duration::from_secs(365 * 86_400),
            serving_validity: Duration::from_secs(90 * 86_400),
            overlap: Duration::from_secs(3600),
        }
    }
}

/// What is wrong, by key.
pub(super) fn wrong(certificates: &Certificates) -> Vec<(&'static str, String)> {
    let mut wrong = Vec::new();
    if certificates.names.is_empty() {
        wrong.push(("names", "is empty: write the name that the API server calls the webhook by".to_owned()));
    }
    if certificates.authority_secret == certificates.serving_secret {
        let message = "is authoritySecret too: the authority's key must not be mounted into the webhook";
        wrong.push(("servingSecret", message.to_owned()));
    }
    if certificates.overlap.is_zero() || certificates.serving_validity < certificates.overlap * 4 {
        let message =
            "must be at most a quarter of servingValidity, and not 0: a step has to end before the next begins";
        wrong.push(("overlap", message.to_owned()));
    }
    if certificates.authority_validity < certificates.serving_validity * 2 {
        let message = "must be at least twice servingValidity: a certificate does not outlive its authority";
        wrong.push(("authorityValidity", message.to_owned()));
    }
    wrong
}
