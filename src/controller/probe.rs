//! Whether the webhook answers: its configuration is read, and the endpoint that it names is asked whether it is ready,
//! trusting exactly the authority that the API server trusts.

use std::time::Duration;

use k8s_openapi::api::admissionregistration::v1::{ValidatingWebhookConfiguration, WebhookClientConfig};
use kube::Client;
use kube::api::Api;
use poolguard_policy::doors::ENTRIES;
use tokio::sync::watch;

use crate::runtime::Environment;
use crate::runtime::tasks::essential;

/// How often it is asked.
const PERIOD: Duration = Duration::from_secs(5);
/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(3);

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Probed {
    /// Nothing yet.
    NotYet,
    /// The webhook is registered and ready.
    Answers,
    /// The configuration is not there or not whole.
    Missing(String),
    /// It is registered, and does not answer.
    Unreachable(String),
}

/// Probes until a stop is requested.
pub(super) fn start(env: &Environment, name: &str) -> watch::Receiver<Probed> {
    let (sender, receiver) = watch::channel(Probed::NotYet);
    let (client, shutdown, name) = (env.client.clone(), env.shutdown.clone(), name.to_owned());
    essential("probe", &env.shutdown, async move {
        loop {
            let probed = probe(&client, &name).await;
            sender.send_if_modified(|before| {
                let changed = *before != probed;
                *before = probed;
                changed
            });
            // A guard that is not up is worth looking at more often: somebody waits for it.
            let pause = if *sender.borrow() == Probed::Answers { PERIOD } else { PERIOD / 10 };
            tokio::select! { () = shutdown.requested() => return, () = tokio::time::sleep(pause) => {} }
        }
    });
    receiver
}

async fn probe(client: &Client, name: &str) -> Probed {
    let configurations = Api::<ValidatingWebhookConfiguration>::all(client.clone());
    let configuration = match configurations.get_opt(name).await {
        Ok(Some(configuration)) => configuration,
        Ok(None) => return Probed::Missing(format!("there is no ValidatingWebhookConfiguration {name}")),
        Err(error) => return Probed::Missing(format!("ValidatingWebhookConfiguration {name} cannot be read: {error}")),
    };
    let webhooks = configuration.webhooks.unwrap_or_default();
    let missing: Vec<&str> = ENTRIES
        .iter()
        .map(|entry| entry.name)
        .filter(|name| !webhooks.iter().any(|webhook| webhook.name.strip_suffix(".poolguard.dev") == Some(name)))
        .collect();
    if !missing.is_empty() {
        return Probed::Missing(format!("ValidatingWebhookConfiguration {name} lacks {}", missing.join(", ")));
    }
    match webhooks.first().map(|webhook| ready(&webhook.client_config)) {
        Some(asked) => match asked.await {
            Ok(()) => Probed::Answers,
            Err(why) => Probed::Unreachable(why),
        },
        None => Probed::Missing(format!("ValidatingWebhookConfiguration {name} is empty")),
    }
}

async fn ready(config: &WebhookClientConfig) -> Result<(), String> {
    let url = match (&config.url, &config.service) {
        (Some(url), _) => url.trim_end_matches("/validate").to_owned(),
        (None, Some(service)) => {
            format!("https://{}.{}.svc:{}", service.name, service.namespace, service.port.unwrap_or(443))
        }
        (None, None) => return Err("the webhook's configuration names neither a URL nor a Service".to_owned()),
    };
    let mut builder = reqwest::Client::builder().timeout(TIMEOUT).no_proxy();
    if let Some(bundle) = &config.ca_bundle {
        let roots = reqwest::Certificate::from_pem_bundle(&bundle.0).map_err(|_| "caBundle is not PEM".to_owned())?;
        builder = builder.tls_certs_only(roots);
    }
    let client = builder.build().map_err(|error| error.to_string())?;
    let answer = client.get(format!("{url}/readyz")).send().await.map_err(|error| {
        let mut cause: &dyn std::error::Error = &error;
        while let Some(source) = cause.source() {
            cause = source;
        }
        format!("the webhook cannot be reached: {cause}")
    })?;
    if answer.status().is_success() {
        Ok(())
    } else {
        Err(format!("the webhook is not ready: it answered {}", answer.status()))
    }
}
