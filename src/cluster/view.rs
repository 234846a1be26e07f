//! The view: slim objects of the whole cluster, kept current by watches.
//!
//! Never believed while it is not whole, or has heard nothing for too long: [`View::doubts`] says so. A watch that ends is
//! begun again; a list that fails keeps what was known.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};
use std::time::{Duration, Instant};

use futures::{FutureExt, StreamExt};
use kube::api::{Api, ListParams, WatchParams};
use kube::core::{DeserializeGuard, WatchEvent};
use kube::{Client, Resource, ResourceExt};
use poolguard_policy::pooling::{Key, Watched};
use poolguard_policy::state::{Kind, Namespace, Pod, State};
use serde::de::DeserializeOwned;

use super::slim::{
    SlimCustom, SlimPod, WatchedBudget, WatchedCustom, WatchedDaemonSet, WatchedDeployment, WatchedNamespace,
    WatchedNode, WatchedPod, WatchedReplicaSet, WatchedReplicationController, WatchedService, WatchedStatefulSet,
};
use crate::api::{self, PROTECTED_LABEL, PoolingOverride, Recalled, ServicePooling};
use crate::config::CustomKind;
use crate::runtime::hedged::hedged;
use crate::runtime::news::News;
use crate::runtime::tasks::essential;
use crate::runtime::{Health, Shutdown};

/// Objects of one page of a list: bounds the peak of memory.
const PAGE: u32 = 500;
/// How soon a kind that the API server does not know is looked for again: well before the view is doubted for silence.
const UNKNOWN: Duration = Duration::from_secs(5);
/// Connections that are tried for an answer about a kind whose watch fell silent: few, since the API server may just be slow.
const ATTEMPTS: u32 = 4;
/// When the first bookmark of the shortest watch has come.
const BOOKMARK: Duration = Duration::from_secs(3);
/// The pause after a failed list or watch, and after one that ended as soon as it began.
const PAUSE: Duration = Duration::from_millis(500);

/// What is known, and how current it is.
#[derive(Debug)]
pub(crate) struct View {
    state: RwLock<State>,
    /// Each `ServicePooling` that decodes, whole, where status is made of it.
    resources: RwLock<BTreeMap<Key, Arc<ServicePooling>>>,
    /// What a verdict may need of the status of each, where verdicts are made; nothing of one that remembers nothing.
    recalled: RwLock<BTreeMap<Key, Arc<Recalled>>>,
    /// When each kind was last heard of; nothing before its first list is complete.
    heard: Mutex<HashMap<&'static str, Option<Instant>>>,
    silence: Duration,
    kinds: Kinds,
    news: News<Place>,
}

/// How a kind is watched.
struct Attention {
    watching: WatchParams,
    /// How long it may be quiet. Then its connection may be dead, and it is listed again, on another one.
    quiet: Duration,
}

/// Which kinds are watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kinds {
    /// All: what a verdict needs.
    All,
    /// Those that status, labels and budgets are made of.
    ForStatus,
}

/// A kind that the view holds. `Of` says which one, where one type stands for several kinds.
trait Viewed: Sized {
    type Of: Copy + Send + Sync + 'static;
    fn name(of: Self::Of) -> &'static str;
    fn put(self, of: Self::Of, view: &View, state: &mut State);
    fn remove(of: Self::Of, view: &View, state: &mut State, namespace: &str, name: &str);
    fn known(of: Self::Of, state: &State) -> Vec<(String, String)>;

    /// Whether the API server may not know the kind at all, which then means that there is nothing of it.
    fn may_be_unknown() -> bool {
        false
    }

    /// Where something changes with an object of this kind.
    fn place(namespace: Option<String>, name: String) -> Place {
        Place::Namespace(namespace.filter(|namespace| !namespace.is_empty()).unwrap_or(name))
    }
}

/// Where something has changed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Place {
    /// A `ServicePooling`.
    Service(Key),
    /// Anything else in a namespace, or the namespace itself.
    Namespace(String),
}

impl View {
    pub(crate) fn new(kinds: Kinds, silence: Duration) -> Arc<Self> {
        Arc::new(Self {
            state: RwLock::default(),
            resources: RwLock::default(),
            recalled: RwLock::default(),
            heard: Mutex::default(),
            silence,
            kinds,
            news: News::default(),
        })
    }

