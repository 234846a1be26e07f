//! The one table of requests that could cut a service off: resource, verb, subresource, what it would do, and which requests
//! of that kind the API server need not send us.
//!
//! The webhook's registration, the chart and the tests derive from it. Every condition is CEL and runs in the API server, so
//! what it excludes goes on while the webhook is down. Never a wildcard, and never a condition that looks at more than the
//! fields that cut.
//!
//! Source: <https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/>.

/// What a request through a door would do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Effect {
    /// A pod goes.
    RemovePod,
    /// A pod is evicted.
    EvictPod,
    /// A pod's labels change.
    RelabelPod,
    /// A workload goes.
    RemoveWorkload,
    /// A workload's `replicas` change.
    ScaleWorkload,
    /// The nodes that a DaemonSet may use change.
    MoveDaemonSet,
    /// A Service goes.
    RemoveService,
    /// A Service's selector, type or ports change.
    ChangeService,
    /// An Ingress or HTTPRoute goes.
    RemoveRoute,
    /// What an Ingress or HTTPRoute leads to changes.
    ChangeRoute,
    /// Something that a pod template may name goes.
    RemoveReference,
    /// Something that only accompanies a release goes.
    RemoveAccompanying,
    /// What a disruption budget leaves changes.
    ChangeBudget,
    /// A Helm release is being uninstalled.
    RemoveRelease,
    /// A namespace goes.
    RemoveNamespace,
    /// A namespace loses the label that guards it.
    UnlabelNamespace,
    /// A `ServicePooling` goes.
    RemovePooling,
    /// The spec of a `ServicePooling` changes.
    ChangePooling,
    /// One of our CustomResourceDefinitions goes.
    RemoveDefinition,
    /// Somebody breaks the glass.
    CreateOverride,
}

/// The verb of a door, as `rules[].operations` writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Operation {
    /// `CREATE`
    Create,
    /// `UPDATE`
    Update,
    /// `DELETE`
    Delete,
}

impl Operation {
    /// As the API writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "CREATE",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
        }
    }
}

/// One kind of request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Door {
    /// The webhook entry that it belongs to.
    pub entry: &'static str,
    /// The API group; empty is the core group.
    pub group: &'static str,
    /// The API version.
    pub version: &'static str,
    /// The resource, with its subresource behind a slash.
    pub resource: &'static str,
    /// The kind of the object, for messages.
    pub kind: &'static str,
    /// The verb.
    pub operation: Operation,
    /// What it would do.
    pub effect: Effect,
}

impl Door {
    /// The door for a request, if there is one: of the table, or one `further` of the configuration. `subresource` is empty where
    /// there is none.
    pub fn find(
        further: &'static [Self],
        group: &str,
        resource: &str,
        subresource: &str,
        operation: &str,
        record: bool,
    ) -> Option<&'static Self> {
        DOORS.iter().chain(further).find(|door| {
            // The dearest comes last.
            (door.effect == Effect::RemoveRelease) == record
                && door.operation.as_str() == operation
                && door.group == group
                && {
                    let (name, sub) = door.resource.split_once('/').unwrap_or((door.resource, ""));
                    name == resource && sub == subresource
                }
        })
    }

    /// Whether the request only removes something from view, so that nothing of it remains: a `DELETE`.
    pub fn is_delete(&self) -> bool {
        self.operation == Operation::Delete
    }
}

/// A CEL expression that must be true for a request to be sent to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Condition {
    /// Its name, unique within an entry.
    pub name: &'static str,
    /// The expression.
    pub expression: &'static str,
}

/// Which namespaces an entry is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Selection {
    /// Objects in namespaces that bear the label. The selector sees the namespace, which only whoever may edit it changes.
    ProtectedNamespaces,
    /// The namespace object itself bears the label, before or after: a namespaceSelector would see only the new labels.
    ProtectedObject,
    /// Everywhere; a condition narrows it.
    Everywhere,
}

/// One entry of the `ValidatingWebhookConfiguration`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// The first part of its name; `.poolguard.dev` follows.
    pub name: &'static str,
    /// Which objects it is about.
    pub selection: Selection,
    /// Whether requests fail while no webhook answers.
    pub fails_closed: bool,
    /// Whether its resources are cluster-scoped.
    pub cluster_scoped: bool,
    /// All must hold.
    pub conditions: &'static [Condition],
}

const fn when(name: &'static str, expression: &'static str) -> Condition {
    Condition { name, expression }
}

