//! The configuration file: read once, validated whole, all errors at once.
//!
//! Endpoints, credentials and networks live here and nowhere else; a resource that a tenant can write only names them.
//! Never: the environment. Only `main` reads that, and hands it in as [`Overrides`].

mod certificates;
mod custom;
mod duration;
mod sources;

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use poolguard_policy::doors::Door;
use poolguard_policy::given::{Settings, Trusted};
use poolguard_policy::pooling;
use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_yaml_ng::Value;

pub use certificates::Certificates;
pub use custom::{CustomKind, CustomWorkload};
pub use sources::{ConftoolSource, DnsSource, Network, PrometheusSource, Source};

/// The validated configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where this cluster is, by the name that the sources use too.
    pub datacenter: String,
    /// Whom to ask, shown in refusals.
    pub contact: Option<String>,
    /// Where the runbook is.
    pub runbook_url: String,
    /// Which addresses belong to which datacenter.
    pub networks: Vec<Network>,
    /// Named sources of truth.
    pub sources: Vec<Source>,
    /// How long all sources of a verdict together may take.
    pub evidence_timeout: Duration,
    /// Identities that may remove what they manage.
    pub trusted_identities: Vec<TrustedIdentity>,
    /// Further kinds that are guarded like a Deployment.
    pub custom_kinds: Vec<CustomKind>,
    /// Whether the whole installation refuses, or only warns.
    pub enforcement: Enforcement,
    /// The webhook's listener.
    pub webhook: Webhook,
    /// Metrics and health.
    pub metrics: Metrics,
    /// The controller.
    pub controller: Controller,
    /// Logs.
    pub log: Log,
    /// Traces.
    pub traces: Traces,
}

impl Config {
    /// The requests that could cut a service off by a custom workload.
    pub fn custom_doors(&self) -> Vec<Door> {
        self.custom_kinds.iter().flat_map(|kind| kind.doors()).collect()
    }

    /// What the policy needs of it.
    pub fn settings(&self) -> Settings {
        Settings {
            here: self.datacenter.clone(),
            contact: self.contact.clone(),
            runbook_url: self.runbook_url.clone(),
            trusted: self
                .trusted_identities
                .iter()
                .map(|identity| Trusted {
                    user: identity.user.clone(),
                    resources: identity.resources.clone(),
                    verbs: identity.verbs.clone(),
                })
                .collect(),
            enforcement: match self.enforcement {
                Enforcement::Enforce => pooling::Enforcement::Enforce,
                Enforcement::Warn => pooling::Enforcement::Warn,
            },
            custom_kinds: self.custom_kinds.iter().map(|custom| custom.kind).collect(),
            canary_namespace: self.controller.canary_namespace.clone(),
        }
    }
}

/// An identity that is trusted with some requests.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrustedIdentity {
    /// The user name, as the API server writes it.
    pub user: String,
    /// Resources, with their subresource behind a slash.
    pub resources: Vec<String>,
    /// `CREATE`, `UPDATE`, `DELETE`.
    #[schemars(inner(regex(pattern = "^(CREATE|UPDATE|DELETE)$")))]
    pub verbs: Vec<String>,
}

/// What becomes of a removal while the service serves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum Enforcement {
    /// It is refused, unless the ServicePooling only warns.
    #[default]
    Enforce,
    /// It is allowed, with a warning and a metric: for the first weeks in a running fleet.
    Warn,
}

/// The webhook's listener.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Webhook {
    /// Where it listens.
    pub listen: SocketAddr,
    /// The folder with `tls.crt` and `tls.key`, and `ca.crt` of the authority that the API server trusts.
    pub tls_dir: PathBuf,
    /// By which name the API server calls the webhook: a certificate for another one is not taken. Not looked at where absent.
    pub server_name: Option<String>,
    /// How long a watch may be silent before the view is no longer believed. After three quarters of it everything is listed again; the
    /// API server lets a quiet watch speak each minute, so less than 85s makes that the ordinary pace. The webhook asks for shorter
    /// watches of ServicePoolings, and lists these after a quarter of it.
    #[serde(deserialize_with = "duration::deserialize")]
    #[schemars(with = "String")]
    pub watch_silence: Duration,
}

