//! The client of etcd's v2 API: bounded bodies, no redirects; the next endpoint is asked as well when one is slow or fails.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use poolguard_policy::evidence::Why;
use reqwest::{StatusCode, Url};

use super::Values;
use super::decode::{Refused, Told, records};
use crate::config::ConftoolSource;
use crate::observe::{Bad, SourcesError, http};
use crate::runtime::tasks::beside;

/// One record is a few hundred bytes. A value that is too long, but fits in here, is told as such, without hiding the others.
const RECORD_LIMIT: usize = 8 << 20;
/// All records of a large installation are a few megabytes.
const LIST_LIMIT: usize = 64 << 20;
/// A watch that is silent for as long is doubted, in case its connection is dead: so long may status be wrong then.
const WATCH_SILENCE: Duration = Duration::from_secs(15);
/// The next endpoint is asked when one has not answered within this part of the time-out.
const HEDGE: u32 = 5;
/// A longer body is decoded beside the threads that answer: one of many records takes tens of milliseconds.
const LONG: usize = 64 << 10;

/// Why a watch must be begun anew.
#[derive(Debug)]
pub(super) enum Interrupted {
    /// Nothing was heard for long: there was nothing to hear, or the connection is dead.
    Silent,
    /// The event history does not reach back to where the watch begins, or etcd ended it: list again. In words.
    Stale(&'static str),
    /// Something failed.
    Failed(Bad),
}

/// What a read brought.
#[derive(Debug)]
pub(super) struct Read<T> {
    /// What it is about.
    pub(super) found: T,
    /// etcd's index at that time.
    pub(super) index: u64,
    /// The index is lower than one seen before this read began: etcd was restored from an older state.
    pub(super) restored: bool,
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
    /// The endpoint that answered last: the first to be asked.
    preferred: AtomicUsize,
    /// The highest index seen.
    highest: AtomicU64,
    /// [`WATCH_SILENCE`].
    pub(super) silence: Duration,
}

impl Client {
    pub(super) fn new(source: &str, config: &ConftoolSource) -> Result<Self, SourcesError> {
        let text = |path| Ok::<_, SourcesError>(String::from_utf8_lossy(&http::file(source, path)?).trim().to_owned());
        let credentials = match (&config.username_file, &config.password_file) {
            (Some(user), Some(password)) => Some((text(user)?, text(password)?)),
            _ => None,
        };
        let endpoints = config
            .endpoints
            .iter()
            .map(|endpoint| {
                Url::parse(endpoint)
                    .map_err(|_| SourcesError::Endpoint { source_name: source.to_owned(), endpoint: endpoint.clone() })
            })
            .collect::<Result<_, _>>()?;
        Ok(Self {
            http: http::client(source, config.timeout, config.ca_file.as_deref(), None)?,
            endpoints,
            prefix: format!("{}/discovery/", config.namespace.trim_end_matches('/')),
            timeout: config.timeout,
            credentials,
            preferred: AtomicUsize::new(0),
            highest: AtomicU64::new(0),
            silence: WATCH_SILENCE,
        })
    }

    /// One record, by quorum. A record that does not exist has no values.
    pub(super) async fn record(&self, record: &str) -> Result<Read<Values>, Bad> {
        let Read { found, index, restored } = self.read(Some(record), RECORD_LIMIT).await?;
        let values = found.and_then(|told: Told| records(&told.node, &self.prefix).remove(record)).unwrap_or_default();
        Ok(Read { found: values, index, restored })
    }

    /// All records, by quorum, and etcd's index from which a watch goes on.
    pub(super) async fn list(&self) -> Result<Read<Option<Told>>, Bad> {
        self.read(None, LIST_LIMIT).await
    }

