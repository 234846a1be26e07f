//! What a verdict may need of a status.

use std::collections::BTreeMap;

use jiff::Timestamp;
use poolguard_policy::evidence::Memory;

use super::{ServicePoolingStatus, remembered, unknown_since};

/// It, without the rest: thousands of them are kept.
#[derive(Debug, PartialEq)]
pub struct Recalled {
    memories: Box<[((String, String), Memory)]>,
    unknown_since: Option<Timestamp>,
}

impl Recalled {
    /// Of a status; nothing where it remembers nothing.
    pub fn of(status: &ServicePoolingStatus) -> Option<Self> {
        let recalled = Self {
            memories: remembered(Some(status)).into_iter().collect(),
            unknown_since: unknown_since(Some(status)),
        };
        (!recalled.memories.is_empty() || recalled.unknown_since.is_some()).then_some(recalled)
    }

    /// The same as [`remembered`] says.
    pub fn remembered(&self) -> BTreeMap<(String, String), Memory> {
        self.memories.iter().cloned().collect()
    }

    /// The same as [`unknown_since`] says.
    pub fn unknown_since(&self) -> Option<Timestamp> {
        self.unknown_since
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const TIME: &str = "2026-01-02T03:04:05Z";

    fn status(evidence: &Value, serving: &str) -> ServicePoolingStatus {
        let condition = |kind: &str, status: &str| {
            json!({
                "type": kind, "status": status, "reason": "Reason", "message": "a message", "observedGeneration": 1,
                "lastTransitionTime": TIME,
            })
        };
        let whole = json!({
            "datacenters": [{"name": "eqiad", "state": "Unknown", "evidence": [evidence]}],
            "conditions": [condition("Ready", "Unknown"), condition("Serving", serving)],
        });
        serde_json::from_value(whole).expect("a status")
    }

    #[test]
    fn it_remembers_as_much_as_the_whole_status_and_nothing_is_kept_of_one_that_remembers_nothing() {
        let polled = json!({"name": "dns", "says": "Serving", "detail": "192.0.2.1"});
        let read =
            json!({"name": "discovery", "says": "NotServing", "revision": 7, "since": TIME, "notServingAfter": TIME});
        for (whole, memories, since) in [
            (status(&read, "False"), 1, false),
            (status(&polled, "Unknown"), 0, true),
            (status(&read, "Unknown"), 1, true),
        ] {
            let recalled = Recalled::of(&whole).expect("it remembers something");
            assert_eq!(recalled.remembered(), remembered(Some(&whole)));
            assert_eq!(recalled.unknown_since(), unknown_since(Some(&whole)));
            assert_eq!((recalled.remembered().len(), recalled.unknown_since().is_some()), (memories, since));
        }
        assert_eq!(Recalled::of(&status(&polled, "True")), None);
        assert_eq!(Recalled::of(&ServicePoolingStatus::default()), None);
    }
}
