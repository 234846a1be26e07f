//! conftool: discovery records in etcd's v2 API. A verdict reads its record by quorum; one watch follows all of them.
//!
//! Never a permission from what the watch says: it feeds status, and the memory of when a revision was first seen.
//!
//! Source: conftool's `conftool/kvobject.py` and `conftool/backend.py`; etcd's v2 API.

mod client;
mod decode;
mod follow;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use jiff::{SignedDuration, Timestamp};
use poolguard_policy::evidence::{Answer, Memory, Record, Says, Why};
use poolguard_policy::pooling::{Evidence, Mode, Pooling};
use poolguard_policy::record::{Doubt, Kept, Switch, doubt, is_stuck};
use tokio::sync::Notify;

use super::metrics::Metrics;
use super::recent::Recent;
use super::{Asked, Bad, Remembered, SourcesError, lock, unknown_since};
use crate::config::ConftoolSource;
use crate::runtime::news::News;
use client::{Client, Read};
pub(super) use follow::follow;

/// A record and a datacenter.
type Place = (String, String);
/// The values of one record, by datacenter.
type Values = BTreeMap<String, Result<Record, Bad>>;

/// A silent watch is doubted after a quarter of it. What has changed since something was last heard from that long ago, nobody saw
/// happen.
const OUT_OF_TOUCH: SignedDuration = SignedDuration::from_secs(60);

/// Services of either mode may share a record.
const MODES: [Mode; 2] = [Mode::ActiveActive, Mode::ActivePassive];

/// One etcd cluster with conftool's state.
#[derive(Debug)]
pub(super) struct Conftool {
    name: String,
    client: Client,
    /// Seconds that a switch takes to reach what clients ask.
    propagation: u32,
    metrics: Metrics,
    memory: Mutex<HashMap<Place, Memory>>,
    /// When the watch was last heard, or known to have nothing to tell.
    heard: Mutex<Option<Timestamp>>,
    /// How DNS may have kept a datacenter of a record, in each of [`MODES`].
    kept: Mutex<HashMap<Place, [Option<Kept>; 2]>>,
    /// Since when a record and datacenter have been unknown, and why.
    doubts: Mutex<Recent<Place, (Why, Timestamp)>>,
    /// When etcd was last seen to be restored; what a status remembers from before is void.
    restored: Mutex<Option<Timestamp>>,
    /// Everything must be listed again.
    again: Notify,
    snapshot: Mutex<Snapshot>,
    news: Arc<News<Asked>>,
}

/// What the watch has delivered.
#[derive(Debug)]
struct Snapshot {
    records: BTreeMap<String, Values>,
    /// Why nothing is known, and since when.
    down: Option<(String, Timestamp)>,
}

impl Conftool {
    pub(super) fn new(
        source: &str,
        config: &ConftoolSource,
        metrics: Metrics,
        news: Arc<News<Asked>>,
    ) -> Result<Self, SourcesError> {
        metrics.up(source, false);
        Ok(Self {
            name: source.to_owned(),
            client: Client::new(source, config)?,
            propagation: u32::try_from(config.propagation.as_millis().div_ceil(1000)).unwrap_or(u32::MAX),
            metrics,
            memory: Mutex::default(),
            heard: Mutex::default(),
            kept: Mutex::default(),
            doubts: Mutex::default(),
            restored: Mutex::default(),
            again: Notify::new(),
            snapshot: Mutex::new(Snapshot {
                records: BTreeMap::new(),
                down: Some(("not read yet".to_owned(), Timestamp::now())),
            }),
            news,
        })
    }

    /// Reads a record by quorum.
    pub(super) async fn ask(
        &self,
        pooling: &Pooling,
        entry: &Evidence,
        record: &str,
        names: &[String],
        remembered: &Remembered,
    ) -> Vec<Answer> {
        let start = Instant::now();
        let read = self.client.record(record).await;
        self.metrics.asked(&self.name, start.elapsed(), &read);
        let now = Timestamp::now();
        match read {
            Ok(Read { found: values, restored, .. }) => {
                if restored {
                    self.forget(now);
                    self.again.notify_one();
                }
                self.look(record, &values, now);
                self.answers(pooling, entry, record, &values, names, remembered, now)
            }
            Err(bad) => self.unknown(entry, record, names, bad.why, &bad.detail, now),
        }
    }