    /// Starts the watches.
    pub(crate) fn follow(self: &Arc<Self>, custom: &[CustomKind], client: &Client, shutdown: &Shutdown) {
        self.watch::<WatchedNamespace, _>(client, shutdown);
        let poolings = Api::<DeserializeGuard<ServicePooling>>::all(client.clone());
        self.watch_these((), poolings, if self.kinds == Kinds::All { self.brief() } else { self.usual() }, shutdown);
        self.watch::<DeserializeGuard<PoolingOverride>, _>(client, shutdown);
        self.watch::<WatchedDeployment, _>(client, shutdown);
        self.watch::<WatchedStatefulSet, _>(client, shutdown);
        self.watch::<WatchedDaemonSet, _>(client, shutdown);
        self.watch::<WatchedReplicationController, _>(client, shutdown);
        self.watch::<WatchedBudget, _>(client, shutdown);
        for kind in custom {
            let objects = Api::<WatchedCustom>::all_with(client.clone(), &kind.api_resource());
            self.watch_these(CustomName { resource: kind.resource, kind: kind.kind }, objects, self.usual(), shutdown);
        }
        if self.kinds == Kinds::All {
            self.watch::<WatchedPod, _>(client, shutdown);
            self.watch::<WatchedReplicaSet, _>(client, shutdown);
            self.watch::<WatchedService, _>(client, shutdown);
            self.watch::<WatchedNode, _>(client, shutdown);
        }
    }

    fn watch<K, D>(self: &Arc<Self>, client: &Client, shutdown: &Shutdown)
    where
        K: Viewed<Of = ()> + Resource<DynamicType = D> + DeserializeOwned + Clone + Debug + Send + Sync + 'static,
        D: Default,
    {
        self.watch_these((), Api::<K>::all(client.clone()), self.usual(), shutdown);
    }

    /// After three quarters of the silence there is time for a new list before the view is doubted.
    fn usual(&self) -> Attention {
        Attention { watching: WatchParams::default(), quiet: self.silence * 3 / 4 }
    }

    /// What is guarded at all must not be missed for long: the API server is asked to end these watches soon, with a bookmark two seconds
    /// before, so that a dead connection is noticed without a list of everything.
    fn brief(&self) -> Attention {
        let seconds = u32::try_from((self.silence / 6).as_secs()).unwrap_or(u32::MAX).clamp(4, 60);
        Attention { watching: WatchParams::default().timeout(seconds), quiet: (self.silence / 4).max(BOOKMARK) }
    }

