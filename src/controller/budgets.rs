//! Which disruption budgets to keep: one for each service that serves here with two or more replicas and has none. Pure.
//!
//! Never two on one pod: the API server then fails every eviction. Ours goes as soon as another appears.

use poolguard_policy::evidence::State as Serving;
use poolguard_policy::state::{Budget, Namespace, State};

use super::gather::Gathered;

/// What to do with our budget of one service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Action<'a> {
    /// Make it.
    Create(&'a Gathered),
    /// Remove it.
    Remove(&'a Gathered),
}

/// The name of our budget.
pub(super) fn name(service: &Gathered) -> String {
    format!("poolguard-{}", service.pooling.key.name)
}

impl PartialEq for Gathered {
    fn eq(&self, other: &Self) -> bool {
        self.pooling == other.pooling
    }
}

impl Eq for Gathered {}

/// What to do.
pub(super) fn decide<'a>(state: &State, gathered: &'a [Gathered]) -> Vec<Action<'a>> {
    let action = |service: &'a Gathered| {
        let namespace = state.namespace(&service.pooling.key.namespace)?;
        let exists = namespace.budgets.get(&name(service)).is_some_and(|budget| is_ours(budget, service));
        let wanted = wanted(namespace, service);
        match (exists, wanted) {
            (false, true) => Some(Action::Create(service)),
            (true, false) => Some(Action::Remove(service)),
            _ => None,
        }
    };
    gathered.iter().filter_map(action).collect()
}

fn wanted(namespace: &Namespace, service: &Gathered) -> bool {
    let replicas: i32 = service.workloads.iter().map(|workload| workload.replicas).sum();
    let covered = namespace.budgets.values().any(|budget| {
        !is_ours(budget, service)
            && !yields(budget, service)
            && service.workloads.iter().any(|workload| budget.covers(&workload.template_labels))
    });
    let serving = service.conclusion.here().state != Serving::NotServing;
    serving && replicas >= 2 && !covered && !namespace.terminating
}

/// Whether the budget belongs to a service that comes after this one by name: where both keep one for the same pods, the later one
/// goes, and never both.
fn yields(budget: &Budget, service: &Gathered) -> bool {
    budget
        .controller
        .as_ref()
        .is_some_and(|owner| owner.kind == "ServicePooling" && owner.name > service.pooling.key.name)
}

fn is_ours(budget: &Budget, service: &Gathered) -> bool {
    budget
        .controller
        .as_ref()
        .is_some_and(|owner| owner.kind == "ServicePooling" && owner.name == service.pooling.key.name)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::api::{self, ServicePooling};
    use jiff::Timestamp;
    use poolguard_policy::evidence::{Answer, Says, conclude};
    use poolguard_policy::selector::Selector;
    use poolguard_policy::state::{Kind, Owner, Placement, References, Replacement, Workload};

    fn service(says: Says, replicas: i32) -> Gathered {
        let resource: ServicePooling = serde_yaml_ng::from_str(
            "{apiVersion: poolguard.dev/v1alpha1, kind: ServicePooling, metadata: {name: pilot, namespace: space}, spec: \
             {selector: {matchLabels: {app: pilot}}, datacenters: [{name: eqiad}], evidence: [{name: e, conftool: {record: r}}]}}",
        )
        .expect("a resource");
        let pooling = api::pooling(&resource).expect("it converts");
        let answer = Answer {
            evidence: "e".to_owned(),
            datacenter: "eqiad".to_owned(),
            says,
            detail: String::new(),
            revision: None,
            since: None,
            not_serving_after: None,
            read: Timestamp::UNIX_EPOCH,
        };
        let conclusion = conclude("eqiad", &pooling, &[answer], Timestamp::UNIX_EPOCH);
        let workload = Workload {
            kind: Kind::Deployment,
            name: "pilot".to_owned(),
            controller: None,
            release: None,
            template_labels: [("app", "pilot")].into_iter().collect(),
            replicas,
            current: replicas,
            ready: replicas,
            first_ordinal: 0,
            replacement: Replacement::Gradual,
            never_up: false,
            references: References::default(),
            placement: Placement::default(),
        };
        Gathered {
            resource: Arc::new(resource),
            pooling,
            conclusion,
            workloads: vec![workload],
            uncovered: Vec::new(),
            drifts: Vec::new(),
            labelled: true,
            excluded: false,
            only_warns: false,
            overrides: Vec::new(),
            unreachable: Vec::new(),
        }
    }

    fn check(says: Says, replicas: i32, budgets: &[(&str, Option<&str>)]) -> Option<&'static str> {
        let gathered = [service(says, replicas)];
        let mut namespace = Namespace::default();
        for (name, owner) in budgets {
            let controller = owner.map(|owner| Owner { kind: "ServicePooling".to_owned(), name: owner.to_owned() });
            let selector = Some(Selector::labels([("app", "pilot")]));
            let budget = Budget { name: (*name).to_owned(), selector, controller, ..Budget::default() };
            namespace.budgets.insert((*name).to_owned(), budget);
        }
        let mut state = State::default();
        state.namespaces.insert("space".to_owned(), namespace);
        match decide(&state, &gathered).as_slice() {
            [] => None,
            [Action::Create(_)] => Some("create"),
            [Action::Remove(_)] => Some("remove"),
            _ => Some("several"),
        }
    }

    #[test]
    fn a_service_with_two_replicas_and_no_budget_gets_one() {
        assert_eq!(check(Says::Serving, 2, &[]), Some("create"));
        assert_eq!(check(Says::Serving, 2, &[("poolguard-pilot", Some("pilot"))]), None);
    }

    #[test]
    fn one_replica_gets_none_since_it_could_never_be_evicted() {
        assert_eq!(check(Says::Serving, 1, &[]), None);
        assert_eq!(check(Says::Serving, 1, &[("poolguard-pilot", Some("pilot"))]), Some("remove"));
    }

    #[test]
    fn ours_goes_as_soon_as_another_appears_or_the_service_is_depooled() {
        assert_eq!(check(Says::Serving, 2, &[("theirs", None)]), None);
        assert_eq!(check(Says::Serving, 2, &[("theirs", None), ("poolguard-pilot", Some("pilot"))]), Some("remove"));
        assert_eq!(check(Says::NotServing, 2, &[("poolguard-pilot", Some("pilot"))]), Some("remove"));
    }
}
