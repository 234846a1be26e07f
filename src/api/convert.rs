//! From the stored resource to what the policy reads.
//!
//! Never lenient: what this version does not understand is an error, and the webhook guards such a resource's namespace as
//! `Unknown`.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::ResourceExt;
use poolguard_policy::evidence::{Memory, Record};
use poolguard_policy::overriding::Override;
use poolguard_policy::pooling::{self, Accepted, Arm, Evidence, Key, Pooling};
use poolguard_policy::selector::{Operator, Requirement, Selector};
use thiserror::Error;

use super::conditions::SERVING;
use super::{Enforcement, EvidenceSource, PoolingMode, PoolingOverride, ServicePooling, ServicePoolingStatus};

/// A `ServicePooling` that this version cannot act on.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ConvertError {
    /// The selector has an operator of another version.
    #[error("the selector's operator {0:?} is not one of In, NotIn, Exists, DoesNotExist")]
    Operator(String),
    /// The selector selects everything.
    #[error("the selector is empty")]
    EmptySelector,
    /// An entry of `evidence` has no arm, or several, that this version knows.
    #[error("evidence {0:?} names no source that this version knows, or several")]
    Arm(String),
    /// A threshold is no number.
    #[error("the threshold {0:?} is not a number such as 2, 0.5 or 500m")]
    Threshold(String),
    /// A duration of an override cannot be read, or exceeds the longest.
    #[error("the duration {0:?} is not one such as 30m or 2h, above 0s and at most 24h")]
    Duration(String),
    /// There is no evidence at all.
    #[error("no evidence is named")]
    NoEvidence,
}

/// Converts a `ServicePooling`.
///
/// # Errors
/// Where it does not follow its own schema, as happens when an older binary meets a newer resource.
pub fn pooling(resource: &ServicePooling) -> Result<Pooling, ConvertError> {
    let spec = &resource.spec;
    let own = selector(&spec.selector)?;
    if own.is_empty() {
        return Err(ConvertError::EmptySelector);
    }
    if spec.evidence.is_empty() {
        return Err(ConvertError::NoEvidence);
    }
    let evidence = spec
        .evidence
        .iter()
        .map(|entry| Ok(Evidence { name: entry.name.clone(), arm: arm(entry)? }))
        .collect::<Result<_, _>>()?;
    Ok(Pooling {
        key: Key { namespace: resource.namespace().unwrap_or_default(), name: resource.name_any() },
        version: format!("{}/{}", resource.uid().unwrap_or_default(), resource.metadata.generation.unwrap_or_default()),
        selector: own,
        expendable: spec.expendable.as_ref().map(selector).transpose()?,
        mode: match spec.mode {
            PoolingMode::ActiveActive => pooling::Mode::ActiveActive,
            PoolingMode::ActivePassive => pooling::Mode::ActivePassive,
        },
        datacenters: spec.datacenters.iter().map(|datacenter| datacenter.name.clone()).collect(),
        min_pooled_datacenters: u32::try_from(spec.min_pooled_datacenters).unwrap_or_default(),
        evidence,
        enforcement: match spec.enforcement {
            Enforcement::Enforce => pooling::Enforcement::Enforce,
            Enforcement::Warn => pooling::Enforcement::Warn,
        },
        accepted: spec
            .accepted_drift
            .iter()
            .map(|accepted| Accepted {
                drift: accepted.drift.clone(),
                because: accepted.reason.clone(),
                until: accepted.expires.0,
            })
            .collect(),
    })
}

/// The longest that an override may count.
const LONGEST: SignedDuration = SignedDuration::from_hours(24);

/// Converts a `PoolingOverride`.
///
/// # Errors
/// Where it does not follow its own schema. Such a one lets nothing pass.
pub fn pooling_override(resource: &PoolingOverride) -> Result<Override, ConvertError> {
    let spec = &resource.spec;
    let duration = duration(&spec.duration).ok_or_else(|| ConvertError::Duration(spec.duration.clone()))?;
    // One that is only about to be made has no time yet, and counts for nothing.
    let since = resource.metadata.creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0);
    Ok(Override {
        name: resource.name_any(),
        service: spec.service_pooling_ref.name.clone(),
        datacenter: spec.datacenter.clone(),
        because: spec.reason.clone(),
        requested_by: spec.requested_by.clone(),
        since,
        until: since.saturating_add(duration).unwrap_or(since),
        terminating: resource.metadata.deletion_timestamp.is_some(),
    })
}

