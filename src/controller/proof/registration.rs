//! The registration in force, compared field by field with what it should be.

use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use kube::api::{Api, Patch, PatchParams};
use kube::{Client, Resource};
use poolguard_policy::doors::Door;
use serde_json::{Map, Value, json};

use super::{Finding, Kind, Trust};
use crate::config::{Config, Registration};
use crate::controller::metrics::Metrics;
use crate::registration::webhooks;

/// The field manager of the one field that is mended.
const CA_MANAGER: &str = "poolguard-ca";

/// The entries that are in force.
pub(super) async fn live(client: &Client, name: &str) -> Result<Vec<Value>, Finding> {
    let missing = |message: String| Finding { kind: Kind::Missing, message };
    match Api::<ValidatingWebhookConfiguration>::all(client.clone()).get_opt(name).await {
        Ok(Some(live)) => {
            Ok(live.webhooks.iter().flatten().filter_map(|webhook| serde_json::to_value(webhook).ok()).collect())
        }
        Ok(None) => Err(missing(format!("there is no ValidatingWebhookConfiguration {name}"))),
        Err(error) => Err(missing(format!("ValidatingWebhookConfiguration {name} cannot be read: {error}"))),
    }
}

/// The authorities that all entries trust, PEM; empty where they differ.
pub(super) fn authority(live: &[Value]) -> String {
    let bundle = live.first().map(|first| &first["clientConfig"]["caBundle"]);
    let Some(bundle) = bundle.filter(|bundle| live.iter().all(|entry| entry["clientConfig"]["caBundle"] == **bundle))
    else {
        return String::new();
    };
    let decoded = serde_json::from_value::<ByteString>(bundle.clone()).unwrap_or_default();
    String::from_utf8(decoded.0).unwrap_or_default()
}

/// PEM as `caBundle` holds it.
pub(super) fn encoded(bundle: String) -> String {
    let encoded = serde_json::to_value(ByteString(bundle.into_bytes())).unwrap_or_default();
    encoded.as_str().unwrap_or_default().to_owned()
}

/// What is wrong with the registration; a `caBundle` that differs is mended.
pub(super) async fn check(
    client: &Client,
    config: &Config,
    live: &[Value],
    trust: &Trust,
    further: &[Door],
    metrics: &Metrics,
) -> Vec<Finding> {
    let name = &config.controller.webhook_configuration;
    let Trust { expected, wanted: next } = trust;
    let findings =
        compare(name, live, &wanted(&config.controller.registration, expected, &config.controller.namespace, further));
    let differs = |bundle: &str| {
        live.iter().any(|entry| entry["clientConfig"]["caBundle"].as_str().unwrap_or_default() != bundle)
    };
    if !next.is_empty() && differs(next) {
        match mend(&Api::all(client.clone()), name, live, next).await {
            Ok(()) if differs(expected) => {
                metrics.repairs.with_label_values(&["caBundle"]).inc();
                tracing::warn!(configuration = name, "caBundle was not the webhook's authority, and has been mended");
            }
            Ok(()) => tracing::info!(configuration = name, "caBundle has the authorities of the webhook's certificate"),
            Err(error) => tracing::error!(configuration = name, error = %error, "caBundle cannot be mended"),
        }
    }
    findings
}

/// The entries as the chart renders them.
fn wanted(registration: &Registration, ca: &str, namespace: &str, further: &[Door]) -> Vec<Value> {
    let mut wanted = webhooks(further);
    for webhook in &mut wanted {
        if webhook["failurePolicy"] == "Fail" {
            webhook["failurePolicy"] = json!(registration.failure_policy);
        }
        webhook["timeoutSeconds"] = json!(registration.timeout_seconds);
        if webhook.get("namespaceSelector").is_some() {
            webhook["namespaceSelector"]["matchExpressions"] = json!([{
                "key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": registration.excluded_namespaces,
            }]);
        }
        let mut client = Map::new();
        if registration.url.is_empty() {
            let service =
                json!({"name": "poolguard-webhook", "namespace": namespace, "path": "/validate", "port": 443});
            client.insert("service".to_owned(), service);
        } else {
            client.insert("url".to_owned(), json!(format!("{}/validate", registration.url.trim_end_matches('/'))));
        }
        if !ca.is_empty() {
            client.insert("caBundle".to_owned(), json!(ca));
        }
        webhook["clientConfig"] = Value::Object(client);
    }
    wanted
}

/// The fields of an entry that are compared: all that there are.
const FIELDS: [&str; 10] = [
    "rules",
    "failurePolicy",
    "matchConditions",
    "namespaceSelector",
    "objectSelector",
    "matchPolicy",
    "sideEffects",
    "timeoutSeconds",
    "admissionReviewVersions",
    "clientConfig",
];

