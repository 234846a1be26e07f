//! Reviews replayed straight over HTTPS: what a contestant costs by itself.
//!
//! Contestants take turns, in both orders; a ratio is of what was measured side by side.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use poolguard_harness::programs::Programs;
use poolguard_harness::wait::wait_for;
use poolguard_rig::process::memory;
use poolguard_rig::{Outcome, Plan, Verdict};
use serde::Serialize;

use super::contestant::{Contestant, Layout, Running, Services};
use super::cores;
use super::load::Rig;
use super::peers;
use super::reviews::{self, Question};
use super::spread::Spread;
use super::world::World;
use crate::progress;

/// As many as there are reviews under way at most.
const CONNECTIONS: usize = 32;
/// What p99 must stay under for a rate to count, in milliseconds.
const BOUND: f64 = 5.0;
/// How long a contestant may take to know all services.
const SETTLE: Duration = Duration::from_secs(180);
/// Seconds in which a contestant has an answer at all.
const ONE_ANSWER: f64 = 1.0;
/// Seconds before each measurement that are not measured.
const WARMUP: f64 = 0.3;
/// Rates at which latencies are measured: the first that a contestant has room for.
const RATES: [f64; 3] = [1000.0, 100.0, 10.0];
/// How much of its highest rate that may be.
const ROOM: f64 = 0.6;

/// How long everything is measured.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// Seconds at an even rate.
    pub even: f64,
    /// Seconds as fast as possible.
    pub fastest: f64,
    /// How often there and back.
    pub rounds: usize,
    /// Steps of the search for the highest rate.
    pub steps: usize,
    /// Only what is needed for a first look.
    pub quick: bool,
}

impl Size {
    /// For a first look, or for the documentation.
    pub fn new(quick: bool) -> Self {
        if quick {
            Self { even: 1.0, fastest: 0.8, rounds: 1, steps: 3, quick }
        } else {
            Self { even: 2.5, fastest: 1.2, rounds: 1, steps: 4, quick }
        }
    }
}

/// What is asked, over which services.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    question: Question,
    kib: usize,
    /// Whether the highest rate is searched for.
    search: bool,
}

impl Case {
    fn name(self) -> String {
        let what = match self.question {
            Question::Warm => "refused, warm",
            Question::Cold => "refused, cold",
            Question::Permission => "permitted",
            Question::Unguarded => "unguarded",
        };
        format!("{what}, {} KB", self.kib)
    }
}

/// One case.
pub const fn case(question: Question, kib: usize) -> Case {
    Case { question, kib, search: false }
}

const fn searched(question: Question, kib: usize) -> Case {
    Case { question, kib, search: true }
}

/// What is measured: each number of services with its questions.
fn cases(quick: bool) -> Vec<(Services, Vec<Case>)> {
    use Question::{Cold, Permission, Unguarded, Warm};
    let services = |count, layout| Services { count, layout };
    if quick {
        return vec![
            (services(10, Layout::Together), vec![case(Unguarded, 2), case(Warm, 2)]),
            (services(1000, Layout::Together), vec![case(Warm, 2)]),
        ];
    }
    vec![
        (
            services(10, Layout::Together),
            vec![searched(Unguarded, 2), case(Unguarded, 10), searched(Warm, 2), case(Warm, 10), case(Permission, 2)],
        ),
        (services(1000, Layout::Together), vec![case(Unguarded, 2), searched(Warm, 2), case(Permission, 2)]),
        (services(1000, Layout::Apart), vec![case(Unguarded, 2), case(Warm, 2)]),
        (services(10_000, Layout::Together), vec![case(Unguarded, 2), case(Warm, 2)]),
        (
            services(10_000, Layout::Apart),
            vec![case(Unguarded, 2), searched(Warm, 2), case(Cold, 2), case(Permission, 2)],
        ),
    ]
}

/// What one contestant did in one case.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// How many services.
    pub services: usize,
    /// Where they stand.
    pub layout: String,
    /// What was asked.
    pub case: String,
    /// Who.
    pub contestant: String,
    /// Reviews a second at which latencies and the first CPU time were measured.
    pub rate: f64,
    /// Milliseconds.
    pub p50: Spread,
    /// Milliseconds.
    pub p99: Spread,
    /// Milliseconds.
    pub p999: Spread,
    /// CPU seconds of the server for 1,000 reviews at that rate.
    pub cpu: Spread,
    /// How many times the floor's that is.
    pub cpu_by_floor: Option<Spread>,
    /// How many times poolguard's that is.
    pub cpu_by_poolguard: Option<Spread>,
    /// How many times the floor's p99 this p99 is.
    pub p99_by_floor: Option<Spread>,
    /// Answers a second, as fast as possible.
    pub most: Spread,
    /// CPU seconds for 1,000 reviews then.
    pub cpu_at_most: Spread,
    /// How many times the floor's that is.
    pub cpu_at_most_by_floor: Option<Spread>,
    /// The generator had no time left then: the server could have answered more.
    pub generator_bound: bool,
    /// The highest rate found with a p99 under 5 ms.
    pub under_bound: Option<f64>,
    /// Resident memory in MiB.
    pub memory: f64,
    /// Answers that were not the right ones, and reviews that were lost at an even rate.
    pub wrong: u64,
    /// The first of what went wrong.
    pub complaint: Option<String>,
}

