//! What is remembered, at its edges: the moment at which a word changes, and what a memory keeps of the one before.

use jiff::{SignedDuration, Timestamp};
use poolguard_policy::evidence::{Answer, MAX_AGE, Memory, Record, Says, State, Why, conclude};
use poolguard_policy::pooling::{Arm, Enforcement, Evidence, Key, Mode, Pooling};
use poolguard_policy::selector::Selector;
use poolguard_policy::sighting::{Limits, Sighting, ttl};
use poolguard_policy::steps::{Step, command};

/// So many milliseconds after some moment.
fn at(milliseconds: i64) -> Timestamp {
    let start: Timestamp = "2026-01-02T03:04:05Z".parse().expect("a time");
    start.checked_add(SignedDuration::from_millis(milliseconds)).expect("a time")
}

const RECORD: Record = Record { pooled: false, ttl: 10, revision: 7 };

fn memory(since: i64, held_until: i64) -> Memory {
    Memory { record: RECORD, since: at(since), held_until: at(held_until), witnessed: false }
}

#[test]
fn a_depool_is_believed_at_the_very_moment_at_which_the_last_answer_ends() {
    let memory = memory(0, 10_000);
    assert_eq!(memory.says(at(9_999)), Says::Draining);
    assert_eq!(memory.says(at(10_000)), Says::NotServing);
}

#[test]
fn who_is_believed_about_a_revision_that_status_remembers_too() {
    let after = |(seen, own): (i64, i64), (told, status): (i64, i64), witnessed: bool| {
        let own = Memory { witnessed, ..memory(seen, own) };
        let after = Memory::after(RECORD, Some(own), Some(memory(told, status)), at(60_000));
        assert_eq!(after.witnessed, witnessed);
        (after.since, after.held_until)
    };
    // Whoever found it so believes who has seen it for longer by a second; of those who saw it come, whoever knows of a longer TTL.
    for (seen, told, since, held) in [
        ((5_000, 1), (5_000, 2), 5_000, 2),
        ((5_000, 2), (5_000, 1), 5_000, 2),
        ((5_999, 1), (5_000, 2), 5_999, 2),
        ((6_000, 1), (5_000, 2), 5_000, 2),
        ((6_000, 2), (5_000, 1), 5_000, 1),
        ((5_000, 1), (14_999, 2), 5_000, 2),
        ((5_000, 1), (15_000, 2), 5_000, 1),
    ] {
        assert_eq!(after(seen, told, false), (at(since), at(held)), "{seen:?} by itself, {told:?} in status");
    }
    // What it saw happen, it does not believe to be over any earlier.
    for (seen, told, since, held) in
        [((6_000, 2), (5_000, 1), 5_000, 2), ((6_000, 1), (5_000, 2), 5_000, 2), ((5_000, 1), (15_000, 2), 5_000, 1)]
    {
        assert_eq!(after(seen, told, true), (at(since), at(held)), "{seen:?} by itself, {told:?} in status");
    }
}

#[test]
fn what_status_remembers_of_a_revision_is_its_times_and_never_its_value() {
    let status = Memory { record: Record { ttl: 600, ..RECORD }, ..memory(0, 2) };
    let after = Memory::after(RECORD, None, Some(status), at(60_000));
    assert_eq!(after, memory(0, 2));
}

/// A service whose only evidence is what its spec declares.
fn declared(pooled_in: &[&str]) -> Pooling {
    let pooled_in = pooled_in.iter().map(|name| (*name).to_owned()).collect();
    Pooling {
        key: Key { namespace: "space".to_owned(), name: "service".to_owned() },
        version: String::new(),
        selector: Selector::labels([("app", "service")]),
        expendable: None,
        mode: Mode::ActiveActive,
        datacenters: vec!["eqiad".to_owned()],
        min_pooled_datacenters: 1,
        evidence: vec![Evidence { name: "a".to_owned(), arm: Arm::Declared { pooled_in } }],
        enforcement: Enforcement::Enforce,
        accepted: Vec::new(),
    }
}