/// An object that is already going can only go once.
const NOT_GOING: Condition = when("not-already-going", "!has(oldObject.metadata.deletionTimestamp)");

/// The namespace controller works only in terminating namespaces, whose own deletion was judged. Under the
/// controller-manager's single identity it is told from the garbage collector by naming nothing.
const NOT_NAMESPACE_CONTROLLER: Condition = when(
    "not-the-namespace-controller",
    "!(request.userInfo.username == 'system:serviceaccount:kube-system:namespace-controller' || \
     (request.userInfo.username == 'system:kube-controller-manager' && (!has(request.name) || request.name == '')))",
);

/// Pods fall by these when something else fell before, which was judged, or when a node did.
const NOT_POD_CONTROLLERS: Condition = when(
    "not-a-controller-at-work",
    "!(request.userInfo.username in ['system:kube-controller-manager', 'system:kube-scheduler', \
     'system:serviceaccount:kube-system:replicaset-controller', \
     'system:serviceaccount:kube-system:replication-controller', \
     'system:serviceaccount:kube-system:statefulset-controller', \
     'system:serviceaccount:kube-system:daemon-set-controller', \
     'system:serviceaccount:kube-system:job-controller', \
     'system:serviceaccount:kube-system:pod-garbage-collector', \
     'system:serviceaccount:kube-system:node-controller', \
     'system:serviceaccount:kube-system:taint-eviction-controller', \
     'system:serviceaccount:kube-system:device-taint-eviction-controller', \
     'system:serviceaccount:kube-system:namespace-controller']) && \
     !request.userInfo.username.startsWith('system:node:')",
);

/// The garbage collector takes pods whose owner went. Where the owner is a workload, its removal was judged; where it is
/// anything else, nobody was asked, and these pods are where it can be stopped.
const NOT_COLLECTED: Condition = when(
    "not-after-its-workload",
    "request.userInfo.username != 'system:serviceaccount:kube-system:generic-garbage-collector' || \
     !has(oldObject.metadata.ownerReferences) || \
     !oldObject.metadata.ownerReferences.exists(owner, has(owner.controller) && owner.controller && \
     owner.apiVersion in ['apps/v1', 'v1', 'batch/v1'] && owner.kind in \
     ['ReplicaSet', 'ReplicationController', 'StatefulSet', 'DaemonSet', 'Job'])",
);

/// Rollouts scale and prune ReplicaSets; the garbage collector takes those whose Deployment went, which was judged.
const NOT_REPLICASET_CONTROLLERS: Condition = when(
    "not-a-rollout",
    "!(request.resource.resource == 'replicasets' && \
     (request.userInfo.username in ['system:kube-controller-manager', \
     'system:serviceaccount:kube-system:deployment-controller'] || \
     (request.userInfo.username == 'system:serviceaccount:kube-system:generic-garbage-collector' && \
     has(oldObject.metadata.ownerReferences) && oldObject.metadata.ownerReferences.exists(owner, \
     has(owner.controller) && owner.controller && owner.apiVersion == 'apps/v1' && owner.kind == 'Deployment'))))",
);

const NOT_FINISHED: Condition = when(
    "not-finished",
    "!has(oldObject.status) || !has(oldObject.status.phase) || !(oldObject.status.phase in ['Succeeded', 'Failed'])",
);

/// A pod that is not ready gets no requests. A lost heartbeat clears `Ready` alone.
const MAY_SERVE: Condition = when(
    "may-serve",
    "has(oldObject.status) && has(oldObject.status.conditions) && oldObject.status.conditions.exists(condition, \
     condition.type in ['Ready', 'ContainersReady'] && condition.status == 'True')",
);

const NOT_OF_A_JOB: Condition = when(
    "not-of-a-job",
    "!has(oldObject.metadata.ownerReferences) || \
     !oldObject.metadata.ownerReferences.exists(owner, owner.apiVersion == 'batch/v1' && owner.kind == 'Job' && has(owner.controller) && owner.controller)",
);

/// An old ReplicaSet, a workload that was scaled down before: nothing of it can serve.
const NOT_AT_ZERO: Condition = when(
    "not-at-zero",
    "!(has(oldObject.spec.replicas) && oldObject.spec.replicas == 0 && \
     (!has(oldObject.status) || !has(oldObject.status.replicas) || oldObject.status.replicas == 0))",
);