impl Default for Webhook {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([0, 0, 0, 0], 8443)),
            tls_dir: PathBuf::from("/etc/poolguard/tls"),
            server_name: None,
            watch_silence: Duration::from_secs(90),
        }
    }
}

/// The listener of `/metrics`, `/livez` and `/readyz`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Metrics {
    /// Where it listens.
    pub listen: SocketAddr,
}

impl Default for Metrics {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([0, 0, 0, 0], 8080)) }
    }
}

/// What the controller is told.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Controller {
    /// The operator's own namespace, where its Lease is.
    pub namespace: String,
    /// The Lease's name.
    pub lease_name: String,
    /// The ValidatingWebhookConfiguration's name.
    pub webhook_configuration: String,
    /// The namespace whose dry runs prove that the guard is up.
    pub canary_namespace: String,
    /// How often that is proved.
    #[serde(deserialize_with = "duration::deserialize")]
    #[schemars(with = "String")]
    pub proof_interval: Duration,
    /// The registration as the chart has rendered it, which the one in force is compared with.
    pub registration: Registration,
    /// The webhook's certificate and its authority, where the controller makes them.
    pub certificates: Option<Certificates>,
}

/// The registration of the webhook, as far as an installation decides about it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Registration {
    /// Of every entry but evictions.
    pub failure_policy: String,
    /// Of every entry.
    pub timeout_seconds: i32,
    /// Namespaces that are never guarded.
    pub excluded_namespaces: Vec<String>,
    /// Where the webhook is, if it is outside of the cluster; empty: behind its Service.
    pub url: String,
    /// The authority of the webhook's certificate, PEM in base64; empty: somebody else looks after it.
    pub ca_bundle: String,
}

impl Default for Registration {
    fn default() -> Self {
        Self {
            failure_policy: "Fail".to_owned(),
            timeout_seconds: 10,
            excluded_namespaces: vec!["kube-system".to_owned(), "poolguard".to_owned()],
            url: String::new(),
            ca_bundle: String::new(),
        }
    }
}

impl Default for Controller {
    fn default() -> Self {
        Self {
            namespace: "poolguard".to_owned(),
            lease_name: "poolguard-controller".to_owned(),
            webhook_configuration: "poolguard".to_owned(),
            canary_namespace: "poolguard-canary".to_owned(),
            proof_interval: Duration::from_secs(30),
            registration: Registration::default(),
            certificates: None,
        }
    }
}

/// Logs.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// How lines look.
    pub format: LogFormat,
    /// `error`, `warn`, `info`, `debug`, `trace`, or a filter of tracing.
    pub level: String,
}

impl Default for Log {
    fn default() -> Self {
        Self { format: LogFormat::Json, level: "info".to_owned() }
    }
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

/// Traces, where the build has them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Traces {
    /// The base URL of a receiver of OTLP over HTTP: `http://collector.example:4318`. Only builds with the feature `otlp` take it.
    pub endpoint: Option<String>,
}

/// Single values from flags and environment.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// `datacenter`
    pub datacenter: Option<String>,
    /// `webhook.listen`
    pub webhook_listen: Option<SocketAddr>,
    /// `webhook.tlsDir`
    pub tls_dir: Option<PathBuf>,
    /// `metrics.listen`
    pub metrics_listen: Option<SocketAddr>,
    /// `log.format`
    pub log_format: Option<LogFormat>,
    /// `log.level`
    pub log_level: Option<String>,
    /// `traces.endpoint`
    pub traces_endpoint: Option<String>,
}

