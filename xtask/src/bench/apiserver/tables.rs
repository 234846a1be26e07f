//! What was seen through the API server: every measurement, and one table for each number of services, with ratios to the control
//! of the same turn.

use serde::Serialize;

use super::measure::{Case, Sample};
use super::turn::NOBODY;
use crate::bench::report::{Bar, Table, headed};
use crate::bench::spread::{Spread, digits};

/// One measurement of one candidate.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// How many ServicePoolings there were.
    pub services: usize,
    /// The turn: even ones in order, odd ones in the other.
    pub turn: usize,
    /// Who.
    pub candidate: &'static str,
    /// Which pods.
    pub case: Case,
    /// What was seen.
    #[serde(flatten)]
    pub sample: Sample,
}

const HEAD: [&str; 11] = [
    "pod of",
    "asked",
    "at",
    "p50 ms",
    "÷ none's",
    "p99 ms",
    "CPU s per 1,000: API server",
    "+ asked",
    "all, ÷ none's",
    "admission ms",
    "one call ms",
];

/// The tables under their headings.
pub fn all(rows: &[Row]) -> Vec<(String, Table)> {
    let heading = |group: &Group<'_>| format!("Through the API server, {} services in one namespace", group.services());
    headed(&HEAD, groups(rows).into_iter().map(|group| (heading(&group), group.cells())))
}

/// All CPU time of each candidate.
pub fn bars(rows: &[Row]) -> Vec<Bar> {
    let bar = |group: Group<'_>| {
        let cpu = group.spread(|sample| Some(sample.cpu.all()))?;
        Some(Bar {
            label: format!("pod of a {} service · {} services", group.case().words(), group.services()),
            group: group.candidate().to_owned(),
            value: cpu.median,
            written: format!("{} {}", group.candidate(), digits(cpu.median)),
        })
    };
    groups(rows).into_iter().filter_map(bar).collect()
}

/// The measurements of one candidate in one case, and those of the control beside them.
struct Group<'a> {
    own: Vec<&'a Row>,
    control: Vec<&'a Row>,
}

fn groups(rows: &[Row]) -> Vec<Group<'_>> {
    let mut keys: Vec<(usize, Case, &str)> = Vec::new();
    for row in rows {
        let key = (row.services, row.case, row.candidate);
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    keys.sort_by_key(|(services, case, _)| (*services, *case as u8));
    let of = |services, case, candidate: &str| {
        let mut found: Vec<&Row> = rows
            .iter()
            .filter(|row| (row.services, row.case) == (services, case) && row.candidate == candidate)
            .collect();
        found.sort_by_key(|row| row.turn);
        found
    };
    keys.into_iter()
        .map(|(services, case, candidate)| Group {
            own: of(services, case, candidate),
            control: of(services, case, NOBODY),
        })
        .collect()
}

impl Group<'_> {
    fn services(&self) -> usize {
        self.own.first().map_or(0, |row| row.services)
    }

    fn case(&self) -> Case {
        self.own.first().map_or(Case::Pooled, |row| row.case)
    }

    fn candidate(&self) -> &'static str {
        self.own.first().map_or("", |row| row.candidate)
    }

    fn spread(&self, figure: fn(&Sample) -> Option<f64>) -> Option<Spread> {
        Spread::of(self.own.iter().filter_map(|row| figure(&row.sample)))
    }

    fn ratio(&self, figure: fn(&Sample) -> f64) -> Option<Spread> {
        let figures = |rows: &[&Row]| rows.iter().map(|row| figure(&row.sample)).collect::<Vec<f64>>();
        Spread::ratio(&figures(&self.own), &figures(&self.control))
    }

    fn cells(&self) -> Vec<String> {
        let written = |spread: Option<Spread>| spread.map_or_else(|| "–".to_owned(), |spread| spread.to_string());
        let median = |spread: Option<Spread>| spread.map_or_else(|| "–".to_owned(), |spread| digits(spread.median));
        let ratio = |spread| if self.candidate() == NOBODY { "1".to_owned() } else { written(spread) };
        vec![
            format!("a {} service", self.case().words()),
            self.candidate().to_owned(),
            format!("{}/s", median(self.spread(|sample| Some(sample.rate)))),
            written(self.spread(|sample| Some(sample.latency.p50))),
            ratio(self.ratio(|sample| sample.latency.p50)),
            written(self.spread(|sample| Some(sample.latency.p99))),
            median(self.spread(|sample| Some(sample.cpu.server))),
            median(self.spread(|sample| Some(sample.cpu.asked))),
            format!(
                "{}, {}",
                median(self.spread(|sample| Some(sample.cpu.all()))),
                ratio(self.ratio(|sample| sample.cpu.all()))
            ),
            median(self.spread(|sample| sample.validating)),
            median(self.spread(|sample| sample.call)),
        ]
    }
}

#[cfg(test)]
mod tests {
    use poolguard_rig::Latency;

    use super::super::measure::Cost;
    use super::*;

    fn row(turn: usize, candidate: &'static str, p50: f64) -> Row {
        let latency = Latency { p50, ..Latency::default() };
        let cpu = Cost { server: p50 / 10.0, ..Cost::default() };
        let sample = Sample { rate: 50.0, answers: 1, latency, cpu, validating: None, call: None };
        Row { services: 10, turn, candidate, case: Case::Pooled, sample }
    }

    #[test]
    fn ratios_are_those_of_one_turn() {
        let rows = [row(0, NOBODY, 1.0), row(0, "floor", 2.0), row(1, "floor", 30.0), row(1, NOBODY, 10.0)];
        let groups = groups(&rows);
        let ratio = groups[1].ratio(|sample| sample.latency.p50).expect("a ratio");
        assert_eq!((groups[1].candidate(), ratio.low, ratio.high), ("floor", 2.0, 3.0));
        let tables = all(&rows);
        assert_eq!((tables.len(), tables[0].1.rows.len()), (1, 2));
        assert!(tables[0].1.rows.iter().all(|row| row.len() == HEAD.len()));
    }
}