/// What differs, entry by entry.
fn compare(name: &str, live: &[Value], wanted: &[Value]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let called = |webhook: &Value| webhook["name"].as_str().unwrap_or_default().to_owned();
    for wanted in wanted {
        let entry = called(wanted);
        let Some(live) = live.iter().find(|live| called(live) == entry) else {
            let message = format!("ValidatingWebhookConfiguration {name} lacks {entry}");
            findings.push(Finding { kind: Kind::Missing, message });
            continue;
        };
        let differs: Vec<&str> =
            FIELDS.into_iter().filter(|field| part(live, wanted, field) != part(wanted, wanted, field)).collect();
        if !differs.is_empty() {
            let message = format!("{entry} of ValidatingWebhookConfiguration {name} differs in {}", differs.join(", "));
            findings.push(Finding { kind: Kind::Differs, message });
        }
    }
    for live in live.iter().filter(|live| !wanted.iter().any(|wanted| called(wanted) == called(live))) {
        let message =
            format!("ValidatingWebhookConfiguration {name} has {}, which is not of this version", called(live));
        findings.push(Finding { kind: Kind::Differs, message });
    }
    findings
}

/// A field, without what the API server adds by itself. Where no authority is configured, somebody else looks after it.
fn part(webhook: &Value, wanted: &Value, field: &str) -> Value {
    let mut part = webhook.get(field).cloned().unwrap_or(Value::Null);
    if part == json!({}) || part == json!([]) {
        part = Value::Null;
    }
    if field == "clientConfig"
        && wanted["clientConfig"].get("caBundle").is_none()
        && let Some(client) = part.as_object_mut()
    {
        client.remove("caBundle");
    }
    part
}

/// Sets `caBundle`, and nothing else, on the entries that are there.
async fn mend(
    configurations: &Api<ValidatingWebhookConfiguration>,
    name: &str,
    live: &[Value],
    ca: &str,
) -> Result<(), kube::Error> {
    let webhooks: Vec<Value> =
        live.iter().map(|webhook| json!({"name": webhook["name"], "clientConfig": {"caBundle": ca}})).collect();
    let patch = json!({
        "apiVersion": ValidatingWebhookConfiguration::api_version(&()),
        "kind": ValidatingWebhookConfiguration::kind(&()),
        "metadata": {"name": name}, "webhooks": webhooks,
    });
    let params = PatchParams::apply(CA_MANAGER).force();
    configurations.patch(name, &params, &Patch::Apply(&patch)).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registration() -> Registration {
        Registration { url: "https://127.0.0.1:9".to_owned(), ..Registration::default() }
    }

    #[test]
    fn what_the_chart_renders_is_no_finding_and_every_change_of_it_is() {
        let wanted = wanted(&registration(), "Y2E=", "poolguard", &[]);
        // As the API server gives it back.
        let mut live = wanted.clone();
        for webhook in &mut live {
            for selector in ["namespaceSelector", "objectSelector"] {
                if webhook.get(selector).is_none() {
                    webhook[selector] = json!({});
                }
            }
        }
        assert_eq!(compare("p", &live, &wanted), []);
        for (field, value) in [
            ("rules", json!([])),
            ("failurePolicy", json!("Ignore")),
            ("matchConditions", json!([{"name": "never", "expression": "false"}])),
            ("namespaceSelector", json!({"matchLabels": {"no": "where"}})),
            ("objectSelector", json!({"matchLabels": {"no": "where"}})),
            ("matchPolicy", json!("Exact")),
            ("sideEffects", json!("NoneOnDryRun")),
            ("timeoutSeconds", json!(1)),
            ("admissionReviewVersions", json!(["v1beta1"])),
            ("clientConfig", json!({"url": "https://127.0.0.1:9/validate"})),
        ] {
            let mut edited = live.clone();
            edited[0][field] = value;
            let findings = compare("p", &edited, &wanted);
            assert_eq!(findings.len(), 1, "{field}");
            assert!(findings[0].kind == Kind::Differs && findings[0].message.ends_with(field), "{findings:?}");
        }
        let findings = compare("p", &live[1..], &wanted);
        assert_eq!((findings.len(), findings[0].kind), (1, Kind::Missing));
        let mut more = live.clone();
        more.push(json!({"name": "other.example"}));
        assert_eq!(compare("p", &more, &wanted)[0].kind, Kind::Differs);
        assert_eq!(compare("p", &[], &wanted).len(), wanted.len());
    }
    #[test]
    fn an_authority_counts_only_where_all_entries_trust_it() {
        let entry = |bundle: &str| json!({"clientConfig": {"caBundle": encoded(bundle.to_owned())}});
        assert_eq!(authority(&[entry("a"), entry("a")]), "a");
        assert_eq!(authority(&[entry("a"), entry("b")]), "");
        assert_eq!(authority(&[json!({"clientConfig": {}})]), "");
        assert_eq!(authority(&[]), "");
    }
}