/// The file, for its schema alone: each section is read by itself, so that one error does not hide the next.
#[derive(JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(title = "poolguard configuration")]
#[allow(dead_code, reason = "only its schema is used")]
struct File {
    /// Where this cluster is, by the name that the sources use too.
    datacenter: String,
    /// Whom to ask, shown in refusals.
    contact: Option<String>,
    /// Where the runbook is.
    #[serde(rename = "runbookURL")]
    runbook_url: Option<String>,
    /// Which addresses belong to which datacenter.
    networks: Option<Vec<Network>>,
    /// Named sources of truth.
    sources: Option<Vec<Source>>,
    /// How long all sources of a verdict together may take: `3s`.
    evidence_timeout: Option<String>,
    /// Identities that may remove what they manage; empty by default.
    trusted_identities: Option<Vec<TrustedIdentity>>,
    /// Further kinds with pods of a template and `/scale`, guarded like a Deployment: Argo Rollouts.
    custom_workloads: Option<Vec<CustomWorkload>>,
    /// `Warn` lets everything pass in the whole cluster, told and counted.
    enforcement: Option<Enforcement>,
    /// The webhook's listener.
    webhook: Option<Webhook>,
    /// The listener of metrics and health.
    metrics: Option<Metrics>,
    /// What the controller is told.
    controller: Option<Controller>,
    /// Logs.
    log: Option<Log>,
    /// Traces of reviews.
    traces: Option<Traces>,
}

const KEYS: [&str; 14] = [
    "datacenter",
    "contact",
    "runbookURL",
    "networks",
    "sources",
    "evidenceTimeout",
    "trustedIdentities",
    "customWorkloads",
    "enforcement",
    "webhook",
    "metrics",
    "controller",
    "log",
    "traces",
];

/// The JSON schema of the file.
pub fn schema() -> serde_json::Value {
    schemars::schema_for!(File).to_value()
}

/// Everything that is wrong with a configuration.
#[derive(Debug, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<ConfigError>);

