//! Where the truth comes from. A source can be asked, with a deadline, and followed.
//!
//! Never: a cache that a permission could rest on. What is remembered is only since when a source has said what it says.

mod conftool;
mod declared;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use jiff::Timestamp;
use poolguard_policy::evidence::{Answer, Memory, Says, Why};
use poolguard_policy::pooling::{Arm, Evidence, Pooling};
use prometheus::Registry;
use thiserror::Error;
use tokio::sync::watch;

use crate::config::Config;
use crate::runtime::Shutdown;
use crate::runtime::tasks::essential;
use conftool::Conftool;

/// What the status of a `ServicePooling` remembers, by evidence name and datacenter.
pub type Remembered = BTreeMap<(String, String), Memory>;

/// When to stop asking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// As soon as one source sees traffic in this datacenter: that is enough to refuse.
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
    Metrics(#[source] prometheus::Error),
}

/// All configured sources.
#[derive(Debug)]
pub struct Sources {
    here: String,
    deadline: Duration,
    conftool: BTreeMap<String, Arc<Conftool>>,
    changed: watch::Sender<u64>,
}

impl Sources {
    /// Sets them up; nothing is asked yet.
    ///
    /// # Errors
    /// If a credential cannot be read or a client cannot be made.
    pub fn new(config: &Config, registry: &Registry) -> Result<Arc<Self>, SourcesError> {
        let metrics = conftool::Metrics::new(registry).map_err(SourcesError::Metrics)?;
        let changed = watch::Sender::new(0);
        let conftool = config
            .sources
            .iter()
            .map(|source| Ok((source.name.clone(), Arc::new(Conftool::new(source, metrics.clone(), changed.clone())?))))
            .collect::<Result<_, SourcesError>>()?;
        Ok(Arc::new(Self { here: config.datacenter.clone(), deadline: config.evidence_timeout, conftool, changed }))
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
        loop {
            tokio::select! {
                () = &mut deadline => break,
                next = questions.next() => match next {
                    None => return answers,
                    Some(told) => answers.extend(told),
                }
            }
            let traffic = |answer: &Answer| answer.datacenter == self.here && answer.says == Says::Serving;
            if until == Until::FirstTraffic && answers.iter().any(traffic) {
                return answers;
            }
        }
        for entry in &pooling.evidence {
            if !answers.iter().any(|answer| answer.evidence == entry.name) {
                let detail = format!("no answer within {} ms", self.deadline.as_millis());
                answers.extend(self.all(pooling, entry, Why::TimedOut, &detail));
            }
        }
        answers
    }

    async fn ask_one(&self, pooling: &Pooling, entry: &Evidence, remembered: &Remembered) -> Vec<Answer> {
        match &entry.arm {
            Arm::Declared { pooled_in } => declared::answers(entry, pooled_in, &self.names(pooling), Timestamp::now()),
            Arm::Conftool { source, record } => match self.conftool(source.as_deref()) {
                Ok(conftool) => conftool.ask(pooling, entry, record, &self.names(pooling), remembered).await,
                Err(detail) => self.all(pooling, entry, Why::NotConfigured, &detail),
            },
        }
    }

    /// Starts following every source that can be followed: one watch each, for all services.
    pub fn follow(self: &Arc<Self>, shutdown: &Shutdown) -> Following {
        for source in self.conftool.values() {
            essential("conftool", shutdown, conftool::follow(Arc::clone(source), shutdown.clone()));
        }
        Following { sources: Arc::clone(self) }
    }

    fn conftool(&self, name: Option<&str>) -> Result<&Arc<Conftool>, String> {
        match name {
            Some(name) => self
                .conftool
                .get(name)
                .ok_or_else(|| format!("the operator's configuration has no conftool source {name:?}")),
            None if self.conftool.len() == 1 => Ok(self.conftool.values().next().expect("there is one")),
            None if self.conftool.is_empty() => Err("the operator's configuration has no conftool source".to_owned()),
            None => Err("the operator's configuration has several conftool sources: name one".to_owned()),
        }
    }

    /// The datacenters to answer for.
    fn names(&self, pooling: &Pooling) -> Vec<String> {
        let mut names = pooling.datacenters.clone();
        if !names.contains(&self.here) {
            names.push(self.here.clone());
        }
        names
    }

    fn all(&self, pooling: &Pooling, entry: &Evidence, why: Why, detail: &str) -> Vec<Answer> {
        unknown(entry, &self.names(pooling), why, detail)
    }
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

/// The sources as they are followed.
#[derive(Debug, Clone)]
pub struct Following {
    sources: Arc<Sources>,
}

impl Following {
    /// Changes whenever anything that is followed did.
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.sources.changed.subscribe()
    }

    /// What the sources say as far as they are followed: no I/O.
    pub fn answers(&self, pooling: &Pooling, remembered: &Remembered, now: Timestamp) -> Vec<Answer> {
        let names = self.sources.names(pooling);
        pooling
            .evidence
            .iter()
            .flat_map(|entry| match &entry.arm {
                Arm::Declared { pooled_in } => declared::answers(entry, pooled_in, &names, now),
                Arm::Conftool { source, record } => match self.sources.conftool(source.as_deref()) {
                    Ok(conftool) => conftool.followed(pooling, entry, record, &names, remembered, now),
                    Err(detail) => unknown(entry, &names, Why::NotConfigured, &detail),
                },
            })
            .collect()
    }

    /// Sources that cannot be followed at the moment, each with its reason.
    pub fn unreachable(&self) -> Vec<String> {
        self.sources.conftool.values().filter_map(|source| source.down()).collect()
    }
}