#[test]
fn the_command_of_a_step_does_what_the_step_says_whatever_is_declared() {
    let (evidence, datacenter) = ("a".to_owned(), "eqiad".to_owned());
    let pool = Step::Pool { evidence: evidence.clone(), datacenter: datacenter.clone() };
    let depool = Step::Depool { evidence, datacenter };
    for (pooled_in, step, does) in [
        (&["codfw", "eqiad"][..], &pool, r#""op":"add","path":"/spec/evidence/0/declared/pooledIn/-","value":"eqiad""#),
        (&["codfw"], &pool, r#""op":"add","path":"/spec/evidence/0/declared/pooledIn/-","value":"eqiad""#),
        (&["codfw", "eqiad"], &depool, r#""op":"remove","path":"/spec/evidence/0/declared/pooledIn/1""#),
    ] {
        let told = command(&declared(pooled_in), step);
        assert!(told.contains(does), "{told}");
    }
}

#[test]
fn an_answer_is_a_proof_for_six_seconds_and_not_a_moment_longer() {
    let pooling = declared(&[]);
    let answer = Answer {
        evidence: "a".to_owned(),
        datacenter: "eqiad".to_owned(),
        says: Says::NotServing,
        detail: String::new(),
        revision: None,
        since: None,
        not_serving_after: None,
        read: at(0),
    };
    let state = |now: Timestamp| conclude("eqiad", &pooling, std::slice::from_ref(&answer), now).here().state;
    let end = at(0).checked_add(MAX_AGE).expect("a time");
    assert_eq!(state(end), State::NotServing);
    assert_eq!(state(end.checked_add(SignedDuration::from_nanos(1)).expect("a time")), State::Unknown);
}

const LIMITS: Limits = Limits { longest: SignedDuration::from_secs(60), gap: SignedDuration::from_secs(5) };

/// The memory after looks at these seconds, each with the TTL that was seen, in seconds.
fn looks(looks: &[(i64, Option<i64>)]) -> Sighting {
    let look = |before: Option<Sighting>, (second, seen): &(i64, Option<i64>)| {
        Some(Sighting::after(before, seen.map(SignedDuration::from_secs), LIMITS, at(second * 1000)))
    };
    looks.iter().fold(None, look).expect("at least one look")
}

#[test]
fn a_name_that_led_here_is_held_from_the_first_look_that_does_not_see_it() {
    let memory = looks(&[(0, Some(10)), (4, None)]);
    assert_eq!((memory.held_until, memory.since), (at(14_000), at(4_000)));
    assert_eq!(memory.says(at(13_999)), Says::Draining);
    assert_eq!(memory.says(at(14_000)), Says::NotServing);
}

#[test]
fn looks_that_say_the_same_say_it_since_the_first_of_them() {
    assert_eq!(looks(&[(0, Some(10)), (4, Some(10)), (8, Some(10))]).since, at(0));
    assert_eq!(looks(&[(0, Some(10)), (4, None), (8, None), (12, None)]).since, at(4_000));
    assert_eq!(looks(&[(0, Some(10)), (4, None), (8, Some(10))]).since, at(8_000));
    assert_eq!(looks(&[(0, None), (4, None)]).since, at(0));
}

#[test]
fn looks_that_are_close_enough_miss_nothing_and_others_begin_anew() {
    // Each is as far from the one before as it may be, and the last one from the first by more.
    let close = looks(&[(0, Some(1)), (5, None), (10, None), (15, None)]);
    assert_eq!((close.held_until, close.says(at(15_000))), (at(6_000), Says::NotServing));
    let far = looks(&[(0, Some(1)), (5, None), (11, None)]);
    assert_eq!((far.held_until, far.says(at(11_000))), (at(71_000), Says::Unknown(Why::Unsettled)));
}

#[test]
fn a_ttl_that_was_seen_is_forgotten_neither_for_another_one_nor_for_a_pause() {
    // The older one was handed out until just before the look that saw the younger one.
    let lowered = looks(&[(0, Some(50)), (4, Some(1)), (8, None)]);
    assert_eq!(lowered.held_until, at(54_000));
    // Nobody looked for a while, and what was guessed then is over with the next sighting.
    let paused = looks(&[(0, Some(50)), (4, None), (12, None), (14, Some(1)), (15, None)]);
    assert_eq!((paused.held_until, paused.says(at(15_000))), (at(54_000), Says::Draining));
    // The last look saw it lead here, and whatever may have been handed out since.
    assert_eq!(looks(&[(0, Some(1)), (30, None)]).held_until, at(90_000));
}

#[test]
fn a_ttl_is_its_seconds_or_none_with_the_top_bit() {
    for (seconds, held) in [(0, 0), (1, 1), (300, 300), (0x7fff_ffff, 0x7fff_ffff), (0x8000_0000, 0), (u32::MAX, 0)] {
        assert_eq!(ttl(seconds), SignedDuration::from_secs(held), "{seconds}");
    }
}

#[test]
fn what_is_told_of_a_source_is_named_as_in_the_code() {
    for why in Why::ALL {
        assert_eq!(why.as_str(), format!("{why:?}"));
    }
    for state in [State::Serving, State::NotServing, State::Unknown] {
        assert_eq!(state.as_str(), format!("{state:?}"));
    }
}

#[test]
fn a_revision_with_another_value_is_of_a_restored_store_and_nothing_remembered_counts() {
    let other = Memory { record: Record { pooled: true, ..RECORD }, ..memory(0, 1) };
    let status = Some(memory(5_000, 2));
    for status in [None, status] {
        assert_eq!(Memory::after(RECORD, Some(other), status, at(60_000)).since, at(60_000));
    }
    // A value that was seen before under another revision is no contradiction: status knows more of this one.
    let earlier = Memory { record: Record { pooled: true, revision: 6, ..RECORD }, ..memory(0, 1) };
    assert_eq!(Memory::after(RECORD, Some(earlier), status, at(60_000)).since, at(5_000));
}