/// One thing that is wrong.
#[derive(Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The path of the key, or the file's name.
    pub path: String,
    /// What to write instead.
    pub message: String,
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, ConfigError { path, message }) in self.0.iter().enumerate() {
            let line_end = if index + 1 < self.0.len() { "\n" } else { "" };
            write!(f, "configuration: {path}: {message}{line_end}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

impl Config {
    /// Reads and validates a file.
    ///
    /// # Errors
    /// Everything that is wrong, at once.
    pub fn load(path: &Path, overrides: Overrides) -> Result<Self, ConfigErrors> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            one(&path.display().to_string(), format!("cannot be read ({error}): give its path with --config"))
        })?;
        Self::parse(&text, overrides)
    }

    /// Validates the text of a file.
    ///
    /// # Errors
    /// Everything that is wrong, at once.
    pub fn parse(text: &str, overrides: Overrides) -> Result<Self, ConfigErrors> {
        let value: Value =
            serde_yaml_ng::from_str(text).map_err(|error| one("file", format!("is not YAML: {error}")))?;
        let mapping = match value {
            Value::Mapping(mapping) => mapping,
            Value::Null => serde_yaml_ng::Mapping::new(),
            _ => return Err(one("file", "is not a mapping: write `key: value` lines".to_owned())),
        };
        let mut sections = Sections { mapping, errors: Vec::new() };
        sections.unknown_keys();
        let mut config = Self {
            datacenter: overrides.datacenter.or_else(|| sections.read("datacenter")).unwrap_or_default(),
            contact: sections.read("contact"),
            runbook_url: sections.read("runbookURL").unwrap_or_else(|| "https://poolguard.dev/docs/runbook".to_owned()),
            networks: sections.list("networks"),
            sources: sections.list("sources"),
            evidence_timeout: sections.duration("evidenceTimeout").unwrap_or(Duration::from_secs(3)),
            trusted_identities: sections.list("trustedIdentities"),
            custom_kinds: custom::kinds(&sections.list::<CustomWorkload>("customWorkloads")),
            enforcement: sections.read("enforcement").unwrap_or_default(),
            webhook: sections.read("webhook").unwrap_or_default(),
            metrics: sections.read("metrics").unwrap_or_default(),
            controller: sections.read("controller").unwrap_or_default(),
            log: sections.read("log").unwrap_or_default(),
            traces: sections.read("traces").unwrap_or_default(),
        };
        config.webhook.listen = overrides.webhook_listen.unwrap_or(config.webhook.listen);
        config.webhook.tls_dir = overrides.tls_dir.unwrap_or(config.webhook.tls_dir);
        config.metrics.listen = overrides.metrics_listen.unwrap_or(config.metrics.listen);
        config.log.format = overrides.log_format.unwrap_or(config.log.format);
        config.log.level = overrides.log_level.unwrap_or(config.log.level);
        // An empty variable is one that is not set: https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables.
        config.traces.endpoint = overrides.traces_endpoint.filter(|url| !url.is_empty()).or(config.traces.endpoint);
        config.check(&mut sections.errors);
        if sections.errors.is_empty() { Ok(config) } else { Err(ConfigErrors(sections.errors)) }
    }

    fn check(&self, errors: &mut Vec<ConfigError>) {
        let mut wrong = |path: &str, message: String| errors.push(ConfigError { path: path.to_owned(), message });
        if !is_label(&self.datacenter) {
            wrong(
                "datacenter",
                format!(
                    "{:?} is not the name of a datacenter: write the one that the sources use too, such as eqiad",
                    self.datacenter
                ),
            );
        }
        if !(Duration::from_millis(100)..=Duration::from_secs(4)).contains(&self.evidence_timeout) {
            wrong("evidenceTimeout", "must lie between 100ms and 4s, well under the webhook's own time-out".to_owned());
        }
        if !(self.runbook_url.starts_with("https://") || self.runbook_url.starts_with("http://")) {
            wrong("runbookURL", "must be a URL that begins with https:// or http://".to_owned());
        }
        if !(Duration::from_secs(5)..=Duration::from_secs(600)).contains(&self.webhook.watch_silence) {
            wrong("webhook.watchSilence", "must lie between 5s and 10m".to_owned());
        }
        if let Some(endpoint) = &self.traces.endpoint {
            if !cfg!(feature = "otlp") {
                let message = "this build sends no traces: build it with `--features otlp`, or leave this out";
                wrong("traces.endpoint", message.to_owned());
            } else if !(endpoint.starts_with("https://") || endpoint.starts_with("http://")) {
                wrong("traces.endpoint", "must be a URL that begins with https:// or http://".to_owned());
            }
        }
        if !is_label(&self.controller.canary_namespace) || self.controller.canary_namespace == self.controller.namespace
        {
            wrong(
                "controller.canaryNamespace",
                "must be a namespace of its own, such as poolguard-canary: the operator's own is never guarded"
                    .to_owned(),
            );
        }
        if !(Duration::from_millis(500)..=Duration::from_secs(30)).contains(&self.controller.proof_interval) {
            let most = "must lie between 500ms and 30s: a guard that is down has to be told within a minute";
            wrong("controller.proofInterval", most.to_owned());
        }
        for (key, message) in self.controller.certificates.iter().flat_map(certificates::wrong) {
            wrong(&format!("controller.certificates.{key}"), message);
        }
        let mut names = BTreeSet::new();
        for (index, source) in self.sources.iter().enumerate() {
            let path = format!("sources[{index}]");
            if !is_label(&source.name) {
                wrong(&format!("{path}.name"), format!("{:?} is not a name: use a-z, 0-9 and -", source.name));
            } else if !names.insert(&source.name) {
                wrong(
                    &format!("{path}.name"),
                    format!("{:?} stands twice: give each source its own name", source.name),
                );
            }
            for (below, message) in sources::wrong(source, &self.networks) {
                wrong(&format!("{path}{below}"), message);
            }
        }
        for (index, network) in self.networks.iter().enumerate() {
            if !is_label(&network.datacenter) {
                wrong(
                    &format!("networks[{index}].datacenter"),
                    format!("{:?} is not a name: use a-z, 0-9 and -", network.datacenter),
                );
            }
            for cidr in &network.cidrs {
                let overlaps = |other: &&Network| {
                    let shares = |net: &ipnet::IpNet| net.contains(cidr) || cidr.contains(net);
                    other.datacenter != network.datacenter && other.cidrs.iter().any(shares)
                };
                if let Some(other) = self.networks[..index].iter().find(overlaps) {
                    wrong(
                        &format!("networks[{index}].cidrs"),
                        format!(
                            "{cidr} overlaps with a network of {}: an address belongs to one datacenter",
                            other.datacenter
                        ),
                    );
                }
            }
        }
        for (index, kind) in self.custom_kinds.iter().enumerate() {
            if let Some(message) = custom::wrong(kind, &self.custom_kinds[..index]) {
                wrong(&format!("customWorkloads[{index}]"), message);
            }
        }
        for (index, identity) in self.trusted_identities.iter().enumerate() {
            for verb in &identity.verbs {
                if !matches!(verb.as_str(), "CREATE" | "UPDATE" | "DELETE") {
                    wrong(
                        &format!("trustedIdentities[{index}].verbs"),
                        format!("{verb:?} is not one of CREATE, UPDATE, DELETE"),
                    );
                }
            }
        }
    }
}

