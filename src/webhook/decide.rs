//! Drives the pure decision: hands it the view, and fetches what it asks for, until it decides.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::{BoxFuture, join_all};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, ListParams};
use kube::{Client, Resource};
use poolguard_policy::doors::Effect;
use poolguard_policy::evidence::{Answer, Conclusion, Says};
use poolguard_policy::given::{Known, Settings};
use poolguard_policy::guarded::{Live, WorkloadRef};
use poolguard_policy::overriding::{Override, OverrideRef};
use poolguard_policy::pooling::{Enforcement, Key, Pooling, Watched};
use poolguard_policy::request::{Body, Request};
use poolguard_policy::rules::decide;
use poolguard_policy::state::{Kind, State, Workload};
use poolguard_policy::verdict::{Allowed, Decision, Reason, Refusal};
use poolguard_policy::words::plain;
use serde::de::DeserializeOwned;
use tracing::Instrument;
use tracing::field::Empty;

use super::flights::{Flights, Void, refuses};
use super::line::{Seen, seen};
use super::stored::{AGAIN, passing, stored};
use crate::api::{self, PoolingOverride, ServicePooling};
use crate::cluster::View;
use crate::cluster::slim::{
    SlimCustom, WatchedCustom, WatchedDaemonSet, WatchedDeployment, WatchedReplicaSet, WatchedReplicationController,
    WatchedStatefulSet,
};
use crate::config::CustomKind;
use crate::observe::Sources;
use crate::runtime::hedged::hedged;

/// How long reading one thing of the API server may take: well under the webhook's own time-out.
const READ: Duration = Duration::from_secs(2);
/// How long the watch of `ServicePooling`s is waited for, where another one is stored than it has told.
const CATCH_UP: Duration = Duration::from_secs(1);
/// How often it is looked whether it has.
const LOOK: Duration = Duration::from_millis(20);
/// How long a decision may take in all: less than the API server waits by default, so that it is told why.
const DEADLINE: Duration = Duration::from_secs(9);
/// The decision asks for workloads, then for overrides, then for evidence, which is looked at again; and all of it once more where a
/// `ServicePooling` changes meanwhile. More rounds would be a mistake of ours.
const ROUNDS: usize = 10;

/// A decision, and what it saw.
pub(super) struct Judged {
    /// Final: neither `Ask` nor `Read` nor `Confirm` nor `Search`.
    pub(super) decision: Decision,
    /// The evidence of a refusal; nothing where it rests on none.
    pub(super) seen: Vec<Seen>,
}

/// What is not known and must be.
enum Wanted {
    Ask(Vec<Question>),
    Verify(Vec<Pooling>),
    Read(Vec<WorkloadRef>),
    Confirm(Vec<OverrideRef>),
    Search(Option<String>),
}

/// What is to be known of a service.
enum Question {
    /// It was asked a moment ago, about the spec of this version, and the answer refuses.
    Answered(Key, String, Arc<Conclusion>),
    /// It is asked.
    New(Box<Pooling>),
}

impl Question {
    fn service(&self) -> &Key {
        match self {
            Self::Answered(key, ..) => key,
            Self::New(pooling) => &pooling.key,
        }
    }
}

