//! Where the truth comes from. A source can be asked, with a deadline, and followed.
//!
//! Never: a cache that a permission could rest on. What is remembered is only since when a source has said what it says.

mod conftool;
mod declared;
mod dns;
mod following;
mod http;
mod metrics;
mod polled;
mod prometheus;
mod recent;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ::prometheus::Registry;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use jiff::Timestamp;
use poolguard_policy::evidence::{Answer, Memory, Says, Why};
use poolguard_policy::pooling::{Arm, Evidence, Pooling};
use poolguard_policy::words::{cut, plain};
use thiserror::Error;
use tracing::Instrument;
use tracing::field::Empty;

use crate::config::Config;
use crate::runtime::Shutdown;
use crate::runtime::metrics::{Collectors, Metrics as _};
use crate::runtime::news::{Changes, News};
use crate::runtime::tasks::essential;
use conftool::Conftool;
use dns::Dns;
pub use following::Following;
use metrics::Metrics;
use prometheus::Prometheus;

/// What the status of a `ServicePooling` remembers, by evidence name and datacenter.
pub type Remembered = BTreeMap<(String, String), Memory>;

/// The moment that the other sources are given once one has seen traffic.
const GRACE: Duration = Duration::from_millis(150);

/// When to stop asking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// As soon as one source sees traffic in this datacenter: that is enough to refuse. The others are given a moment more, so
    /// that the refusal can say what to do next.
    FirstTraffic,
    /// When all have answered.
    All,
}

/// The sources cannot be set up.
#[derive(Debug, Error)]
pub enum SourcesError {
    /// A credential's file cannot be read.
    #[error("source {source_name}: cannot read {path}")]
    Credential {
        /// The source.
        source_name: String,
        /// The file.
        path: String,
        /// Why.
        #[source]
        error: std::io::Error,
    },
    /// The HTTP client cannot be made.
    #[error("source {source_name}: cannot make its client")]
    Client {
        /// The source.
        source_name: String,
        /// Why.
        #[source]
        error: reqwest::Error,
    },
    /// An endpoint is not a URL.
    #[error("source {source_name}: {endpoint:?} is not a URL")]
    Endpoint {
        /// The source.
        source_name: String,
        /// The endpoint.
        endpoint: String,
    },
    /// A metric is there already.
    #[error("cannot register metrics of the sources")]
    Metrics(#[source] ::prometheus::Error),
}

/// Why an answer cannot be used, and the same in words.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Bad {
    why: Why,
    detail: String,
}

impl Bad {
    /// Short enough for a message, and without anything that could end a line.
    fn new(why: Why, detail: &str) -> Self {
        Self { why, detail: cut(&plain(detail), 160) }
    }
}

/// The metrics of all sources, for their documentation.
///
/// # Errors
/// If one of them cannot be made.
pub fn metrics() -> Result<Collectors, ::prometheus::Error> {
    Ok(Metrics::new()?.collectors())
}

/// What a source may have news about.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Asked {
    /// A record of conftool.
    Record(String),
    /// A name in DNS.
    Name(String),
    /// What Prometheus sees.
    Traffic,
}

impl Asked {
    /// Whether an entry of evidence asks this.
    pub fn concerns(changes: &Changes<Self>, arm: &Arm) -> bool {
        match arm {
            Arm::Declared { .. } => false,
            Arm::Conftool { record, .. } => changes.some.contains(&Self::Record(record.clone())),
            Arm::Dns { name, .. } => changes.some.contains(&Self::Name(name.clone())),
            Arm::Prometheus { .. } => changes.some.contains(&Self::Traffic),
        }
    }
}

/// All configured sources, by kind and name.
#[derive(Debug)]
pub struct Sources {
    here: String,
    deadline: Duration,
    conftool: BTreeMap<String, Arc<Conftool>>,
    dns: BTreeMap<String, Arc<Dns>>,
    prometheus: BTreeMap<String, Arc<Prometheus>>,
    news: Arc<News<Asked>>,
}

