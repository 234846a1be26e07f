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
