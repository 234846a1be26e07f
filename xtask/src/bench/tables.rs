//! The tables and the chart of the straight rig.

use super::report::{Bar, Table, headed};
use super::spread::{Spread, digits};
use super::straight::Row;

/// One table for each number of services, under its heading.
pub fn all(rows: &[Row]) -> Vec<(String, Table)> {
    let heading = |row: &Row| format!("{} services, {}", digits_of(row.services), row.layout);
    headed(&HEAD, rows.iter().map(|row| (heading(row), cells(row))))
}

const HEAD: [&str; 11] = [
    "review",
    "contestant",
    "at",
    "p50 / p99 / p99.9 ms",
    "p99 ÷ floor's",
    "CPU s per 1,000",
    "÷ floor's",
    "as fast as possible",
    "CPU s per 1,000, ÷ floor's",
    "p99 < 5 ms up to",
    "MiB",
];

fn cells(row: &Row) -> Vec<String> {
    let maybe = |spread: Option<Spread>| spread.map_or_else(|| "–".to_owned(), |spread| spread.to_string());
    let own = row.contestant == "floor";
    let ratio = |spread| if own { "1".to_owned() } else { maybe(spread) };
    let bound = if row.generator_bound { "≥ " } else { "" };
    let mut contestant = row.contestant.clone();
    if row.wrong > 0 {
        contestant.push_str(&format!(" ({} wrong or lost)", row.wrong));
    }
    vec![
        row.case.clone(),
        contestant,
        format!("{}/s", digits(row.rate)),
        format!("{} / {} / {}", digits(row.p50.median), digits(row.p99.median), digits(row.p999.median)),
        ratio(row.p99_by_floor),
        row.cpu.to_string(),
        ratio(row.cpu_by_floor),
        format!("{bound}{}/s", digits(row.most.median)),
        format!("{}, {}", digits(row.cpu_at_most.median), ratio(row.cpu_at_most_by_floor)),
        row.under_bound.map_or_else(|| "–".to_owned(), |rate| format!("{}/s", digits(rate))),
        format!("{:.1}", row.memory),
    ]
}

/// CPU time of each contestant in each case.
pub fn bars(rows: &[Row]) -> Vec<Bar> {
    rows.iter()
        .map(|row| Bar {
            label: format!("{} · {}, {}", row.case, digits_of(row.services), row.layout),
            group: row.contestant.clone(),
            value: row.cpu.median,
            written: format!("{} {}", row.contestant, digits(row.cpu.median)),
        })
        .collect()
}

fn digits_of(count: usize) -> String {
    if count < 1000 { count.to_string() } else { format!("{},{:03}", count / 1000, count % 1000) }
}
