//! A storm: thousands of evictions at an even rate, and thousands of deletes at once that are refused.
//!
//! Straight over HTTPS: no API server sends as much on two processors. What conftool's etcd is asked is counted at the wire.

use std::collections::HashMap;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use poolguard_harness::programs::Programs;
use poolguard_rig::{Outcome, Plan, Verdict};
use serde::Serialize;

use super::contestant::{Contestant, Layout, Running, Services, Setting};
use super::cores;
use super::load::Rig;
use super::poolguard::Poolguard;
use super::report::Table;
use super::reviews;
use super::spread::digits;
use super::store;
use super::tap::{Asked, Tap};
use super::world::World;
use crate::progress;

/// Every other one is pooled here.
const SERVICES: Services = Services { count: 100, layout: Layout::Apart };
const PODS: usize = 5000;
/// Evictions a second of pods that a budget covers, and as many of pods that none covers.
const EACH: f64 = 25.0;
const DELETES: usize = 5000;
/// As many as the API server would have under way.
const AT_ONCE: usize = 500;
/// The API server waits no longer.
const PATIENCE: f64 = 10.0;

/// What became of one kind of request.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// Which.
    pub what: &'static str,
    /// How many had the right answer.
    pub answers: u64,
    /// How many had another one or none.
    pub wrong: u64,
    /// The first of what went wrong.
    pub complaint: Option<String>,
    /// Milliseconds.
    pub p50: f64,
    /// Milliseconds.
    pub p99: f64,
    /// Milliseconds.
    pub longest: f64,
}

/// What happened.
#[derive(Debug, Clone, Serialize)]
pub struct Storm {
    /// By kind of request.
    pub rows: Vec<Row>,
    /// Questions to conftool's etcd.
    pub questions: usize,
    /// The most of them about one service within one second.
    pub most_in_a_second: usize,
}

/// Measures.
///
/// # Errors
/// If something does not start.
pub fn run(programs: &Programs, rig: &Rig, contestant: &Poolguard, quick: bool) -> Result<Storm> {
    let seconds = if quick { 10.0 } else { 100.0 };
    progress(&format!("a storm of {:.0} evictions and {DELETES} deletes", 2.0 * EACH * seconds));
    let world = World::start(programs, SERVICES)?;
    store::write(&world.etcd, &store::pods(SERVICES, PODS).collect::<Vec<_>>())?;
    let pooled = || (0..SERVICES.count).filter(|index| SERVICES.pooled(*index));
    let covered = || pooled().step_by(2);
    store::write(&world.etcd, &store::budgets(SERVICES, covered()))?;
    let tap = Tap::start(world.conftool.endpoint.trim_start_matches("http://"))?;
    let through = format!("http://127.0.0.1:{}", tap.port);
    let setting = Setting { conftool: &through, ..world.setting() };
    let running = cores::on_the_servers(|| contestant.start(&setting))?;
    let folder = &world.datacenter.folder;
    let pods = PODS / SERVICES.count;
    let lines = |indices: &mut dyn Iterator<Item = usize>, review: &dyn Fn(usize, &str) -> String| -> String {
        let all = indices.flat_map(|index| (0..pods).map(move |number| (index, number)));
        all.map(|(index, number)| format!("{}\n", review(index, &store::pod_name(SERVICES, index, number)))).collect()
    };
    let evicted = |index: usize, name: &str| reviews::eviction(&SERVICES.namespace(index), name);
    let deleted = |index: usize, name: &str| reviews::deletion(SERVICES, index, name);
    let file = |name: &str, text: String| {
        let file = folder.join(name);
        std::fs::write(&file, text).context("cannot write reviews").map(|()| file)
    };
    let within = file("covered.jsonl", lines(&mut covered(), &evicted))?;
    let without = file("bare.jsonl", lines(&mut pooled().skip(1).step_by(2), &evicted))?;
    let deletes = file("deletes.jsonl", lines(&mut pooled(), &deleted))?;
    tap.requests();
    let plans = [
        ("evictions within a budget: allowed", plan(&running, &within, Verdict::Allowed, EACH, seconds, 16)),
        ("evictions without budget: refused for now", plan(&running, &without, Verdict::Refused, EACH, seconds, 16)),
        ("deletes, all at once: refused", at_once(&running, &deletes)),
    ];
    let outcomes = thread::scope(|scope| {
        let threads = plans.map(|(what, plan)| {
            scope.spawn(move || {
                if plan.rate > Some(EACH) {
                    // In the middle of the evictions.
                    thread::sleep(Duration::from_secs_f64(seconds / 2.0));
                }
                rig.send(&plan).map(|outcome| row(what, outcome))
            })
        });
        threads.map(|thread| thread.join().unwrap_or_else(|_| bail!("a thread has panicked")))
    });
    let rows = outcomes.into_iter().collect::<Result<Vec<Row>>>()?;
    let asked: Vec<Asked> = tap.requests();
    let about = questions(&asked);
    running.stop(world.datacenter.run())?;
    Ok(Storm {
        rows,
        questions: about.values().map(Vec::len).sum(),
        most_in_a_second: about.values().map(|moments| most_within(moments, Duration::from_secs(1))).max().unwrap_or(0),
    })
}