    /// Asks the endpoints: the preferred one first, the next when one fails or is slow. The first answer counts, since each
    /// is by quorum.
    async fn read(&self, record: Option<&str>, limit: usize) -> Result<Read<Option<Told>>, Bad> {
        let before = self.highest.load(Ordering::SeqCst);
        let first = self.preferred.load(Ordering::Relaxed);
        let mut left = (0..self.endpoints.len()).map(|turn| (first + turn) % self.endpoints.len());
        let mut asked = FuturesUnordered::new();
        let mut last = unreachable("no endpoint is configured");
        let mut next = left.next();
        loop {
            if asked.is_empty() {
                let Some(endpoint) = next else { return Err(last) };
                asked.push(self.read_from(endpoint, record, limit));
                next = left.next();
            }
            tokio::select! {
                Some((endpoint, read)) = asked.next() => match read {
                    Ok((found, index)) => {
                        self.preferred.store(endpoint, Ordering::Relaxed);
                        // Who keeps etcd's index to himself says nothing of a restore.
                        let restored = index > 0 && index < before;
                        if restored {
                            self.highest.store(index, Ordering::SeqCst);
                        } else {
                            self.highest.fetch_max(index, Ordering::SeqCst);
                        }
                        return Ok(Read { found, index, restored });
                    }
                    Err(bad) => last = bad,
                },
                () = tokio::time::sleep(self.timeout / HEDGE), if next.is_some() => {
                    asked.extend(next.map(|endpoint| self.read_from(endpoint, record, limit)));
                    next = left.next();
                }
            }
        }
    }

    /// Reads from one endpoint. A key that does not exist is no error.
    async fn read_from(
        &self,
        endpoint: usize,
        record: Option<&str>,
        limit: usize,
    ) -> (usize, Result<(Option<Told>, u64), Bad>) {
        let url = self.url(&self.endpoints[endpoint], record, &[("recursive", "true"), ("quorum", "true")]);
        let read = match tokio::time::timeout(self.timeout, self.get(url, limit)).await {
            Ok(Ok((StatusCode::OK, index, body))) => decoded(body)
                .await
                .map(|told| (Some(told), index))
                .map_err(|error| Bad::new(Why::Malformed, &format!("etcd's answer cannot be read ({error})"))),
            Ok(Ok((status, index, body))) => match serde_json::from_slice::<Refused>(&body) {
                Ok(refused) if refused.code == 100 => Ok((None, index)),
                Ok(refused) => Err(unreachable(&format!("etcd answered {status}: {}", refused.message))),
                Err(_) => Err(unreachable(&format!("etcd answered {status}"))),
            },
            Ok(Err(bad)) => Err(bad),
            Err(_) => {
                let detail = format!("no answer from etcd within {} ms", self.timeout.as_millis());
                Err(Bad::new(Why::TimedOut, &detail))
            }
        };
        (endpoint, read)
    }

    /// Waits for the next change after `index`, at the endpoint that answered last.
    pub(super) async fn next(&self, index: u64) -> Result<Told, Interrupted> {
        let endpoint = self.preferred.load(Ordering::Relaxed) % self.endpoints.len().max(1);
        let Some(endpoint) = self.endpoints.get(endpoint) else {
            return Err(Interrupted::Failed(unreachable("no endpoint is configured")));
        };
        let from = (index + 1).to_string();
        let url = self.url(endpoint, None, &[("wait", "true"), ("recursive", "true"), ("waitIndex", &from)]);
        match tokio::time::timeout(self.silence, self.get(url, LIST_LIMIT)).await {
            Err(_) => Err(Interrupted::Silent),
            Ok(Err(bad)) => Err(Interrupted::Failed(bad)),
            // etcd ends a watch that it gives up with an empty body.
            Ok(Ok((StatusCode::OK, _, body))) if body.is_empty() => Err(Interrupted::Stale("etcd ended the watch")),
            Ok(Ok((StatusCode::OK, _, body))) => {
                let told = decoded(body).await.map_err(|error| {
                    Interrupted::Failed(Bad::new(Why::Malformed, &format!("etcd's event cannot be read ({error})")))
                })?;
                self.highest.fetch_max(told.node.modified_index, Ordering::SeqCst);
                Ok(told)
            }
            Ok(Ok((status, _, body))) => match serde_json::from_slice::<Refused>(&body) {
                // "The event in requested index is outdated and cleared".
                Ok(refused) if refused.code == 401 => Err(Interrupted::Stale("etcd's history was cleared")),
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
        let response = request.send().await.map_err(|error| http::failed("etcd", &error))?;
        let status = response.status();
        let index = response
            .headers()
            .get("x-etcd-index")
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.parse().ok())
            .unwrap_or_default();
        Ok((status, index, http::body("etcd", response, limit).await?))
    }
}

/// Decodes an answer.
async fn decoded(body: Vec<u8>) -> Result<Told, serde_json::Error> {
    if body.len() < LONG {
        return serde_json::from_slice(&body);
    }
    beside(move || serde_json::from_slice(&body)).await
}

fn unreachable(detail: &str) -> Bad {
    Bad::new(Why::Unreachable, detail)
}