    /// Watches them.
    fn watch_these<K>(self: &Arc<Self>, of: K::Of, objects: Api<K>, attention: Attention, shutdown: &Shutdown)
    where
        K: Viewed + Resource + DeserializeOwned + Clone + Debug + Send + Sync + 'static,
    {
        let name = K::name(of);
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).insert(name, None);
        let (view, stop) = (Arc::clone(self), shutdown.clone());
        essential(name, shutdown, async move {
            let work = async {
                loop {
                    match view.round(of, &objects, &attention).await {
                        Ok(()) => {}
                        Err(kube::Error::Api(status)) if status.code == 404 && K::may_be_unknown() => {
                            view.nothing_of::<K>(of);
                            tokio::time::sleep(UNKNOWN).await;
                        }
                        Err(error) => {
                            tracing::warn!(kind = name, error = %error, "a watch broke off");
                            tokio::time::sleep(PAUSE).await;
                        }
                    }
                }
            };
            tokio::select! { () = stop.requested() => {}, () = work => {} }
        });
    }

    /// The API server does not know the kind: there are no objects of it.
    fn nothing_of<K: Viewed>(&self, of: K::Of) {
        let gone = K::known(of, &self.read());
        for (namespace, name) in gone {
            K::remove(of, self, &mut self.write(), &namespace, &name);
        }
        self.hear(K::name(of));
        self.news.all();
    }

    /// One list, and watches after it until the API server wants a new list.
    async fn round<K>(&self, of: K::Of, objects: &Api<K>, attention: &Attention) -> Result<(), kube::Error>
    where
        K: Viewed + Resource + DeserializeOwned + Clone + Debug,
    {
        let mut version = self.list(of, objects).await?;
        // A watch that ends tells nothing: the time goes on with the next one.
        let mut heard = Instant::now();
        loop {
            let began = Instant::now();
            let events = tokio::time::timeout(self.patience(K::name(of)), objects.watch(&attention.watching, &version));
            let mut events = events.await.map_err(|late| kube::Error::Service(late.into()))??.boxed();
            loop {
                let event = match tokio::time::timeout_at((heard + attention.quiet).into(), events.next()).await {
                    Err(_) => {
                        self.rouse(K::name(of), objects).await;
                        return Ok(());
                    }
                    // The API server ends every watch after some minutes.
                    Ok(None) => {
                        tokio::time::sleep(PAUSE.saturating_sub(began.elapsed())).await;
                        break;
                    }
                    Ok(Some(event)) => event?,
                };
                match event {
                    WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                        version = object.resource_version().unwrap_or(version);
                        let place = K::place(object.namespace(), object.name_any());
                        object.put(of, self, &mut self.write());
                        self.news.about(place);
                    }
                    WatchEvent::Deleted(object) => {
                        version = object.resource_version().unwrap_or(version);
                        let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
                        K::remove(of, self, &mut self.write(), &namespace, &name);
                        self.news.about(K::place(Some(namespace), name));
                    }
                    WatchEvent::Bookmark(bookmark) => version = bookmark.metadata.resource_version,
                    // `410 Gone` above all: the history does not reach back that far.
                    WatchEvent::Error(status) => {
                        tracing::debug!(kind = K::name(of), reason = status.reason, "a watch wants a new list");
                        return Ok(());
                    }
                }
                self.hear(K::name(of));
                heard = Instant::now();
            }
        }
    }

    /// A network that has forgotten one connection has forgotten those too that are kept for later. Asks for little, on one connection after
    /// the other, until there is one that is alive: it is the next that is taken.
    async fn rouse<K>(&self, kind: &'static str, objects: &Api<K>)
    where
        K: DeserializeOwned + Clone + Debug,
    {
        let (patience, little) = (self.patience(kind), ListParams::default().limit(1));
        let asking = hedged(patience / ATTEMPTS, || objects.list(&little).boxed(), |_| true);
        if tokio::time::timeout(patience, asking).await.is_err() {
            tracing::warn!(kind, "the API server has fallen silent");
        }
    }

    async fn list<K>(&self, of: K::Of, objects: &Api<K>) -> Result<String, kube::Error>
    where
        K: Viewed + Resource + DeserializeOwned + Clone + Debug,
    {
        let mut gone: BTreeSet<_> = K::known(of, &self.read()).into_iter().collect();
        let mut params = ListParams::default().limit(PAGE);
        loop {
            let page = tokio::time::timeout(self.patience(K::name(of)), objects.list(&params));
            let page = page.await.map_err(|late| kube::Error::Service(late.into()))??;
            for object in page.items {
                gone.remove(&(object.namespace().unwrap_or_default(), object.name_any()));
                object.put(of, self, &mut self.write());
            }
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params = params.continue_token(&token),
                None => {
                    for (namespace, name) in gone {
                        K::remove(of, self, &mut self.write(), &namespace, &name);
                    }
                    self.hear(K::name(of));
                    self.news.all();
                    return Ok(page.metadata.resource_version.unwrap_or_default());
                }
            }
        }
    }

    /// What is known now.
    pub(crate) fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the status of a `ServicePooling` remembers, where verdicts are made: with [`Kinds::All`].
    pub(crate) fn recalled(&self, key: &Key) -> Option<Arc<Recalled>> {
        self.recalled.read().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    /// Keeps what is needed of one, in place of what was.
    fn keep(&self, key: &Key, resource: Option<ServicePooling>) {
        match self.kinds {
            Kinds::ForStatus => {
                let mut resources = self.resources.write().unwrap_or_else(PoisonError::into_inner);
                match resource {
                    Some(mut resource) => {
                        // Who wrote which field is more than all the rest, and nobody asks.
                        resource.metadata.managed_fields = None;
                        resources.insert(key.clone(), Arc::new(resource));
                    }
                    None => drop(resources.remove(key)),
                }
            }
            Kinds::All => {
                let recalled = resource.and_then(|resource| Recalled::of(&resource.status?));
                let mut all = self.recalled.write().unwrap_or_else(PoisonError::into_inner);
                match recalled {
                    Some(recalled) => drop(all.insert(key.clone(), Arc::new(recalled))),
                    None => drop(all.remove(key)),
                }
            }
        }
    }

    /// A `ServicePooling` that decodes, where status is made of it: with [`Kinds::ForStatus`].
    pub(crate) fn resource(&self, key: &Key) -> Option<Arc<ServicePooling>> {
        self.resources.read().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    /// Every `ServicePooling` that decodes, by namespace and name.
    pub(crate) fn resources(&self) -> Vec<(Key, Arc<ServicePooling>)> {
        let resources = self.resources.read().unwrap_or_else(PoisonError::into_inner);
        resources.iter().map(|(key, resource)| (key.clone(), Arc::clone(resource))).collect()
    }

    /// What has changed.
    pub(crate) fn news(&self) -> &News<Place> {
        &self.news
    }

    /// How long an answer about a kind is waited for: while it is believed, so long that there are two attempts before it is doubted.
    /// What is doubted, or was never listed, has nothing to lose, and a slow API server needs its time.
    fn patience(&self, kind: &'static str) -> Duration {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner).get(kind).copied().flatten();
        if heard.is_some_and(|at| at.elapsed() < self.silence) { self.silence / 8 } else { self.silence }
    }

    fn hear(&self, kind: &'static str) {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).insert(kind, Some(Instant::now()));
    }

    /// Which kinds are not known, or not currently enough to be believed.
    pub(crate) fn doubts(&self) -> Option<String> {
        let (heard, now) = (self.heard.lock().unwrap_or_else(PoisonError::into_inner), Instant::now());
        let mut doubts: Vec<String> = heard
            .iter()
            .filter_map(|(kind, at)| match at {
                None => Some(format!("{kind} not listed yet")),
                Some(at) if now.duration_since(*at) > self.silence => {
                    Some(format!("nothing heard of {kind} for {} s", now.duration_since(*at).as_secs()))
                }
                Some(_) => None,
            })
            .collect();
        doubts.sort();
        (!doubts.is_empty()).then(|| doubts.join(", "))
    }

    /// Keeps readiness true until a stop is requested.
    pub(crate) async fn report(self: Arc<Self>, health: Health, shutdown: Shutdown) {
        let check = health.check("view");
        loop {
            match self.doubts() {
                None => check.ready(),
                Some(doubts) => check.not_ready(&doubts),
            }
            tokio::select! {
                () = shutdown.requested() => return check.not_ready("shutting down"),
                () = tokio::time::sleep(Duration::from_millis(200)) => {}
            }
        }
    }
}

fn entry<'a>(state: &'a mut State, namespace: &str) -> &'a mut Namespace {
    state.namespaces.entry(namespace.to_owned()).or_default()
}

