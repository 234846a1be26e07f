//! Events at the `ServicePooling`: what was refused, and what an override let pass. Written off the request path.
//!
//! Never: a verdict that waits for one, or a storm of refusals that becomes a storm of writes.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::ObjectReference;
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
/// So many refusals of one service for one reason are told at once.
const AT_ONCE: u32 = 20;
/// Then another one after each of these times. The log and the metric have all.
const EACH: Duration = Duration::from_secs(5);
/// As many services and reasons are remembered; where there are more at a time, nothing is told of the rest.
const REMEMBERED: usize = 1024;

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
    /// What the request was about: Events about different objects are not one series.
    object: ObjectReference,
}

impl Told {
    fn of(request: &Request, service: &Key, reason: &'static str, note: String, action: &'static str) -> Self {
        let door = request.door;
        let api_version =
            if door.group.is_empty() { door.version.to_owned() } else { format!("{}/{}", door.group, door.version) };
        let object = ObjectReference {
            api_version: Some(api_version),
            kind: Some(door.kind.to_owned()),
            namespace: Some(request.namespace.clone()).filter(|namespace| !namespace.is_empty()),
            name: Some(request.name.clone()),
            ..ObjectReference::default()
        };
        Self { service: service.clone(), reason, note, action, object }
    }
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
        // The garbage collector asks again until it may.
        let pending = by_garbage_collector(request);
        let reason = if pending { REMOVAL_PENDING } else { refusal.reason.as_str() };
        let Ok(place) = self.queue.try_reserve() else { return };
        if !self.limit.takes(&refusal.service, reason, Instant::now()) {
            return;
        }
        let first = refusal.message.lines().next().unwrap_or_default();
        let note = if pending {
            format!("{first} Its owner is gone: the garbage collector tries again until the service is depooled.")
        } else {
            first.to_owned()
        };
        place.send(Told::of(request, &refusal.service, reason, note, "Refuse"));
    }

    /// Tells of a removal that an override let pass.
    pub(super) fn overridden(&self, request: &Request, service: &Key, glass: &Override) {
        let Ok(place) = self.queue.try_reserve() else { return };
        let note = format!(
            "{} {} {} by {} was let pass by override {}: {}",
            request.door.operation.as_str(),
            request.door.resource,
            request.name,
            request.user,
            glass.name,
            glass.because
        );
        place.send(Told::of(request, service, OVERRIDE_USED, note, "Allow"));
    }
}

/// How often a service is told of: when it would have been told as often as it may, had each one taken its time.
#[derive(Default)]
struct Limit(Mutex<Known>);

type Known = HashMap<Key, Vec<(&'static str, Instant)>>;

impl Limit {
    /// Whether there is room for another one.
    fn takes(&self, service: &Key, reason: &'static str, now: Instant) -> bool {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let reasons = match known.get_mut(service) {
            Some(reasons) => reasons,
            None => {
                if known.len() >= REMEMBERED {
                    known.retain(|_, reasons| reasons.iter().any(|(_, until)| *until > now));
                }
                if known.len() >= REMEMBERED {
                    return false;
                }
                known.entry(service.clone()).or_default()
            }
        };
        let Some((_, until)) = reasons.iter_mut().find(|(of, _)| *of == reason) else {
            reasons.push((reason, now + EACH));
            return true;
        };
        let next = (*until).max(now) + EACH;
        let room = next.duration_since(now) <= EACH * AT_ONCE;
        if room {
            *until = next;
        }
        room
    }
}

/// Writes them. Losing the right to do so changes no verdict.
async fn publish(client: kube::Client, mut events: mpsc::Receiver<Told>) {
    let recorder = Recorder::new(client, Reporter::from("poolguard-webhook"));
    while let Some(Told { service, reason, note, action, object }) = events.recv().await {
        let reference = ObjectReference {
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
            secondary: Some(object),
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
    fn a_storm_of_refusals_is_told_of_some_times_and_another_service_or_reason_at_once() {
        let (limit, start) = (Limit::default(), Instant::now());
        let told = |name: &str, at: Duration| limit.takes(&service(name), "PooledHere", start + at);
        assert_eq!((0..1000).filter(|_| told("one", Duration::ZERO)).count(), AT_ONCE as usize);
        assert!(told("two", Duration::ZERO), "another service");
        assert!(limit.takes(&service("one"), REMOVAL_PENDING, start), "another reason");
        assert!(!told("one", EACH - Duration::from_millis(1)) && told("one", EACH) && !told("one", EACH));
        let long = EACH * 1000;
        assert_eq!((0..1000).filter(|_| told("one", long)).count(), AT_ONCE as usize, "as at the beginning");
    }

    #[test]
    fn what_is_remembered_has_a_limit_and_is_forgotten_when_it_is_old() {
        let (limit, start) = (Limit::default(), Instant::now());
        let takes = |name: usize, at: Instant| limit.takes(&service(&name.to_string()), "PooledHere", at);
        let told = (0..3 * REMEMBERED).filter(|name| takes(*name, start)).count();
        assert_eq!(told, REMEMBERED, "of more at a time, nothing is told");
        assert!(takes(0, start), "but of those that are known");
        assert!(takes(4 * REMEMBERED, start + EACH * 3), "once the others are old");
        assert_eq!(limit.0.lock().expect("nobody panicked").len(), 1);
    }
}
