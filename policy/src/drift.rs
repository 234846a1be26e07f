//! Drift: intent and conclusion, or two sources, disagree; and what the guard cannot see but should say. It feeds a condition,
//! Events and a metric, never a verdict.
//!
//! `docs/drift.md` has a paragraph for each reason; a test compares.

use jiff::Timestamp;

use crate::evidence::{Conclusion, Datacenter, Says, State};
use crate::pooling::{Accepted, Mode, Pooling};
use crate::state::{Kind, Replacement, Workload};

/// One disagreement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drift {
    /// Which kind.
    pub reason: DriftReason,
    /// A sentence for people.
    pub message: String,
    /// Until when somebody has accepted it, and why.
    pub accepted: Option<Accepted>,
}

/// The kinds of drift, the gravest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DriftReason {
    /// Active/active by intent, pooled in one place: the case of 2021.
    Snowflake,
    /// Active/active by intent, pooled in several places, but not in all.
    PooledInPart,
    /// Pooled nowhere at all.
    PooledNowhere,
    /// Active/passive by intent, pooled in several places.
    PooledTwice,
    /// Pooled in fewer places than the spec wants.
    BelowMinimum,
    /// Served here, and the spec does not name this datacenter.
    NotDeclared,
    /// One source sees traffic where another sees none.
    SourcesDisagree,
    /// Pooled here, and nothing is ready to serve.
    NothingReady,
    /// A Helm release has guarded workloads, and others that no `ServicePooling` covers.
    UncoveredWorkload,
    /// A rollout takes all pods away before the first new one comes.
    RecreateStrategy,
    /// A rollout may take all pods away at once.
    AllUnavailable,
    /// One replica is wanted: every restart of its pod is an outage.
    SingleReplica,
}

impl DriftReason {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::Snowflake,
        Self::PooledInPart,
        Self::PooledNowhere,
        Self::PooledTwice,
        Self::BelowMinimum,
        Self::NotDeclared,
        Self::SourcesDisagree,
        Self::NothingReady,
        Self::UncoveredWorkload,
        Self::RecreateStrategy,
        Self::AllUnavailable,
        Self::SingleReplica,
    ];

    /// The CamelCase name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Snowflake => "Snowflake",
            Self::PooledInPart => "PooledInPart",
            Self::PooledNowhere => "PooledNowhere",
            Self::PooledTwice => "PooledTwice",
            Self::BelowMinimum => "BelowMinimum",
            Self::NotDeclared => "NotDeclared",
            Self::SourcesDisagree => "SourcesDisagree",
            Self::NothingReady => "NothingReady",
            Self::UncoveredWorkload => "UncoveredWorkload",
            Self::RecreateStrategy => "RecreateStrategy",
            Self::AllUnavailable => "AllUnavailable",
            Self::SingleReplica => "SingleReplica",
        }
    }
}

/// What is known of the workloads in this datacenter.
#[derive(Debug, Clone, Default)]
pub struct Workloads<'a> {
    /// Those of the service.
    pub own: Vec<&'a Workload>,
    /// Those of the same Helm releases that no `ServicePooling` covers.
    pub uncovered: Vec<&'a Workload>,
}

impl Workloads<'_> {
    fn ready(&self) -> i32 {
        self.own.iter().map(|workload| workload.ready).sum()
    }
}

/// Everything that disagrees for certain, the gravest first.
///
/// A datacenter about which nothing is known is no proof of anything: whatever depends on it is left out.
pub fn drifts(pooling: &Pooling, conclusion: &Conclusion, workloads: &Workloads<'_>, now: Timestamp) -> Vec<Drift> {
    let mut found = pooled(pooling, conclusion);
    let name = &pooling.key.name;
    for datacenter in &conclusion.datacenters {
        if let Some(message) = disagreement(name, datacenter) {
            found.push((DriftReason::SourcesDisagree, message));
        }
    }
    found.extend(here(pooling, conclusion, workloads));
    found.sort_by_key(|(reason, _)| *reason);
    let accepted = |reason: DriftReason| {
        pooling.accepted.iter().find(|accepted| accepted.drift == reason.as_str() && now < accepted.until).cloned()
    };
    found.into_iter().map(|(reason, message)| Drift { reason, message, accepted: accepted(reason) }).collect()
}

