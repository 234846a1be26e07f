//! Reviews as the real API server sends them, recorded by `cargo xtask record-reviews`: each comes through its own door; and
//! changed in any way, none of them makes the decoder or the decision panic, or brings an answer without a uid.

use std::path::Path;
use std::sync::LazyLock;

use poolguard::webhook::review::{Answer, Decoded, decode};
use poolguard_policy::doors::{DOORS, Door, Effect};
use poolguard_policy::request::Body;
use poolguard_policy::verdict::{Decision, Reason};
use poolguard_policy::words::{MESSAGE_LIMIT, WARNING_LIMIT};
use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::{Value, json};

mod fixed;

/// The recordings, by name.
static RECORDINGS: LazyLock<Vec<(String, String)>> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reviews");
    let mut found: Vec<(String, String)> = std::fs::read_dir(folder)
        .expect("the recordings")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .map(|path| {
            let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
            (name, std::fs::read_to_string(&path).expect("a recording"))
        })
        .collect();
    found.sort();
    found
});

/// How a recording of a door is called; recordings of other users add who asked.
fn name(door: &Door) -> String {
    format!("{}-{}-{}", door.entry, door.operation.as_str().to_lowercase(), door.resource.replace('/', "-"))
}

#[test]
fn every_door_has_a_recording_that_comes_through_it() {
    for door in DOORS.iter().chain(fixed::further()) {
        let name = name(door);
        let own: Vec<_> =
            RECORDINGS.iter().filter(|(file, _)| *file == name || file.starts_with(&format!("{name}-by-"))).collect();
        assert!(own.iter().any(|(file, _)| *file == name), "there is no recording {name}");
        for (file, text) in own {
            let decoded = decode(text.as_bytes(), fixed::further()).expect(file);
            let request = decoded.request.expect(file);
            assert_eq!(request.door, door, "{file}");
            assert!(!request.name.is_empty() && !request.user.is_empty(), "{file}");
            let old = door.effect == Effect::EvictPod || door.effect == Effect::CreateOverride;
            assert_eq!(request.old.is_none(), old, "{file}");
            assert_eq!(request.new.is_none(), door.is_delete(), "{file}");
            let object = request.old.or(request.new).expect(file);
            assert!(fits(door, &object.body), "{file}: {:?}", object.body);
        }
    }
}

/// Whether a door's object is what its rules look at.
fn fits(door: &Door, body: &Body) -> bool {
    match door.effect {
        Effect::RemovePod | Effect::RelabelPod => matches!(body, Body::Pod(pod) if !pod.labels.is_empty()),
        Effect::ScaleWorkload if door.resource.contains('/') => matches!(body, Body::Scale { replicas: 1.. }),
        Effect::RemoveWorkload | Effect::ScaleWorkload | Effect::MoveDaemonSet => {
            matches!(body, Body::Workload(workload) if !workload.template_labels.is_empty())
        }
        Effect::RemoveService | Effect::ChangeService => {
            matches!(body, Body::Service(service) if !service.selector.is_empty() && !service.ports.is_empty())
        }
        Effect::RemoveRoute | Effect::ChangeRoute => matches!(body, Body::Route(route) if !route.ways.is_empty()),
        Effect::ChangeBudget => matches!(body, Body::Budget(budget) if budget.selector.is_some()),
        Effect::RemovePooling | Effect::ChangePooling => matches!(body, Body::Pooling(Ok(_))),
        Effect::CreateOverride => matches!(body, Body::Override(_)),
        _ => matches!(body, Body::Plain),
    }
}

#[test]
fn every_recording_gets_its_verdict() {
    for (file, text) in RECORDINGS.iter() {
        let decoded = decode(text.as_bytes(), fixed::further()).expect(file);
        let request = decoded.request.expect(file);
        let by_itself = file.contains("-by-");
        match fixed::judge(&request) {
            Decision::Allow(allowed) if by_itself => assert_eq!(allowed.reason, Reason::ControllerAtWork, "{file}"),
            // It is recorded after its enforcement was changed.
            Decision::Allow(allowed) if file == "poolings-delete-servicepoolings" => {
                assert_eq!(allowed.warned, Some(Reason::EvidenceUnknown), "{file}");
            }
            Decision::Allow(allowed) => {
                let reasons =
                    [Reason::NotGuarded, Reason::CarriesNoTraffic, Reason::OverrideCreated, Reason::NotWeakened];
                assert!(reasons.contains(&allowed.reason), "{file}: {:?}", allowed.reason);
            }
            Decision::Refuse(refusal) => {
                assert!(!by_itself, "{file}: {}", refusal.message);
                assert!(refusal.message.contains(" was not "), "{file}: {}", refusal.message);
            }
            other => unreachable!("{file}: {other:?}"),
        }
    }
}

