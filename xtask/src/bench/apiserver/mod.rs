//! Through the real API server: dry runs that delete a pod, with each candidate registered in turn, and with nobody as control.
//!
//! The turns alternate within one run, in both orders. All candidates run all the time; who is not registered is idle.

mod measure;
mod metrics;
mod registration;
mod stage;
mod tables;
mod turn;

use anyhow::{Context, Result};
use poolguard_harness::programs::Programs;

use self::measure::{Case, Pace, measure};
use self::stage::Stage;
pub use self::tables::{Row, all as tables, bars};
use self::turn::Candidate;
use super::contestant::{Contestant, Layout, Services};
use super::cores;
use super::load::Rig;
use crate::progress;

/// Who is only measured here if somebody asks for it.
pub const OTHERS: [&str; 2] = ["opa", "kyverno"];

/// How much is measured.
pub struct Size {
    services: &'static [usize],
    cases: &'static [Case],
    pace: Pace,
    rounds: usize,
}

impl Size {
    /// For a first look, or for the documentation.
    pub fn new(quick: bool) -> Self {
        if quick {
            let pace = Pace { rate: 50.0, trial: 0.5, seconds: 2.0 };
            Self { services: &[10], cases: &[Case::Pooled], pace, rounds: 1 }
        } else {
            let pace = Pace { rate: 50.0, trial: 1.0, seconds: 8.0 };
            Self { services: &[10, 1000], cases: &[Case::Pooled, Case::Depooled], pace, rounds: 1 }
        }
    }
}

/// Measures.
///
/// # Errors
/// If something cannot be started, or does not decide as it should.
pub fn run<'a>(
    programs: &Programs,
    rig: &Rig,
    contestants: impl Iterator<Item = &'a dyn Contestant>,
    size: &Size,
) -> Result<Vec<Row>> {
    let contestants: Vec<_> = contestants.collect();
    let mut rows = Vec::new();
    for count in size.services {
        progress(&format!("{count} services, through the API server"));
        let services = Services { count: *count, layout: Layout::Together };
        let stage = cores::on_the_servers(|| Stage::start(programs, services))?;
        let mut candidates = vec![Candidate::nobody(), Candidate::policy()];
        for contestant in &contestants {
            let running = cores::on_the_servers(|| contestant.start(&stage.world.setting()))
                .with_context(|| format!("cannot start {}", contestant.name()))?;
            candidates.push(Candidate::of(*contestant, running, &stage)?);
        }
        turns(rig, &stage, &candidates, size, &mut rows)?;
    }
    Ok(rows)
}

/// All take their turns, and then in the other order.
fn turns(rig: &Rig, stage: &Stage, candidates: &[Candidate], size: &Size, rows: &mut Vec<Row>) -> Result<()> {
    for turn in 0..2 * size.rounds {
        let mut order: Vec<&Candidate> = candidates.iter().collect();
        if turn % 2 == 1 {
            order.reverse();
        }
        for candidate in order {
            progress(&format!("  {}", candidate.name));
            candidate.register(stage)?;
            for case in size.cases {
                let sample = measure(rig, stage, candidate, *case, size.pace)?;
                let (services, candidate) = (stage.world.services.count, candidate.name);
                rows.push(Row { services, turn, candidate, case: *case, sample });
            }
            candidate.unregister(stage)?;
        }
    }
    Ok(())
}