/// A contestant that runs.
pub struct Entry<'a> {
    contestant: &'a dyn Contestant,
    /// Its processes.
    pub running: Running,
    services: Services,
    /// Where its reviews are written.
    folder: PathBuf,
}

/// What was measured of one contestant in one case.
#[derive(Default)]
pub struct Measured {
    rate: f64,
    /// At an even rate.
    pub even: Vec<Outcome>,
    /// As fast as possible.
    pub fastest: Vec<Outcome>,
    under_bound: Option<f64>,
}

/// Measures.
pub struct Straight<'a> {
    /// What starts the API servers.
    pub programs: &'a Programs,
    /// The load generator.
    pub rig: &'a Rig,
    /// How long.
    pub size: Size,
}

impl Straight<'_> {
    /// Everything.
    ///
    /// # Errors
    /// If a contestant does not start or does not answer.
    pub fn run(&self, contestants: &[Box<dyn Contestant>]) -> Result<Vec<Row>> {
        let mut rows = Vec::new();
        for (services, cases) in cases(self.size.quick) {
            progress(&format!("{} services, {}", services.count, services.layout));
            let world = World::start(self.programs, services)?;
            let mut entries = Vec::new();
            for contestant in contestants.iter().filter(|one| one.most_services() >= services.count) {
                match self.start(&world, contestant.as_ref()) {
                    Ok(entry) => entries.push(entry),
                    Err(error) if peers::is_one(contestant.name()) => {
                        progress(&format!("  {} is left out: {error:#}", contestant.name()));
                    }
                    Err(error) => return Err(error),
                }
            }
            for case in cases {
                progress(&format!("  {}", case.name()));
                let all = self.alternate(&entries, case)?;
                let named = |name: &str| Some(&all[entries.iter().position(|entry| entry.contestant.name() == name)?]);
                let others = [named("floor"), named("poolguard")];
                for (entry, measured) in entries.iter().zip(&all) {
                    match row(case, entry, measured, others)? {
                        Some(row) => rows.push(row),
                        None => progress(&format!("    {} answered nothing in time", entry.contestant.name())),
                    }
                }
            }
            for entry in entries {
                entry.running.stop(world.datacenter.run())?;
            }
        }
        Ok(rows)
    }

    /// Starts one on the server's processor, and waits until it knows the last service.
    ///
    /// # Errors
    /// If it does not start.
    pub fn start<'b>(&self, world: &World, contestant: &'b dyn Contestant) -> Result<Entry<'b>> {
        let setting = world.setting();
        let running = cores::on_the_servers(|| contestant.start(&setting))
            .with_context(|| format!("cannot start {}", contestant.name()))?;
        let folder = world.datacenter.run().subfolder(contestant.name())?;
        let file = folder.join("last.jsonl");
        let entry = Entry { contestant, running, services: setting.services, folder };
        reviews::write_last(&file, setting.services)?;
        let known = wait_for(&format!("{} to know all services", contestant.name()), SETTLE, || {
            let plan = plan(&entry, &file, Verdict::Refused);
            let plan = Plan { seconds: ONE_ANSWER, patience: ONE_ANSWER, warmup: 0.0, connections: 1, ..plan };
            let outcome = self.rig.send(&plan)?;
            ensure!(outcome.answers > 0 && outcome.wrong == 0, "it says {:?}", outcome.complaint);
            Ok(())
        });
        if let Err(error) = known {
            // Nobody else is to have less of the processor for it.
            entry.running.stop(world.datacenter.run())?;
            return Err(error);
        }
        Ok(entry)
    }

    /// Has them take turns.
    ///
    /// # Errors
    /// If one does not answer.
    pub fn alternate(&self, entries: &[Entry<'_>], case: Case) -> Result<Vec<Measured>> {
        let file = |entry: &Entry<'_>| entry.folder.join("reviews.jsonl");
        for entry in entries {
            reviews::write(&file(entry), entry.services, case.question, case.kib << 10)?;
        }
        let mut all: Vec<Measured> = entries.iter().map(|_| Measured::default()).collect();
        let plan = |index: usize| plan(&entries[index], &file(&entries[index]), case.question.expected());
        let fastest = |index: usize| self.rig.send(&Plan { rate: None, seconds: self.size.fastest, ..plan(index) });
        for index in there_and_back(entries.len(), self.size.rounds) {
            all[index].fastest.push(fastest(index)?);
        }
        for measured in &mut all {
            let most = Spread::of(measured.fastest.iter().map(per_second)).map_or(0.0, |most| most.median);
            measured.rate = RATES.into_iter().find(|rate| *rate <= most * ROOM).unwrap_or(1.0);
        }
        for index in there_and_back(entries.len(), self.size.rounds) {
            let rate = Some(all[index].rate);
            all[index].even.push(self.rig.send(&Plan { rate, seconds: self.size.even, ..plan(index) })?);
        }
        if case.search {
            self.search(&mut all, plan)?;
        }
        Ok(all)
    }

    /// The highest rates with a p99 under the bound, by halves; contestants take turns.
    fn search(&self, all: &mut [Measured], plan: impl Fn(usize) -> Plan) -> Result<()> {
        let mut ranges: Vec<(f64, f64)> = all
            .iter()
            .map(|measured| {
                let most = Spread::of(measured.fastest.iter().map(per_second)).map_or(0.0, |most| most.high);
                (0.0, most * 1.1)
            })
            .collect();
        for step in 0..self.size.steps {
            let order: Vec<usize> =
                if step % 2 == 0 { (0..all.len()).collect() } else { (0..all.len()).rev().collect() };
            for index in order {
                let (low, high) = ranges[index];
                let rate = if low == 0.0 { high * 0.75 } else { f64::midpoint(low, high) };
                let outcome = self.rig.send(&Plan { rate: Some(rate), seconds: self.size.fastest, ..plan(index) })?;
                // As many as were due, but for those that were under way at the end.
                let kept = per_second(&outcome) > rate * 0.98;
                if kept && outcome.latency.p99 < BOUND && outcome.lost == 0 {
                    ranges[index].0 = rate;
                    all[index].under_bound = Some(rate);
                } else {
                    ranges[index].1 = rate;
                    if low == 0.0 {
                        ranges[index].1 = rate * 1.1;
                    }
                }
            }
        }
        Ok(())
    }
}