/// What becomes of a body: no panic, and no answer without a uid.
fn check(body: &[u8]) -> Option<String> {
    let Decoded { uid, request } = decode(body, fixed::further()).ok()?;
    let uid = uid.into_owned();
    assert!(!uid.is_empty());
    let answer = match request.as_ref().map(fixed::judge) {
        None => json!(Answer::allow(&uid, &[], &[])),
        Some(Decision::Allow(allowed)) => json!(Answer::allow(&uid, &allowed.warnings, &[])),
        Some(Decision::Refuse(refusal)) => {
            assert!(refusal.message.len() <= MESSAGE_LIMIT && refusal.warnings.len() <= 3);
            assert!(refusal.warnings.iter().all(|line| line.len() <= WARNING_LIMIT));
            json!(Answer::refuse(&uid, refusal.code, &refusal.message, &refusal.warnings, &[]))
        }
        // A fault is answered with its HTTP status alone.
        Some(Decision::Fault(_)) => return Some(uid),
        Some(other) => unreachable!("{other:?}"),
    };
    assert_eq!(answer["response"]["uid"], json!(uid));
    Some(uid)
}

/// One change of a JSON document.
#[derive(Debug, Clone)]
enum Change {
    Drop(Index),
    Duplicate(Index),
    Replace(Index, Value),
    /// What is at one place comes to another.
    Move(Index, Index),
    Nest(Index, usize),
}

fn change() -> impl Strategy<Value = Change> {
    let value = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(|number| json!(number)),
        Just(json!(1e300)),
        Just(json!([])),
        Just(json!({})),
        ".{0,20}".prop_map(Value::String),
    ];
    prop_oneof![
        any::<Index>().prop_map(Change::Drop),
        any::<Index>().prop_map(Change::Duplicate),
        (any::<Index>(), value).prop_map(|(at, value)| Change::Replace(at, value)),
        (any::<Index>(), any::<Index>()).prop_map(|(from, to)| Change::Move(from, to)),
        (any::<Index>(), 1usize..300).prop_map(|(at, depth)| Change::Nest(at, depth)),
    ]
}

/// Where everything is, the document itself aside.
fn places(value: &Value, at: &str, found: &mut Vec<String>) {
    let escaped = |key: &str| key.replace('~', "~0").replace('/', "~1");
    let inner: Vec<(String, &Value)> = match value {
        Value::Object(map) => map.iter().map(|(key, value)| (escaped(key), value)).collect(),
        Value::Array(all) => all.iter().enumerate().map(|(index, value)| (index.to_string(), value)).collect(),
        _ => Vec::new(),
    };
    for (key, value) in inner {
        let at = format!("{at}/{key}");
        places(value, &at, found);
        found.push(at);
    }
}

fn apply(document: &mut Value, change: &Change) {
    let mut all = Vec::new();
    places(document, "", &mut all);
    if all.is_empty() {
        return;
    }
    let place = |at: &Index| all[at.index(all.len())].clone();
    match change {
        Change::Drop(at) => take(document, &place(at)),
        Change::Duplicate(at) => {
            let (parent, _) = split(&place(at));
            let copy = document.pointer(&place(at)).cloned().unwrap_or_default();
            match document.pointer_mut(&parent) {
                Some(Value::Array(all)) => all.push(copy),
                Some(Value::Object(map)) => drop(map.insert("again".to_owned(), copy)),
                _ => {}
            }
        }
        Change::Replace(at, value) => put(document, &place(at), value.clone()),
        Change::Move(from, to) => {
            let moved = document.pointer(&place(from)).cloned().unwrap_or_default();
            put(document, &place(to), moved);
        }
        Change::Nest(at, depth) => {
            let inner = document.pointer(&place(at)).cloned().unwrap_or_default();
            let nested = (0..*depth)
                .fold(inner, |inner, level| if level % 2 == 0 { json!([inner]) } else { json!({"a": inner}) });
            put(document, &place(at), nested);
        }
    }
}

fn split(place: &str) -> (String, String) {
    let (parent, key) = place.rsplit_once('/').unwrap_or_default();
    (parent.to_owned(), key.replace("~1", "/").replace("~0", "~"))
}

fn put(document: &mut Value, place: &str, value: Value) {
    if let Some(there) = document.pointer_mut(place) {
        *there = value;
    }
}

fn take(document: &mut Value, place: &str) {
    let (parent, key) = split(place);
    match document.pointer_mut(&parent) {
        Some(Value::Object(map)) => drop(map.remove(&key)),
        Some(Value::Array(all)) => {
            if let Ok(index) = key.parse::<usize>() {
                all.remove(index);
            }
        }
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_recording_with_other_bytes_never_panics(
        which in any::<Index>(),
        edits in prop::collection::vec((any::<Index>(), any::<u8>(), 0usize..4), 1..6),
    ) {
        let mut body = which.get(&RECORDINGS).1.clone().into_bytes();
        for (at, byte, how) in edits {
            let at = at.index(body.len().max(1));
            match how {
                _ if body.is_empty() => {}
                0 => body[at] = byte,
                1 => body.insert(at, byte),
                2 => drop(body.remove(at)),
                _ => body.truncate(at),
            }
        }
        check(&body);
    }

    #[test]
    fn a_recording_of_another_shape_never_panics_and_keeps_its_uid(
        which in any::<Index>(),
        changes in prop::collection::vec(change(), 1..5),
    ) {
        let mut document: Value = serde_json::from_str(&which.get(&RECORDINGS).1).expect("JSON");
        for change in &changes {
            apply(&mut document, change);
        }
        if let Some(uid) = check(document.to_string().as_bytes()) {
            prop_assert_eq!(&document["request"]["uid"], &json!(uid));
        }
    }
}
