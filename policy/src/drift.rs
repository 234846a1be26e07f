//! Drift: intent and conclusion, or two sources, disagree. It feeds a condition, an Event and a metric, never a verdict.

use crate::evidence::{Conclusion, Datacenter, Says, State};
use crate::pooling::{Mode, Pooling};

/// One disagreement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drift {
    /// Which kind.
    pub reason: DriftReason,
    /// A sentence for people.
    pub message: String,
}

/// The kinds of drift.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DriftReason {
    /// Active/active by intent, pooled in one place: the case of 2021.
    Snowflake,
    /// Pooled nowhere at all.
    PooledNowhere,
    /// Active/passive by intent, pooled in several places.
    PooledTwice,
    /// Pooled in fewer places than the spec wants.
    BelowMinimum,
    /// One source sees traffic where another sees none.
    SourcesDisagree,
    /// Pooled here, and nothing is ready to serve.
    NothingReady,
}

impl DriftReason {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Snowflake,
        Self::PooledNowhere,
        Self::PooledTwice,
        Self::BelowMinimum,
        Self::SourcesDisagree,
        Self::NothingReady,
    ];

    /// The CamelCase name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Snowflake => "Snowflake",
            Self::PooledNowhere => "PooledNowhere",
            Self::PooledTwice => "PooledTwice",
            Self::BelowMinimum => "BelowMinimum",
            Self::SourcesDisagree => "SourcesDisagree",
            Self::NothingReady => "NothingReady",
        }
    }
}

/// Everything that disagrees for certain. `ready` is how many pods of the service are ready in this datacenter.
///
/// A datacenter about which nothing is known is no proof of anything: whatever depends on it is left out.
pub fn drifts(pooling: &Pooling, conclusion: &Conclusion, ready: i32) -> Vec<Drift> {
    let name = &pooling.key.name;
    let of = |state: State| -> Vec<&str> {
        let names = conclusion.datacenters.iter().filter(|datacenter| datacenter.state == state);
        names.map(|datacenter| datacenter.name.as_str()).collect()
    };
    let (pooled, depooled, unknown) = (of(State::Serving), of(State::NotServing), of(State::Unknown));
    let mut drifts = Vec::new();
    let mut add = |reason, message| drifts.push(Drift { reason, message });
    let all = pooling.datacenters.join(" and ");
    match (pooling.mode, pooled.as_slice()) {
        (_, []) if unknown.is_empty() => {
            add(DriftReason::PooledNowhere, format!("{name} is pooled nowhere"));
        }
        (Mode::ActiveActive, [only]) if pooling.datacenters.len() > 1 && !depooled.is_empty() => add(
            DriftReason::Snowflake,
            format!("{name} is meant to be active/active in {all}, but is pooled in {only} only"),
        ),
        (Mode::ActivePassive, [_, _, ..]) => add(
            DriftReason::PooledTwice,
            format!("{name} is meant to be active/passive, but is pooled in {}", pooled.join(" and ")),
        ),
        _ => {}
    }
    let possible = pooled.len() + unknown.len();
    let wanted = pooling.min_pooled_datacenters as usize;
    if possible < wanted && possible > 0 {
        let count = pooled.len();
        add(
            DriftReason::BelowMinimum,
            format!("{name} is pooled in {count} of the {wanted} datacenters that it needs"),
        );
    }
    for datacenter in &conclusion.datacenters {
        if let Some(message) = disagreement(name, datacenter) {
            add(DriftReason::SourcesDisagree, message);
        }
    }
    if ready == 0 && conclusion.here().state == State::Serving {
        add(DriftReason::NothingReady, format!("{name} is pooled in {}, but nothing is ready there", conclusion.here));
    }
    drifts
}

