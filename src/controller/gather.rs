//! Gathers what status, labels and budgets are made of: from the view and from what the sources are followed to say. No I/O.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use poolguard_policy::drift::{Drift, Workloads, drifts};
use poolguard_policy::evidence::{Conclusion, conclude};
use poolguard_policy::overriding::Override;
use poolguard_policy::pooling::{Key, Pooling, Watched};
use poolguard_policy::state::{Kind, Namespace, Release, State, Workload};

use crate::api::{self, ServicePooling};
use crate::cluster::View;
use crate::observe::Following;

/// A service with everything that is known of it.
#[derive(Debug)]
pub(super) struct Gathered {
    pub(super) resource: Arc<ServicePooling>,
    pub(super) pooling: Pooling,
    pub(super) conclusion: Conclusion,
    pub(super) workloads: Vec<Workload>,
    /// Workloads of the same Helm releases that no `ServicePooling` covers.
    pub(super) uncovered: Vec<Workload>,
    /// What disagrees.
    pub(super) drifts: Vec<Drift>,
    pub(super) labelled: bool,
    /// The operator's configuration excludes its namespace.
    pub(super) excluded: bool,
    /// The operator's configuration only warns.
    pub(super) only_warns: bool,
    /// Overrides that are in force here, the longest first.
    pub(super) overrides: Vec<Override>,
    /// Sources that cannot be followed.
    pub(super) unreachable: Vec<String>,
}

impl Gathered {
    /// The Helm releases of its workloads.
    pub(super) fn releases(&self) -> impl Iterator<Item = &Release> {
        let releases: BTreeSet<&Release> =
            self.workloads.iter().filter_map(|workload| workload.release.as_ref()).collect();
        releases.into_iter()
    }

    /// What disagrees about it.
    fn drifts(&self, now: Timestamp) -> Vec<Drift> {
        let workloads = Workloads { own: self.workloads.iter().collect(), uncovered: self.uncovered.iter().collect() };
        drifts(&self.pooling, &self.conclusion, &workloads, now)
    }
}

/// What the operator's configuration says about this installation.
#[derive(Debug)]
pub(super) struct Installation {
    /// This datacenter.
    pub(super) here: String,
    /// The canary's namespace.
    pub(super) canary: String,
    /// Namespaces that are never guarded.
    pub(super) excluded: Vec<String>,
    /// Nothing is refused.
    pub(super) only_warns: bool,
}

/// A service, if it decodes and is wanted.
pub(super) fn gather(
    view: &View,
    following: &Following,
    place: &Installation,
    key: &Key,
    resource: &Arc<ServicePooling>,
    wanted: impl FnOnce(&Pooling) -> bool,
    now: Timestamp,
) -> Option<Gathered> {
    let state = view.read();
    let namespace = state.namespace(&key.namespace)?;
    let Some(Watched::Known(pooling)) = namespace.poolings.get(&key.name) else { return None };
    if !wanted(pooling) {
        return None;
    }
    let (workloads, uncovered) = workloads(namespace, pooling);
    let (pooling, labelled) = (pooling.clone(), namespace.protected);
    let mut overrides: Vec<Override> =
        namespace.overrides.values().filter(|glass| glass.in_force(key, &place.here, now)).cloned().collect();
    overrides.sort_by(|a, b| (b.until, &a.name).cmp(&(a.until, &b.name)));
    drop(state);
    let remembered = api::remembered(resource.status.as_ref());
    let answers = following.answers(&pooling, &remembered, now);
    let conclusion = conclude(&place.here, &pooling, &answers, now);
    let unreachable = following.unreachable();
    let excluded = place.excluded.contains(&key.namespace);
    let only_warns = place.only_warns;
    let mut gathered = Gathered {
        resource: Arc::clone(resource),
        pooling,
        conclusion,
        workloads,
        uncovered,
        drifts: Vec::new(),
        labelled,
        excluded,
        only_warns,
        overrides,
        unreachable,
    };
    // The canary is nobody's service: that it is pooled nowhere is as it should be.
    if key.namespace != place.canary {
        gathered.drifts = gathered.drifts(now);
    }
    Some(gathered)
}

