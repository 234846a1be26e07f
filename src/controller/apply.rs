//! Writes what differs, and nothing else: status, labels, budgets, Events. Every write is server-side apply by one field
//! manager, or touches only what is ours.

use std::collections::{BTreeSet, HashMap};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use kube::runtime::events::{Recorder, Reporter};
use kube::{Client, Resource};
use poolguard_policy::pooling::Key;
use serde_json::json;

use super::budgets::{self, Action};
use super::events::{overridden, transitions};
use super::gather::{Gathered, Label, key};
use super::metrics::Metrics;
use crate::api::{FIELD_MANAGER, PROTECTED_LABEL, ServicePooling, ServicePoolingStatus};

/// Writes to the API server.
pub(super) struct Apply {
    client: Client,
    recorder: Recorder,
    metrics: Metrics,
    /// What was written last, for the time until the view has it too.
    written: HashMap<Key, (String, ServicePoolingStatus)>,
    /// The namespaces that were labelled by this replica.
    labelled: BTreeSet<String>,
}

impl Apply {
    pub(super) fn new(client: Client, metrics: Metrics) -> Self {
        let recorder = Recorder::new(client.clone(), Reporter::from("poolguard-controller"));
        Self { client, recorder, metrics, written: HashMap::new(), labelled: BTreeSet::new() }
    }

    /// The status as it is now, to the best of our knowledge.
    pub(super) fn status_before(&self, service: &Gathered) -> Option<ServicePoolingStatus> {
        let uid = service.resource.metadata.uid.as_deref().unwrap_or_default();
        match self.written.get(key(service)) {
            Some((of, status)) if of == uid => Some(status.clone()),
            _ => service.resource.status.clone(),
        }
    }

    /// Forgets services that are gone. Returns whether there were any: their metrics went, and the others' with them.
    pub(super) fn forget_all_but(&mut self, there: impl Fn(&Key) -> bool) -> bool {
        let before = self.written.len();
        self.written.retain(|known, _| there(known));
        let gone = self.written.len() != before;
        if gone {
            self.metrics.reset();
        }
        gone
    }

    /// Writes a status where it differs. Returns whether it failed.
    pub(super) async fn status(
        &mut self,
        service: &Gathered,
        before: Option<ServicePoolingStatus>,
        desired: ServicePoolingStatus,
        now: Timestamp,
    ) -> bool {
        self.metrics.set(service, before.as_ref(), &desired);
        if before.as_ref() == Some(&desired) {
            return false;
        }
        let Key { namespace, name } = key(service);
        let resources = Api::<ServicePooling>::namespaced(self.client.clone(), namespace);
        let patch = json!({
            "apiVersion": ServicePooling::api_version(&()), "kind": ServicePooling::kind(&()),
            "metadata": {"name": name, "uid": service.resource.metadata.uid}, "status": desired,
        });
        let params = PatchParams::apply(FIELD_MANAGER).force();
        if let Err(error) = resources.patch_status(name, &params, &Patch::Apply(&patch)).await {
            return self.failed("status", &format!("{namespace}/{name}"), &error);
        }
        let reference = service.resource.object_ref(&());
        for what in overridden(before.as_ref(), &desired, now) {
            self.metrics.glass(service, what.counted);
            if let Err(error) = self.recorder.publish(&what.event, &reference).await {
                self.failed("Event", &format!("{namespace}/{name}"), &error);
            }
        }
        for event in transitions(before.as_ref(), &desired) {
            if let Err(error) = self.recorder.publish(&event, &reference).await {
                self.failed("Event", &format!("{namespace}/{name}"), &error);
            }
        }
        let uid = service.resource.metadata.uid.clone().unwrap_or_default();
        self.written.insert(key(service).clone(), (uid, desired));
        false
    }

    /// Puts labels on namespaces and takes them off. Returns whether one failed.
    pub(super) async fn labels(&mut self, labels: &[Label]) -> bool {
        let namespaces = Api::<Namespace>::all(self.client.clone());
        let mut failed = false;
        for Label { namespace, protected } in labels {
            let value = protected.then_some("true");
            let patch = json!({"metadata": {"labels": {PROTECTED_LABEL: value}}});
            let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
            match namespaces.patch_metadata(namespace, &params, &Patch::Merge(&patch)).await {
                Ok(_) => {
                    tracing::info!(namespace, protected, "namespace label written");
                    // A namespace that bore it before has lost it to somebody else.
                    if *protected && !self.labelled.insert(namespace.clone()) {
                        self.metrics.repairs.with_label_values(&["namespaceLabel"]).inc();
                    } else if !protected {
                        self.labelled.remove(namespace);
                    }
                }
                Err(error) => failed |= self.failed("label of namespace", namespace, &error),
            }
        }
        failed
    }

    /// Makes and removes budgets. Returns whether one failed.
    pub(super) async fn budgets(&self, actions: &[Action<'_>]) -> bool {
        let mut failed = false;
        for action in actions {
            let (Action::Create(service) | Action::Remove(service)) = action;
            let namespace = &key(service).namespace;
            let name = budgets::name(service);
            let objects = Api::<PodDisruptionBudget>::namespaced(self.client.clone(), namespace);
            let written = match action {
                Action::Create(_) => {
                    let params = PatchParams::apply(FIELD_MANAGER).force();
                    objects.patch(&name, &params, &Patch::Apply(&budget(service, &name))).await.map(|_| ())
                }
                Action::Remove(_) => objects.delete(&name, &DeleteParams::default()).await.map(|_| ()),
            };
            match written {
                Ok(()) => tracing::info!(namespace, budget = name, "disruption budget written"),
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                Err(error) => failed |= self.failed("disruption budget", &name, &error),
            }
        }
        failed
    }

    fn failed(&self, what: &str, name: &str, error: &dyn std::fmt::Display) -> bool {
        self.metrics.errors.inc();
        tracing::warn!(what, name, error = %error, "cannot be written");
        true
    }
}

fn budget(service: &Gathered, name: &str) -> serde_json::Value {
    let owner = service.resource.controller_owner_ref(&()).map(|mut owner| {
        // Blocking the owner's deletion would need a right that the controller does not have.
        owner.block_owner_deletion = None;
        vec![owner]
    });
    json!({
        "apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
        "metadata": {
            "name": name, "namespace": key(service).namespace,
            "labels": {"app.kubernetes.io/managed-by": "poolguard"}, "ownerReferences": owner,
        },
        "spec": {"maxUnavailable": 1, "selector": budgets::selector(service)},
    })
}
