//! What a verdict costs with many services, beside what it costs with few: two API servers and two webhooks take turns.

use anyhow::{Context, Result};
use serde::Serialize;

use super::contestant::{Contestant, Layout, Services};
use super::report::Table;
use super::reviews::Question;
use super::spread::Spread;
use super::straight::{Measured, Straight, case, cpu};
use super::world::World;
use crate::progress;

const FEW: usize = 10;
const MANY: usize = 10_000;

/// How a question's cost grows.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// What was asked.
    pub review: &'static str,
    /// CPU seconds for 1,000 reviews with few services, as fast as possible.
    pub few: Spread,
    /// The same with many.
    pub many: Spread,
    /// How many times those with few services these are.
    pub ratio: Spread,
}

/// Measures.
///
/// # Errors
/// If something does not start or does not answer.
pub fn run(straight: &Straight<'_>, contestant: &dyn Contestant) -> Result<Vec<Row>> {
    progress(&format!("{FEW} and {MANY} services in one namespace, side by side"));
    let world = |count| World::start(straight.programs, Services { count, layout: Layout::Together });
    let worlds = [world(FEW)?, world(MANY)?];
    let entries = [straight.start(&worlds[0], contestant)?, straight.start(&worlds[1], contestant)?];
    let mut rows = Vec::new();
    for (review, question) in [("refused, warm", Question::Warm), ("unguarded", Question::Unguarded)] {
        let all = straight.alternate(&entries, case(question, 2))?;
        let figures = |measured: &Measured| measured.fastest.iter().map(cpu).collect::<Vec<f64>>();
        let [few, many] = [figures(&all[0]), figures(&all[1])];
        let ratio = Spread::ratio(&many, &few).context("nothing was answered")?;
        let spread = |figures| Spread::of(figures).context("nothing was answered");
        rows.push(Row { review, few: spread(few)?, many: spread(many)?, ratio });
    }
    for (entry, world) in entries.into_iter().zip(&worlds) {
        entry.running.stop(world.datacenter.run())?;
    }
    Ok(rows)
}

/// As a table.
pub fn table(rows: &[Row]) -> Table {
    let mut table = Table::new(&["review", "CPU s per 1,000 with 10 services", "with 10,000", "times as much"]);
    for Row { review, few, many, ratio } in rows {
        table.rows.push(vec![(*review).to_owned(), few.to_string(), many.to_string(), ratio.to_string()]);
    }
    table
}