/// The workloads of a service, and those of the same Helm releases that no `ServicePooling` covers.
fn workloads(namespace: &Namespace, pooling: &Pooling) -> (Vec<Workload>, Vec<Workload>) {
    let own = |workload: &Workload| pooling.selector.matches(&workload.template_labels);
    let kept = || namespace.workloads.values().filter(|workload| workload.kind != Kind::ReplicaSet);
    let releases: BTreeSet<&Release> =
        kept().filter(|workload| own(workload)).filter_map(|workload| workload.release.as_ref()).collect();
    let covered = |workload: &Workload| {
        namespace.poolings.values().any(|watched| match watched {
            Watched::Known(pooling) => pooling.selector.matches(&workload.template_labels),
            Watched::Undecodable { .. } => true,
        })
    };
    let uncovered = kept()
        .filter(|workload| workload.release.as_ref().is_some_and(|release| releases.contains(release)))
        .filter(|workload| workload.may_carry() && !covered(workload));
    (kept().filter(|workload| own(workload)).cloned().collect(), uncovered.cloned().collect())
}

/// A namespace whose label must change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Label {
    pub(super) namespace: String,
    pub(super) protected: bool,
}

/// Which namespaces must get or lose the label: those that hold a `ServicePooling`, decoded or not, or the record of a
/// guarded release, bear it, and the canary's always does. Those that are excluded never get it. One that bears it already keeps it
/// while it holds such things: the webhook refuses to take it off, whatever is excluded, and guards nothing else there.
pub(super) fn labels(
    state: &State,
    records: impl Iterator<Item = String>,
    excluded: &[String],
    canary: &str,
) -> Vec<Label> {
    let holders = state.namespaces.iter().filter(|(_, namespace)| !namespace.poolings.is_empty());
    let wanted: BTreeSet<String> = holders
        .map(|(name, _)| name.clone())
        .chain(records)
        .filter(|name| !excluded.contains(name) || state.namespace(name).is_some_and(|namespace| namespace.protected))
        .chain(state.namespaces.contains_key(canary).then(|| canary.to_owned()))
        .collect();
    let mut labels: Vec<Label> = state
        .namespaces
        .iter()
        .filter(|(name, namespace)| namespace.protected != wanted.contains(*name) && !namespace.terminating)
        .map(|(name, _)| Label { namespace: name.clone(), protected: wanted.contains(name) })
        .collect();
    labels.sort_by(|a, b| a.namespace.cmp(&b.namespace));
    labels
}

/// The key of a resource.
pub(super) fn key(gathered: &Gathered) -> &Key {
    &gathered.pooling.key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces_bear_the_label_exactly_while_they_hold_something_guarded() {
        let mut state = State::default();
        let key = Key { namespace: "guarded".to_owned(), name: "x".to_owned() };
        let watched = Watched::Undecodable { key, error: String::new() };
        let holding = |protected| Namespace {
            protected,
            poolings: [("x".to_owned(), watched.clone())].into_iter().collect(),
            ..Namespace::default()
        };
        state.namespaces.insert("guarded".to_owned(), holding(false));
        state.namespaces.insert("labelled".to_owned(), holding(true));
        state.namespaces.insert("emptied".to_owned(), Namespace { protected: true, ..Namespace::default() });
        state.namespaces.insert("plain".to_owned(), Namespace::default());
        state.namespaces.insert("kube-system".to_owned(), holding(false));
        state.namespaces.insert("poolguard".to_owned(), holding(false));
        // Excluded since it was labelled.
        state.namespaces.insert("kept".to_owned(), holding(true));
        state.namespaces.insert("records".to_owned(), Namespace { protected: true, ..Namespace::default() });
        state.namespaces.insert("left".to_owned(), Namespace { protected: true, ..Namespace::default() });
        let label = |namespace: &str, protected| Label { namespace: namespace.to_owned(), protected };
        let records = ["plain", "records"].map(str::to_owned).into_iter();
        let excluded = ["kube-system", "poolguard", "kept", "records", "left"].map(str::to_owned);
        assert_eq!(
            labels(&state, records, &excluded, "canary"),
            [label("emptied", false), label("guarded", true), label("left", false), label("plain", true)]
        );
    }
}
