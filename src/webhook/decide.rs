//! Drives the pure decision: hands it the view, and fetches what it asks for, until it decides.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use jiff::Timestamp;
use kube::api::Api;
use kube::{Client, Resource};
use poolguard_policy::evidence::{Answer, Conclusion, Says};
use poolguard_policy::given::{Known, Settings};
use poolguard_policy::guarded::{Live, WorkloadRef};
use poolguard_policy::overriding::{Override, OverrideRef};
use poolguard_policy::pooling::{Key, Pooling, Watched};
use poolguard_policy::request::{Body, Request};
use poolguard_policy::rules::decide;
use poolguard_policy::state::{Kind, State, Workload};
use poolguard_policy::verdict::Decision;
use serde::de::DeserializeOwned;
use tracing::Instrument;
use tracing::field::Empty;

use super::flights::Flights;
use super::line::{Seen, seen};
use crate::api::{self, PoolingOverride};
use crate::cluster::View;
use crate::cluster::slim::{
    SlimCustom, WatchedCustom, WatchedDaemonSet, WatchedDeployment, WatchedReplicaSet, WatchedReplicationController,
    WatchedStatefulSet,
};
use crate::config::CustomKind;
use crate::observe::Sources;

/// How long reading one workload may take: well under the webhook's own time-out.
const READ: Duration = Duration::from_secs(2);
/// The decision asks for workloads, then for overrides, then for evidence; more rounds would be a mistake of ours.
const ROUNDS: usize = 6;

/// A decision, and what it saw.
pub(super) struct Judged {
    /// Final: neither `Ask` nor `Read` nor `Confirm`.
    pub(super) decision: Decision,
    /// The evidence of a refusal; nothing where it rests on none.
    pub(super) seen: Vec<Seen>,
}

/// What is not known and must be.
enum Wanted {
    Ask(Vec<(Key, Question)>),
    Read(Vec<WorkloadRef>),
    Confirm(Vec<OverrideRef>),
}

/// What is to be known of a service.
enum Question {
    /// It was asked a moment ago, and the answer refuses.
    Answered(Arc<Conclusion>),
    /// It is asked.
    New(Box<Pooling>),
}

impl From<Decision> for Judged {
    fn from(decision: Decision) -> Self {
        Self { decision, seen: Vec::new() }
    }
}

/// Decides about requests.
pub(super) struct Judge {
    view: Arc<View>,
    flights: Flights,
    settings: Settings,
    custom: Vec<CustomKind>,
    client: Client,
}

impl Judge {
    pub(super) fn new(
        view: Arc<View>,
        sources: Arc<Sources>,
        settings: Settings,
        custom: Vec<CustomKind>,
        client: Client,
    ) -> Self {
        Self { view, flights: Flights::new(sources), settings, custom, client }
    }

    /// This datacenter.
    pub(super) fn here(&self) -> &str {
        &self.settings.here
    }

    /// Decides.
    pub(super) async fn judge(&self, request: &Request) -> Judged {
        if let Some(doubts) = self.view.doubts() {
            return Decision::Fault(format!("the view of the cluster is not current: {doubts}")).into();
        }
        let (mut conclusions, mut live, mut overrides) = (BTreeMap::new(), Live::new(), BTreeMap::new());
        for _ in 0..ROUNDS {
            let known = Known { conclusions: &conclusions, live: &live, overrides: &overrides };
            let wanted = match self.look(request, known) {
                ControlFlow::Break(judged) => return judged,
                ControlFlow::Continue(wanted) => wanted,
            };
            match wanted {
                Wanted::Ask(questions) => {
                    let keys: Vec<Key> = questions.iter().map(|(key, _)| key.clone()).collect();
                    let asked = questions.into_iter().map(|(key, question)| self.conclude(key, question));
                    conclusions.extend(keys.into_iter().zip(join_all(asked).await));
                }
                Wanted::Read(references) => {
                    for reference in references {
                        match within("a workload", self.read(&reference)).await {
                            Ok(workload) => drop(live.insert(reference, workload)),
                            Err(fault) => return fault.into(),
                        }
                    }
                }
                Wanted::Confirm(references) => {
                    for reference in references {
                        match within("an override", self.confirm(&reference)).await {
                            Ok(glass) => drop(overrides.insert(reference, glass)),
                            Err(fault) => return fault.into(),
                        }
                    }
                }
            }
        }
        Decision::Fault("the decision kept asking".to_owned()).into()
    }

    /// Whether there is a `ServicePooling` of this name, decoded or not.
    pub(super) fn knows(&self, service: &Key) -> bool {
        let state = self.view.read();
        state.namespace(&service.namespace).is_some_and(|namespace| namespace.poolings.contains_key(&service.name))
    }

