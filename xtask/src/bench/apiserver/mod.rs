//! Through the real API server: dry runs that delete a pod, with each candidate registered in turn, and with nobody as control.
//!
//! The turns alternate within one run, in both orders. All candidates run all the time; who is not registered is idle.

mod measure;
mod metrics;
mod registration;
mod stage;
mod tables;
mod turn;

use anyhow::{Context, Result, ensure};
use clap::Args;
use poolguard_harness::programs;

use self::measure::{Case, Pace, measure};
use self::stage::Stage;
use self::tables::Row;
use self::turn::{Candidate, POLICY};

use super::contestant::{Contestant, Layout, Services};
use super::cores;
use super::floor::Floor;
use super::load::Rig;
use super::peers;
use super::poolguard::Poolguard;
use super::report;
use crate::progress;

/// How much is measured.
#[derive(Args)]
pub struct Flags {
    /// How many ServicePoolings the pod's namespace has, in rising order
    #[arg(long, value_delimiter = ',', default_value = "10,1000")]
    services: Vec<usize>,
    /// Requests a second; less where somebody cannot keep up
    #[arg(long, default_value_t = 50.0)]
    rate: f64,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// How often all take their turns, in both orders
    #[arg(long, default_value_t = 1)]
    rounds: usize,
    /// Only these, and the control
    #[arg(long, value_name = "CONTESTANT", num_args = 1..)]
    only: Vec<String>,
}

/// The peer that is measured where nobody says whom to measure.
const PEER: &str = "gatekeeper";

/// Measures.
///
/// # Errors
/// If something cannot be started, or does not decide as it should.
pub fn run(flags: &Flags) -> Result<()> {
    let (programs, rig) = (programs::build(&progress)?, Rig::build()?);
    let wanted = |name: &str| flags.only.is_empty() || flags.only.iter().any(|only| only == name);
    let mut contestants: Vec<Box<dyn Contestant>> =
        vec![Box::new(Floor { program: rig.floor.clone() }), Box::new(Poolguard::new(None))];
    contestants.extend(peers::all().into_iter().filter(|peer| peer.name() == PEER || !flags.only.is_empty()));
    contestants.retain(|contestant| wanted(contestant.name()));
    for contestant in &mut contestants {
        contestant.build().with_context(|| format!("cannot build {}", contestant.name()))?;
    }
    cores::leave_one()?;
    let mut rows = Vec::new();
    for count in &flags.services {
        progress(&format!("{count} ServicePoolings in one namespace"));
        let services = Services { count: *count, layout: Layout::Together };
        let stage = cores::on_the_servers(|| Stage::start(&programs, services))?;
        let mut candidates = vec![Candidate::nobody()];
        if wanted(POLICY) {
            candidates.push(Candidate::policy());
        }
        for contestant in &contestants {
            progress(&format!("starting {}", contestant.name()));
            let running = cores::on_the_servers(|| contestant.start(&stage.world.setting()))?;
            candidates.push(Candidate::of(contestant.as_ref(), running, &stage)?);
        }
        turns(&rig, &stage, &candidates, flags, &mut rows)?;
    }
    for (heading, table) in tables::all(&rows) {
        println!("{heading}\n{}", table.text());
    }
    let chart = report::folder()?.join("apiserver.svg");
    report::chart(&chart, "CPU seconds per 1,000 dry-run deletes, all processes", &tables::bars(&rows))?;
    let figures = report::json("apiserver", &rows)?;
    progress(&format!("{} and {}", figures.display(), chart.display()));
    Ok(())
}

/// All take their turns, and then in the other order.
fn turns(rig: &Rig, stage: &Stage, candidates: &[Candidate], flags: &Flags, rows: &mut Vec<Row>) -> Result<()> {
    ensure!(flags.rounds > 0, "nothing is measured in no round");
    let pace = Pace { rate: flags.rate, seconds: flags.seconds };
    for pass in 0..2 * flags.rounds {
        let order: Vec<&Candidate> =
            if pass % 2 == 0 { candidates.iter().collect() } else { candidates.iter().rev().collect() };
        for candidate in order {
            candidate.register(stage)?;
            for case in [Case::Pooled, Case::Depooled] {
                progress(&format!(
                    "{} services, pass {}: {}, {case:?}",
                    stage.world.services.count,
                    pass + 1,
                    candidate.name
                ));
                let sample = measure(rig, stage, candidate, case, pace)?;
                rows.push(Row {
                    services: stage.world.services.count,
                    turn: pass,
                    candidate: candidate.name,
                    case,
                    sample,
                });
            }
            candidate.unregister(stage)?;
        }
    }
    Ok(())
}