/// Takes something out of a namespace. One that is gone itself goes with the last of what it held.
fn take_out(state: &mut State, namespace: &str, out: impl FnOnce(&mut Namespace)) {
    if let Some(known) = state.namespaces.get_mut(namespace) {
        out(known);
        if *known == Namespace::default() {
            state.namespaces.remove(namespace);
        }
    }
}

/// Namespace and name of what each namespace holds of a kind.
fn names<'a, I: Iterator<Item = &'a String>>(
    state: &'a State,
    held: impl Fn(&'a Namespace) -> I,
) -> Vec<(String, String)> {
    let all = state.namespaces.iter().flat_map(|(namespace, known)| held(known).map(move |name| (namespace, name)));
    all.map(|(namespace, name)| (namespace.clone(), name.clone())).collect()
}

fn workload_names(state: &State, kind: Kind) -> Vec<(String, String)> {
    names(state, |known| known.workloads.keys().filter(move |(other, _)| *other == kind).map(|(_, name)| name))
}

/// Kinds that live in a map of their namespace, by name.
macro_rules! viewed {
    ($($watched:ty, $name:literal, $field:ident;)*) => { $(
        impl Viewed for $watched {
            type Of = ();

    fn name((): ()) -> &'static str {
        $name
    }

            fn put(self, (): (), _: &View, state: &mut State) {
                let (namespace, name) = (self.namespace().unwrap_or_default(), self.name_any());
                entry(state, &namespace).$field.insert(name, viewed!(@slim $field, self));
            }

            fn remove((): (), _: &View, state: &mut State, namespace: &str, name: &str) {
                take_out(state, namespace, |known| drop(known.$field.remove(name)));
            }

            fn known((): (), state: &State) -> Vec<(String, String)> {
                names(state, |known| known.$field.keys())
            }
        }
    )* };
    (@slim services, $object:ident) => { super::slim::SlimService::from($object).into() };
    (@slim budgets, $object:ident) => { $object.into() };
}

viewed! {
    WatchedService, "services", services;
    WatchedBudget, "poddisruptionbudgets", budgets;
}

impl Viewed for WatchedPod {
    type Of = ();

