//! Prometheus: the traffic that arrives in this datacenter, by an instant query against this datacenter's server.
//!
//! Never about another datacenter, and never a sign of absence from an empty answer: a lost scrape looks like that.

mod decode;
mod template;

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use poolguard_policy::evidence::{Answer, Says, Why};
use poolguard_policy::pooling::{Arm, Evidence, Key, Pooling, Threshold};
use reqwest::{StatusCode, Url};

use super::metrics::Metrics;
use super::polled::Polled;
use super::recent::Recent;
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
    said: Mutex<Recent<(Key, String), Said>>,
    polled: Polled<String, Result<Sample, Bad>>,
    news: Arc<News<Asked>>,
}

/// What an entry has said, since when, and in which words at first.
#[derive(Debug, Clone)]
struct Said {
    /// What was asked.
    arm: Arm,
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
            Err(bad) => {
                let unasked = Err(bad);
                self.metrics.counted(&self.source, &unasked);
                unasked
            }
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
            if samples.is_empty() {
                return self.metrics.idle(&self.source);
            }
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

    /// Since when an entry has said this, and the words to tell it with. Why nothing is known is told as it is now; a number of
    /// requests as it was at first.
    fn since(
        &self,
        pooling: &Pooling,
        entry: &Evidence,
        says: &Says,
        detail: &str,
        now: Timestamp,
    ) -> (Timestamp, String) {
        let mut said = lock(&self.said);
        let key = (pooling.key.clone(), entry.name.clone());
        let same = said.get(&key).filter(|known| known.says == *says && known.arm == entry.arm);
        let since = same.map_or(now, |known| known.since);
        let first = same.filter(|_| !matches!(says, Says::Unknown(_))).map(|known| known.detail.clone());
        let detail = first.unwrap_or_else(|| detail.to_owned());
        said.insert(key, Said { arm: entry.arm.clone(), says: says.clone(), since, detail: detail.clone() });
        (since, detail)
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
                (Says::Unknown(Why::Incomplete), "Prometheus warns that its answer is not all".to_owned())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::metrics::Metrics as _;

    fn source() -> (Prometheus, ::prometheus::Registry) {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let text = "{datacenter: eqiad, sources: [{name: p, prometheus: {url: 'http://127.0.0.1:1'}}]}";
        let config = crate::config::Config::parse(text, crate::config::Overrides::default()).expect("a configuration");
        let registry = ::prometheus::Registry::new();
        let metrics = Metrics::register(&registry).expect("metrics");
        let own = config.sources[0].prometheus.as_ref().expect("a source");
        (Prometheus::new("p", own, metrics, Arc::default()).expect("a client"), registry)
    }

    fn service(query: &str) -> (Pooling, Evidence) {
        let arm = Arm::Prometheus { source: None, query: query.to_owned(), threshold: Threshold::default() };
        let entry = Evidence { name: "traffic".to_owned(), arm };
        let pooling = Pooling {
            key: Key { namespace: "space".to_owned(), name: "pilot".to_owned() },
            version: String::new(),
            selector: poolguard_policy::selector::Selector::labels([("app", "pilot")]),
            expendable: None,
            mode: poolguard_policy::pooling::Mode::ActiveActive,
            datacenters: vec!["eqiad".to_owned()],
            min_pooled_datacenters: 1,
            evidence: vec![entry.clone()],
            enforcement: poolguard_policy::pooling::Enforcement::Enforce,
            accepted: Vec::new(),
        };
        (pooling, entry)
    }

    #[test]
    fn words_are_those_of_now_where_nothing_is_known_and_of_then_where_a_number_is() {
        let (source, _) = source();
        let (pooling, entry) = service("a");
        let start = Timestamp::UNIX_EPOCH;
        let at = |second: i64| start + jiff::SignedDuration::from_secs(second);
        let say = |entry: &Evidence, says: Says, detail: &str, second| {
            source.since(&pooling, entry, &says, detail, at(second))
        };
        let unknown = || Says::Unknown(Why::Unreachable);
        assert_eq!(say(&entry, unknown(), "connection refused", 0), (at(0), "connection refused".to_owned()));
        assert_eq!(say(&entry, unknown(), "answered 503", 1), (at(0), "answered 503".to_owned()));
        assert_eq!(say(&entry, Says::Serving, "traffic 7", 2), (at(2), "traffic 7".to_owned()));
        assert_eq!(say(&entry, Says::Serving, "traffic 9", 3), (at(2), "traffic 7".to_owned()));
        // Another question has words of its own.
        assert_eq!(say(&service("b").1, Says::Serving, "traffic 1", 4), (at(4), "traffic 1".to_owned()));
    }

    #[tokio::test]
    async fn a_query_that_cannot_be_asked_is_counted_and_no_source_is_called_down_that_nobody_follows() {
        let (source, registry) = source();
        let (pooling, entry) = service("sum($service)");
        let answers = source.ask(&pooling, &entry, "sum($service)", Threshold::default(), "eqiad").await;
        assert_eq!(answers[0].says, Says::Unknown(Why::Malformed));
        let mut families = registry.gather().into_iter();
        let counted = families.clone().find(|family| family.name() == "poolguard_source_requests_total");
        let counted = counted.expect("a family of series");
        assert_eq!(counted.get_metric().len(), 1);
        assert!(!families.any(|family| family.name() == "poolguard_source_up"));
    }
}
