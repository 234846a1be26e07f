//! Live evidence for verdicts, shared by those who wait for it.
//!
//! A permission rests only on a question that began after its request arrived. A refusal may join a flight that is under way,
//! or reuse an answer at most one second old, so that a storm of refused deletes costs each source one question a second.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use jiff::Timestamp;
use poolguard_policy::evidence::{Conclusion, State, conclude};
use poolguard_policy::pooling::{Key, Pooling};

use crate::observe::{Remembered, Sources, Until};

/// How old an answer may be that a refusal rests on.
const REUSE: Duration = Duration::from_secs(1);

type Landing = Shared<BoxFuture<'static, Arc<Conclusion>>>;

#[derive(Clone)]
struct Flight {
    began: Instant,
    landing: Landing,
}

/// The flights of one service's spec.
#[derive(Default)]
struct Service {
    version: String,
    current: Option<Flight>,
    refused: Option<(Instant, Arc<Conclusion>)>,
}

/// All flights.
pub(super) struct Flights {
    sources: Arc<Sources>,
    services: Mutex<HashMap<Key, Service>>,
}

impl Flights {
    pub(super) fn new(sources: Arc<Sources>) -> Self {
        Self { sources, services: Mutex::default() }
    }

    /// The conclusion about a service for a request that has just arrived.
    pub(super) async fn conclude(&self, pooling: &Pooling, remembered: &Remembered) -> Arc<Conclusion> {
        let arrived = Instant::now();
        loop {
            let flight = match self.join(pooling, remembered) {
                Joined::Refused(conclusion) => return conclusion,
                Joined::Flying(flight) => flight,
            };
            let conclusion = flight.landing.clone().await;
            let refuses = conclusion.here().state != State::NotServing;
            self.land(&pooling.key, &flight, refuses.then(|| Arc::clone(&conclusion)));
            if refuses || flight.began >= arrived {
                return conclusion;
            }
        }
    }

    fn join(&self, pooling: &Pooling, remembered: &Remembered) -> Joined {
        let mut services = self.services.lock().unwrap_or_else(PoisonError::into_inner);
        let service = services.entry(pooling.key.clone()).or_default();
        if service.version != pooling.version {
            *service = Service { version: pooling.version.clone(), ..Service::default() };
        }
        if let Some((landed, conclusion)) = &service.refused
            && landed.elapsed() <= REUSE
        {
            return Joined::Refused(Arc::clone(conclusion));
        }
        let flight = service.current.get_or_insert_with(|| Flight {
            began: Instant::now(),
            landing: start(Arc::clone(&self.sources), pooling.clone(), remembered.clone()),
        });
        Joined::Flying(flight.clone())
    }

    fn land(&self, key: &Key, flight: &Flight, refused: Option<Arc<Conclusion>>) {
        let mut services = self.services.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(service) = services.get_mut(key)
            && service.current.as_ref().is_some_and(|current| current.landing.ptr_eq(&flight.landing))
        {
            service.current = None;
            service.refused = refused.map(|conclusion| (Instant::now(), conclusion));
        }
    }
}

enum Joined {
    Refused(Arc<Conclusion>),
    Flying(Flight),
}

fn start(sources: Arc<Sources>, pooling: Pooling, remembered: Remembered) -> Landing {
    async move {
        let answers = sources.ask(&pooling, &remembered, Until::FirstTraffic).await;
        Arc::new(conclude(sources.here(), &pooling, &answers, Timestamp::now()))
    }
    .boxed()
    .shared()
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

    async fn flights(etcd: &Etcd) -> (Arc<Flights>, Pooling) {
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
        let pooling = Pooling {
            key: Key { namespace: "space".to_owned(), name: "pilot".to_owned() },
            version: "u/1".to_owned(),
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
        };
        (Arc::new(Flights::new(sources)), pooling)
    }

    async fn state(flights: &Flights, pooling: &Pooling) -> State {
        flights.conclude(pooling, &Remembered::new()).await.here().state
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
    async fn many_who_wait_for_a_permission_share_the_next_question() {
        let etcd = Etcd::default();
        let (flights, pooling) = flights(&etcd).await;
        let waiting = (0..200).map(|_| state(&flights, &pooling));
        let states = futures::future::join_all(waiting).await;
        assert!(states.iter().all(|state| *state == State::NotServing));
        let asked = etcd.questions.load(Ordering::SeqCst);
        assert!(asked <= 2, "{asked} questions");
    }
}
