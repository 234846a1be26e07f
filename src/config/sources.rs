//! The named sources of truth in the configuration, and what each kind must have.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

use super::duration;

/// The addresses of a datacenter.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// The datacenter's name. A place that serves nobody, such as the address that DNS answers when a service is pooled
    /// nowhere, is a datacenter of its own here.
    pub datacenter: String,
    /// Its networks, as `address/prefix length`.
    #[serde(deserialize_with = "networks")]
    #[schemars(with = "Vec<String>")]
    pub cidrs: Vec<IpNet>,
}

/// A named source of truth; exactly one kind is set.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// Its name, which `spec.evidence[].source` may give.
    pub name: String,
    /// conftool's etcd.
    #[serde(default)]
    pub conftool: Option<ConftoolSource>,
    /// Authoritative DNS servers.
    #[serde(default)]
    pub dns: Option<DnsSource>,
    /// This datacenter's Prometheus.
    #[serde(default)]
    pub prometheus: Option<PrometheusSource>,
}

/// Where conftool keeps its state: etcd's v2 API.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ConftoolSource {
    /// URLs of the members of one etcd cluster. The next one is asked as well when one is slow.
    pub endpoints: Vec<String>,
    /// conftool's `namespace` and `api_version`: the key below which `discovery` lies.
    #[serde(default = "conftool_namespace")]
    pub namespace: String,
    /// How long one request may take.
    #[serde(default = "two_seconds", deserialize_with = "duration::deserialize")]
    #[schemars(with = "String")]
    pub timeout: Duration,
    /// How long a switch takes to reach what clients ask, through confd and the DNS server: their TTL counts from then. gdnsd
    /// alone takes 2 s.
    #[serde(default = "three_seconds", deserialize_with = "duration::deserialize")]
    #[schemars(with = "String")]
    pub propagation: Duration,
    /// A PEM file with the authorities that etcd's certificate may be from.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// A file with the user name.
    #[serde(default)]
    pub username_file: Option<PathBuf>,
    /// A file with the password.
    #[serde(default)]
    pub password_file: Option<PathBuf>,
}

/// Authoritative DNS servers: no resolver, no cache in between.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DnsSource {
    /// Addresses of the servers, with a port where it is not 53: `10.3.0.1`, `10.3.0.1:5353`, `[2001:db8::1]:53`. Each must
    /// answer.
    #[serde(deserialize_with = "servers")]
    #[schemars(with = "Vec<String>")]
    pub servers: Vec<SocketAddr>,
    /// The networks that clients are in. Each server is asked once on behalf of each of them (EDNS client subnet).
    #[serde(default, deserialize_with = "networks")]
    #[schemars(with = "Vec<String>")]
    pub client_networks: Vec<IpNet>,
    /// How long one question may take.
    #[serde(default = "one_second", deserialize_with = "duration::deserialize")]
    #[schemars(with = "String")]
    pub timeout: Duration,
    /// The longest that a client is believed to hold an answer; for as long after its start, the operator does not believe
    /// that a name leads elsewhere.
    #[serde(default = "five_minutes", rename = "maxTTL", deserialize_with = "duration::deserialize")]
    #[schemars(with = "String")]
    pub max_ttl: Duration,
    /// How often names are looked up for the status.
    #[serde(default = "ten_seconds", deserialize_with = "duration::deserialize")]
    #[schemars(with = "String")]
    pub interval: Duration,
}

/// This datacenter's Prometheus, or what speaks its API.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PrometheusSource {
    /// The URL before `/api/v1/query`.
    pub url: String,
    /// How long one query may take.
    #[serde(default = "two_seconds", deserialize_with = "duration::deserialize")]
    #[schemars(with = "String")]
    pub timeout: Duration,
    /// A PEM file with the authorities that the server's certificate may be from.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// A file with a bearer token, read for each query.
    #[serde(default)]
    pub bearer_token_file: Option<PathBuf>,
    /// A PEM file with a client certificate, read at the start.
    #[serde(default)]
    pub client_certificate_file: Option<PathBuf>,
    /// A PEM file with its key.
    #[serde(default)]
    pub client_key_file: Option<PathBuf>,
    /// How often queries are asked for the status.
    #[serde(default = "ten_seconds", deserialize_with = "duration::deserialize")]
    #[schemars(with = "String")]
    pub interval: Duration,
}