    fn name((): ()) -> &'static str {
        "pods"
    }

    fn put(self, (): (), _: &View, state: &mut State) {
        let namespace = self.namespace().unwrap_or_default();
        let mut pod = Pod::from(SlimPod::from(self));
        // Only where a DaemonSet may run depends on nodes.
        pod.node = pod.node.filter(|_| pod.controller.as_ref().is_some_and(|owner| owner.kind == "DaemonSet"));
        entry(state, &namespace).put(pod);
    }

    fn remove((): (), _: &View, state: &mut State, namespace: &str, name: &str) {
        take_out(state, namespace, |known| drop(known.pods.remove(name)));
    }

    fn known((): (), state: &State) -> Vec<(String, String)> {
        names(state, |known| known.pods.keys())
    }
}

macro_rules! viewed_workloads {
    ($($watched:ty, $name:literal, $kind:expr;)*) => { $(
        impl Viewed for $watched {
            type Of = ();

    fn name((): ()) -> &'static str {
        $name
    }

            fn put(self, (): (), _: &View, state: &mut State) {
                let (namespace, name) = (self.namespace().unwrap_or_default(), self.name_any());
                entry(state, &namespace).workloads.insert(($kind, name), self.into());
            }

            fn remove((): (), _: &View, state: &mut State, namespace: &str, name: &str) {
                take_out(state, namespace, |known| drop(known.workloads.remove(&($kind, name.to_owned()))));
            }

            fn known((): (), state: &State) -> Vec<(String, String)> {
                workload_names(state, $kind)
            }
        }
    )* };
}

viewed_workloads! {
    WatchedDeployment, "deployments", poolguard_policy::state::Kind::Deployment;
    WatchedStatefulSet, "statefulsets", poolguard_policy::state::Kind::StatefulSet;
    WatchedDaemonSet, "daemonsets", poolguard_policy::state::Kind::DaemonSet;
    WatchedReplicaSet, "replicasets", poolguard_policy::state::Kind::ReplicaSet;
    WatchedReplicationController, "replicationcontrollers", poolguard_policy::state::Kind::ReplicationController;
}

/// Which custom workload a [`WatchedCustom`] is.
#[derive(Clone, Copy)]
struct CustomName {
    resource: &'static str,
    kind: &'static str,
}

impl Viewed for WatchedCustom {
    type Of = CustomName;

    fn name(of: CustomName) -> &'static str {
        of.resource
    }

    fn put(self, of: CustomName, _: &View, state: &mut State) {
        let (namespace, name) = (self.namespace().unwrap_or_default(), self.name_any());
        let kind = Kind::Custom(of.kind);
        let workload = SlimCustom::from(self).workload(kind);
        entry(state, &namespace).workloads.insert((kind, name), workload);
    }

    fn remove(of: CustomName, _: &View, state: &mut State, namespace: &str, name: &str) {
        take_out(state, namespace, |known| drop(known.workloads.remove(&(Kind::Custom(of.kind), name.to_owned()))));
    }

    fn known(of: CustomName, state: &State) -> Vec<(String, String)> {
        workload_names(state, Kind::Custom(of.kind))
    }

    fn may_be_unknown() -> bool {
        true
    }
}

impl Viewed for WatchedNamespace {
    type Of = ();

    fn name((): ()) -> &'static str {
        "namespaces"
    }

    fn put(self, (): (), _: &View, state: &mut State) {
        let known = entry(state, &self.name_any());
        known.exists = true;
        known.protected = self.labels().get(PROTECTED_LABEL).is_some_and(|value| value == "true");
        known.terminating = self.metadata.deletion_timestamp.is_some();
    }

    fn remove((): (), _: &View, state: &mut State, _: &str, name: &str) {
        // What other watches know of a namespace that was made again is theirs to forget.
        take_out(state, name, |known| (known.exists, known.protected, known.terminating) = (false, false, false));
    }

    fn known((): (), state: &State) -> Vec<(String, String)> {
        state.namespaces.keys().map(|name| (String::new(), name.clone())).collect()
    }
}

impl Viewed for WatchedNode {
    type Of = ();

    fn name((): ()) -> &'static str {
        "nodes"
    }

    fn put(self, (): (), _: &View, state: &mut State) {
        let labels = self.labels().iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        state.nodes.insert(self.name_any(), labels);
    }

    fn remove((): (), _: &View, state: &mut State, _: &str, name: &str) {
        state.nodes.remove(name);
    }

    fn known((): (), state: &State) -> Vec<(String, String)> {
        state.nodes.keys().map(|name| (String::new(), name.clone())).collect()
    }
}

impl Viewed for DeserializeGuard<ServicePooling> {
    type Of = ();