const LABELS_CHANGED: Condition = when(
    "labels-changed",
    "(has(object.metadata.labels) ? object.metadata.labels : {}) != \
     (has(oldObject.metadata.labels) ? oldObject.metadata.labels : {})",
);

/// `replicas` absent means 1 here. A StatefulSet loses its highest ordinals, or, when its first one moves up, its lowest: these
/// may be the only Ready ones.
const REPLICAS_CUT: Condition = when(
    "replicas-cut",
    "((has(object.spec.replicas) ? object.spec.replicas : 1) < (has(oldObject.spec.replicas) ? oldObject.spec.replicas : 1) \
     && (request.resource.resource == 'statefulsets' || (has(object.spec.replicas) && object.spec.replicas == 0))) || \
     (request.resource.resource == 'statefulsets' && \
     (has(object.spec.ordinals) && has(object.spec.ordinals.start) ? object.spec.ordinals.start : 0) != \
     (has(oldObject.spec.ordinals) && has(oldObject.spec.ordinals.start) ? oldObject.spec.ordinals.start : 0))",
);

/// In a `Scale`, `replicas` absent means 0.
const SCALE_CUT: Condition = when(
    "replicas-cut",
    "!has(object.spec) || !has(object.spec.replicas) || object.spec.replicas == 0 || \
     (request.resource.resource == 'statefulsets' && \
     request.userInfo.username != 'system:serviceaccount:kube-system:horizontal-pod-autoscaler' && \
     has(oldObject.spec) && has(oldObject.spec.replicas) && object.spec.replicas < oldObject.spec.replicas)",
);

const PLACEMENT_CHANGED: Condition = when(
    "placement-changed",
    "(has(object.spec.template.spec.nodeSelector) ? object.spec.template.spec.nodeSelector : {}) != \
     (has(oldObject.spec.template.spec.nodeSelector) ? oldObject.spec.template.spec.nodeSelector : {}) || \
     (has(object.spec.template.spec.affinity) ? object.spec.template.spec.affinity : {}) != \
     (has(oldObject.spec.template.spec.affinity) ? oldObject.spec.template.spec.affinity : {})",
);

const SERVICE_CHANGED: Condition = when(
    "selector-type-or-ports-changed",
    "(has(object.spec.selector) ? object.spec.selector : {}) != \
     (has(oldObject.spec.selector) ? oldObject.spec.selector : {}) || \
     (has(object.spec.type) ? object.spec.type : '') != (has(oldObject.spec.type) ? oldObject.spec.type : '') || \
     (has(object.spec.ports) ? object.spec.ports : []) != (has(oldObject.spec.ports) ? oldObject.spec.ports : [])",
);

const ROUTE_CHANGED: Condition = when(
    "backends-changed",
    "(has(object.spec.rules) ? object.spec.rules : []) != (has(oldObject.spec.rules) ? oldObject.spec.rules : []) || \
     (has(object.spec.defaultBackend) ? object.spec.defaultBackend : {}) != \
     (has(oldObject.spec.defaultBackend) ? oldObject.spec.defaultBackend : {}) || \
     (has(object.spec.ingressClassName) ? object.spec.ingressClassName : '') != \
     (has(oldObject.spec.ingressClassName) ? oldObject.spec.ingressClassName : '') || \
     (has(object.spec.hostnames) ? object.spec.hostnames : []) != \
     (has(oldObject.spec.hostnames) ? oldObject.spec.hostnames : []) || \
     (has(object.spec.parentRefs) ? object.spec.parentRefs : []) != \
     (has(oldObject.spec.parentRefs) ? oldObject.spec.parentRefs : [])",
);

const NOT_A_RECORD: Condition = when(
    "not-a-release-record",
    "!(has(oldObject.metadata.labels) && 'owner' in oldObject.metadata.labels && \
     oldObject.metadata.labels.owner == 'helm' && oldObject.metadata.name.startsWith('sh.helm.release.v1.'))",
);

/// The controllers that take tokens of ServiceAccounts away when these are gone or nobody uses them.
const NOT_TOKEN_CONTROLLERS: Condition = when(
    "not-a-token-that-expired",
    "!(has(oldObject.type) && oldObject.type == 'kubernetes.io/service-account-token' && \
     request.userInfo.username in ['system:kube-controller-manager', \
     'system:serviceaccount:kube-system:legacy-service-account-token-cleaner'])",
);