fn disagreement(name: &str, datacenter: &Datacenter) -> Option<String> {
    let said = |says: Says| datacenter.answers.iter().find(|answer| answer.says == says);
    let (sees, not) = (said(Says::Serving)?, said(Says::NotServing)?);
    Some(format!(
        "about {name} in {}, {} says {} and {} says {}",
        datacenter.name, sees.evidence, sees.detail, not.evidence, not.detail
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::{Answer, Why, conclude};
    use crate::pooling::{Arm, Enforcement, Evidence, Key};
    use crate::selector::Selector;
    use jiff::Timestamp;

    fn found(mode: Mode, minimum: u32, says: &[(&str, &str, Says)], ready: i32) -> Vec<&'static str> {
        let evidence = |name: &str| Evidence { name: name.to_owned(), arm: Arm::Declared { pooled_in: Vec::new() } };
        let mut names: Vec<&str> = says.iter().map(|(name, ..)| *name).collect();
        names.dedup();
        let pooling = Pooling {
            key: Key { namespace: "space".to_owned(), name: "eventgate-main".to_owned() },
            version: String::new(),
            selector: Selector::labels([("app", "eventgate")]),
            expendable: None,
            mode,
            datacenters: vec!["codfw".to_owned(), "eqiad".to_owned()],
            min_pooled_datacenters: minimum,
            evidence: names.into_iter().map(evidence).collect(),
            enforcement: Enforcement::Enforce,
        };
        let answers: Vec<Answer> = says
            .iter()
            .map(|(evidence, datacenter, says)| Answer {
                evidence: (*evidence).to_owned(),
                datacenter: (*datacenter).to_owned(),
                says: says.clone(),
                detail: String::new(),
                revision: None,
                since: None,
                not_serving_after: None,
                read: Timestamp::UNIX_EPOCH,
            })
            .collect();
        let conclusion = conclude("eqiad", &pooling, &answers, Timestamp::UNIX_EPOCH);
        drifts(&pooling, &conclusion, ready).iter().map(|drift| drift.reason.as_str()).collect()
    }

    use Mode::{ActiveActive, ActivePassive};
    use Says::{NotServing, Serving};

    #[test]
    fn the_snowflake_of_2021_is_named_before_anybody_deletes_anything() {
        let says = [("a", "eqiad", Serving), ("a", "codfw", NotServing)];
        assert_eq!(found(ActiveActive, 1, &says, 2), ["Snowflake"]);
        assert_eq!(found(ActivePassive, 1, &says, 2), [""; 0]);
    }

    #[test]
    fn a_service_that_is_as_it_is_meant_to_be_does_not_drift() {
        assert_eq!(found(ActiveActive, 2, &[("a", "eqiad", Serving), ("a", "codfw", Serving)], 2), [""; 0]);
    }

    #[test]
    fn each_disagreement_has_its_reason() {
        assert_eq!(found(ActivePassive, 1, &[("a", "eqiad", Serving), ("a", "codfw", Serving)], 2), ["PooledTwice"]);
        assert_eq!(
            found(ActiveActive, 1, &[("a", "eqiad", NotServing), ("a", "codfw", NotServing)], 2),
            ["PooledNowhere"]
        );
        let both = [("a", "eqiad", Serving), ("a", "codfw", NotServing)];
        assert_eq!(found(ActivePassive, 2, &both, 2), ["BelowMinimum"]);
        assert_eq!(found(ActivePassive, 1, &both, 0), ["NothingReady"]);
        let two =
            [("a", "eqiad", NotServing), ("a", "codfw", Serving), ("b", "eqiad", Serving), ("b", "codfw", Serving)];
        assert_eq!(found(ActiveActive, 1, &two, 2), ["SourcesDisagree"]);
    }

    #[test]
    fn what_is_unknown_proves_nothing() {
        let unknown = || Says::Unknown(Why::Unreachable);
        assert_eq!(found(ActiveActive, 2, &[("a", "eqiad", unknown()), ("a", "codfw", unknown())], 0), [""; 0]);
        assert_eq!(found(ActiveActive, 1, &[("a", "eqiad", Serving), ("a", "codfw", unknown())], 2), [""; 0]);
    }
}
