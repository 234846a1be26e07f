//! Events at the `ServicePooling`: what was refused, and what an override let pass. Written off the request path.
//!
//! Never: a verdict that waits for one, or a storm of refusals that becomes a storm of writes.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use poolguard_policy::overriding::Override;
use poolguard_policy::pooling::Key;
use poolguard_policy::request::Request;
use poolguard_policy::rules::by_garbage_collector;
use poolguard_policy::verdict::Refusal;
use poolguard_policy::words::cut;
use tokio::sync::mpsc;

use crate::api::ServicePooling;

/// The reason of an Event about a removal that happens as soon as it may.
const REMOVAL_PENDING: &str = "RemovalPending";
/// The reason of an Event about a removal that an override let pass.
const OVERRIDE_USED: &str = "OverrideUsed";
/// The longest note of an Event that the API server takes is 1,024 bytes.
const NOTE: usize = 1000;
/// Events that wait to be written; when it is full, further ones are left out.
const QUEUE: usize = 64;
/// So many refusals of one service are told at once.
const AT_ONCE: u32 = 20;
/// Then another one after each of these times. The log and the metric have all.
const EACH: Duration = Duration::from_secs(5);
/// Services that are remembered before those that were long not refused are forgotten.
const REMEMBERED: usize = 256;

/// Where they are told.
pub(super) struct Events {
    queue: mpsc::Sender<Told>,
    limit: Limit,
}

/// What an Event is made of.
struct Told {
    service: Key,
    reason: &'static str,
    note: String,
    action: &'static str,
}

impl Events {
    /// Starts the task that writes them.
    pub(super) fn start(client: kube::Client) -> Self {
        let (queue, told) = mpsc::channel(QUEUE);
        tokio::spawn(publish(client, told));
        Self { queue, limit: Limit::default() }
    }

    /// Tells of a refusal.
    pub(super) fn refused(&self, request: &Request, refusal: &Refusal) {
        if self.limit.takes(&refusal.service, Instant::now()) {
            self.tell(|| {
                let first = refusal.message.lines().next().unwrap_or_default().to_owned();
                // The garbage collector asks again until it may.
                let (reason, note) = if by_garbage_collector(request) {
                    let again = "Its owner is gone: the garbage collector tries again until the service is depooled.";
                    (REMOVAL_PENDING, format!("{first} {again}"))
                } else {
                    (refusal.reason.as_str(), first)
                };
                Told { service: refusal.service.clone(), reason, note, action: "Refuse" }
            });
        }
    }

    /// Tells of a removal that an override let pass: each of them.
    pub(super) fn overridden(&self, request: &Request, service: &Key, glass: &Override) {
        self.tell(|| {
            let note = format!(
                "{} {} {} by {} was let pass by override {}: {}",
                request.door.operation.as_str(),
                request.door.resource,
                request.name,
                request.user,
                glass.name,
                glass.because
            );
            Told { service: service.clone(), reason: OVERRIDE_USED, note, action: "Allow" }
        });
    }

    /// A full queue costs an Event, never a verdict.
    fn tell(&self, told: impl FnOnce() -> Told) {
        if let Ok(place) = self.queue.try_reserve() {
            place.send(told());
        }
    }
}

/// How often a service is told of: when it would have been told as often as it may, had each one taken its time.
#[derive(Default)]
struct Limit(Mutex<HashMap<Key, Instant>>);

impl Limit {
    /// Whether there is room for another one.
    fn takes(&self, service: &Key, now: Instant) -> bool {
        let mut services = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(until) = services.get_mut(service) {
            let next = (*until).max(now) + EACH;
            if next.duration_since(now) > EACH * AT_ONCE {
                return false;
            }
            *until = next;
            return true;
        }
        if services.len() >= REMEMBERED {
            services.retain(|_, until| *until > now);
        }
        services.insert(service.clone(), now + EACH);
        true
    }
}

/// Writes them. Losing the right to do so changes no verdict.
async fn publish(client: kube::Client, mut events: mpsc::Receiver<Told>) {
    let recorder = Recorder::new(client, Reporter::from("poolguard-webhook"));
    while let Some(Told { service, reason, note, action }) = events.recv().await {
        let reference = k8s_openapi::api::core::v1::ObjectReference {
            api_version: Some("poolguard.dev/v1alpha1".to_owned()),
            kind: Some(<ServicePooling as kube::Resource>::kind(&()).into_owned()),
            namespace: Some(service.namespace),
            name: Some(service.name),
            ..Default::default()
        };
        let event = Event {
            type_: EventType::Warning,
            reason: reason.to_owned(),
            note: Some(cut(&note, NOTE)),
            action: action.to_owned(),
            secondary: None,
        };
        if let Err(error) = recorder.publish(&event, &reference).await {
            tracing::warn!(error = %error, "an Event cannot be written");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(name: &str) -> Key {
        Key { namespace: "space".to_owned(), name: name.to_owned() }
    }

    #[test]
    fn a_storm_of_refusals_of_one_service_is_told_of_some_times_and_another_service_at_once() {
        let (limit, start) = (Limit::default(), Instant::now());
        let told = |name: &str, at: Duration| limit.takes(&service(name), start + at);
        assert_eq!((0..1000).filter(|_| told("one", Duration::ZERO)).count(), AT_ONCE as usize);
        assert!(told("two", Duration::ZERO), "another service");
        assert!(!told("one", EACH - Duration::from_millis(1)) && told("one", EACH) && !told("one", EACH));
        let long = EACH * 1000;
        assert_eq!((0..1000).filter(|_| told("one", long)).count(), AT_ONCE as usize, "as at the beginning");
    }

    #[test]
    fn services_that_were_long_not_refused_are_forgotten() {
        let (limit, start) = (Limit::default(), Instant::now());
        for index in 0..10 * REMEMBERED {
            assert!(limit.takes(&service(&index.to_string()), start + EACH * 2 * u32::try_from(index).expect("few")));
        }
        let kept = limit.0.lock().expect("nobody panicked").len();
        assert!(kept <= REMEMBERED, "{kept} are remembered");
    }
}