const A_RECORD: Condition = when(
    "a-release-record",
    "has(oldObject.metadata.labels) && 'owner' in oldObject.metadata.labels && \
     oldObject.metadata.labels.owner == 'helm' && oldObject.metadata.name.startsWith('sh.helm.release.v1.')",
);

/// Superseded and failed records are pruned by every upgrade, and a stuck `pending-*` one is repaired by deleting it.
const RECORD_CUT: Condition = when(
    "being-uninstalled",
    "request.operation == 'DELETE' ? \
     ('status' in oldObject.metadata.labels && oldObject.metadata.labels.status in ['deployed', 'uninstalling']) : \
     (has(object.metadata.labels) && 'status' in object.metadata.labels && object.metadata.labels.status == 'uninstalling')",
);

const OF_A_RELEASE: Condition = when(
    "of-a-release",
    "has(oldObject.metadata.annotations) && 'meta.helm.sh/release-name' in oldObject.metadata.annotations",
);

const FLOOR_CHANGED: Condition = when(
    "floor-changed",
    "(has(object.spec.minAvailable) ? string(object.spec.minAvailable) : '') != \
     (has(oldObject.spec.minAvailable) ? string(oldObject.spec.minAvailable) : '') || \
     (has(object.spec.maxUnavailable) ? string(object.spec.maxUnavailable) : '') != \
     (has(oldObject.spec.maxUnavailable) ? string(oldObject.spec.maxUnavailable) : '')",
);

const DELETED_OR_UNLABELLED: Condition = when(
    "deleted-or-unlabelled",
    "request.operation == 'DELETE' || (has(oldObject.metadata.labels) && \
     'poolguard.dev/protected' in oldObject.metadata.labels && \
     oldObject.metadata.labels['poolguard.dev/protected'] == 'true' && \
     !(has(object.metadata.labels) && 'poolguard.dev/protected' in object.metadata.labels && \
     object.metadata.labels['poolguard.dev/protected'] == 'true'))",
);

/// Writing the label off a namespace that is going anyway is still an update of a namespace whose pods may run.
const NOT_GOING_TWICE: Condition =
    when("not-already-going", "request.operation != 'DELETE' || !has(oldObject.metadata.deletionTimestamp)");

const SPEC_CHANGED: Condition =
    when("deleted-or-changed", "request.operation == 'DELETE' || object.spec != oldObject.spec");

const OUR_DEFINITION: Condition = when(
    "our-definition",
    "oldObject.metadata.name in ['servicepoolings.poolguard.dev', 'poolingoverrides.poolguard.dev']",
);

const fn guarded(name: &'static str, conditions: &'static [Condition]) -> Entry {
    Entry { name, selection: Selection::ProtectedNamespaces, fails_closed: true, cluster_scoped: false, conditions }
}

/// The entries of the webhook configuration, in their order.
pub const ENTRIES: &[Entry] = &[
    guarded("pods", &[NOT_GOING, NOT_FINISHED, MAY_SERVE, NOT_OF_A_JOB, NOT_POD_CONTROLLERS, NOT_COLLECTED]),
    // The API server's own budget check is the guard while we are down.
    Entry {
        name: "evictions",
        selection: Selection::ProtectedNamespaces,
        fails_closed: false,
        cluster_scoped: false,
        conditions: &[],
    },
    guarded("pod-labels", &[LABELS_CHANGED, NOT_FINISHED, MAY_SERVE, NOT_OF_A_JOB]),
    guarded("workloads", &[NOT_GOING, NOT_AT_ZERO, NOT_NAMESPACE_CONTROLLER, NOT_REPLICASET_CONTROLLERS]),
    guarded("replicas", &[REPLICAS_CUT, NOT_REPLICASET_CONTROLLERS]),
    guarded("scales", &[SCALE_CUT]),
    guarded("placement", &[PLACEMENT_CHANGED]),
    guarded("services", &[NOT_GOING, NOT_NAMESPACE_CONTROLLER]),
    guarded("service-changes", &[SERVICE_CHANGED]),
    guarded("routes", &[NOT_GOING, NOT_NAMESPACE_CONTROLLER]),
    guarded("route-changes", &[ROUTE_CHANGED]),
    guarded("references", &[NOT_GOING, NOT_NAMESPACE_CONTROLLER, NOT_A_RECORD, NOT_TOKEN_CONTROLLERS]),
    guarded("releases", &[A_RECORD, RECORD_CUT, NOT_NAMESPACE_CONTROLLER]),
    guarded("accompanying", &[NOT_GOING, NOT_NAMESPACE_CONTROLLER, OF_A_RELEASE]),
    guarded("budgets", &[FLOOR_CHANGED]),
    Entry {
        name: "namespaces",
        selection: Selection::ProtectedObject,
        fails_closed: true,
        cluster_scoped: true,
        conditions: &[DELETED_OR_UNLABELLED, NOT_GOING_TWICE],
    },
    Entry {
        name: "poolings",
        selection: Selection::Everywhere,
        fails_closed: true,
        cluster_scoped: false,
        conditions: &[SPEC_CHANGED, NOT_GOING_TWICE, NOT_NAMESPACE_CONTROLLER],
    },
    Entry {
        name: "overrides",
        selection: Selection::Everywhere,
        fails_closed: true,
        cluster_scoped: false,
        conditions: &[],
    },
    Entry {
        name: "definitions",
        selection: Selection::Everywhere,
        fails_closed: true,
        cluster_scoped: true,
        conditions: &[OUR_DEFINITION, NOT_GOING],
    },
];