fn conftool_namespace() -> String {
    "/conftool/v1".to_owned()
}

fn one_second() -> Duration {
    Duration::from_secs(1)
}

fn two_seconds() -> Duration {
    Duration::from_secs(2)
}

fn three_seconds() -> Duration {
    Duration::from_secs(3)
}

fn ten_seconds() -> Duration {
    Duration::from_secs(10)
}

fn five_minutes() -> Duration {
    Duration::from_secs(300)
}

fn servers<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<SocketAddr>, D::Error> {
    let address = |text: &String| {
        let with_port = || text.parse::<SocketAddr>().ok();
        let without = || text.parse::<IpAddr>().ok().map(|address| SocketAddr::new(address, 53));
        with_port().or_else(without).ok_or_else(|| {
            serde::de::Error::custom(format!("{text:?} is not an address such as 10.3.0.1 or [2001:db8::1]:5353"))
        })
    };
    Vec::<String>::deserialize(deserializer)?.iter().map(address).collect()
}

fn networks<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<IpNet>, D::Error> {
    let network = |text: &String| {
        let wrong = |_| serde::de::Error::custom(format!("{text:?} is not a network such as 10.64.0.0/12"));
        text.parse::<IpNet>().map(|network| network.trunc()).map_err(wrong)
    };
    Vec::<String>::deserialize(deserializer)?.iter().map(network).collect()
}

/// What is wrong with a source, as (path below it, message).
pub(super) fn wrong(source: &Source, networks: &[Network]) -> Vec<(String, String)> {
    let kinds = [source.conftool.is_some(), source.dns.is_some(), source.prometheus.is_some()];
    if kinds.iter().filter(|set| **set).count() != 1 {
        return vec![(
            String::new(),
            "is not one source: write exactly one of conftool, dns and prometheus".to_owned(),
        )];
    }
    let mut found = Vec::new();
    let mut add = |path: &str, message: String| found.push((path.to_owned(), message));
    if let Some(conftool) = &source.conftool {
        if conftool.endpoints.is_empty() {
            add(".conftool.endpoints", "is empty: write at least one URL of etcd".to_owned());
        }
        for endpoint in conftool.endpoints.iter().filter(|endpoint| !is_url(endpoint)) {
            add(".conftool.endpoints", format!("{endpoint:?} is not a URL such as https://etcd.example:2379"));
        }
        if !conftool.namespace.starts_with('/') {
            add(".conftool.namespace", "must begin with /, as /conftool/v1 does".to_owned());
        }
        if conftool.username_file.is_some() != conftool.password_file.is_some() {
            add(".conftool", "usernameFile and passwordFile go together: write both or none".to_owned());
        }
    }
    if let Some(dns) = &source.dns {
        if dns.servers.is_empty() {
            add(".dns.servers", "is empty: write the address of at least one authoritative server".to_owned());
        }
        if networks.is_empty() {
            add(".dns", "needs networks, which say what datacenter an address belongs to".to_owned());
        }
        if dns.interval < Duration::from_millis(100) || dns.interval > Duration::from_secs(60) {
            add(".dns.interval", "must lie between 100ms and 60s".to_owned());
        }
    }
    if let Some(prometheus) = &source.prometheus {
        if !is_url(&prometheus.url) {
            add(".prometheus.url", format!("{:?} is not a URL such as https://prometheus.example", prometheus.url));
        }
        if prometheus.client_certificate_file.is_some() != prometheus.client_key_file.is_some() {
            add(".prometheus", "clientCertificateFile and clientKeyFile go together: write both or none".to_owned());
        }
        if prometheus.interval < Duration::from_millis(100) || prometheus.interval > Duration::from_secs(60) {
            add(".prometheus.interval", "must lie between 100ms and 60s".to_owned());
        }
    }
    found
}

fn is_url(text: &str) -> bool {
    let url = reqwest::Url::parse(text).ok();
    url.is_some_and(|url| matches!(url.scheme(), "http" | "https") && url.host().is_some())
}
