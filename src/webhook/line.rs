//! The log line of a refusal: who was refused what, and on what evidence.
//!
//! Never a name as it came: whatever could forge a line, or hide a part of one, is replaced, as it is in messages.

use jiff::Timestamp;
use poolguard_policy::evidence::Conclusion;
use poolguard_policy::pooling::Pooling;
use poolguard_policy::request::Request;
use poolguard_policy::verdict::Refusal;
use poolguard_policy::words::plain;
use serde::Serialize;

use crate::observe::says;

/// What one source said about one datacenter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Seen {
    /// The entry of `spec.evidence`.
    evidence: String,
    /// Its kind.
    source: &'static str,
    datacenter: String,
    says: &'static str,
    /// Why it does not tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<&'static str>,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<u64>,
    /// How long ago it was read when the refusal was made.
    age_ms: i64,
}

/// Everything that a conclusion rests on, this datacenter first.
pub(super) fn seen(pooling: &Pooling, conclusion: &Conclusion, now: Timestamp) -> Vec<Seen> {
    let all = std::iter::once(conclusion.here()).chain(conclusion.elsewhere());
    let answers = all.flat_map(|datacenter| &datacenter.answers);
    let told = answers.map(|answer| {
        let (says, why) = says(&answer.says);
        let entry = pooling.evidence.iter().find(|entry| entry.name == answer.evidence);
        Seen {
            evidence: plain(&answer.evidence),
            source: entry.map_or("", |entry| entry.arm.as_str()),
            datacenter: plain(&answer.datacenter),
            says,
            why,
            detail: plain(&answer.detail),
            revision: answer.revision,
            age_ms: i64::try_from(now.duration_since(answer.read).as_millis().max(0)).unwrap_or(i64::MAX),
        }
    });
    told.collect()
}