impl Sources {
    /// Sets them up; nothing is asked yet.
    ///
    /// # Errors
    /// If a credential cannot be read or a client cannot be made.
    pub fn new(config: &Config, registry: &Registry) -> Result<Arc<Self>, SourcesError> {
        let metrics = Metrics::register(registry).map_err(SourcesError::Metrics)?;
        let news = Arc::new(News::default());
        let mut this = Self {
            here: config.datacenter.clone(),
            deadline: config.evidence_timeout,
            conftool: BTreeMap::new(),
            dns: BTreeMap::new(),
            prometheus: BTreeMap::new(),
            news: Arc::clone(&news),
        };
        for source in &config.sources {
            let (name, metrics, news) = (source.name.clone(), metrics.clone(), Arc::clone(&news));
            if let Some(conftool) = &source.conftool {
                let made = Conftool::new(&name, conftool, metrics, news)?;
                this.conftool.insert(name, Arc::new(made));
            } else if let Some(dns) = &source.dns {
                let made = Dns::new(&name, dns, &config.networks, metrics, news);
                this.dns.insert(name, Arc::new(made));
            } else if let Some(prometheus) = &source.prometheus {
                let made = Prometheus::new(&name, prometheus, metrics, news)?;
                this.prometheus.insert(name, Arc::new(made));
            }
        }
        Ok(Arc::new(this))
    }

    /// This datacenter.
    pub fn here(&self) -> &str {
        &self.here
    }

    /// Asks every source of the service at once. Never fails: a source that does not answer in time is left out, and the
    /// conclusion says so.
    pub async fn ask(&self, pooling: &Pooling, remembered: &Remembered, until: Until) -> Vec<Answer> {
        let mut questions: FuturesUnordered<_> =
            pooling.evidence.iter().map(|entry| self.ask_one(pooling, entry, remembered)).collect();
        let mut answers = Vec::new();
        let deadline = tokio::time::sleep(self.deadline);
        tokio::pin!(deadline);
        let mut refused = false;
        loop {
            tokio::select! {
                () = &mut deadline => break,
                next = questions.next() => match next {
                    None => return answers,
                    Some(told) => answers.extend(told),
                }
            }
            let traffic = |answer: &Answer| answer.datacenter == self.here && answer.says == Says::Serving;
            if until == Until::FirstTraffic && !refused && answers.iter().any(traffic) {
                refused = true;
                let grace = tokio::time::Instant::now() + GRACE;
                let sooner = grace.min(deadline.deadline());
                deadline.as_mut().reset(sooner);
            }
        }
        let detail = if refused { "no answer yet".to_owned() } else { self.late() };
        for entry in &pooling.evidence {
            if !answers.iter().any(|answer| answer.evidence == entry.name) {
                answers.extend(unknown(entry, &self.names(pooling), Why::TimedOut, &detail));
            }
        }
        answers
    }

    fn late(&self) -> String {
        format!("no answer within {} ms", self.deadline.as_millis())
    }

    /// Asks one source. Its span has no `says` where nobody waited for the answer.
    async fn ask_one(&self, pooling: &Pooling, entry: &Evidence, remembered: &Remembered) -> Vec<Answer> {
        let span = tracing::info_span!(
            "question",
            otel.kind = "client",
            evidence = entry.name,
            source = entry.arm.as_str(),
            says = Empty,
            why = Empty,
            detail = Empty,
            revision = Empty,
        );
        let answers = self.answers(pooling, entry, remembered).instrument(span.clone()).await;
        if let Some(answer) = answers.iter().find(|answer| answer.datacenter == self.here) {
            let (said, why) = says(&answer.says);
            span.record("says", said).record("why", why).record("detail", &answer.detail);
            span.record("revision", answer.revision);
        }
        answers
    }

