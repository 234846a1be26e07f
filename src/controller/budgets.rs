//! Which disruption budgets to keep: one for each service that serves here with two or more replicas and has none. Pure.
//!
//! Never two on one pod: the API server then fails every eviction. Ours goes as soon as another appears.
//!
//! Never over a pod whose controller cannot be scaled: the disruption controller then allows no eviction at all.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use poolguard_policy::evidence::State as Serving;
use poolguard_policy::state::{Budget, Namespace, State};

use super::gather::Gathered;

/// The label that the Job controller puts on its pods.
const JOB_NAME: &str = "batch.kubernetes.io/job-name";

/// What to do with our budget of one service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Action<'a> {
    /// Make it, or set right what it covers.
    Create(&'a Gathered),
    /// Remove it.
    Remove(&'a Gathered),
}

/// The name of our budget.
pub(super) fn name(service: &Gathered) -> String {
    format!("poolguard-{}", service.pooling.key.name)
}

/// The pods that our budget covers: those of the service, except pods of Jobs, which have no scale.
pub(super) fn selector(service: &Gathered) -> LabelSelector {
    let mut selector = service.resource.spec.selector.clone();
    selector.match_expressions.get_or_insert_default().push(LabelSelectorRequirement {
        key: JOB_NAME.to_owned(),
        operator: "DoesNotExist".to_owned(),
        values: None,
    });
    selector
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
        let ours = namespace.budgets.get(&name(service)).filter(|budget| is_ours(budget, service));
        match (ours, wanted(namespace, service)) {
            (Some(budget), true) if covers_what_it_should(budget, service) => None,
            (_, true) => Some(Action::Create(service)),
            (Some(_), false) => Some(Action::Remove(service)),
            (None, false) => None,
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
    let scalable = !namespace.has_daemons(&service.pooling.selector);
    // While an override is in force, every removal passes.
    let guarded = service.overrides.is_empty();
    serving && replicas >= 2 && scalable && guarded && !covered && !namespace.terminating
}

/// Whether our budget has the selector that it should have: the service's may have changed since.
fn covers_what_it_should(budget: &Budget, service: &Gathered) -> bool {
    budget.selector.is_some() && budget.selector == crate::api::selector(&selector(service)).ok()
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
    use poolguard_policy::overriding::Override;
    use poolguard_policy::selector::{Labels, Selector};
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
        let service = service(says, replicas);
        let right = crate::api::selector(&selector(&service)).expect("a selector");
        let budgets = budgets.iter().map(|(name, owner)| {
            let controller = owner.map(|owner| Owner { kind: "ServicePooling".to_owned(), name: owner.to_owned() });
            let selector = Some(right.clone());
            Budget { name: (*name).to_owned(), selector, controller, ..Budget::default() }
        });
        decided(service, budgets)
    }

    /// Our budget, with this selector.
    fn ours(selector: Selector) -> Budget {
        let controller = Some(Owner { kind: "ServicePooling".to_owned(), name: "pilot".to_owned() });
        Budget { name: "poolguard-pilot".to_owned(), selector: Some(selector), controller, ..Budget::default() }
    }

    fn decided(service: Gathered, budgets: impl IntoIterator<Item = Budget>) -> Option<&'static str> {
        let budgets = budgets.into_iter().map(|budget| (budget.name.clone(), budget)).collect();
        let workloads =
            service.workloads.iter().map(|known| ((known.kind, known.name.clone()), known.clone())).collect();
        let mut state = State::default();
        state.namespaces.insert("space".to_owned(), Namespace { budgets, workloads, ..Namespace::default() });
        match decide(&state, &[service]).as_slice() {
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

    #[test]
    fn it_covers_the_pods_of_the_service_but_none_of_a_job() {
        let covered = crate::api::selector(&selector(&service(Says::Serving, 2))).expect("a selector");
        let matches = |pairs: &[(&str, &str)]| covered.matches(&pairs.iter().copied().collect::<Labels>());
        assert!(matches(&[("app", "pilot"), ("pod-template-hash", "x")]));
        assert!(!matches(&[("app", "pilot"), ("batch.kubernetes.io/job-name", "migrate")]));
        assert!(!matches(&[("app", "other")]));
    }

    #[test]
    fn a_budget_that_covers_something_else_is_set_right_or_goes() {
        let old = || ours(Selector::labels([("app", "pilot")]));
        assert_eq!(decided(service(Says::Serving, 2), [old()]), Some("create"));
        assert_eq!(decided(service(Says::Serving, 2), [Budget { selector: None, ..old() }]), Some("create"));
        assert_eq!(decided(service(Says::Serving, 1), [old()]), Some("remove"));
    }

    #[test]
    fn a_service_with_a_daemonset_gets_none() {
        let of_nodes = || {
            let mut service = service(Says::Serving, 2);
            let daemons =
                Workload { kind: Kind::DaemonSet, name: "daemons".to_owned(), ..service.workloads[0].clone() };
            service.workloads.push(daemons);
            service
        };
        let right = crate::api::selector(&selector(&of_nodes())).expect("a selector");
        assert_eq!(decided(of_nodes(), []), None);
        assert_eq!(decided(of_nodes(), [ours(right)]), Some("remove"));
    }

    #[test]
    fn while_an_override_is_in_force_there_is_none() {
        let overridden = || {
            let glass = Override {
                name: "glass".to_owned(),
                service: "pilot".to_owned(),
                datacenter: "eqiad".to_owned(),
                requested_by: "somebody".to_owned(),
                because: "a reason".to_owned(),
                since: Timestamp::UNIX_EPOCH,
                until: Timestamp::MAX,
                terminating: false,
            };
            Gathered { overrides: vec![glass], ..service(Says::Serving, 2) }
        };
        let right = crate::api::selector(&selector(&overridden())).expect("a selector");
        assert_eq!(decided(overridden(), []), None);
        assert_eq!(decided(overridden(), [ours(right)]), Some("remove"));
    }
}