/// `0 1 2 2 1 0`, so often.
fn there_and_back(count: usize, rounds: usize) -> Vec<usize> {
    (0..rounds).flat_map(|_| (0..count).chain((0..count).rev())).collect()
}

fn per_second(outcome: &Outcome) -> f64 {
    outcome.answers as f64 / outcome.seconds
}

fn plan(entry: &Entry<'_>, reviews: &Path, right: Verdict) -> Plan {
    let plan = entry.running.plan(reviews, entry.contestant.answers(right));
    Plan { connections: CONNECTIONS, warmup: WARMUP, ..plan }
}

fn row(
    case: Case,
    entry: &Entry<'_>,
    measured: &Measured,
    [floor, poolguard]: [Option<&Measured>; 2],
) -> Result<Option<Row>> {
    let list = |outcomes: &[Outcome], figure: fn(&Outcome) -> f64| outcomes.iter().map(figure).collect::<Vec<f64>>();
    let even = &measured.even;
    let fastest = &measured.fastest;
    if even.iter().chain(fastest).any(|outcome| outcome.answers == 0) {
        return Ok(None);
    }
    let spread = |outcomes: &[Outcome], figure| Spread::of(list(outcomes, figure)).context("nothing was answered");
    let beside_even =
        |other: Option<&Measured>, figure| Spread::ratio(&list(even, figure), &list(&other?.even, figure));
    // At another rate, latencies are of another thing.
    let as_fast = floor.filter(|floor| floor.rate == measured.rate);
    let (resident, _) = memory(&entry.running.pids)?;
    Ok(Some(Row {
        services: entry.services.count,
        layout: entry.services.layout.to_string(),
        case: case.name(),
        contestant: entry.contestant.name().to_owned(),
        rate: measured.rate,
        p50: spread(even, |outcome| outcome.latency.p50)?,
        p99: spread(even, |outcome| outcome.latency.p99)?,
        p999: spread(even, |outcome| outcome.latency.p999)?,
        cpu: spread(even, cpu)?,
        cpu_by_floor: beside_even(floor, cpu),
        cpu_by_poolguard: beside_even(poolguard, cpu),
        p99_by_floor: beside_even(as_fast, |outcome| outcome.latency.p99),
        most: spread(fastest, per_second)?,
        cpu_at_most: spread(fastest, cpu)?,
        cpu_at_most_by_floor: floor.and_then(|floor| Spread::ratio(&list(fastest, cpu), &list(&floor.fastest, cpu))),
        generator_bound: fastest.iter().any(|outcome| outcome.generator_cpu > outcome.seconds * 0.95),
        under_bound: measured.under_bound,
        memory: resident as f64 / 1024.0,
        wrong: even.iter().map(|outcome| outcome.wrong + outcome.lost).sum::<u64>()
            + fastest.iter().map(|outcome| outcome.wrong).sum::<u64>(),
        complaint: even.iter().chain(fastest).find_map(|outcome| outcome.complaint.clone()),
    }))
}

/// CPU seconds of the server for 1,000 reviews.
pub fn cpu(outcome: &Outcome) -> f64 {
    outcome.server_cpu * 1000.0 / outcome.answers as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contestants_take_turns_in_both_orders() {
        assert_eq!(there_and_back(3, 1), [0, 1, 2, 2, 1, 0]);
        assert_eq!(there_and_back(2, 2), [0, 1, 1, 0, 0, 1, 1, 0]);
    }
}
