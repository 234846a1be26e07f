//! Prometheus: the traffic that arrives in this datacenter, by an instant query against this datacenter's server.
//!
//! Never about another datacenter, and never a sign of absence from an empty answer: a lost scrape looks like that.

mod decode;
mod template;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use poolguard_policy::evidence::{Answer, Says, Why};
use poolguard_policy::pooling::{Evidence, Key, Pooling, Threshold};
use reqwest::{StatusCode, Url};

use super::metrics::Metrics;
use super::polled::Polled;
use super::{Asked, Bad, SourcesError, http, lock};
use crate::config::PrometheusSource;
use crate::runtime::news::News;
use decode::{Sample, decode};
use template::{Values, fill};

/// The longest answer that is read.
const LIMIT: usize = 1 << 20;

/// A server of this datacenter.
#[derive(Debug)]
pub(super) struct Prometheus {
    source: String,
    http: reqwest::Client,
    url: Url,
    timeout: Duration,
    token_file: Option<PathBuf>,
    metrics: Metrics,
    /// By service and entry.
    said: Mutex<HashMap<(Key, String), Said>>,
    polled: Polled<String, Result<Sample, Bad>>,
    news: Arc<News<Asked>>,
}

/// What an entry has said, since when, and in which words at first.
#[derive(Debug)]
struct Said {
    says: Says,
    since: Timestamp,
    detail: String,
}

impl Prometheus {
    pub(super) fn new(
        source: &str,
        config: &PrometheusSource,
        metrics: Metrics,
        news: Arc<News<Asked>>,
    ) -> Result<Self, SourcesError> {
        metrics.up(source, false);
        let base = config.url.trim_end_matches('/');
        let url = Url::parse(&format!("{base}/api/v1/query"))
            .map_err(|_| SourcesError::Endpoint { source_name: source.to_owned(), endpoint: config.url.clone() })?;
        let identity = config.client_certificate_file.as_deref().zip(config.client_key_file.as_deref());
        Ok(Self {
            source: source.to_owned(),
            http: http::client(source, config.timeout, config.ca_file.as_deref(), identity)?,
            url,
            timeout: config.timeout,
            token_file: config.bearer_token_file.clone(),
            metrics,
            said: Mutex::default(),
            polled: Polled::new(config.interval),
            news,
        })
    }

    /// Asks now.
    pub(super) async fn ask(
        &self,
        pooling: &Pooling,
        entry: &Evidence,
        query: &str,
        threshold: Threshold,
        here: &str,
    ) -> Vec<Answer> {
        let sample = match filled(pooling, query, here) {
            Ok(query) => self.query(&query).await,
            Err(bad) => Err(bad),
        };
        let now = Timestamp::now();
        let (says, detail) = judge(&sample, threshold);
        let (since, _) = self.since(pooling, entry, &says, &detail, now);
        vec![answer(entry, here, says, detail, since, now)]
    }

    /// What the last query said. Its words are those of when it began to say so, since numbers change all the time.
    pub(super) fn followed(
        &self,
        pooling: &Pooling,
        entry: &Evidence,
        query: &str,
        threshold: Threshold,
        here: &str,
        now: Timestamp,
    ) -> Vec<Answer> {
        let not_yet = || Err(Bad::new(Why::NotAnswered, "not asked yet"));
        let sample = filled(pooling, query, here).and_then(|query| self.polled.want(&query).unwrap_or_else(not_yet));
        let (says, detail) = judge(&sample, threshold);
        let (since, detail) = self.since(pooling, entry, &says, &detail, now);
        vec![answer(entry, here, says, detail, since, now)]
    }

    /// Keeps asking.
    pub(super) async fn follow(&self) {
        let told = |samples: &[(String, Result<Sample, Bad>)]| {
            let lost = |(_, sample): &(String, Result<Sample, Bad>)| {
                matches!(sample, Err(Bad { why: Why::Unreachable | Why::TimedOut, .. }))
            };
            self.metrics.up(&self.source, !samples.iter().all(lost));
            self.news.about(Asked::Traffic);
        };
        self.polled.follow(async |query: String| self.query(&query).await, told).await;
    }