/// Writes the line. The evidence is JSON, whatever the format of the log.
pub(super) fn refused(here: &str, request: &Request, refusal: &Refusal, seen: &[Seen]) {
    tracing::info!(
        service = plain(&refusal.service.to_string()),
        datacenter = here,
        user = plain(&request.user),
        verb = request.door.operation.as_str(),
        resource = request.door.resource,
        namespace = plain(&request.namespace),
        object = plain(&request.name),
        reason = refusal.reason.as_str(),
        evidence = serde_json::to_string(seen).unwrap_or_default(),
        told = refusal.message,
        "refused"
    );
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use poolguard_policy::doors::DOORS;
    use poolguard_policy::evidence::{Answer, Datacenter, Says, State, Why};
    use poolguard_policy::pooling::{Arm, Enforcement, Evidence, Key, Mode};
    use poolguard_policy::selector::Selector;
    use poolguard_policy::verdict::Reason;
    use serde_json::{Value, json};
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;
    use crate::config::{Log, LogFormat};
    use crate::runtime::telemetry;

    /// What a log has become.
    #[derive(Clone, Default)]
    struct Paper(Arc<Mutex<Vec<u8>>>);

    impl Write for Paper {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().expect("no panic while it is held").extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// What could end a line, or look like another one.
    const HOSTILE: &str = "eve\n{\"reason\":\"NotServing\"}\r\u{1b}[2K\u{85}\u{2028}\u{202e}\",\"user\":\"alice";

    fn now() -> Timestamp {
        "2026-01-02T03:04:05Z".parse().expect("a time")
    }

    fn pooling() -> Pooling {
        Pooling {
            key: Key { namespace: "space".to_owned(), name: "pilot".to_owned() },
            version: String::new(),
            selector: Selector::labels([("app", "pilot")]),
            expendable: None,
            mode: Mode::ActiveActive,
            datacenters: vec!["codfw".to_owned(), "eqiad".to_owned()],
            min_pooled_datacenters: 1,
            evidence: vec![
                Evidence {
                    name: "discovery".to_owned(),
                    arm: Arm::Conftool { source: None, record: "pilot".to_owned() },
                },
                Evidence { name: HOSTILE.to_owned(), arm: Arm::Dns { source: None, name: "pilot.test".to_owned() } },
            ],
            enforcement: Enforcement::Enforce,
            accepted: Vec::new(),
        }
    }

    fn conclusion() -> Conclusion {
        let answer = |evidence: &str, datacenter: &str, says: Says, revision, age: i64| Answer {
            evidence: evidence.to_owned(),
            datacenter: datacenter.to_owned(),
            says,
            detail: format!("of {datacenter}{HOSTILE}"),
            revision,
            since: None,
            not_serving_after: None,
            read: now() - jiff::SignedDuration::from_millis(age),
        };
        let datacenter = |name: &str, state, says: Says| Datacenter {
            name: name.to_owned(),
            state,
            answers: vec![
                answer("discovery", name, says, Some(812), 3),
                answer(HOSTILE, name, Says::Unknown(Why::TimedOut), None, 40),
            ],
        };
        Conclusion {
            here: "eqiad".to_owned(),
            datacenters: vec![
                datacenter("codfw", State::Unknown, Says::NotServing),
                datacenter("eqiad", State::Serving, Says::Draining),
            ],
        }
    }

    /// What is written of a refusal by somebody whose every name is hostile.
    fn written(format: LogFormat) -> String {
        let paper = Paper::default();
        let log = Log { format, level: "info".to_owned() };
        let to = paper.clone();
        let lines = telemetry::lines(&log, move || to.clone()).expect("a level");
        let request = Request {
            door: DOORS.iter().find(|door| door.resource == "deployments" && door.is_delete()).expect("a door"),
            namespace: HOSTILE.to_owned(),
            name: HOSTILE.to_owned(),
            named: true,
            user: HOSTILE.to_owned(),
            dry_run: false,
            old: None,
            new: None,
        };
        let refusal = Refusal {
            reason: Reason::Draining,
            service: Key { namespace: "space".to_owned(), name: HOSTILE.to_owned() },
            code: 403,
            message: "two\nlines".to_owned(),
            warnings: Vec::new(),
        };
        let seen = seen(&pooling(), &conclusion(), now());
        let subscriber = tracing_subscriber::registry().with(lines);
        tracing::subscriber::with_default(subscriber, || refused("eqiad", &request, &refusal, &seen));
        let bytes = paper.0.lock().expect("no panic while it is held").clone();
        String::from_utf8(bytes).expect("UTF-8")
    }

    #[test]
    fn a_line_holds_every_field_and_all_evidence_with_this_datacenter_first() {
        let text = written(LogFormat::Json);
        let line: Value = serde_json::from_str(&text).expect("one JSON object");
        let fields = ["datacenter", "verb", "resource", "reason", "told", "message", "level"];
        let found: Vec<&str> = fields.iter().map(|field| line[field].as_str().unwrap_or_default()).collect();
        assert_eq!(found, ["eqiad", "DELETE", "deployments", "Draining", "two\nlines", "refused", "INFO"]);
        let evidence: Value = serde_json::from_str(line["evidence"].as_str().expect("a string")).expect("JSON");
        let evidence = evidence.as_array().expect("a list");
        let of = |field: &str| evidence.iter().map(|seen| seen[field].clone()).collect::<Vec<_>>();
        assert_eq!(of("datacenter"), ["eqiad", "eqiad", "codfw", "codfw"]);
        assert_eq!(of("source"), ["conftool", "dns", "conftool", "dns"]);
        assert_eq!(of("says"), ["Draining", "Unknown", "NotServing", "Unknown"]);
        assert_eq!(of("why"), [Value::Null, json!("TimedOut"), Value::Null, json!("TimedOut")]);
        assert_eq!(of("revision"), [json!(812), Value::Null, json!(812), Value::Null]);
        assert_eq!(of("age_ms"), [3, 40, 3, 40]);
    }

    #[test]
    fn no_name_makes_a_line_of_its_own_or_a_field() {
        for format in [LogFormat::Json, LogFormat::Text] {
            let text = written(format);
            assert!(text.ends_with('\n') && text.trim_end_matches('\n').lines().count() == 1, "{text}");
            assert!(!text.trim_end_matches('\n').contains(|c: char| c.is_control()), "{text:?}");
            assert!(!text.contains(['\u{2028}', '\u{202e}']), "{text:?}");
        }
        let line: Value = serde_json::from_str(&written(LogFormat::Json)).expect("one JSON object");
        let told =
            "eve\u{fffd}{\"reason\":\"NotServing\"}\u{fffd}\u{fffd}[2K\u{fffd}\u{fffd}\u{fffd}\",\"user\":\"alice";
        for (field, expected) in [("user", told), ("object", told), ("namespace", told)] {
            assert_eq!(line[field], expected, "{field}");
        }
        assert_eq!(line["service"], format!("space/{told}"));
    }
}
