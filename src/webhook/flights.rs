//! Live evidence for verdicts, shared by those who wait for it.
//!
//! A permission rests only on a question that began after its request arrived, and whose words are those of the `ServicePooling` as it
//! is stored then. A refusal may join a flight that is under way, or reuse an answer at most one second old, so that a storm of
//! refused deletes costs each source one question a second.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use jiff::Timestamp;
use poolguard_policy::evidence::{Conclusion, State, conclude};
use poolguard_policy::pooling::{Key, Pooling};
use tokio::sync::Semaphore;
use tracing::{Instrument, Span};

use crate::observe::{Remembered, Sources, Until};

/// How old an answer may be that a refusal rests on.
const REUSE: Duration = Duration::from_secs(1);

/// How many that only warn are read at the same time.
const WARNED: usize = 8;

/// Reads a `ServicePooling` as it is stored now: nothing where there is none, or none that this version understands.
pub(super) type Stored = Arc<dyn Fn(&Key) -> BoxFuture<'static, Result<Option<Pooling>, String>> + Send + Sync>;

/// Why a conclusion that would permit is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Void {
    /// The `ServicePooling` that is stored is not the one that was asked about, or there is none.
    Changed,
    /// It cannot be read.
    Unread(String),
}

/// A conclusion that may be believed, or why there is none.
type Landed = Result<Arc<Conclusion>, Void>;
type Landing = Shared<BoxFuture<'static, Landed>>;

#[derive(Clone)]
struct Flight {
    began: Instant,
    /// Of the review that it began with.
    span: Span,
    landing: Landing,
}

/// The flights of one service's spec.
#[derive(Default)]
struct Service {
    version: String,
    current: Option<Flight>,
    refused: Option<(Instant, Arc<Conclusion>)>,
}

impl Service {
    /// A refusal that is young enough to be used again.
    fn reusable(&self) -> Option<&Arc<Conclusion>> {
        self.refused.as_ref().filter(|(landed, _)| landed.elapsed() <= REUSE).map(|(_, conclusion)| conclusion)
    }
}

/// Those that have a flight, or a refusal that may be used again, and the time when others were looked for.
struct Kept {
    services: HashMap<Key, Service>,
    swept: Instant,
}

type Services = Mutex<Kept>;

/// All flights.
pub(super) struct Flights {
    sources: Arc<Sources>,
    /// Nothing where nobody wants to know.
    stored: Option<Stored>,
    /// The canary's namespace: what is meant in earnest there is nobody's service, and goes also when our own rights have gone.
    canary: String,
    /// Room for those that only warn: they keep nobody waiting who is to be guarded.
    warned: Semaphore,
    services: Arc<Services>,
}

impl Flights {
    pub(super) fn new(sources: Arc<Sources>, stored: Option<Stored>, canary: &str) -> Self {
        Self {
            sources,
            stored,
            canary: canary.to_owned(),
            warned: Semaphore::new(WARNED),
            services: Arc::new(Mutex::new(Kept { services: HashMap::new(), swept: Instant::now() })),
        }
    }

    /// A refusal about this spec that is young enough to be used again.
    pub(super) fn refused(&self, pooling: &Pooling) -> Option<Arc<Conclusion>> {
        let kept = lock(&self.services);
        let service = kept.services.get(&pooling.key).filter(|service| service.version == pooling.version)?;
        service.reusable().cloned()
    }

    /// The conclusion about a service for a request that has just arrived.
    ///
    /// # Errors
    /// Where it would permit, and the `ServicePooling` is not the one that is stored.
    pub(super) async fn conclude(&self, pooling: &Pooling, remembered: &Remembered) -> Landed {
        let arrived = Instant::now();
        loop {
            let flight = match self.join(pooling, remembered) {
                Joined::Refused(conclusion) => {
                    Span::current().record("reused", true);
                    return Ok(conclusion);
                }
                Joined::Flying(flight) => flight,
            };
            if flight.span != Span::current() {
                Span::current().follows_from(&flight.span);
            }
            let landed = flight.landing.await;
            if flight.began >= arrived || landed.as_ref().is_ok_and(|conclusion| refuses(conclusion)) {
                return landed;
            }
        }
    }

    /// Whether this `ServicePooling` is the one that is stored.
    ///
    /// # Errors
    /// If it is not, or cannot be read.
    pub(super) async fn verify(&self, pooling: &Pooling) -> Result<(), Void> {
        // Nobody closes it.
        let _one = self.warned.acquire().await;
        same(pooling, self.reads(pooling)).await
    }

