//! One address in front of the webhooks, as a Service is: who is ready is on the list, who is being deleted is not. kubelet and
//! kube-proxy are played, readiness is real.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use poolguard_harness::http::get;
use poolguard_harness::operator::Operator;
use poolguard_harness::relay::Relay;

use crate::scenario::Alone;

/// How often readiness is looked at: more often than a kubelet does, so that the rows are short.
const PERIOD: Duration = Duration::from_millis(100);
/// The webhooks.
pub const BOTH: [&str; 2] = ["webhook", "second"];

/// The address. It follows readiness until it is dropped.
pub struct Address {
    relay: Arc<Relay>,
    leaving: Arc<Mutex<Vec<&'static str>>>,
    ended: Arc<AtomicBool>,
}

impl Address {
    /// Has everybody call the webhooks at it, of which there are two from now on.
    pub fn in_front_of(alone: &Alone) -> Self {
        let Alone { datacenter, operator, .. } = alone;
        let this = Self::start(operator);
        operator.called_at(datacenter, this.relay.port).expect("an address");
        operator.stop(datacenter, "controller", false).expect("the controller ends");
        operator.start(datacenter, "controller").expect("it starts with the new address");
        operator.start(datacenter, "second").expect("a second webhook");
        operator.ready(datacenter, "second").expect("it is ready");
        this
    }

    fn start(operator: &Operator) -> Self {
        let relay = Arc::new(Relay::start(&[operator.webhook_port()]).expect("a relay"));
        let leaving = Arc::<Mutex<Vec<&'static str>>>::default();
        let ended = Arc::<AtomicBool>::default();
        let this = Self { relay: Arc::clone(&relay), leaving: Arc::clone(&leaving), ended: Arc::clone(&ended) };
        let ports = BOTH.map(|process| (process, operator.port(process), operator.metrics_port(process)));
        std::thread::spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                let held = leaving.lock().unwrap_or_else(PoisonError::into_inner).clone();
                let ready = ports.iter().filter(|(process, _, metrics)| {
                    !held.contains(process) && get(*metrics, "/readyz").is_ok_and(|answer| answer.status == 200)
                });
                let ready: Vec<u16> = ready.map(|(_, port, _)| *port).collect();
                // Somebody may have left meanwhile: the next look is taken at once.
                if *leaving.lock().unwrap_or_else(PoisonError::into_inner) == held {
                    relay.lead_to(&ready);
                    std::thread::sleep(PERIOD);
                }
            }
        });
        this
    }

    /// A webhook is about to go: it is taken off the list first, as the chart's `preStop` waits for.
    pub fn leave(&self, process: &'static str) {
        let mut leaving = self.leaving.lock().unwrap_or_else(PoisonError::into_inner);
        leaving.push(process);
        drop(leaving);
        // Two looks: the one under way may still have it.
        std::thread::sleep(PERIOD * 3);
    }

    /// It may be on the list again, once it is ready.
    pub fn join(&self, process: &'static str) {
        self.leaving.lock().unwrap_or_else(PoisonError::into_inner).retain(|left| *left != process);
    }
}

impl Drop for Address {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
    }
}