const fn door(
    entry: &'static str,
    api: (&'static str, &'static str),
    resource: &'static str,
    kind: &'static str,
    operation: Operation,
    effect: Effect,
) -> Door {
    Door { entry, group: api.0, version: api.1, resource, kind, operation, effect }
}

const CORE: (&str, &str) = ("", "v1");
const APPS: (&str, &str) = ("apps", "v1");
const NETWORKING: (&str, &str) = ("networking.k8s.io", "v1");
const GATEWAY: (&str, &str) = ("gateway.networking.k8s.io", "v1");
const POLICY: (&str, &str) = ("policy", "v1");
const RBAC: (&str, &str) = ("rbac.authorization.k8s.io", "v1");

/// The doors of a custom workload: a kind with pods of a template, `replicas` and a subresource `scale`.
pub fn custom(
    api: (&'static str, &'static str),
    resource: &'static str,
    scale: &'static str,
    kind: &'static str,
) -> [Door; 3] {
    [
        door("workloads", api, resource, kind, Operation::Delete, Effect::RemoveWorkload),
        door("replicas", api, resource, kind, Operation::Update, Effect::ScaleWorkload),
        door("scales", api, scale, kind, Operation::Update, Effect::ScaleWorkload),
    ]
}

/// Every door.
pub const DOORS: &[Door] = {
    use Effect as E;
    use Operation::{Create, Delete, Update};
    &[
        door("pods", CORE, "pods", "Pod", Delete, E::RemovePod),
        door("evictions", CORE, "pods/eviction", "Pod", Create, E::EvictPod),
        door("pod-labels", CORE, "pods", "Pod", Update, E::RelabelPod),
        door("pod-labels", CORE, "pods/status", "Pod", Update, E::RelabelPod),
        door("workloads", APPS, "deployments", "Deployment", Delete, E::RemoveWorkload),
        door("workloads", APPS, "statefulsets", "StatefulSet", Delete, E::RemoveWorkload),
        door("workloads", APPS, "daemonsets", "DaemonSet", Delete, E::RemoveWorkload),
        door("workloads", APPS, "replicasets", "ReplicaSet", Delete, E::RemoveWorkload),
        door("workloads", CORE, "replicationcontrollers", "ReplicationController", Delete, E::RemoveWorkload),
        door("replicas", APPS, "deployments", "Deployment", Update, E::ScaleWorkload),
        door("replicas", APPS, "statefulsets", "StatefulSet", Update, E::ScaleWorkload),
        door("replicas", APPS, "replicasets", "ReplicaSet", Update, E::ScaleWorkload),
        door("replicas", CORE, "replicationcontrollers", "ReplicationController", Update, E::ScaleWorkload),
        door("scales", APPS, "deployments/scale", "Deployment", Update, E::ScaleWorkload),
        door("scales", APPS, "statefulsets/scale", "StatefulSet", Update, E::ScaleWorkload),
        door("scales", APPS, "replicasets/scale", "ReplicaSet", Update, E::ScaleWorkload),
        door("scales", CORE, "replicationcontrollers/scale", "ReplicationController", Update, E::ScaleWorkload),
        door("placement", APPS, "daemonsets", "DaemonSet", Update, E::MoveDaemonSet),
        door("services", CORE, "services", "Service", Delete, E::RemoveService),
        door("service-changes", CORE, "services", "Service", Update, E::ChangeService),
        door("routes", NETWORKING, "ingresses", "Ingress", Delete, E::RemoveRoute),
        door("routes", GATEWAY, "httproutes", "HTTPRoute", Delete, E::RemoveRoute),
        door("route-changes", NETWORKING, "ingresses", "Ingress", Update, E::ChangeRoute),
        door("route-changes", GATEWAY, "httproutes", "HTTPRoute", Update, E::ChangeRoute),
        door("references", CORE, "configmaps", "ConfigMap", Delete, E::RemoveReference),
        door("references", CORE, "secrets", "Secret", Delete, E::RemoveReference),
        door("references", CORE, "serviceaccounts", "ServiceAccount", Delete, E::RemoveReference),
        door("references", CORE, "persistentvolumeclaims", "PersistentVolumeClaim", Delete, E::RemoveReference),
        door("releases", CORE, "secrets", "Helm release", Update, E::RemoveRelease),
        door("releases", CORE, "secrets", "Helm release", Delete, E::RemoveRelease),
        door("releases", CORE, "configmaps", "Helm release", Update, E::RemoveRelease),
        door("releases", CORE, "configmaps", "Helm release", Delete, E::RemoveRelease),
        door(
            "accompanying",
            ("autoscaling", "v2"),
            "horizontalpodautoscalers",
            "HorizontalPodAutoscaler",
            Delete,
            E::RemoveAccompanying,
        ),
        door("accompanying", POLICY, "poddisruptionbudgets", "PodDisruptionBudget", Delete, E::RemoveAccompanying),
        door("accompanying", NETWORKING, "networkpolicies", "NetworkPolicy", Delete, E::RemoveAccompanying),
        door("accompanying", RBAC, "roles", "Role", Delete, E::RemoveAccompanying),
        door("accompanying", RBAC, "rolebindings", "RoleBinding", Delete, E::RemoveAccompanying),
        door("budgets", POLICY, "poddisruptionbudgets", "PodDisruptionBudget", Update, E::ChangeBudget),
        door("namespaces", CORE, "namespaces", "Namespace", Delete, E::RemoveNamespace),
        door("namespaces", CORE, "namespaces", "Namespace", Update, E::UnlabelNamespace),
        door("namespaces", CORE, "namespaces/status", "Namespace", Update, E::UnlabelNamespace),
        door("namespaces", CORE, "namespaces/finalize", "Namespace", Update, E::UnlabelNamespace),
        door("poolings", ("poolguard.dev", "v1alpha1"), "servicepoolings", "ServicePooling", Delete, E::RemovePooling),
        door("poolings", ("poolguard.dev", "v1alpha1"), "servicepoolings", "ServicePooling", Update, E::ChangePooling),
        door(
            "overrides",
            ("poolguard.dev", "v1alpha1"),
            "poolingoverrides",
            "PoolingOverride",
            Create,
            E::CreateOverride,
        ),
        door(
            "definitions",
            ("apiextensions.k8s.io", "v1"),
            "customresourcedefinitions",
            "CustomResourceDefinition",
            Delete,
            E::RemoveDefinition,
        ),
    ]
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_door_belongs_to_an_entry_and_every_entry_has_a_door() {
        for door in DOORS {
            assert!(ENTRIES.iter().any(|entry| entry.name == door.entry), "{} has no entry", door.resource);
        }
        for entry in ENTRIES {
            assert!(DOORS.iter().any(|door| door.entry == entry.name), "{} has no door", entry.name);
        }
    }

    #[test]
    fn every_door_is_found_by_its_own_words_and_no_two_are_alike() {
        for door in DOORS {
            let (resource, subresource) = door.resource.split_once('/').unwrap_or((door.resource, ""));
            let record = door.effect == Effect::RemoveRelease;
            let found = Door::find(&[], door.group, resource, subresource, door.operation.as_str(), record);
            assert_eq!(found, Some(door));
        }
    }

    #[test]
    fn no_door_has_a_wildcard() {
        for door in DOORS {
            assert!(!format!("{door:?}").contains('*'));
        }
    }

    #[test]
    fn only_evictions_go_on_while_the_webhook_is_down() {
        let open: Vec<_> = ENTRIES.iter().filter(|entry| !entry.fails_closed).map(|entry| entry.name).collect();
        assert_eq!(open, ["evictions"]);
    }
}