    /// What the watch has delivered about a record.
    pub(super) fn followed(
        &self,
        pooling: &Pooling,
        entry: &Evidence,
        record: &str,
        names: &[String],
        remembered: &Remembered,
        now: Timestamp,
    ) -> Vec<Answer> {
        let snapshot = lock(&self.snapshot);
        if let Some((why, _)) = &snapshot.down {
            return self.unknown(entry, record, names, Why::Unreachable, why, now);
        }
        let values = snapshot.records.get(record).cloned().unwrap_or_default();
        drop(snapshot);
        self.answers(pooling, entry, record, &values, names, remembered, now)
    }

    /// etcd was restored from an older state: its revisions begin to count anew, and what was remembered of them is void.
    fn forget(&self, now: Timestamp) {
        tracing::warn!(source = self.name, "etcd's index went back: what was remembered of its revisions is void");
        lock(&self.memory).clear();
        *lock(&self.restored) = Some(now);
    }

    /// The name of any record, or nothing where there is none.
    fn some_record(&self) -> Option<String> {
        lock(&self.snapshot).records.keys().next().cloned()
    }

    /// Looks at what the watch has delivered.
    fn look_at_all(&self) {
        let snapshot = lock(&self.snapshot);
        let now = Timestamp::now();
        snapshot.records.iter().for_each(|(record, values)| self.look(record, values, now));
        *lock(&self.heard) = Some(now);
    }

    /// Why it cannot be followed at the moment.
    pub(super) fn down(&self) -> Option<String> {
        lock(&self.snapshot).down.as_ref().map(|(why, since)| {
            format!("conftool source {} is unreachable since {}: {why}", self.name, since.strftime("%H:%M:%S UTC"))
        })
    }

    #[allow(clippy::too_many_arguments, reason = "all of it is what an answer is made of")]
    fn answers(
        &self,
        pooling: &Pooling,
        entry: &Evidence,
        record: &str,
        values: &Values,
        names: &[String],
        remembered: &Remembered,
        now: Timestamp,
    ) -> Vec<Answer> {
        let doubt = doubt(pooling.mode, switches(values), names);
        names
            .iter()
            .map(|name| {
                let mut answer = Answer {
                    evidence: entry.name.clone(),
                    datacenter: name.clone(),
                    says: Says::Unknown(Why::Missing),
                    detail: "key missing".to_owned(),
                    revision: None,
                    since: None,
                    not_serving_after: None,
                    read: now,
                };
                match values.get(name) {
                    None => answer.since = Some(self.doubt(record, name, Why::Missing, now)),
                    Some(Err(bad)) => {
                        answer.says = Says::Unknown(bad.why);
                        answer.detail.clone_from(&bad.detail);
                        answer.since = Some(self.doubt(record, name, bad.why, now));
                    }
                    Some(Ok(value)) => {
                        let restored = *lock(&self.restored);
                        let status = remembered.get(&(entry.name.clone(), name.clone())).copied();
                        let status = status.filter(|status| restored.is_none_or(|restored| status.since >= restored));
                        let mut memory = self.remember(record, name, *value, status, now);
                        memory.held_until = memory.held_until.max(self.kept(record, name, pooling.mode));
                        answer.revision = Some(value.revision);
                        self.judge(&mut answer, record, &memory, doubt.as_ref());
                    }
                }
                answer
            })
            .collect()
    }

    /// What a value says that can be read.
    fn judge(&self, answer: &mut Answer, record: &str, memory: &Memory, doubt: Option<&Doubt>) {
        let (name, now) = (answer.datacenter.clone(), answer.read);
        if let Some(Doubt { why, detail }) = doubt.filter(|_| !memory.record.pooled) {
            answer.says = Says::Unknown(*why);
            // Names of datacenters come from etcd.
            answer.detail = Bad::new(*why, &format!("pooled=false, {detail}")).detail;
            answer.since = Some(self.doubt(record, &name, *why, now));
            // Nobody can tell when this is over: no status may bear a time that somebody believes afterwards.
            return;
        }
        lock(&self.doubts).remove(&(record.to_owned(), name));
        answer.says = memory.says(now);
        answer.detail = if answer.says == Says::Draining {
            "pooled=false, but clients may hold the old answer".to_owned()
        } else {
            format!("pooled={}", memory.record.pooled)
        };
        answer.since = Some(memory.since);
        answer.not_serving_after = (!memory.record.pooled).then_some(memory.held_until);
    }

    fn unknown(
        &self,
        entry: &Evidence,
        record: &str,
        names: &[String],
        why: Why,
        detail: &str,
        now: Timestamp,
    ) -> Vec<Answer> {
        unknown_since(entry, names, why, detail, |name| Some(self.doubt(record, name, why, now)))
    }

