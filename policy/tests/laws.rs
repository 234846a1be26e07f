//! Laws of the decision, over generated evidence: what may never happen, whatever the sources say.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use poolguard_policy::evidence::{Answer, Memory, Record, Says, State, Why, conclude, doubt_active_passive};
use poolguard_policy::pooling::{Arm, Enforcement, Evidence, Key, Mode, Pooling, Threshold};
use poolguard_policy::selector::Selector;
use poolguard_policy::sighting::{Limits, Sighting, ttl};
use poolguard_policy::steps::{Step, command, steps};
use proptest::prelude::*;

const DATACENTERS: [&str; 3] = ["codfw", "eqiad", "ulsfo"];

fn now() -> Timestamp {
    "2026-01-02T03:04:05Z".parse().expect("a time")
}

fn says() -> impl Strategy<Value = Says> {
    prop_oneof![
        Just(Says::Serving),
        Just(Says::Draining),
        Just(Says::NotServing),
        (0..Why::ALL.len()).prop_map(|index| Says::Unknown(Why::ALL[index])),
    ]
}

/// One to three sources, of which each says something about each datacenter.
fn evidence() -> impl Strategy<Value = Vec<Vec<Says>>> {
    prop::collection::vec(prop::collection::vec(says(), DATACENTERS.len()), 1..5)
}

fn pooling(sources: usize, mode: Mode, declared: bool) -> Pooling {
    let arm = |index: usize| match index {
        0 if declared => Arm::Declared { pooled_in: vec!["eqiad".to_owned()] },
        1 => Arm::Dns { source: None, name: "service.example".to_owned() },
        2 => Arm::Prometheus { source: None, query: "q".to_owned(), threshold: Threshold::default() },
        _ => Arm::Conftool { source: None, record: format!("record-{index}") },
    };
    Pooling {
        key: Key { namespace: "space".to_owned(), name: "service".to_owned() },
        version: String::new(),
        selector: Selector::labels([("app", "service")]),
        expendable: None,
        mode,
        datacenters: DATACENTERS.map(str::to_owned).to_vec(),
        min_pooled_datacenters: 1,
        evidence: (0..sources).map(|index| Evidence { name: format!("e{index}"), arm: arm(index) }).collect(),
        enforcement: Enforcement::Enforce,
        accepted: Vec::new(),
    }
}

fn answers(said: &[Vec<Says>]) -> Vec<Answer> {
    said.iter()
        .enumerate()
        .flat_map(|(index, row)| {
            row.iter().zip(DATACENTERS).map(move |(says, datacenter)| Answer {
                evidence: format!("e{index}"),
                datacenter: datacenter.to_owned(),
                says: says.clone(),
                detail: String::new(),
                revision: None,
                since: None,
                not_serving_after: None,
                read: now(),
            })
        })
        .collect()
}

