//! What was seen: latencies since when a review was due, and whether each verdict was the expected one.

use std::collections::HashMap;
use std::time::Instant;

use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use poolguard_rig::{Latency, Outcome, Verdict};

use crate::answer::Answer;

/// Up to a minute, to three digits.
const LONGEST: u64 = 60_000_000_000;

/// What was seen so far.
pub struct Seen {
    expected: Verdict,
    begin: Instant,
    end: Instant,
    latencies: Histogram<u64>,
    /// How many are under way, by when they were due.
    under_way: HashMap<Instant, u32>,
    outcome: Outcome,
}

impl Seen {
    pub fn new(expected: Verdict, begin: Instant, end: Instant) -> Result<Self> {
        let latencies = Histogram::new_with_bounds(100, LONGEST, 3).ok().context("no histogram")?;
        Ok(Self { expected, begin, end, latencies, under_way: HashMap::new(), outcome: Outcome::default() })
    }

    pub fn sent(&mut self, due: Instant) {
        *self.under_way.entry(due).or_default() += 1;
    }

    pub fn answered(&mut self, due: Instant, answer: Answer) {
        self.forget(due);
        let now = Instant::now();
        if answer.verdict != Some(self.expected) {
            self.outcome.wrong += 1;
            self.outcome.complaint.get_or_insert_with(|| answer.told());
        } else if due >= self.begin && due < self.end {
            self.outcome.right += 1;
        }
        if now >= self.begin && now < self.end {
            self.outcome.answers += 1;
        }
        if due >= self.begin && due < self.end {
            self.late(due, now);
        }
    }

    pub fn complain(&mut self, complaint: String) {
        self.outcome.complaint.get_or_insert(complaint);
    }

    /// The end: what is still under way or was never sent is as late as it is now. What broke stays under way.
    pub fn outcome(&mut self, left: Vec<Instant>) -> Outcome {
        let now = Instant::now();
        let under_way: Vec<_> = self.under_way.drain().collect();
        let lost = under_way.into_iter().flat_map(|(due, count)| (0..count).map(move |_| due)).chain(left);
        for due in lost.filter(|due| *due >= self.begin) {
            self.outcome.lost += 1;
            let nanos = u64::try_from(now.duration_since(due).as_nanos()).unwrap_or(LONGEST);
            self.latencies.saturating_record(nanos);
        }
        let at = |quantile: f64| self.latencies.value_at_quantile(quantile) as f64 / 1e6;
        self.outcome.latency = Latency { p50: at(0.5), p99: at(0.99), p999: at(0.999), max: at(1.0) };
        self.outcome.clone()
    }

    fn late(&mut self, due: Instant, now: Instant) {
        let nanos = u64::try_from(now.duration_since(due).as_nanos()).unwrap_or(LONGEST);
        self.latencies.saturating_record(nanos);
    }

    fn forget(&mut self, due: Instant) {
        if let Some(count) = self.under_way.get_mut(&due) {
            *count -= 1;
            if *count == 0 {
                self.under_way.remove(&due);
            }
        }
    }
}