    /// Since when a record and datacenter have been unknown for this reason.
    fn doubt(&self, record: &str, name: &str, why: Why, now: Timestamp) -> Timestamp {
        let mut doubts = lock(&self.doubts);
        let key = (record.to_owned(), name.to_owned());
        let known = doubts.get(&key).filter(|(known, _)| *known == why);
        let since = known.map_or(now, |(_, since)| *since);
        doubts.insert(key, (why, since));
        since
    }

    /// Remembers what a look at a whole record shows: the clock of a depooled value starts when it is first seen, and again when
    /// DNS can follow the record once more.
    fn look(&self, record: &str, values: &Values, now: Timestamp) {
        let stuck = MODES.map(|mode| is_stuck(mode, switches(values)));
        for (name, value) in values {
            let value = value.as_ref().ok();
            let mut kept = lock(&self.kept);
            let kept = kept.entry((record.to_owned(), name.clone())).or_default();
            for (kept, stuck) in kept.iter_mut().zip(stuck) {
                *kept = Some(Kept::after(*kept, stuck, value.map(|value| self.ttl(value)), now));
            }
            if let Some(value) = value {
                self.remember(record, name, *value, None, now);
            }
        }
    }

    /// Until when clients may hold what DNS kept while it could not follow the record.
    fn kept(&self, record: &str, name: &str, mode: Mode) -> Timestamp {
        let kept = lock(&self.kept).get(&(record.to_owned(), name.to_owned())).copied().unwrap_or_default();
        let own = MODES.into_iter().zip(kept).find(|(of, _)| *of == mode).and_then(|(_, kept)| kept);
        own.map_or(Timestamp::MIN, |kept| kept.until)
    }

    /// Clients are still given the old answer while a switch is on its way.
    fn ttl(&self, value: &Record) -> u32 {
        value.ttl.saturating_add(self.propagation)
    }

    fn remember(&self, record: &str, name: &str, value: Record, status: Option<Memory>, now: Timestamp) -> Memory {
        let value = Record { ttl: self.ttl(&value), ..value };
        let mut memory = lock(&self.memory);
        let key = (record.to_owned(), name.to_owned());
        let before = memory.get(&key).copied();
        let mut after = Memory::after(value, before, status, now);
        if before.is_none_or(|before| before.record.revision != after.record.revision) {
            after.witnessed &= lock(&self.heard).is_some_and(|heard| now.duration_since(heard) < OUT_OF_TOUCH);
        }
        memory.insert(key, after);
        after
    }

    /// Takes over what the watch delivered, and looks at it: the clock of a depooled value starts when the watch delivers it,
    /// not when somebody asks. `about` is the only record that it concerns, if there is only one.
    fn take(&self, about: Option<&str>, update: impl FnOnce(&mut BTreeMap<String, Values>)) {
        let now = Timestamp::now();
        let mut snapshot = lock(&self.snapshot);
        update(&mut snapshot.records);
        snapshot.down = None;
        // Under the same lock: nobody sees values that have not been looked at.
        match about {
            Some(record) => snapshot.records.get(record).into_iter().for_each(|values| self.look(record, values, now)),
            None => snapshot.records.iter().for_each(|(record, values)| self.look(record, values, now)),
        }
        *lock(&self.heard) = Some(now);
        drop(snapshot);
        self.metrics.up(&self.name, true);
        match about {
            Some(record) => self.news.about(Asked::Record(record.to_owned())),
            None => self.news.all(),
        }
    }

    fn lose(&self, why: &str) {
        let mut snapshot = lock(&self.snapshot);
        let since = snapshot.down.as_ref().map_or_else(Timestamp::now, |(_, since)| *since);
        let news = snapshot.down.as_ref().is_none_or(|(before, _)| before != why);
        snapshot.down = Some((why.to_owned(), since));
        drop(snapshot);
        self.metrics.up(&self.name, false);
        if news {
            tracing::warn!(source = self.name, why, "conftool cannot be followed");
            self.news.all();
        }
    }
}

/// The values as confd takes them.
fn switches(values: &Values) -> impl Iterator<Item = (&str, Switch)> {
    values.iter().map(|(name, value)| {
        let switch = match value {
            Ok(Record { pooled: true, .. }) => Switch::Pooled,
            Ok(Record { pooled: false, .. }) => Switch::Depooled,
            Err(_) => Switch::Unreadable,
        };
        (name.as_str(), switch)
    })
}