/// Intent against conclusion.
fn pooled(pooling: &Pooling, conclusion: &Conclusion) -> Vec<(DriftReason, String)> {
    let name = &pooling.key.name;
    let of = |state: State| -> Vec<&str> {
        let names = conclusion.datacenters.iter().filter(|datacenter| datacenter.state == state);
        names.map(|datacenter| datacenter.name.as_str()).collect()
    };
    let (pooled, depooled, unknown) = (of(State::Serving), of(State::NotServing), of(State::Unknown));
    let mut found = Vec::new();
    let all = pooling.datacenters.join(" and ");
    let several = pooling.datacenters.len() > 1 && !depooled.is_empty();
    match (pooling.mode, pooled.as_slice()) {
        (_, []) if unknown.is_empty() => found.push((DriftReason::PooledNowhere, format!("{name} is pooled nowhere"))),
        (Mode::ActiveActive, [only]) if several && unknown.is_empty() => found.push((
            DriftReason::Snowflake,
            format!("{name} is meant to be active/active in {all}, but is pooled in {only} only"),
        )),
        // Where it is pooled besides is not known, or known to be elsewhere too: certain is only where it is not.
        (Mode::ActiveActive, [_, ..]) if several => found.push((
            DriftReason::PooledInPart,
            format!("{name} is meant to be active/active in {all}, but is not pooled in {}", depooled.join(" and ")),
        )),
        (Mode::ActivePassive, [_, _, ..]) => found.push((
            DriftReason::PooledTwice,
            format!("{name} is meant to be active/passive, but is pooled in {}", pooled.join(" and ")),
        )),
        _ => {}
    }
    let possible = pooled.len() + unknown.len();
    let wanted = pooling.min_pooled_datacenters as usize;
    if possible < wanted && possible > 0 {
        let count = pooled.len();
        found.push((
            DriftReason::BelowMinimum,
            format!("{name} is pooled in {count} of the {wanted} datacenters that it needs"),
        ));
    }
    let here = &conclusion.here;
    if conclusion.here().state == State::Serving && !pooling.datacenters.contains(here) {
        found.push((
            DriftReason::NotDeclared,
            format!("{name} is served in {here}, which spec.datacenters does not name"),
        ));
    }
    found
}

fn disagreement(name: &str, datacenter: &Datacenter) -> Option<String> {
    let said = |says: Says| datacenter.answers.iter().find(|answer| answer.says == says);
    let (sees, not) = (said(Says::Serving)?, said(Says::NotServing)?);
    Some(format!(
        "about {name} in {}, {} says {} and {} says {}",
        datacenter.name, sees.evidence, sees.detail, not.evidence, not.detail
    ))
}