/// What was found out for one request.
#[derive(Default)]
struct Facts {
    /// A service that was asked about.
    about: Option<Key>,
    conclusions: BTreeMap<Key, Arc<Conclusion>>,
    /// The version of the `ServicePooling` that each conclusion is about.
    versions: BTreeMap<Key, String>,
    /// Those of which that version is the one that is stored, though they refuse.
    verified: BTreeSet<Key>,
    live: Live,
    overrides: BTreeMap<OverrideRef, Option<Override>>,
    unheard: Option<bool>,
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
        let flights = Flights::new(sources, stored(&client, settings.enforcement), &settings.canary_namespace);
        Self { view, flights, settings, custom, client }
    }

    /// This datacenter.
    pub(super) fn here(&self) -> &str {
        &self.settings.here
    }

    /// Decides, in time.
    pub(super) async fn judge(&self, request: &Request) -> Judged {
        let mut facts = Facts::default();
        if let Ok(judged) = tokio::time::timeout(DEADLINE, self.consider(request, &mut facts)).await {
            return judged;
        }
        let why = format!("it took longer than {} s", DEADLINE.as_secs());
        match &facts.about {
            Some(service) => cannot_tell(request, service, why).into(),
            None => Decision::Fault(why).into(),
        }
    }

    async fn consider(&self, request: &Request, facts: &mut Facts) -> Judged {
        if let Some(doubts) = self.view.doubts() {
            return Decision::Fault(format!("the view of the cluster is not current: {doubts}")).into();
        }
        for _ in 0..ROUNDS {
            let wanted = match self.look(request, facts) {
                ControlFlow::Break(judged) if is_of_unknown_pod(&judged) => {
                    return self.unless_gone(request, judged).boxed().await;
                }
                ControlFlow::Break(judged) => return judged,
                ControlFlow::Continue(wanted) => wanted,
            };
            match wanted {
                Wanted::Ask(questions) => {
                    facts.about = questions.first().map(|question| question.service().clone());
                    let asked = questions.into_iter().map(|question| self.conclude(question));
                    let mut void = None;
                    for (key, version, concluded) in join_all(asked).await {
                        match concluded {
                            Ok(conclusion) => {
                                facts.versions.insert(key.clone(), version);
                                facts.conclusions.insert(key, conclusion);
                            }
                            Err(why) => void = Some((key, version, why)),
                        }
                    }
                    // What is known may refuse already.
                    if let Some((key, version, why)) = void {
                        match self.look(request, facts) {
                            ControlFlow::Break(judged) => return judged,
                            ControlFlow::Continue(_) => match self.catches_up(request, &key, &version, why).await {
                                Ok(()) => {}
                                Err(decision) => return decision.into(),
                            },
                        }
                    }
                }
                Wanted::Verify(poolings) => {
                    let verified = join_all(poolings.iter().map(|pooling| self.flights.verify(pooling))).await;
                    for (Pooling { key, version, .. }, verified) in poolings.into_iter().zip(verified) {
                        if let Err(void) = verified
                            && let Err(decision) = self.catches_up(request, &key, &version, void).await
                        {
                            return decision.into();
                        }
                        facts.verified.insert(key);
                    }
                }
                Wanted::Read(references) => {
                    for reference in references {
                        match within("a workload", || self.read(&reference).boxed()).await {
                            Ok(workload) => drop(facts.live.insert(reference, workload)),
                            Err(why) => return Decision::Fault(why).into(),
                        }
                    }
                }
                Wanted::Confirm(references) => {
                    let mut references = references.into_iter();
                    while let Some(reference) = references.next() {
                        let glass = match within("an override", || self.confirm(&reference).boxed()).await {
                            Ok(glass) => glass,
                            // A fault would let an eviction pass. What nobody can tell of is not in force.
                            Err(why) if request.door.effect == Effect::EvictPod => {
                                tracing::warn!(%why, "an override is left out of account");
                                // There is no time to wait for each.
                                facts.overrides.extend(references.by_ref().map(|reference| (reference, None)));
                                None
                            }
                            Err(why) => return Decision::Fault(why).into(),
                        };
                        facts.overrides.insert(reference, glass);
                    }
                }
                Wanted::Search(namespace) => {
                    match within("ServicePoolings", || self.is_unheard(namespace.as_deref()).boxed()).await {
                        Ok(unheard) => facts.unheard = Some(unheard),
                        Err(why) => return Decision::Fault(why).into(),
                    }
                }
            }
        }
        Decision::Fault("the decision kept asking".to_owned()).into()
    }

    /// A refusal about a pod that is not known, unless there is none: the API server says so itself then, and whoever drains goes on.
    async fn unless_gone(&self, request: &Request, judged: Judged) -> Judged {
        let pods = Api::<Pod>::namespaced(self.client.clone(), &request.namespace);
        match within("a pod", || pods.get_metadata_opt(&request.name).boxed()).await {
            Ok(None) => Decision::Allow(Allowed::plain(Reason::NotGuarded, None)).into(),
            Ok(Some(_)) => judged,
            Err(why) => {
                tracing::warn!(%why, "whether there is such a pod is not known");
                judged
            }
        }
    }

    /// Whether there is a `ServicePooling` of this name, decoded or not.
    pub(super) fn knows(&self, service: &Key) -> bool {
        let state = self.view.read();
        state.namespace(&service.namespace).is_some_and(|namespace| namespace.poolings.contains_key(&service.name))
    }

    /// What can be said without waiting.
    fn look(&self, request: &Request, facts: &mut Facts) -> ControlFlow<Judged, Wanted> {
        let (state, now) = (self.view.read(), Timestamp::now());
        let Facts { conclusions, versions, verified, live, overrides, unheard, .. } = facts;
        // A conclusion is about the spec that decides, or about nothing.
        conclusions.retain(|key, _| {
            let same = pooling(request, &state, key).is_some_and(|pooling| versions.get(key) == Some(&pooling.version));
            if !same {
                verified.remove(key);
            }
            same
        });
        let known = Known { conclusions, live, overrides, unheard: *unheard };
        match decide(request, &state, &self.settings, known, now) {
            Decision::Ask(keys) => {
                let question = |key: Key| {
                    let pooling = pooling(request, &state, &key)?;
                    Some(match self.flights.refused(pooling) {
                        Some(conclusion) => Question::Answered(key, pooling.version.clone(), conclusion),
                        None => Question::New(Box::new(pooling.clone())),
                    })
                };
                ControlFlow::Continue(Wanted::Ask(keys.into_iter().filter_map(question).collect()))
            }
            Decision::Read(references) => ControlFlow::Continue(Wanted::Read(references)),
            Decision::Confirm(references) => ControlFlow::Continue(Wanted::Confirm(references)),
            Decision::Search(namespace) => ControlFlow::Continue(Wanted::Search(namespace)),
            Decision::Refuse(refusal) => {
                let service = &refusal.service;
                let seen = match (pooling(request, &state, service), known.conclusions.get(service)) {
                    (Some(pooling), Some(conclusion)) => seen(pooling, conclusion, now),
                    _ => Vec::new(),
                };
                ControlFlow::Break(Judged { decision: Decision::Refuse(refusal), seen })
            }
            Decision::Allow(allowed) => {
                // What its ServicePooling only warns of, unless it has just been told to enforce.
                let warned =
                    conclusions.iter().filter(|(key, conclusion)| refuses(conclusion) && !verified.contains(key));
                let enforced = self.settings.enforcement == Enforcement::Enforce;
                let poolings: Vec<Pooling> =
                    warned.filter_map(|(key, _)| pooling(request, &state, key).filter(|_| enforced).cloned()).collect();
                if poolings.is_empty() {
                    ControlFlow::Break(Decision::Allow(allowed).into())
                } else {
                    ControlFlow::Continue(Wanted::Verify(poolings))
                }
            }
            decided => ControlFlow::Break(decided.into()),
        }
    }

    /// Asks about a service. Where a source itself does not know since when nothing can be told, status may.
    async fn conclude(&self, question: Question) -> (Key, String, Result<Arc<Conclusion>, Void>) {
        let (key, version) = match &question {
            Question::Answered(key, version, ..) => (key.clone(), version.clone()),
            Question::New(pooling) => (pooling.key.clone(), pooling.version.clone()),
        };
        let recalled = self.view.recalled(&key);
        let span = tracing::info_span!("evidence", service = %key, state = Empty, reused = Empty);
        let mut conclusion = match question {
            Question::Answered(.., conclusion) => {
                span.record("reused", true);
                conclusion
            }
            Question::New(pooling) => {
                let remembered = recalled.as_ref().map(|recalled| recalled.remembered()).unwrap_or_default();
                match self.flights.conclude(&pooling, &remembered).instrument(span.clone()).await {
                    Ok(conclusion) => conclusion,
                    Err(void) => return (key, version, Err(void)),
                }
            }
        };
        span.record("state", conclusion.here().state.as_str());
        let untold = |answer: &Answer| matches!(answer.says, Says::Unknown(_)) && answer.since.is_none();
        if conclusion.here().answers.iter().any(untold)
            && let Some(since) = recalled.and_then(|recalled| recalled.unknown_since())
        {
            let datacenters = &mut Arc::make_mut(&mut conclusion).datacenters;
            let here = datacenters.iter_mut().filter(|datacenter| datacenter.name == self.settings.here);
            for answer in here.flat_map(|datacenter| &mut datacenter.answers).filter(|answer| untold(answer)) {
                answer.since = Some(since);
            }
        }
        (key, version, Ok(conclusion))
    }

    /// Waits a moment for the view to know another `ServicePooling` than that of `version`, where another one is stored.
    async fn catches_up(&self, request: &Request, key: &Key, version: &str, void: Void) -> Result<(), Decision> {
        let why = match void {
            Void::Unread(error) => {
                return Err(cannot_tell(request, key, format!("cannot read ServicePooling {key}: {error}")));
            }
            Void::Changed => {
                format!("ServicePooling {key} has just changed or gone, and the view has not heard of it yet")
            }
        };
        let deadline = Instant::now() + CATCH_UP;
        let unheard = || pooling(request, &self.view.read(), key).is_some_and(|pooling| pooling.version == version);
        while unheard() {
            // One that is under review itself is what the API server says that it is.
            if under_review(request, key).is_some() || Instant::now() >= deadline {
                return Err(cannot_tell(request, key, why));
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    /// Whether a `ServicePooling` is stored in a namespace, or anywhere, that the view has not heard of.
    async fn is_unheard(&self, namespace: Option<&str>) -> Result<bool, kube::Error> {
        let client = self.client.clone();
        let objects = match namespace {
            Some(namespace) => Api::<ServicePooling>::namespaced(client, namespace),
            None => Api::all(client),
        };
        let stored = objects.list_metadata(&ListParams::default()).await?;
        Ok(stored.items.into_iter().any(|found| {
            let ObjectMeta { namespace, name, .. } = found.metadata;
            !self.knows(&Key { namespace: namespace.unwrap_or_default(), name: name.unwrap_or_default() })
        }))
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

fn is_of_unknown_pod(judged: &Judged) -> bool {
    matches!(&judged.decision, Decision::Refuse(refusal) if refusal.reason == Reason::PodUnknown)
}

/// Nobody can tell about a service. A fault closes every door but that of evictions, where it would be a permission: there the service is only
/// asked about where no budget surely keeps a pod of it.
fn cannot_tell(request: &Request, service: &Key, why: String) -> Decision {
    if request.door.effect != Effect::EvictPod {
        return Decision::Fault(why);
    }
    Decision::Refuse(Refusal {
        reason: Reason::NoBudget,
        service: service.clone(),
        code: 429,
        message: plain(&format!(
            "poolguard cannot tell: {why}; no disruption budget keeps a pod of it, so try again in a moment"
        )),
        warnings: Vec::new(),
    })
}

/// The spec of this service before the request, where it is its `ServicePooling` that is changed or deleted.
fn under_review<'a>(request: &'a Request, key: &Key) -> Option<&'a Pooling> {
    match request.old.as_ref().map(|object| &object.body) {
        Some(Body::Pooling(Ok(old))) if old.key == *key => Some(old),
        _ => None,
    }
}

/// The spec to ask about: of a `ServicePooling` under review the old one, else what the view holds.
fn pooling<'a>(request: &'a Request, state: &'a State, key: &Key) -> Option<&'a Pooling> {
    under_review(request, key).or_else(|| match state.namespace(&key.namespace)?.poolings.get(&key.name)? {
        Watched::Known(pooling) => Some(pooling),
        Watched::Undecodable { .. } => None,
    })
}

/// Reads one thing of the API server, in time.
async fn within<'a, T>(what: &str, reading: impl Fn() -> BoxFuture<'a, Result<T, kube::Error>>) -> Result<T, String> {
    match tokio::time::timeout(READ, hedged(AGAIN, reading, passing)).await {
        Ok(Ok(read)) => Ok(read),
        Ok(Err(error)) => Err(format!("cannot read {what}: {error}")),
        Err(_) => Err(format!("cannot read {what}: no answer within {} s", READ.as_secs())),
    }
}