    async fn answers(&self, pooling: &Pooling, entry: &Evidence, remembered: &Remembered) -> Vec<Answer> {
        let names = self.names(pooling);
        let missing = |detail: String| unknown(entry, &names, Why::NotConfigured, &detail);
        match &entry.arm {
            Arm::Declared { pooled_in } => declared::answers(entry, pooled_in, &names, Timestamp::now()),
            Arm::Conftool { source, record } => match named("conftool", &self.conftool, source.as_deref()) {
                Ok(conftool) => conftool.ask(pooling, entry, record, &names, remembered).await,
                Err(detail) => missing(detail),
            },
            Arm::Dns { source, name } => match named("dns", &self.dns, source.as_deref()) {
                Ok(dns) => dns.ask(entry, name, &names).await,
                Err(detail) => missing(detail),
            },
            Arm::Prometheus { source, query, threshold } => {
                match named("prometheus", &self.prometheus, source.as_deref()) {
                    Ok(prometheus) => prometheus.ask(pooling, entry, query, *threshold, &self.here).await,
                    Err(detail) => missing(detail),
                }
            }
        }
    }

    /// Starts following every source: a watch where it has one, else the same questions again and again.
    pub fn follow(self: &Arc<Self>, shutdown: &Shutdown) -> Following {
        for source in self.conftool.values() {
            essential("conftool", shutdown, conftool::follow(Arc::clone(source), shutdown.clone()));
        }
        for source in self.dns.values() {
            let (source, shutdown_too) = (Arc::clone(source), shutdown.clone());
            let work = async move {
                tokio::select! { () = shutdown_too.requested() => {}, () = source.follow() => {} }
            };
            essential("dns", shutdown, work);
        }
        for source in self.prometheus.values() {
            let (source, shutdown_too) = (Arc::clone(source), shutdown.clone());
            let work = async move {
                tokio::select! { () = shutdown_too.requested() => {}, () = source.follow() => {} }
            };
            essential("prometheus", shutdown, work);
        }
        Following { sources: Arc::clone(self) }
    }

    /// The datacenters to answer for.
    fn names(&self, pooling: &Pooling) -> Vec<String> {
        let mut names = pooling.datacenters.clone();
        if !names.contains(&self.here) {
            names.push(self.here.clone());
        }
        names
    }
}

/// What an answer says, and why it does not tell, in the words of logs and traces.
pub(crate) fn says(says: &Says) -> (&'static str, Option<&'static str>) {
    match says {
        Says::Serving => ("Serving", None),
        Says::Draining => ("Draining", None),
        Says::NotServing => ("NotServing", None),
        Says::Unknown(why) => ("Unknown", Some(why.as_str())),
    }
}

/// The source that an entry means.
fn named<'a, T>(kind: &str, sources: &'a BTreeMap<String, Arc<T>>, name: Option<&str>) -> Result<&'a Arc<T>, String> {
    let none = || format!("the operator's configuration has no {kind} source");
    match (name, sources.len()) {
        (Some(name), _) => sources.get(name).ok_or_else(|| format!("{} {name:?}", none())),
        (None, 0 | 1) => sources.values().next().ok_or_else(none),
        (None, _) => Err(format!("the operator's configuration has several {kind} sources: name one")),
    }
}

/// A lock whose data stays whole: nothing panics while it is held.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One `Unknown` for each datacenter.
fn unknown(entry: &Evidence, names: &[String], why: Why, detail: &str) -> Vec<Answer> {
    unknown_since(entry, names, why, detail, |_| None)
}

/// The same, where it is known since when.
fn unknown_since(
    entry: &Evidence,
    names: &[String],
    why: Why,
    detail: &str,
    since: impl Fn(&str) -> Option<Timestamp>,
) -> Vec<Answer> {
    let read = Timestamp::now();
    names
        .iter()
        .map(|name| Answer {
            evidence: entry.name.clone(),
            datacenter: name.clone(),
            says: Says::Unknown(why),
            detail: detail.to_owned(),
            revision: None,
            since: since(name),
            not_serving_after: None,
            read,
        })
        .collect()
}