/// What the workloads in this datacenter look like while it serves.
fn here(pooling: &Pooling, conclusion: &Conclusion, workloads: &Workloads<'_>) -> Vec<(DriftReason, String)> {
    let (name, here) = (&pooling.key.name, &conclusion.here);
    let mut found = Vec::new();
    let told = |workload: &Workload| format!("{} {}", workload.kind.as_str(), workload.name);
    if let [first, rest @ ..] = workloads.uncovered.as_slice() {
        let more = if rest.is_empty() { String::new() } else { format!(" and {} more", rest.len()) };
        found.push((
            DriftReason::UncoveredWorkload,
            format!("{}{more} of {name}'s Helm release is covered by no ServicePooling", told(first)),
        ));
    }
    if conclusion.here().state != State::Serving {
        return found;
    }
    // Pods may belong to kinds of workloads that are not watched.
    if !workloads.own.is_empty() && workloads.ready() == 0 {
        found.push((DriftReason::NothingReady, format!("{name} is pooled in {here}, but nothing is ready there")));
    }
    let carrying = || workloads.own.iter().filter(|workload| workload.may_carry());
    let replaced = |how| carrying().find(|workload| workload.replacement == how);
    if let Some(workload) = replaced(Replacement::Recreate) {
        found.push((
            DriftReason::RecreateStrategy,
            format!("{} has strategy Recreate: each rollout takes {name} away in {here} for a while", told(workload)),
        ));
    }
    if let Some(workload) = replaced(Replacement::AllAtOnce) {
        found.push((
            DriftReason::AllUnavailable,
            format!("{} lets a rollout take all of its pods away at once (maxUnavailable)", told(workload)),
        ));
    }
    let wanted: i32 = carrying().map(|workload| workload.replicas).sum();
    let on_each_node = carrying().any(|workload| workload.kind == Kind::DaemonSet);
    if wanted == 1 && !on_each_node {
        found.push((
            DriftReason::SingleReplica,
            format!("{name} runs one replica in {here}: when its pod goes, the service goes"),
        ));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::{Answer, Why, conclude};
    use crate::pooling::{Arm, Enforcement, Evidence, Key};
    use crate::selector::Selector;
    use crate::state::{Placement, References};

    fn pooling(mode: Mode, minimum: u32, names: &[&str]) -> Pooling {
        let evidence =
            |name: &&str| Evidence { name: (*name).to_owned(), arm: Arm::Declared { pooled_in: Vec::new() } };
        Pooling {
            key: Key { namespace: "space".to_owned(), name: "eventgate-main".to_owned() },
            version: String::new(),
            selector: Selector::labels([("app", "eventgate")]),
            expendable: None,
            mode,
            datacenters: vec!["codfw".to_owned(), "eqiad".to_owned()],
            min_pooled_datacenters: minimum,
            evidence: names.iter().map(evidence).collect(),
            enforcement: Enforcement::Enforce,
            accepted: Vec::new(),
        }
    }

    fn concluded(pooling: &Pooling, says: &[(&str, &str, Says)]) -> Conclusion {
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
        conclude("eqiad", pooling, &answers, Timestamp::UNIX_EPOCH)
    }

    fn workload(replicas: i32, ready: i32, replacement: Replacement) -> Workload {
        Workload {
            kind: Kind::Deployment,
            name: "main".to_owned(),
            controller: None,
            release: None,
            template_labels: [("app", "eventgate")].into_iter().collect(),
            replicas,
            replacement,
            current: replicas,
            ready,
            first_ordinal: 0,
            never_up: false,
            references: References::default(),
            placement: Placement::default(),
        }
    }

    fn reasons(pooling: &Pooling, says: &[(&str, &str, Says)], workloads: &Workloads<'_>) -> Vec<&'static str> {
        let found = drifts(pooling, &concluded(pooling, says), workloads, Timestamp::UNIX_EPOCH);
        found.iter().map(|drift| drift.reason.as_str()).collect()
    }

    fn found(mode: Mode, minimum: u32, says: &[(&str, &str, Says)], ready: i32) -> Vec<&'static str> {
        let mut names: Vec<&str> = says.iter().map(|(name, ..)| *name).collect();
        names.dedup();
        let one = workload(2, ready, Replacement::Gradual);
        reasons(&pooling(mode, minimum, &names), says, &Workloads { own: vec![&one], uncovered: Vec::new() })
    }

    use Mode::{ActiveActive, ActivePassive};
    use Says::{NotServing, Serving};

    const HERE_ONLY: [(&str, &str, Says); 2] = [("a", "eqiad", Serving), ("a", "codfw", NotServing)];

    #[test]
    fn the_snowflake_of_2021_is_named_before_anybody_deletes_anything() {
        assert_eq!(found(ActiveActive, 1, &HERE_ONLY, 2), ["Snowflake"]);
        assert_eq!(found(ActivePassive, 1, &HERE_ONLY, 2), [""; 0]);
    }

    #[test]
    fn pooled_in_some_of_its_datacenters_is_told_and_only_is_said_only_where_all_are_known() {
        let mut three = pooling(ActiveActive, 1, &["a"]);
        three.datacenters.push("ulsfo".to_owned());
        let one = workload(2, 2, Replacement::Gradual);
        let own = Workloads { own: vec![&one], uncovered: Vec::new() };
        let told = |ulsfo: Says| {
            let says = [("a", "eqiad", Serving), ("a", "codfw", NotServing), ("a", "ulsfo", ulsfo)];
            let found = drifts(&three, &concluded(&three, &says), &own, Timestamp::UNIX_EPOCH);
            let found = found.iter().map(|drift| format!("{}: {}", drift.reason.as_str(), drift.message));
            found.collect::<Vec<_>>().join("; ")
        };
        let part = "PooledInPart: eventgate-main is meant to be active/active in codfw and eqiad and ulsfo, \
                    but is not pooled in codfw";
        assert_eq!(told(Serving), part);
        assert_eq!(told(Says::Unknown(Why::Unreachable)), part);
        assert!(told(NotServing).starts_with("Snowflake: ") && told(NotServing).ends_with("pooled in eqiad only"));
    }

    #[test]
    fn where_one_datacenter_is_meant_it_is_no_snowflake_that_another_one_is_depooled() {
        let alone = Pooling { datacenters: vec!["codfw".to_owned()], ..pooling(ActiveActive, 1, &["a"]) };
        let says = [("a", "codfw", Serving), ("a", "eqiad", NotServing)];
        let conclusion = concluded(&alone, &says);
        assert_eq!(conclusion.datacenters.len(), 2, "here is known although it is not meant");
        let none = Workloads { own: Vec::new(), uncovered: Vec::new() };
        assert_eq!(reasons(&alone, &says, &none), [""; 0]);
        let says = [("a", "codfw", NotServing), ("a", "eqiad", Serving)];
        assert_eq!(reasons(&alone, &says, &none), ["NotDeclared"]);
    }

    #[test]
    fn nothing_is_said_of_pods_where_no_workload_is_known() {
        let none = Workloads { own: Vec::new(), uncovered: Vec::new() };
        assert_eq!(reasons(&pooling(ActivePassive, 1, &["a"]), &HERE_ONLY, &none), [""; 0]);
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
        assert_eq!(found(ActivePassive, 2, &HERE_ONLY, 2), ["BelowMinimum"]);
        assert_eq!(found(ActivePassive, 1, &HERE_ONLY, 0), ["NothingReady"]);
        let two =
            [("a", "eqiad", NotServing), ("a", "codfw", Serving), ("b", "eqiad", Serving), ("b", "codfw", Serving)];
        assert_eq!(found(ActiveActive, 1, &two, 2), ["SourcesDisagree"]);
        let mut elsewhere = pooling(ActivePassive, 1, &["a"]);
        elsewhere.datacenters = vec!["codfw".to_owned()];
        let one = workload(2, 2, Replacement::Gradual);
        let own = Workloads { own: vec![&one], uncovered: Vec::new() };
        assert_eq!(reasons(&elsewhere, &HERE_ONLY, &own), ["NotDeclared"]);
    }

    #[test]
    fn what_the_guard_cannot_see_is_said_while_the_service_is_served_here() {
        let of = |replicas, replacement, says: &[(&str, &str, Says)]| {
            let one = workload(replicas, replicas, replacement);
            reasons(&pooling(ActivePassive, 1, &["a"]), says, &Workloads { own: vec![&one], uncovered: Vec::new() })
        };
        assert_eq!(of(2, Replacement::Recreate, &HERE_ONLY), ["RecreateStrategy"]);
        assert_eq!(of(2, Replacement::AllAtOnce, &HERE_ONLY), ["AllUnavailable"]);
        assert_eq!(of(1, Replacement::Gradual, &HERE_ONLY), ["SingleReplica"]);
        let there = [("a", "eqiad", NotServing), ("a", "codfw", Serving)];
        assert_eq!(of(1, Replacement::Recreate, &there), [""; 0]);
        let (one, other) = (workload(2, 2, Replacement::Gradual), workload(1, 1, Replacement::Gradual));
        let both = Workloads { own: vec![&one], uncovered: vec![&other] };
        assert_eq!(reasons(&pooling(ActivePassive, 1, &["a"]), &there, &both), ["UncoveredWorkload"]);
    }

    #[test]
    fn accepted_drift_is_still_told_and_accepted_no_longer_than_it_says() {
        let until = Timestamp::UNIX_EPOCH + jiff::SignedDuration::from_secs(60);
        let mut pooling = pooling(ActiveActive, 1, &["a"]);
        pooling.accepted =
            vec![Accepted { drift: "Snowflake".to_owned(), because: "it has one master".to_owned(), until }];
        let one = workload(2, 2, Replacement::Gradual);
        let own = Workloads { own: vec![&one], uncovered: Vec::new() };
        let conclusion = concluded(&pooling, &HERE_ONLY);
        let accepted = |now| drifts(&pooling, &conclusion, &own, now)[0].accepted.is_some();
        assert!(accepted(Timestamp::UNIX_EPOCH));
        assert!(!accepted(until));
    }

    #[test]
    fn what_is_unknown_proves_nothing() {
        let unknown = || Says::Unknown(Why::Unreachable);
        assert_eq!(found(ActiveActive, 2, &[("a", "eqiad", unknown()), ("a", "codfw", unknown())], 0), [""; 0]);
        assert_eq!(found(ActiveActive, 1, &[("a", "eqiad", Serving), ("a", "codfw", unknown())], 2), [""; 0]);
    }
}
