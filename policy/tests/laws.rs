//! Laws of the decision, over generated evidence: what may never happen, whatever the sources say.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use poolguard_policy::evidence::{Answer, Memory, Record, Says, State, Why, conclude};
use poolguard_policy::pooling::{Arm, Enforcement, Evidence, Key, Mode, Pooling, Threshold};
use poolguard_policy::record::{Kept, Switch, doubt, is_stuck};
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

fn switch() -> impl Strategy<Value = Switch> {
    prop::sample::select(vec![Switch::Pooled, Switch::Depooled, Switch::Unreadable])
}

fn mode() -> impl Strategy<Value = Mode> {
    prop::sample::select(vec![Mode::ActiveActive, Mode::ActivePassive])
}

fn switches(values: &BTreeMap<usize, Switch>) -> impl Iterator<Item = (&'static str, Switch)> {
    values.iter().map(|(at, switch)| (DATACENTERS[*at], *switch))
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
    #![proptest_config(ProptestConfig::with_cases(8 * ProptestConfig::default().cases))]

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

    /// The same for the values of one record: none that is replaced by one that cannot be read, pooled as well, or dropped
    /// although the spec names it, opens a closed guard; and several that are pooled in an active/passive one never open it.
    #[test]
    fn no_worse_value_of_a_record_opens_the_guard(
        values in prop::collection::btree_map(0..DATACENTERS.len(), switch(), 0..4),
        named in prop::collection::btree_set(0..DATACENTERS.len(), 1..4),
        at in 0..DATACENTERS.len(),
        mode in mode(),
    ) {
        let named: Vec<String> = named.into_iter().map(|index| DATACENTERS[index].to_owned()).collect();
        let closed = |values: &BTreeMap<usize, Switch>| {
            values.get(&1) != Some(&Switch::Depooled) || doubt(mode, switches(values), &named).is_some()
        };
        if closed(&values) {
            // DNS follows a record again once the value that cannot be read is mended or gone.
            let readable = values.get(&at) != Some(&Switch::Unreadable);
            for worse in [Switch::Pooled, Switch::Unreadable].into_iter().filter(|_| readable) {
                let mut changed = values.clone();
                changed.insert(at, worse);
                prop_assert!(closed(&changed), "{worse:?} of {}", DATACENTERS[at]);
            }
            let mut dropped = values.clone();
            dropped.remove(&at);
            prop_assert!(closed(&dropped) || !readable || !named.iter().any(|name| name == DATACENTERS[at]));
        }
        let pooled = values.values().filter(|switch| **switch == Switch::Pooled).count();
        prop_assert!(pooled < 2 || mode == Mode::ActiveActive || closed(&values));
        prop_assert!(!is_stuck(mode, switches(&values)) || closed(&values));
    }

    /// DNS follows a record only where it can: whatever happens to its values, seen or not, "depooled" is believed only when
    /// DNS leads there no longer, and no client can hold an answer of the time when it did.
    #[test]
    fn a_depool_is_believed_only_after_dns_has_followed(
        changes in prop::collection::vec(
            (0..DATACENTERS.len(), prop::option::of(switch()), 0u32..600, 1i64..400, prop::bool::weighted(0.8)), 1..14,
        ),
        wait in 0i64..1000,
        mode in mode(),
    ) {
        let (mut time, mut values) = (now(), BTreeMap::<usize, (Switch, u32, u64)>::new());
        let (mut memory, mut kept) = (None::<Memory>, None::<Kept>);
        // As far as anybody can tell, DNS leads here at first, with the first TTL that is seen.
        let (mut leads_here, mut handed_out, mut held) = (true, 0, now());
        for (revision, (at, switch, ttl, after, seen)) in changes.into_iter().enumerate() {
            match switch {
                Some(switch) => drop(values.insert(at, (switch, ttl, revision as u64))),
                None => drop(values.remove(&at)),
            }
            if leads_here {
                held = held.max(time + SignedDuration::from_secs(i64::from(handed_out)));
            }
            let told: BTreeMap<usize, Switch> = values.iter().map(|(at, (switch, ..))| (*at, *switch)).collect();
            let stuck = is_stuck(mode, switches(&told));
            let own = values.get(&1).filter(|(switch, ..)| *switch != Switch::Unreadable);
            let led_here = leads_here;
            if !stuck {
                leads_here = own.is_some_and(|(switch, ..)| *switch == Switch::Pooled);
            }
            // A TTL that this process has not seen cannot be known to it.
            match own {
                Some((_, ttl, _)) if leads_here && !stuck && seen => handed_out = *ttl,
                _ if leads_here && !led_here => handed_out = 0,
                _ => {}
            }
            if seen {
                kept = Some(Kept::after(kept, stuck, own.map(|(_, ttl, _)| *ttl), time));
                if let Some((switch, ttl, revision)) = own {
                    let record = Record { pooled: *switch == Switch::Pooled, ttl: *ttl, revision: *revision };
                    memory = Some(Memory::after(record, memory, None, time));
                }
            }
            time += SignedDuration::from_secs(after);
            if leads_here {
                held = held.max(time + SignedDuration::from_secs(i64::from(handed_out)));
            }
        }
        let asked = time + SignedDuration::from_secs(wait);
        let told: BTreeMap<usize, Switch> = values.iter().map(|(at, (switch, ..))| (*at, *switch)).collect();
        let Some((Switch::Depooled, ttl, revision)) = values.get(&1).copied() else { return Ok(()) };
        let stuck = is_stuck(mode, switches(&told));
        let kept = Kept::after(kept, stuck, Some(ttl), asked);
        let memory = Memory::after(Record { pooled: false, ttl, revision }, memory, None, asked);
        let believed = Memory { held_until: memory.held_until.max(kept.until), ..memory }.says(asked);
        if believed == Says::NotServing && !stuck {
            prop_assert!(!leads_here, "DNS leads here");
            prop_assert!(held <= asked, "clients hold the answer for {}", held.duration_since(asked));
        }
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

    /// What this process saw happen is not shortened by a status, whatever clock wrote it; and what status knows of a longer TTL counts
    /// where it tells of the same moment.
    #[test]
    fn a_status_never_shortens_what_was_seen_to_happen(
        ttls in (1u32..600, 1u32..600),
        after in 0i64..400,
        (early, told) in (-5_000i64..5_000, 0i64..600),
        wait in 0i64..1000,
    ) {
        let record = |pooled, ttl, revision| Record { pooled, ttl, revision };
        let listed = Memory::after(record(true, ttls.0, 6), None, None, now());
        let switched = now() + SignedDuration::from_secs(after);
        let own = Memory::after(record(false, ttls.1, 7), Some(listed), None, switched);
        let since = switched - SignedDuration::from_secs(early);
        let held_until = since + SignedDuration::from_secs(told);
        let status = Memory { record: record(false, 0, 7), since, held_until, witnessed: false };
        let asked = switched + SignedDuration::from_secs(wait);
        let both = Memory::after(record(false, ttls.1, 7), Some(own), Some(status), asked);
        prop_assert!(both.held_until >= own.held_until, "shortened");
        if (-9..=0).contains(&early) && since <= asked {
            prop_assert!(both.held_until >= held_until, "what status knows is forgotten");
        }
        // A process that finds it so takes over what status says.
        let found = Memory::after(record(false, ttls.1, 7), None, None, asked);
        let recalled = Memory::after(record(false, ttls.1, 7), Some(found), Some(status), asked);
        if early > 1 {
            prop_assert_eq!(recalled.held_until, held_until);
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
        // What was seen, and until when what was not seen may be held.
        let (mut memory, mut time, mut held, mut guessed) = (None, now(), Timestamp::MIN, now() + limits.longest);
        let mut last: Option<(Timestamp, Option<SignedDuration>)> = None;
        for (seen, after) in looks {
            let seen = seen.map(|seconds| ttl(seconds).min(limits.longest));
            let missed = last.is_some_and(|(at, _)| time.duration_since(at) > limits.gap);
            // The answer before was handed out until just now.
            if let Some((_, Some(before))) = last {
                held = held.max(time + if missed { limits.longest } else { before });
            }
            match seen {
                // Whoever sees it lead here knows how long that is held.
                Some(ttl) => (held, guessed) = (held.max(time + ttl), Timestamp::MIN),
                None if missed => guessed = guessed.max(time + limits.longest),
                None => {}
            }
            memory = Some(Sighting::after(memory, seen, limits, time));
            last = Some((time, seen));
            time += SignedDuration::from_secs(after);
        }
        let asked = time + SignedDuration::from_secs(wait);
        let says = memory.expect("at least one look").says(asked);
        prop_assert_eq!(says == Says::Serving, last.is_some_and(|(_, seen)| seen.is_some()));
        if says == Says::NotServing {
            prop_assert!(held.max(guessed) <= asked);
        }
    }

    /// Status of another revision, or of another switch, says nothing about this one.
    #[test]
    fn status_is_believed_only_for_the_revision_just_read(ttl in 1u32..600, age in 0i64..10_000) {
        let record = Record { pooled: false, ttl, revision: 7 };
        let old = now() - SignedDuration::from_secs(age);
        let status = |revision| Memory { record: Record { revision, ..record }, since: old, held_until: old, witnessed: false };
        prop_assert_eq!(Memory::after(record, None, Some(status(6)), now()).says(now()), Says::Draining);
        prop_assert_eq!(Memory::after(record, None, Some(status(7)), now()).since, old);
        // What was pooled under this revision when the status was written has been depooled since, in a restored store.
        let pooled = Memory { record: Record { pooled: true, ..record }, since: old, held_until: old, witnessed: false };
        prop_assert_eq!(Memory::after(record, None, Some(pooled), now()).says(now()), Says::Draining);
    }
}