    /// What can be said without waiting.
    fn look(&self, request: &Request, known: Known<'_>) -> ControlFlow<Judged, Wanted> {
        let (state, now) = (self.view.read(), Timestamp::now());
        match decide(request, &state, &self.settings, known, now) {
            Decision::Ask(keys) => {
                let question = |key: Key| {
                    let pooling = pooling(request, &state, &key)?;
                    let refused = self.flights.refused(pooling);
                    Some((key, refused.map_or_else(|| Question::New(Box::new(pooling.clone())), Question::Answered)))
                };
                ControlFlow::Continue(Wanted::Ask(keys.into_iter().filter_map(question).collect()))
            }
            Decision::Read(references) => ControlFlow::Continue(Wanted::Read(references)),
            Decision::Confirm(references) => ControlFlow::Continue(Wanted::Confirm(references)),
            Decision::Refuse(refusal) => {
                let service = &refusal.service;
                let seen = match (pooling(request, &state, service), known.conclusions.get(service)) {
                    (Some(pooling), Some(conclusion)) => seen(pooling, conclusion, now),
                    _ => Vec::new(),
                };
                ControlFlow::Break(Judged { decision: Decision::Refuse(refusal), seen })
            }
            decided => ControlFlow::Break(decided.into()),
        }
    }

    /// Asks about a service. Where a source itself does not know since when nothing can be told, status may.
    async fn conclude(&self, key: Key, question: Question) -> Arc<Conclusion> {
        let resource = self.view.resource(&key);
        let status = resource.as_ref().and_then(|known| known.status.as_ref());
        let span = tracing::info_span!("evidence", service = %key, state = Empty, reused = Empty);
        let mut conclusion = match question {
            Question::Answered(conclusion) => {
                span.record("reused", true);
                conclusion
            }
            Question::New(pooling) => {
                let remembered = api::remembered(status);
                self.flights.conclude(&pooling, &remembered).instrument(span.clone()).await
            }
        };
        span.record("state", conclusion.here().state.as_str());
        let untold = |answer: &Answer| matches!(answer.says, Says::Unknown(_)) && answer.since.is_none();
        if conclusion.here().answers.iter().any(untold)
            && let Some(since) = api::unknown_since(status)
        {
            let datacenters = &mut Arc::make_mut(&mut conclusion).datacenters;
            let here = datacenters.iter_mut().filter(|datacenter| datacenter.name == self.settings.here);
            for answer in here.flat_map(|datacenter| &mut datacenter.answers).filter(|answer| untold(answer)) {
                answer.since = Some(since);
            }
        }
        conclusion
    }

    async fn confirm(&self, reference: &OverrideRef) -> Result<Option<Override>, kube::Error> {
        let objects = Api::<PoolingOverride>::namespaced(self.client.clone(), &reference.namespace);
        let found = objects.get_opt(&reference.name).await?;
        Ok(found.and_then(|resource| api::pooling_override(&resource).ok()))
    }

    async fn read(&self, reference: &WorkloadRef) -> Result<Option<Workload>, kube::Error> {
        match reference.kind {
            Kind::Deployment => self.get::<WatchedDeployment>(reference).await,
            Kind::StatefulSet => self.get::<WatchedStatefulSet>(reference).await,
            Kind::DaemonSet => self.get::<WatchedDaemonSet>(reference).await,
            Kind::ReplicaSet => self.get::<WatchedReplicaSet>(reference).await,
            Kind::ReplicationController => self.get::<WatchedReplicationController>(reference).await,
            Kind::Custom(kind) => {
                let Some(custom) = self.custom.iter().find(|custom| custom.kind == kind) else { return Ok(None) };
                let objects = Api::<WatchedCustom>::namespaced_with(
                    self.client.clone(),
                    &reference.namespace,
                    &custom.api_resource(),
                );
                let found = objects.get_opt(&reference.name).await?;
                Ok(found.map(|object| SlimCustom::from(object).workload(reference.kind)))
            }
        }
    }

    async fn get<K>(&self, reference: &WorkloadRef) -> Result<Option<Workload>, kube::Error>
    where
        K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
            + DeserializeOwned
            + Clone
            + std::fmt::Debug
            + Into<Workload>,
    {
        let objects = Api::<K>::namespaced(self.client.clone(), &reference.namespace);
        Ok(objects.get_opt(&reference.name).await?.map(Into::into))
    }
}

/// The spec to ask about: of a `ServicePooling` under review the old one, else what the view holds.
fn pooling<'a>(request: &'a Request, state: &'a State, key: &Key) -> Option<&'a Pooling> {
    if let Some(Body::Pooling(Ok(old))) = request.old.as_ref().map(|object| &object.body)
        && old.key == *key
    {
        return Some(old);
    }
    match state.namespace(&key.namespace)?.poolings.get(&key.name)? {
        Watched::Known(pooling) => Some(pooling),
        Watched::Undecodable { .. } => None,
    }
}

/// Reads one thing of the API server, in time.
async fn within<T>(what: &str, reading: impl Future<Output = Result<T, kube::Error>>) -> Result<T, Decision> {
    match tokio::time::timeout(READ, reading).await {
        Ok(Ok(read)) => Ok(read),
        Ok(Err(error)) => Err(Decision::Fault(format!("cannot read {what}: {error}"))),
        Err(_) => Err(Decision::Fault(format!("reading {what} took too long"))),
    }
}
