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