fn one(path: &str, message: String) -> ConfigErrors {
    ConfigErrors(vec![ConfigError { path: path.to_owned(), message }])
}

fn is_label(name: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    (1..=63).contains(&name.len()) && name.chars().all(inner) && !name.starts_with('-') && !name.ends_with('-')
}

/// The file's sections, each read by itself.
struct Sections {
    mapping: serde_yaml_ng::Mapping,
    errors: Vec<ConfigError>,
}

impl Sections {
    fn unknown_keys(&mut self) {
        for key in self.mapping.keys() {
            let name = key.as_str().map_or_else(|| format!("{key:?}"), str::to_owned);
            if !KEYS.contains(&name.as_str()) {
                let like = KEYS.iter().find(|known| known.eq_ignore_ascii_case(&name.replace(['_', '-'], "")));
                let hint =
                    like.map_or_else(|| format!("the keys are {}", KEYS.join(", ")), |key| format!("write {key}"));
                self.errors
                    .push(ConfigError { path: name, message: format!("is not a key of the configuration: {hint}") });
            }
        }
    }

    fn read<T: DeserializeOwned>(&mut self, key: &str) -> Option<T> {
        let value = self.mapping.get(key)?.clone();
        self.parse(key, value)
    }

    fn parse<T: DeserializeOwned>(&mut self, path: &str, value: Value) -> Option<T> {
        match serde_yaml_ng::from_value(value) {
            Ok(parsed) => Some(parsed),
            Err(error) => {
                self.errors.push(ConfigError { path: path.to_owned(), message: error.to_string() });
                None
            }
        }
    }

    fn list<T: DeserializeOwned>(&mut self, key: &str) -> Vec<T> {
        match self.mapping.get(key).cloned() {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::Sequence(entries)) => entries
                .into_iter()
                .enumerate()
                .filter_map(|(index, entry)| self.parse(&format!("{key}[{index}]"), entry))
                .collect(),
            Some(_) => {
                self.errors.push(ConfigError { path: key.to_owned(), message: "is not a list".to_owned() });
                Vec::new()
            }
        }
    }

    fn duration(&mut self, key: &str) -> Option<Duration> {
        let text: String = self.read(key)?;
        duration::parse(&text).map_err(|message| self.errors.push(ConfigError { path: key.to_owned(), message })).ok()
    }
}

#[cfg(test)]
mod tests;
