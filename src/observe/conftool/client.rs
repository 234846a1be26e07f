//! The client of etcd's v2 API: bounded bodies, no redirects, endpoints tried in turn.

use std::path::Path;
use std::time::Duration;

use futures::StreamExt;
use poolguard_policy::evidence::Why;
use reqwest::{StatusCode, Url};

use super::decode::{Refused, Told, brief, records};
use super::{Bad, Values};
use crate::config::Source;
use crate::observe::SourcesError;

/// One record is a few hundred bytes.
const RECORD_LIMIT: usize = 1 << 20;
/// All records of a large installation are a few megabytes.
const LIST_LIMIT: usize = 64 << 20;
/// A watch that is silent for as long is begun again, in case its connection is dead.
const WATCH_SILENCE: Duration = Duration::from_secs(60);

/// Why a watch must be begun anew.
#[derive(Debug)]
pub(super) enum Interrupted {
    /// The event history does not reach back to where the watch begins, or it was silent for long: list again.
    Stale,
    /// Something failed.
    Failed(Bad),
}

/// A client of one etcd cluster.
#[derive(Debug)]
pub(super) struct Client {
    http: reqwest::Client,
    endpoints: Vec<Url>,
    /// `<namespace>/discovery/`, as it stands in keys.
    pub(super) prefix: String,
    timeout: Duration,
    credentials: Option<(String, String)>,
}

impl Client {
    pub(super) fn new(source: &Source) -> Result<Self, SourcesError> {
        let conftool = &source.conftool;
        let file = |path: &Path| {
            std::fs::read(path).map_err(|error| SourcesError::Credential {
                source_name: source.name.clone(),
                path: path.display().to_string(),
                error,
            })
        };
        let text = |path: &Path| Ok::<_, SourcesError>(String::from_utf8_lossy(&file(path)?).trim().to_owned());
        let failed = |error| SourcesError::Client { source_name: source.name.clone(), error };
        let mut builder = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(conftool.timeout)
            .no_proxy()
            .user_agent(concat!("poolguard/", env!("CARGO_PKG_VERSION")));
        if let Some(path) = &conftool.ca_file {
            let roots = reqwest::Certificate::from_pem_bundle(&file(path)?).map_err(failed)?;
            builder = builder.tls_certs_only(roots);
        }
        let credentials = match (&conftool.username_file, &conftool.password_file) {
            (Some(user), Some(password)) => Some((text(user)?, text(password)?)),
            _ => None,
        };
        let endpoints = conftool
            .endpoints
            .iter()
            .map(|endpoint| {
                Url::parse(endpoint).map_err(|_| SourcesError::Endpoint {
                    source_name: source.name.clone(),
                    endpoint: endpoint.clone(),
                })
            })
            .collect::<Result<_, _>>()?;
        Ok(Self {
            http: builder.build().map_err(failed)?,
            endpoints,
            prefix: format!("{}/discovery/", conftool.namespace.trim_end_matches('/')),
            timeout: conftool.timeout,
            credentials,
        })
    }

    /// One record, by quorum. A record that does not exist has no values.
    pub(super) async fn record(&self, record: &str) -> Result<Values, Bad> {
        match self.read(Some(record), RECORD_LIMIT).await? {
            None => Ok(Values::new()),
            Some((told, _)) => Ok(records(&told.node, &self.prefix).remove(record).unwrap_or_default()),
        }
    }

    /// All records, by quorum, and etcd's index from which a watch goes on.
    pub(super) async fn list(&self) -> Result<(Option<Told>, u64), Bad> {
        Ok(match self.read(None, LIST_LIMIT).await? {
            None => (None, 0),
            Some((told, index)) => (Some(told), index),
        })
    }

