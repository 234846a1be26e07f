//! Whether the guard is really up: proved, not believed. Through the real API server, one dry run for each webhook entry in the
//! canary's namespace must be refused with the canary's own words, and the registration in force must be the one that the door
//! table says.
//!
//! Never: a deleted or edited registration made again or overwritten. Whoever opens the guard in an emergency must not be
//! fought; it is told. Only `caBundle` is mended, by a field manager of its own.

mod attempts;
mod canary;
pub mod check;
mod registration;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube::Client;
use poolguard_policy::doors::{Door, ENTRIES};
use serde_json::Value;
use tokio::sync::watch;

use super::certificates::{self, Bundles};
use super::metrics::Metrics;
use crate::config::Config;
use crate::runtime::tasks::essential;
use crate::runtime::{Environment, chain, timeless};

/// The pause while the guard is not up: somebody waits for it.
const IMPATIENT: Duration = Duration::from_secs(1);

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Proved {
    /// Nothing yet.
    NotYet,
    /// Every entry refused, and the registration is as it should be.
    Up,
    /// It is not up.
    Down(Finding),
}

/// What is wrong, the gravest of all that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) kind: Kind,
    pub(super) message: String,
}

/// Kinds of findings, the gravest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// There is no registration, or it lacks entries.
    Missing,
    /// The API server cannot reach the webhook.
    Unreachable,
    /// The webhook's certificate cannot be kept.
    Certificate,
    /// The registration differs from what it should be.
    Differs,
    /// Something passed that should have been refused.
    NotRefused,
    /// A proof could not be tried: a right or an object is missing.
    NotProvable,
}

impl Kind {
    /// The reason of the condition `Guarded`.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "WebhookMissing",
            Self::Unreachable => "WebhookUnreachable",
            Self::Certificate => "CertificateNotKept",
            Self::Differs => "RegistrationDiffers",
            Self::NotRefused => "NotRefused",
            Self::NotProvable => "NotProvable",
        }
    }
}

/// The `caBundle` of every entry; empty where somebody else looks after it.
struct Trust {
    /// What should be there.
    expected: String,
    /// What is to be there next.
    wanted: String,
}

impl Trust {
    fn always(bundle: &str) -> Self {
        Self { expected: bundle.to_owned(), wanted: bundle.to_owned() }
    }
}

/// Proves until a stop is requested.
pub(super) fn start(env: &Environment, config: &Arc<Config>, metrics: &Metrics) -> watch::Receiver<Proved> {
    let (sender, receiver) = watch::channel(Proved::NotYet);
    let (client, shutdown, config, metrics) =
        (env.client.clone(), env.shutdown.clone(), Arc::clone(config), metrics.clone());
    essential("proof", &env.shutdown, async move {
        let further = config.custom_doors();
        loop {
            let proved = tokio::select! {
                () = shutdown.requested() => return,
                proved = prove(&client, &config, &further, &metrics) => proved,
            };
            sender.send_if_modified(|before| {
                let changed = *before != proved;
                match &proved {
                    Proved::Down(Finding { kind, message }) if changed => {
                        tracing::error!(reason = kind.as_str(), message, "the guard is not up");
                    }
                    Proved::Up if changed => tracing::info!("the guard is up"),
                    _ => {}
                }
                *before = proved;
                changed
            });
            let pause = if *sender.borrow() == Proved::Up {
                config.controller.proof_interval
            } else {
                config.controller.proof_interval.min(IMPATIENT)
            };
            tokio::select! { () = shutdown.requested() => return, () = tokio::time::sleep(pause) => {} }
        }
    });
    receiver
}

/// One proof. All that was found is told by metrics, the gravest in the condition.
async fn prove(client: &Client, config: &Config, further: &[Door], metrics: &Metrics) -> Proved {
    let live = registration::live(client, &config.controller.webhook_configuration).await;
    let (trust, certificate) = trust(client, config, live.as_deref().unwrap_or_default(), metrics).await;
    let mut findings = match live {
        Ok(live) => registration::check(client, config, &live, &trust, further, metrics).await,
        Err(finding) => vec![finding],
    };
    metrics.registration.set(i64::from(findings.is_empty()));
    findings.extend(certificate);
    if let Err(error) = canary::keep(client, &config.controller.canary_namespace, &config.datacenter).await {
        let message = format!("the canary's ServicePooling cannot be kept: {error}");
        findings.push(Finding { kind: Kind::NotProvable, message });
    }
    let refused = attempts::all(client, &config.controller.canary_namespace).await;
    for entry in ENTRIES {
        let found = refused.get(entry.name);
        metrics.proved.with_label_values(&[entry.name]).set(i64::from(matches!(found, Some(Ok(())))));
    }
    metrics.proof.set(Timestamp::now().as_second());
    findings.extend(told(refused));
    findings.sort_by_key(|finding| finding.kind);
    match findings.into_iter().next() {
        None => Proved::Up,
        Some(finding) => Proved::Down(finding),
    }
}

/// The authorities that the API server has to trust, and what is wrong with those that are made here.
async fn trust(client: &Client, config: &Config, live: &[Value], metrics: &Metrics) -> (Trust, Option<Finding>) {
    let controller = &config.controller;
    let Some(certificates) = &controller.certificates else {
        return (Trust::always(&controller.registration.ca_bundle), None);
    };
    let registered = registration::authority(live);
    match certificates::keep(client, controller, certificates, &registered, metrics).await {
        // What was registered before a step is not somebody's mistake.
        Ok(Bundles { before, now }) if before == registered => {
            (Trust { expected: registration::encoded(before), wanted: registration::encoded(now) }, None)
        }
        Ok(Bundles { now, .. }) => (Trust::always(&registration::encoded(now)), None),
        Err(error) => {
            let message = format!("the webhook's certificate cannot be kept: {}", chain(&error));
            (Trust::always(""), Some(Finding { kind: Kind::Certificate, message }))
        }
    }
}

/// One finding for each kind, with the entries that it concerns. It gets into every status, so it stays the same while nothing changes.
fn told(refused: BTreeMap<&'static str, Result<(), Finding>>) -> Vec<Finding> {
    let mut by_kind: BTreeMap<Kind, Vec<String>> = BTreeMap::new();
    for (entry, found) in refused {
        if let Err(Finding { kind, message }) = found {
            by_kind.entry(kind).or_default().push(format!("{entry}: {}", timeless(&message)));
        }
    }
    by_kind
        .into_iter()
        .map(|(kind, all)| {
            let more = if all.len() > 3 { format!("; and {} more", all.len() - 3) } else { String::new() };
            let first: Vec<String> = all.into_iter().take(3).collect();
            Finding { kind, message: format!("{}{more}", first.join("; ")) }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_stays_the_same_while_time_goes_on() {
        let at = |second: u8| {
            let message = format!(
                "x509: certificate has expired or is not yet valid: current time 09:26:{second} is after 09:00"
            );
            let found = || Err(Finding { kind: Kind::Unreachable, message: message.clone() });
            told(BTreeMap::from([("pods", found()), ("scales", found())]))
        };
        assert_eq!(at(25), at(26));
        assert_eq!(
            at(25)[0].message,
            "pods: x509: certificate has expired or is not yet valid; scales: x509: certificate has expired or is not yet valid"
        );
    }
}