    /// How the `ServicePooling` is read, where anybody wants to know.
    fn reads(&self, pooling: &Pooling) -> Option<&Stored> {
        self.stored.as_ref().filter(|_| pooling.key.namespace != self.canary)
    }

    fn join(&self, pooling: &Pooling, remembered: &Remembered) -> Joined {
        let mut kept = lock(&self.services);
        let Kept { services, swept } = &mut *kept;
        // Looking through thousands takes time, so it is not done for each request.
        if swept.elapsed() > REUSE {
            *swept = Instant::now();
            services.retain(|_, service| service.current.is_some() || service.reusable().is_some());
        }
        let service = services.entry(pooling.key.clone()).or_default();
        if service.version != pooling.version {
            *service = Service { version: pooling.version.clone(), ..Service::default() };
        }
        if let Some(conclusion) = service.reusable() {
            return Joined::Refused(Arc::clone(conclusion));
        }
        let flight = service.current.get_or_insert_with(|| self.start(pooling.clone(), remembered.clone()));
        Joined::Flying(flight.clone())
    }

    /// Starts a flight. It lands by itself: whoever waited for it may have gone.
    fn start(&self, pooling: Pooling, remembered: Remembered) -> Flight {
        let began = Instant::now();
        let (sources, services) = (Arc::clone(&self.sources), Arc::clone(&self.services));
        let nothing = Arc::new(conclude(sources.here(), &pooling, &[], Timestamp::now()));
        let (unknown, stored) = (Arc::clone(&nothing), self.reads(&pooling).cloned());
        let flying = async move {
            let asked = AssertUnwindSafe(async {
                let answers = sources.ask(&pooling, &remembered, Until::FirstTraffic).await;
                let conclusion = Arc::new(conclude(sources.here(), &pooling, &answers, Timestamp::now()));
                // A refusal does not wait for the API server, and costs it nothing.
                if refuses(&conclusion) {
                    return Ok(conclusion);
                }
                same(&pooling, stored.as_ref()).await.map(|()| conclusion)
            });
            // Whatever panics in there, the flight lands.
            let landed = asked.catch_unwind().await.unwrap_or(Ok(unknown));
            land(&services, &pooling, began, &landed);
            landed
        };
        let flying = tokio::spawn(flying.in_current_span());
        // It ends without a conclusion only together with the process.
        let landing = async move { flying.await.unwrap_or(Ok(nothing)) }.boxed().shared();
        Flight { began, span: Span::current(), landing }
    }
}

/// Whether a conclusion refuses. One that does not is about the `ServicePooling` that is stored.
pub(super) fn refuses(conclusion: &Conclusion) -> bool {
    conclusion.here().state != State::NotServing
}

/// Whether what was asked about is what is stored.
async fn same(pooling: &Pooling, stored: Option<&Stored>) -> Result<(), Void> {
    let Some(stored) = stored else { return Ok(()) };
    match stored(&pooling.key).await {
        Ok(Some(stored)) if stored == *pooling => Ok(()),
        Ok(_) => Err(Void::Changed),
        Err(error) => Err(Void::Unread(error)),
    }
}

fn land(services: &Services, pooling: &Pooling, began: Instant, landed: &Landed) {
    let mut kept = lock(services);
    let Some(service) = kept.services.get_mut(&pooling.key) else { return };
    let ours = service.current.as_ref().is_some_and(|current| current.began == began);
    if !ours || service.version != pooling.version {
        return;
    }
    match landed {
        Ok(conclusion) if refuses(conclusion) => {
            service.current = None;
            service.refused = Some((Instant::now(), Arc::clone(conclusion)));
        }
        // A permission is never used again.
        _ => drop(kept.services.remove(&pooling.key)),
    }
}

fn lock(services: &Services) -> MutexGuard<'_, Kept> {
    services.lock().unwrap_or_else(PoisonError::into_inner)
}

enum Joined {
    Refused(Arc<Conclusion>),
    Flying(Flight),
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    use axum::Router;
    use axum::extract::State as Shared;
    use axum::routing::get;
    use poolguard_policy::pooling::{Arm, Enforcement, Evidence, Mode};
    use poolguard_policy::selector::Selector;

    use super::*;
    use crate::config::{Config, Overrides};

    /// How long a question takes: long enough for others to arrive while it is under way.
    const ANSWER: Duration = Duration::from_millis(300);

    /// etcd, at the wire: counts questions, and answers with what was true when each began.
    #[derive(Clone, Default)]
    struct Etcd {
        pooled: Arc<AtomicBool>,
        questions: Arc<AtomicUsize>,
    }