fn open(pooling: &Pooling, answers: &[Answer]) -> bool {
    conclude("eqiad", pooling, answers, now()).here().state == State::NotServing
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// More evidence of traffic, an answer replaced by `Unknown`, one dropped, doubled or made older, never opens a closed
    /// guard.
    #[test]
    fn no_worse_evidence_opens_the_guard(
        said in evidence(),
        at in any::<prop::sample::Index>(),
        why in 0..Why::ALL.len(),
        ages in prop::collection::vec(0i64..20_000, 12),
        older in 0i64..20_000,
    ) {
        let pooling = pooling(said.len(), Mode::ActiveActive, false);
        let mut before = answers(&said);
        for (answer, age) in before.iter_mut().zip(ages) {
            answer.read = now() - SignedDuration::from_millis(age);
        }
        let closed = !open(&pooling, &before);
        let at = at.index(before.len());
        let mut traffic = before.clone();
        traffic[at].says = Says::Serving;
        let mut unknown = before.clone();
        unknown[at].says = Says::Unknown(Why::ALL[why]);
        let mut dropped = before.clone();
        dropped.remove(at);
        let mut doubled = before.clone();
        doubled.push(before[at].clone());
        let mut aged = before.clone();
        aged[at].read -= SignedDuration::from_millis(older);
        let mut more = pooling.clone();
        more.evidence.push(Evidence { name: "further".to_owned(), arm: pooling.evidence[0].arm.clone() });
        prop_assert!(!(closed && open(&more, &before)), "one more source that is expected, and does not answer");
        for worse in [traffic, unknown, dropped, doubled, aged] {
            prop_assert!(!(closed && open(&pooling, &worse)));
        }
    }

    /// The guard is open only if every source says of this datacenter that it does not serve.
    #[test]
    fn only_not_serving_everywhere_opens_the_guard(said in evidence()) {
        let pooling = pooling(said.len(), Mode::ActiveActive, false);
        let every = said.iter().all(|row| row[1] == Says::NotServing);
        prop_assert_eq!(open(&pooling, &answers(&said)), every);
        let mut old = answers(&said);
        old[1].read -= SignedDuration::from_secs(7);
        prop_assert!(!open(&pooling, &old), "an old answer is no proof");
        let mut unnamed = pooling.clone();
        unnamed.datacenters.retain(|name| name != "eqiad");
        prop_assert!(!open(&unnamed, &answers(&said)), "a datacenter that the spec does not name is unknown");
    }

    /// Several datacenters pooled in an active/passive record: none of the others is believed to be depooled.
    #[test]
    fn an_ambiguous_record_depools_nobody(mut row in prop::collection::vec(says(), 3)) {
        row[0] = Says::Serving;
        row[2] = Says::Serving;
        let mut all = answers(&[row]);
        doubt_active_passive(Mode::ActivePassive, &mut all);
        prop_assert!(!open(&pooling(1, Mode::ActivePassive, false), &all));
    }

    /// No message proposes steps that leave a source without any datacenter that is pooled.
    #[test]
    fn no_steps_leave_nothing_pooled(said in evidence(), declared in any::<bool>()) {
        let pooling = pooling(said.len(), Mode::ActiveActive, declared);
        let conclusion = conclude("eqiad", &pooling, &answers(&said), now());
        let mut pooled: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (index, row) in said.iter().enumerate() {
            let names = row.iter().zip(DATACENTERS).filter(|(says, _)| **says == Says::Serving);
            pooled.insert(format!("e{index}"), names.map(|(_, name)| name.to_owned()).collect());
        }
        for step in steps(&pooling, &conclusion, Some(3)) {
            prop_assert!(!command(&pooling, &step).is_empty());
            match step {
                Step::Pool { evidence, datacenter } => pooled.entry(evidence).or_default().push(datacenter),
                Step::Depool { evidence, datacenter } => {
                    let names = pooled.entry(evidence).or_default();
                    names.retain(|name| *name != datacenter);
                    prop_assert!(!names.is_empty(), "nothing is left");
                }
                _ => {}
            }
        }
    }

    /// "Depooled" is believed only when no client can hold an older answer: the TTL of everything that was handed out is over.
    #[test]
    fn a_depool_is_believed_only_after_every_ttl(
        changes in prop::collection::vec((any::<bool>(), 0u32..600, 1i64..400), 1..8),
        wait in 0i64..1000,
    ) {
        let (mut memory, mut time, mut held) = (None, now(), None::<Timestamp>);
        for (index, (pooled, ttl, after)) in changes.iter().enumerate() {
            let record = Record { pooled: *pooled, ttl: *ttl, revision: index as u64 };
            let before: Option<Memory> = memory;
            if let Some(before) = before.filter(|before| before.record.pooled) {
                let handed_out = time + SignedDuration::from_secs(i64::from(before.record.ttl));
                held = held.max(Some(handed_out));
            }
            memory = Some(Memory::after(record, before, None, time));
            time += SignedDuration::from_secs(*after);
        }
        let last = memory.expect("at least one change");
        let asked = time + SignedDuration::from_secs(wait);
        let again = Memory::after(last.record, Some(last), None, asked);
        prop_assert_eq!(again, last, "reading the same revision again changes nothing");
        if again.says(asked) == Says::NotServing {
            prop_assert!(held.is_none_or(|held| held <= asked));
        }
    }

    /// A name is believed to lead elsewhere only when no client can hold an answer that led here: every TTL that was seen is
    /// over, and where nobody has looked yet, or not for a while, the longest one.
    #[test]
    fn a_name_leads_elsewhere_only_after_every_ttl(
        looks in prop::collection::vec((prop::option::of(any::<u32>()), 1i64..400), 1..12),
        wait in 0i64..1000,
    ) {
        let limits = Limits { longest: SignedDuration::from_secs(300), gap: SignedDuration::from_secs(200) };
        let (mut memory, mut time, mut held, mut sighted) = (None, now(), now() + limits.longest, false);
        let mut last: Option<(Timestamp, bool)> = None;
        for (seen, after) in looks {
            let seen = seen.map(|seconds| ttl(seconds).min(limits.longest));
            let missed = last.is_some_and(|(at, seen)| !seen && time.duration_since(at) > limits.gap);
            if let Some(ttl) = seen {
                held = if sighted { held.max(time + ttl) } else { time + ttl };
                sighted = true;
            } else if missed {
                held = held.max(time + limits.longest);
                sighted = false;
            }
            memory = Some(Sighting::after(memory, seen, limits, time));
            last = Some((time, seen.is_some()));
            time += SignedDuration::from_secs(after);
        }
        let asked = time + SignedDuration::from_secs(wait);
        let says = memory.expect("at least one look").says(asked);
        prop_assert_eq!(says == Says::Serving, last.is_some_and(|(_, seen)| seen));
        if says == Says::NotServing {
            prop_assert!(held <= asked);
        }
    }

    /// Status of another revision says nothing about this one.
    #[test]
    fn status_is_believed_only_for_the_revision_just_read(ttl in 1u32..600, age in 0i64..10_000) {
        let record = Record { pooled: false, ttl, revision: 7 };
        let old = now() - SignedDuration::from_secs(age);
        let status = |revision| Memory { record: Record { revision, ..record }, since: old, held_until: old };
        prop_assert_eq!(Memory::after(record, None, Some(status(6)), now()).says(now()), Says::Draining);
        prop_assert_eq!(Memory::after(record, None, Some(status(7)), now()).since, old);
    }
}
