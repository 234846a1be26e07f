//! The sources as they are followed: what they said last, without asking. Feeds status and memory, never a verdict.

use std::sync::Arc;

use jiff::Timestamp;
use poolguard_policy::evidence::{Answer, Why};
use poolguard_policy::pooling::{Arm, Pooling};

use super::{Asked, Remembered, Sources, declared, named, unknown};
use crate::runtime::news::News;

/// The sources as they are followed.
#[derive(Debug, Clone)]
pub struct Following {
    pub(super) sources: Arc<Sources>,
}

impl Following {
    /// What has changed of all that is followed.
    pub fn news(&self) -> &News<Asked> {
        &self.sources.news
    }

    /// What the sources say as far as they are followed: no I/O.
    pub fn answers(&self, pooling: &Pooling, remembered: &Remembered, now: Timestamp) -> Vec<Answer> {
        let names = self.sources.names(pooling);
        pooling
            .evidence
            .iter()
            .flat_map(|entry| {
                let missing = |detail: String| unknown(entry, &names, Why::NotConfigured, &detail);
                match &entry.arm {
                    Arm::Declared { pooled_in } => declared::answers(entry, pooled_in, &names, now),
                    Arm::Conftool { source, record } => named("conftool", &self.sources.conftool, source.as_deref())
                        .map_or_else(missing, |conftool| {
                            conftool.followed(pooling, entry, record, &names, remembered, now)
                        }),
                    Arm::Dns { source, name } => named("dns", &self.sources.dns, source.as_deref())
                        .map_or_else(missing, |dns| dns.followed(entry, name, &names, now)),
                    Arm::Prometheus { source, query, threshold } => {
                        let here = &self.sources.here;
                        named("prometheus", &self.sources.prometheus, source.as_deref())
                            .map_or_else(missing, |prometheus| {
                                prometheus.followed(pooling, entry, query, *threshold, here, now)
                            })
                    }
                }
            })
            .collect()
    }

    /// Whether there is a source that needs a memory of its own.
    pub fn remembers(&self) -> bool {
        !self.sources.dns.is_empty()
    }

    /// Has the sources that need a memory of their own keep looking at this service's entries.
    pub fn remember(&self, pooling: &Pooling) {
        for entry in &pooling.evidence {
            if let Arm::Dns { source, name } = &entry.arm
                && let Ok(dns) = named("dns", &self.sources.dns, source.as_deref())
            {
                dns.want(name);
            }
        }
    }

    /// Sources that cannot be followed at the moment, each with its reason.
    pub fn unreachable(&self) -> Vec<String> {
        self.sources.conftool.values().filter_map(|source| source.down()).collect()
    }
}