    async fn read(&self, record: Option<&str>, limit: usize) -> Result<Option<(Told, u64)>, Bad> {
        let mut last = Bad { why: Why::Unreachable, detail: "no endpoint".to_owned() };
        for endpoint in &self.endpoints {
            let url = self.url(endpoint, record, &[("recursive", "true"), ("quorum", "true")]);
            match tokio::time::timeout(self.timeout, self.get(url, limit)).await {
                Ok(Ok((StatusCode::OK, index, body))) => {
                    let told = serde_json::from_slice(&body).map_err(|error| Bad {
                        why: Why::Malformed,
                        detail: brief(&format!("etcd's answer cannot be read ({error})")),
                    })?;
                    return Ok(Some((told, index)));
                }
                Ok(Ok((status, _, body))) => match serde_json::from_slice::<Refused>(&body) {
                    Ok(refused) if refused.code == 100 => return Ok(None),
                    Ok(refused) => last = unreachable(&format!("etcd answered {status}: {}", refused.message)),
                    Err(_) => last = unreachable(&format!("etcd answered {status}")),
                },
                Ok(Err(bad)) => last = bad,
                Err(_) => {
                    let detail = format!("no answer from etcd within {} ms", self.timeout.as_millis());
                    last = Bad { why: Why::TimedOut, detail };
                }
            }
        }
        Err(last)
    }

    /// Waits for the next change after `index`.
    pub(super) async fn next(&self, index: u64, turn: usize) -> Result<Told, Interrupted> {
        let Some(endpoint) = self.endpoints.get(turn % self.endpoints.len().max(1)) else {
            return Err(Interrupted::Failed(unreachable("no endpoint")));
        };
        let from = (index + 1).to_string();
        let url = self.url(endpoint, None, &[("wait", "true"), ("recursive", "true"), ("waitIndex", &from)]);
        match tokio::time::timeout(WATCH_SILENCE, self.get(url, RECORD_LIMIT)).await {
            Err(_) => Err(Interrupted::Stale),
            Ok(Err(bad)) => Err(Interrupted::Failed(bad)),
            // etcd ends a watch that it gives up with an empty body.
            Ok(Ok((StatusCode::OK, _, body))) if body.is_empty() => Err(Interrupted::Stale),
            Ok(Ok((StatusCode::OK, _, body))) => serde_json::from_slice(&body).map_err(|_| Interrupted::Stale),
            Ok(Ok((status, _, body))) => match serde_json::from_slice::<Refused>(&body) {
                Ok(refused) if refused.code == 401 => Err(Interrupted::Stale),
                _ => Err(Interrupted::Failed(unreachable(&format!("etcd answered {status} to a watch")))),
            },
        }
    }

    fn url(&self, endpoint: &Url, record: Option<&str>, query: &[(&str, &str)]) -> Url {
        let mut url = endpoint.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.clear().extend(["v2", "keys"]);
            // Each segment is escaped, so no record's name leads elsewhere.
            segments.extend(self.prefix.split('/').filter(|segment| !segment.is_empty()));
            segments.extend(record);
        }
        url.query_pairs_mut().extend_pairs(query);
        url
    }

    async fn get(&self, url: Url, limit: usize) -> Result<(StatusCode, u64, Vec<u8>), Bad> {
        let mut request = self.http.get(url);
        if let Some((user, password)) = &self.credentials {
            request = request.basic_auth(user, Some(password));
        }
        let response = request.send().await.map_err(|error| failed(&error))?;
        let status = response.status();
        let index = response
            .headers()
            .get("x-etcd-index")
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.parse().ok())
            .unwrap_or_default();
        let mut body = Vec::new();
        let mut stream = response.bytes_stream();
        while let Some(chunk) = stream.next().await {
            let chunk = chunk.map_err(|error| failed(&error))?;
            if body.len() + chunk.len() > limit {
                return Err(Bad { why: Why::Malformed, detail: format!("etcd's answer exceeds {limit} bytes") });
            }
            body.extend_from_slice(&chunk);
        }
        Ok((status, index, body))
    }
}

fn unreachable(detail: &str) -> Bad {
    Bad { why: Why::Unreachable, detail: brief(detail) }
}

/// The innermost cause says most: `connection refused`.
fn failed(error: &reqwest::Error) -> Bad {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    unreachable(&format!("etcd cannot be reached ({cause})"))
}