    async fn query(&self, query: &str) -> Result<Sample, Bad> {
        let start = Instant::now();
        let asked = tokio::time::timeout(self.timeout, self.request(query)).await.unwrap_or_else(|_| {
            let detail = format!("no answer from Prometheus within {} ms", self.timeout.as_millis());
            Err(Bad::new(Why::TimedOut, &detail))
        });
        self.metrics.asked(&self.source, start.elapsed(), &asked);
        asked
    }

    async fn request(&self, query: &str) -> Result<Sample, Bad> {
        let mut url = self.url.clone();
        let timeout = format!("{}ms", self.timeout.as_millis());
        url.query_pairs_mut().append_pair("query", query).append_pair("timeout", &timeout);
        let mut request = self.http.get(url);
        if let Some(path) = &self.token_file {
            let token = tokio::fs::read_to_string(path).await.map_err(|error| {
                Bad::new(Why::Unreachable, &format!("the bearer token in {} cannot be read ({error})", path.display()))
            })?;
            request = request.bearer_auth(token.trim());
        }
        let response = request.send().await.map_err(|error| http::failed("Prometheus", &error))?;
        let status = response.status();
        if status.is_redirection() {
            return Err(Bad::new(
                Why::Unreachable,
                &format!("Prometheus answered {status}: redirects are not followed"),
            ));
        }
        let body = http::body("Prometheus", response, LIMIT).await?;
        // A query that cannot be read is answered with 400 and 422, and with the reason.
        if status != StatusCode::OK && !matches!(status.as_u16(), 400 | 422) {
            return Err(Bad::new(Why::Unreachable, &format!("Prometheus answered {status}")));
        }
        decode(&body)
    }

    /// Since when an entry has said this, and the words that it said it with at first.
    fn since(
        &self,
        pooling: &Pooling,
        entry: &Evidence,
        says: &Says,
        detail: &str,
        now: Timestamp,
    ) -> (Timestamp, String) {
        let mut said = lock(&self.said);
        let fresh = || Said { says: says.clone(), since: now, detail: detail.to_owned() };
        let known = said.entry((pooling.key.clone(), entry.name.clone())).or_insert_with(fresh);
        if known.says != *says {
            *known = fresh();
        }
        (known.since, known.detail.clone())
    }
}

fn filled(pooling: &Pooling, query: &str, here: &str) -> Result<String, Bad> {
    let values = Values { service: &pooling.key.name, datacenter: here, namespace: &pooling.key.namespace };
    fill(query, values).map_err(|why| Bad::new(Why::Malformed, &format!("the query cannot be asked: {why}")))
}

fn judge(sample: &Result<Sample, Bad>, threshold: Threshold) -> (Says, String) {
    match sample {
        Err(bad) => (Says::Unknown(bad.why), bad.detail.clone()),
        Ok(sample) => {
            let (value, limit) = (rounded(sample.value), threshold.value());
            if sample.value > limit {
                (Says::Serving, format!("traffic {value}, above {limit}"))
            } else if sample.partial {
                (Says::Unknown(Why::Incomplete), format!("traffic {value}, but Prometheus warns that it is not all"))
            } else {
                (Says::NotServing, format!("traffic {value}, not above {limit}"))
            }
        }
    }
}

/// Three digits are enough for people.
fn rounded(value: f64) -> String {
    match value {
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 1.0 => format!("{value:.1}"),
        0.0 => "0".to_owned(),
        value => format!("{value:.3}"),
    }
}

fn answer(entry: &Evidence, here: &str, says: Says, detail: String, since: Timestamp, now: Timestamp) -> Answer {
    Answer {
        evidence: entry.name.clone(),
        datacenter: here.to_owned(),
        says,
        detail,
        revision: None,
        since: Some(since),
        not_serving_after: None,
        read: now,
    }
}
