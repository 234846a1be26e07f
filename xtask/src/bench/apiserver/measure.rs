//! What is measured of a turn: latencies as a client sees them, processor time by who used it, and the API server's own figures.

use anyhow::{Result, ensure};
use poolguard_rig::process::Cpu;
use poolguard_rig::{Asked, Latency, Outcome, Plan, Verdict};
use serde::Serialize;

use super::metrics::Metrics;
use super::stage::Stage;
use super::turn::Candidate;
use crate::bench::load::Rig;

/// How many connections are kept, and requests under way at most.
const CONNECTIONS: usize = 16;
/// Where an answer takes so long that the wanted rate cannot be kept: the part of the server's time that is asked for.
const SHARE: f64 = 0.4;
/// Where that is a low rate, so many intervals are measured all the same.
const INTERVALS: f64 = 6.0;
/// Seconds that an answer may take.
pub const PATIENCE: f64 = 30.0;

/// Which pods are deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Case {
    /// Those of services that are pooled here.
    Pooled,
    /// Those of services that are not.
    Depooled,
}

impl Case {
    /// As tables name the service.
    pub fn words(self) -> &'static str {
        match self {
            Self::Pooled => "pooled",
            Self::Depooled => "depooled",
        }
    }
}

/// One measurement.
#[derive(Debug, Clone, Serialize)]
pub struct Sample {
    /// Requests a second: the wanted rate, or less where it could not be kept.
    pub rate: f64,
    /// How many were answered.
    pub answers: u64,
    /// Milliseconds.
    pub latency: Latency,
    /// CPU seconds of 1,000 requests.
    pub cpu: Cost,
    /// Milliseconds of validating admission as a whole, as the API server tells.
    pub validating: Option<f64>,
    /// Milliseconds of one call of the webhook, or of one evaluation of the policy that refuses.
    pub call: Option<f64>,
}

/// CPU seconds, by who used them.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Cost {
    /// The API server.
    pub server: f64,
    /// Who is asked.
    pub asked: f64,
    /// Both etcds: the API server's, and conftool's.
    pub stores: f64,
}

impl Cost {
    /// All of it.
    pub fn all(self) -> f64 {
        self.server + self.asked + self.stores
    }
}

/// How long, and how fast.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Requests a second.
    pub rate: f64,
    /// Seconds for each to warm up, and to show how long an answer takes.
    pub trial: f64,
    /// Seconds, or longer where the rate is low.
    pub seconds: f64,
}

/// Measures a candidate that is registered.
///
/// # Errors
/// If an answer is not the expected one.
pub fn measure(rig: &Rig, stage: &Stage, candidate: &Candidate, case: Case, pace: Pace) -> Result<Sample> {
    let (paths, expected) = match case {
        Case::Pooled => (&stage.pooled, candidate.pooled),
        Case::Depooled => (&stage.depooled, Verdict::Allowed),
    };
    let plan = Plan {
        address: stage.address,
        authority: stage.world.datacenter.authority(),
        asked: Asked::DryRuns { paths: paths.clone(), token: stage.token.clone() },
        expected,
        connections: CONNECTIONS,
        rate: Some(pace.rate),
        warmup: 0.0,
        seconds: pace.seconds,
        patience: PATIENCE,
        pids: Vec::new(),
    };
    let trial = right(candidate, rig.send(&Plan { connections: 1, rate: None, seconds: pace.trial, ..plan.clone() })?)?;
    let rate = pace.rate.min(SHARE * 1000.0 / trial.latency.p50);
    let groups = [&stage.server[..], &candidate.pids, &stage.stores];
    let used = || groups.iter().map(|pids| Cpu::of(pids)).collect::<Result<Vec<_>>>();
    let (metrics, before) = (Metrics::read(&stage.proxy)?, used()?);
    let seconds = pace.seconds.max(INTERVALS / rate);
    let outcome = right(candidate, rig.send(&Plan { rate: Some(rate), seconds, ..plan })?)?;
    let after = used()?;
    let told = Metrics::read(&stage.proxy)?;
    let thousands = outcome.right as f64 / 1000.0;
    let cpu = |group: usize| after[group].since(&before[group]).as_secs_f64() / thousands;
    Ok(Sample {
        rate,
        answers: outcome.right,
        latency: outcome.latency,
        cpu: Cost { server: cpu(0), asked: cpu(1), stores: cpu(2) },
        validating: told.validating().since(metrics.validating()).mean(),
        call: candidate.durations(&told).since(candidate.durations(&metrics)).mean(),
    })
}

/// An outcome in which every answer was the expected one.
fn right(candidate: &Candidate, outcome: Outcome) -> Result<Outcome> {
    let (name, complaint) = (candidate.name, outcome.complaint.as_deref().unwrap_or("nothing was told"));
    ensure!(outcome.wrong + outcome.lost == 0, "{name}: {} wrong, {} lost: {complaint}", outcome.wrong, outcome.lost);
    ensure!(outcome.right > 0, "{name}: no answer: {complaint}");
    Ok(outcome)
}