    async fn answer(Shared(etcd): Shared<Etcd>) -> String {
        etcd.questions.fetch_add(1, Ordering::SeqCst);
        let pooled = etcd.pooled.load(Ordering::SeqCst);
        tokio::time::sleep(ANSWER).await;
        let value = format!(r#"{{\"pooled\": {pooled}, \"ttl\": 0}}"#);
        let key = "/conftool/v1/discovery/pilot";
        format!(
            r#"{{"action":"get","node":{{"key":"{key}","dir":true,"nodes":[{{"key":"{key}/eqiad","value":"{value}","modifiedIndex":{}}}]}}}}"#,
            u8::from(pooled)
        )
    }

    /// What is stored of a service.
    fn spec(name: &str, version: &str) -> Pooling {
        Pooling {
            key: Key { namespace: "space".to_owned(), name: name.to_owned() },
            version: version.to_owned(),
            selector: Selector::labels([("app", "pilot")]),
            expendable: None,
            mode: Mode::ActiveActive,
            datacenters: vec!["eqiad".to_owned()],
            min_pooled_datacenters: 1,
            evidence: vec![Evidence {
                name: "discovery".to_owned(),
                arm: Arm::Conftool { source: None, record: "pilot".to_owned() },
            }],
            enforcement: Enforcement::Enforce,
            accepted: Vec::new(),
        }
    }

    async fn flights(etcd: &Etcd) -> (Arc<Flights>, Pooling) {
        let stored = |key: &Key| {
            let spec = spec(&key.name, "u/1");
            async { Ok(Some(spec)) }.boxed()
        };
        with_stored(etcd, Arc::new(stored)).await
    }

    async fn with_stored(etcd: &Etcd, stored: Stored) -> (Arc<Flights>, Pooling) {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let routes = Router::new().route("/v2/keys/conftool/v1/discovery/pilot", get(answer).with_state(etcd.clone()));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(async move { axum::serve(listener, routes).await });
        let text = format!(
            "{{datacenter: eqiad, sources: [{{name: c, conftool: {{propagation: 0s, endpoints: ['http://{address}']}}}}]}}"
        );
        let config = Config::parse(&text, Overrides::default()).expect("a configuration");
        let sources = Sources::new(&config, &prometheus::Registry::new()).expect("sources");
        let pooling = spec("pilot", "u/1");
        (Arc::new(Flights::new(sources, Some(stored), "poolguard-canary")), pooling)
    }

    async fn state(flights: &Flights, pooling: &Pooling) -> State {
        flights.conclude(pooling, &Remembered::new()).await.expect("the stored spec").here().state
    }

    #[tokio::test]
    async fn a_storm_of_refusals_asks_once() {
        let etcd = Etcd::default();
        etcd.pooled.store(true, Ordering::SeqCst);
        let (flights, pooling) = flights(&etcd).await;
        let storm = (0..500).map(|_| state(&flights, &pooling));
        let states = futures::future::join_all(storm).await;
        assert!(states.iter().all(|state| *state == State::Serving));
        assert_eq!(state(&flights, &pooling).await, State::Serving, "and one more, right after");
        assert_eq!(etcd.questions.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn a_permission_rests_on_a_question_that_began_after_its_request() {
        let etcd = Etcd::default();
        let (flights, pooling) = flights(&etcd).await;
        let first = tokio::spawn({
            let (flights, pooling) = (Arc::clone(&flights), pooling.clone());
            async move { state(&flights, &pooling).await }
        });
        while etcd.questions.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        // Pooled again while the first question is under way: its answer is true for the first request alone.
        etcd.pooled.store(true, Ordering::SeqCst);
        let second = state(&flights, &pooling).await;
        assert_eq!(first.await.expect("no panic"), State::NotServing);
        assert_eq!(second, State::Serving);
        assert_eq!(etcd.questions.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn a_permission_rests_on_the_spec_that_is_stored_after_its_request_and_a_refusal_does_not_wait_for_it() {
        let etcd = Etcd::default();
        let warns = Pooling { enforcement: Enforcement::Warn, ..spec("pilot", "u/1") };
        let cases: [(Result<Option<Pooling>, String>, Void); 4] = [
            (Ok(Some(spec("pilot", "u/2"))), Void::Changed),
            (Ok(Some(warns)), Void::Changed),
            (Ok(None), Void::Changed),
            (Err("no connection".to_owned()), Void::Unread("no connection".to_owned())),
        ];
        for (stored, void) in cases {
            let stored = move |_: &Key| {
                let stored = stored.clone();
                async { stored }.boxed()
            };
            let (flights, pooling) = with_stored(&etcd, Arc::new(stored)).await;
            let landed = flights.conclude(&pooling, &Remembered::new()).await;
            assert_eq!(landed.expect_err("no permission"), void);
            assert!(lock(&flights.services).services.is_empty(), "it is never used again");
        }
        // One that is never read keeps no refusal waiting.
        etcd.pooled.store(true, Ordering::SeqCst);
        let (flights, pooling) = with_stored(&etcd, Arc::new(|_| std::future::pending().boxed())).await;
        let refused = tokio::time::timeout(Duration::from_secs(30), state(&flights, &pooling)).await;
        assert_eq!(refused.expect("it does not wait"), State::Serving);
    }

    #[tokio::test]
    async fn what_was_stored_before_a_request_says_nothing_about_it() {
        let etcd = Etcd::default();
        let reads = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&reads);
        // Another one at first, and then that which the view knows.
        let stored = move |_: &Key| {
            let version = if counted.fetch_add(1, Ordering::SeqCst) == 0 { "u/2" } else { "u/1" };
            async move { Ok(Some(spec("pilot", version))) }.boxed()
        };
        let (flights, pooling) = with_stored(&etcd, Arc::new(stored)).await;
        let first = tokio::spawn({
            let (flights, pooling) = (Arc::clone(&flights), pooling.clone());
            async move { flights.conclude(&pooling, &Remembered::new()).await }
        });
        while etcd.questions.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(state(&flights, &pooling).await, State::NotServing);
        assert_eq!(first.await.expect("no panic").expect_err("no permission"), Void::Changed);
        assert_eq!(reads.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn many_who_wait_for_a_permission_share_the_next_question() {
        let etcd = Etcd::default();
        let (flights, pooling) = flights(&etcd).await;
        let waiting = (0..200).map(|_| state(&flights, &pooling));
        let states = futures::future::join_all(waiting).await;
        assert!(states.iter().all(|state| *state == State::NotServing));
        let asked = etcd.questions.load(Ordering::SeqCst);
        assert!(asked <= 2, "{asked} questions");
    }

    #[tokio::test]
    async fn an_answer_that_nobody_waited_for_is_told_to_nobody_later() {
        let etcd = Etcd::default();
        etcd.pooled.store(true, Ordering::SeqCst);
        let (flights, pooling) = flights(&etcd).await;
        let waiting = tokio::spawn({
            let (flights, pooling) = (Arc::clone(&flights), pooling.clone());
            async move { state(&flights, &pooling).await }
        });
        while etcd.questions.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        // The API server hangs up, and later, after a depool, asks again.
        waiting.abort();
        etcd.pooled.store(false, Ordering::SeqCst);
        let of_use = || {
            let mut kept = lock(&flights.services);
            kept.services
                .get_mut(&pooling.key)
                .is_some_and(|known| known.current.is_some() || known.reusable().is_some())
        };
        let deadline = Instant::now() + Duration::from_secs(30);
        while of_use() {
            assert!(Instant::now() < deadline, "the flight never lands");
            tokio::task::yield_now().await;
        }
        assert_eq!(state(&flights, &pooling).await, State::NotServing);
    }

    #[tokio::test]
    async fn services_that_nobody_asks_about_are_forgotten() {
        let etcd = Etcd::default();
        let (flights, pooling) = flights(&etcd).await;
        let named = |name: &str| Pooling {
            key: Key { namespace: "space".to_owned(), name: name.to_owned() },
            ..pooling.clone()
        };
        for name in ["one", "two", "three"] {
            assert_eq!(state(&flights, &named(name)).await, State::NotServing);
        }
        assert!(lock(&flights.services).services.is_empty(), "a permission is never used again");
        etcd.pooled.store(true, Ordering::SeqCst);
        assert_eq!(state(&flights, &named("one")).await, State::Serving);
        assert!(flights.refused(&named("one")).is_some() && flights.refused(&named("two")).is_none());
        let changed = Pooling { version: "u/2".to_owned(), ..named("one") };
        assert!(flights.refused(&changed).is_none(), "another spec is another question");
        let deadline = Instant::now() + Duration::from_secs(30);
        while flights.refused(&named("one")).is_some() {
            assert!(Instant::now() < deadline, "a refusal is used for ever");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(state(&flights, &named("two")).await, State::Serving);
        assert_eq!(lock(&flights.services).services.len(), 1, "the old refusal is gone");
    }
}