    fn name((): ()) -> &'static str {
        "servicepoolings"
    }

    fn place(namespace: Option<String>, name: String) -> Place {
        Place::Service(Key { namespace: namespace.unwrap_or_default(), name })
    }

    fn put(self, (): (), view: &View, state: &mut State) {
        let key = Key { namespace: self.namespace().unwrap_or_default(), name: self.name_any() };
        let decoded = self.0.map_err(|invalid| invalid.error).and_then(|resource| {
            let pooling = api::pooling(&resource).map_err(|error| error.to_string())?;
            Ok((pooling, resource))
        });
        let (watched, resource) = match decoded {
            Ok((pooling, resource)) => (Watched::Known(pooling), Some(resource)),
            Err(error) => (Watched::Undecodable { key: key.clone(), error }, None),
        };
        view.keep(&key, resource);
        entry(state, &key.namespace).poolings.insert(key.name, watched);
    }

    fn remove((): (), view: &View, state: &mut State, namespace: &str, name: &str) {
        let key = Key { namespace: namespace.to_owned(), name: name.to_owned() };
        view.keep(&key, None);
        take_out(state, namespace, |known| drop(known.poolings.remove(name)));
    }

    fn known((): (), state: &State) -> Vec<(String, String)> {
        names(state, |known| known.poolings.keys())
    }
}

impl Viewed for DeserializeGuard<PoolingOverride> {
    type Of = ();

    fn name((): ()) -> &'static str {
        "poolingoverrides"
    }

    fn put(self, (): (), _: &View, state: &mut State) {
        let (namespace, name) = (self.namespace().unwrap_or_default(), self.name_any());
        let overrides = &mut entry(state, &namespace).overrides;
        // One that cannot be read lets nothing pass.
        match self.0.ok().and_then(|resource| api::pooling_override(&resource).ok()) {
            Some(glass) => drop(overrides.insert(name, glass)),
            None => drop(overrides.remove(&name)),
        }
    }

    fn remove((): (), _: &View, state: &mut State, namespace: &str, name: &str) {
        take_out(state, namespace, |known| drop(known.overrides.remove(name)));
    }

    fn known((): (), state: &State) -> Vec<(String, String)> {
        names(state, |known| known.overrides.keys())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn resource(spec: Value, status: Value) -> DeserializeGuard<ServicePooling> {
        let metadata = json!({"name": "pilot", "namespace": "space", "uid": "u", "generation": 1});
        let object = json!({
            "apiVersion": "poolguard.dev/v1alpha1", "kind": "ServicePooling", "metadata": metadata, "spec": spec,
            "status": status,
        });
        serde_json::from_value(object).expect("a resource, decoded or not")
    }

    #[test]
    fn what_a_status_remembers_is_kept_where_verdicts_are_made_and_goes_with_it_while_status_needs_the_whole() {
        let key = Key { namespace: "space".to_owned(), name: "pilot".to_owned() };
        let spec = json!({
            "selector": {"matchLabels": {"app": "pilot"}}, "mode": "ActivePassive", "datacenters": [{"name": "eqiad"}],
            "evidence": [{"name": "discovery", "conftool": {"record": "pilot"}}],
        });
        let evidence = json!({"name": "discovery", "says": "Serving", "revision": 7, "since": "2026-01-02T03:04:05Z"});
        let remembers = json!({"datacenters": [{"name": "eqiad", "state": "Serving", "evidence": [evidence]}]});
        for (kinds, recalls) in [(Kinds::All, true), (Kinds::ForStatus, false)] {
            let view = View::new(kinds, Duration::from_secs(90));
            let known = || (view.recalled(&key).is_some(), view.resource(&key).is_some());
            let put = |spec: &Value, status: &Value| {
                resource(spec.clone(), status.clone()).put((), &view, &mut view.write());
                known()
            };
            assert_eq!(known(), (false, false));
            assert_eq!(put(&spec, &remembers), (recalls, !recalls), "{kinds:?}");
            assert_eq!(put(&spec, &json!({})), (false, !recalls), "{kinds:?}: it remembers nothing any more");
            put(&spec, &remembers);
            assert_eq!(put(&json!({"mode": 1}), &remembers), (false, false), "{kinds:?}: it does not decode");
            put(&spec, &remembers);
            DeserializeGuard::<ServicePooling>::remove((), &view, &mut view.write(), "space", "pilot");
            assert_eq!(known(), (false, false), "{kinds:?}: it is gone");
        }
    }
}