/// Reads `1h30m`: hours, minutes and seconds, each at most once, above zero and at most a day.
fn duration(text: &str) -> Option<SignedDuration> {
    let (mut rest, mut seconds) = (text, 0i64);
    for (unit, length) in [('h', 3600), ('m', 60), ('s', 1)] {
        if let Some((number, after)) = rest.split_once(unit) {
            let digits = (1..=5).contains(&number.len()) && number.bytes().all(|byte| byte.is_ascii_digit());
            seconds += digits.then(|| number.parse::<i64>().ok()).flatten()? * length;
            rest = after;
        }
    }
    let duration = SignedDuration::from_secs(seconds);
    (rest.is_empty() && duration > SignedDuration::ZERO && duration <= LONGEST).then_some(duration)
}

fn arm(entry: &EvidenceSource) -> Result<Arm, ConvertError> {
    let source = || entry.source.clone();
    let declared = entry.declared.as_ref().map(|declared| Arm::Declared { pooled_in: declared.pooled_in.clone() });
    let conftool =
        entry.conftool.as_ref().map(|conftool| Arm::Conftool { source: source(), record: conftool.record.clone() });
    let dns = entry.dns.as_ref().map(|dns| Arm::Dns { source: source(), name: dns.name.clone() });
    let prometheus = entry.prometheus.as_ref().map(|prometheus| {
        let threshold =
            prometheus.threshold.parse().map_err(|_| ConvertError::Threshold(prometheus.threshold.clone()))?;
        Ok(Arm::Prometheus { source: source(), query: prometheus.query.clone(), threshold })
    });
    let mut arms = declared.into_iter().chain(conftool).chain(dns).map(Ok).chain(prometheus);
    match (arms.next(), arms.next()) {
        (Some(arm), None) => arm,
        _ => Err(ConvertError::Arm(entry.name.clone())),
    }
}

/// Converts a label selector.
///
/// # Errors
/// Where an operator is none of the four.
pub fn selector(selector: &LabelSelector) -> Result<Selector, ConvertError> {
    Ok(Selector {
        match_labels: selector.match_labels.clone().unwrap_or_default().into_iter().collect(),
        match_expressions: selector
            .match_expressions
            .iter()
            .flatten()
            .map(|requirement| {
                Ok(Requirement {
                    key: requirement.key.clone(),
                    operator: match requirement.operator.as_str() {
                        "In" => Operator::In,
                        "NotIn" => Operator::NotIn,
                        "Exists" => Operator::Exists,
                        "DoesNotExist" => Operator::DoesNotExist,
                        other => return Err(ConvertError::Operator(other.to_owned())),
                    },
                    values: requirement.values.clone().unwrap_or_default(),
                })
            })
            .collect::<Result<_, _>>()?,
    })
}

/// What a status remembers of each source and datacenter: since when a revision has been seen, and until when clients may
/// hold an answer from before.
pub fn remembered(status: Option<&ServicePoolingStatus>) -> BTreeMap<(String, String), Memory> {
    let datacenters = status.map(|status| status.datacenters.as_slice()).unwrap_or_default();
    let entries = datacenters.iter().flat_map(|datacenter| {
        datacenter.evidence.iter().filter_map(|evidence| {
            let since = evidence.since.as_ref()?.0;
            let revision = u64::try_from(evidence.revision?).ok()?;
            let held_until = evidence.not_serving_after.as_ref().map(|time| time.0);
            // The value itself is not believed: it is read again, and only its revision is compared.
            let record = Record { pooled: held_until.is_none(), ttl: 0, revision };
            let memory = Memory { record, since, held_until: held_until.unwrap_or(since), witnessed: false };
            Some(((evidence.name.clone(), datacenter.name.clone()), memory))
        })
    });
    entries.collect()
}

/// Since when a status has said that nothing can be told about this datacenter.
pub fn unknown_since(status: Option<&ServicePoolingStatus>) -> Option<Timestamp> {
    let mut conditions = status?.conditions.iter();
    let serving = conditions.find(|condition| condition.type_ == SERVING && condition.status == "Unknown")?;
    Some(serving.last_transition_time.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_read_as_the_schema_has_it() {
        for (text, seconds) in [("30m", 1800), ("1h30m", 5400), ("24h", 86_400), ("5s", 5), ("1h1m1s", 3661)] {
            assert_eq!(duration(text), Some(SignedDuration::from_secs(seconds)), "{text}");
        }
        for text in ["", "0s", "24h1s", "25h", "1d", "-1h", "1m1h", "h", "1h1h", "1.5h", "999999s", "30"] {
            assert_eq!(duration(text), None, "{text}");
        }
    }
}