fn plan(running: &Running, reviews: &Path, expected: Verdict, rate: f64, seconds: f64, connections: usize) -> Plan {
    // The last one is due at the end, and counts.
    let seconds = seconds + 0.5 / rate;
    Plan { connections, rate: Some(rate), seconds, patience: PATIENCE, ..running.plan(reviews, expected) }
}

/// All of them due within ten milliseconds.
fn at_once(running: &Running, reviews: &Path) -> Plan {
    let seconds = 0.01;
    let rate = DELETES as f64 / seconds;
    plan(running, reviews, Verdict::Refused, rate, seconds, AT_ONCE)
}

fn row(what: &'static str, outcome: Outcome) -> Row {
    let wrong = outcome.wrong + outcome.lost;
    let Outcome { right, complaint, latency, .. } = outcome;
    Row { what, answers: right, wrong, complaint, p50: latency.p50, p99: latency.p99, longest: latency.max }
}

/// When each record was asked about. Lists and watches of all records are about none.
fn questions(asked: &[Asked]) -> HashMap<&str, Vec<Instant>> {
    let mut about: HashMap<&str, Vec<Instant>> = HashMap::new();
    for Asked { at, line } in asked {
        let path = line.split(['?', ' ']).nth(1).unwrap_or_default();
        let record = path.split_once("/discovery/").map_or("", |(_, record)| record);
        if line.starts_with("GET ") && !record.is_empty() {
            about.entry(record).or_default().push(*at);
        }
    }
    about
}

/// The most moments within a time.
fn most_within(moments: &[Instant], time: Duration) -> usize {
    let from = |first: &Instant| moments.iter().filter(|moment| **moment >= *first && **moment - *first < time).count();
    moments.iter().map(from).max().unwrap_or_default()
}

/// As a table.
pub fn table(storm: &Storm) -> Table {
    let mut table = Table::new(&["requests", "answered rightly", "wrong, lost or late", "p50 / p99 / longest ms"]);
    for row in &storm.rows {
        let times = format!("{} / {} / {}", digits(row.p50), digits(row.p99), digits(row.longest));
        table.rows.push(vec![row.what.to_owned(), row.answers.to_string(), row.wrong.to_string(), times]);
    }
    table
}

/// What etcd was asked, in words.
pub fn told(storm: &Storm) -> String {
    format!(
        "conftool's etcd was asked {} times about {} services, at most {} times within a second about one of them.",
        storm.questions,
        SERVICES.count / 2,
        storm.most_in_a_second
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_about_one_record_are_counted_by_the_second() {
        let start = Instant::now();
        let asked =
            |millis: u64, line: &str| Asked { at: start + Duration::from_millis(millis), line: line.to_owned() };
        let all = [
            asked(0, "GET /v2/keys/conftool/v1/discovery/a?recursive=true"),
            asked(900, "GET /v2/keys/conftool/v1/discovery/a?recursive=true"),
            asked(950, "GET /v2/keys/conftool/v1/discovery/b?recursive=true"),
            asked(1001, "GET /v2/keys/conftool/v1/discovery/a?recursive=true"),
            asked(1002, "GET /v2/keys/conftool/v1/discovery?wait=true"),
            asked(1003, "PUT /v2/keys/conftool/v1/discovery/a"),
        ];
        let about = questions(&all);
        assert_eq!(about.len(), 2);
        assert_eq!(most_within(&about["a"], Duration::from_secs(1)), 2);
        assert_eq!(most_within(&about["b"], Duration::from_secs(1)), 1);
    }
}
