//! What the load generator is told, and what it says.
//!
//! Never: a server's business. The generator knows bytes, verdicts and times.

pub mod process;

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What the generator does: read from its standard input, as JSON.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Plan {
    /// The server.
    pub address: SocketAddr,
    /// The authority that signed its certificate, PEM.
    pub authority: PathBuf,
    /// What it is asked.
    pub asked: Asked,
    /// What each answer must say.
    pub expected: Verdict,
    /// How many connections are opened beforehand and kept: as many reviews are under way at most.
    pub connections: usize,
    /// Reviews a second, at even distances; none: as fast as they are answered.
    pub rate: Option<f64>,
    /// Seconds that are not measured.
    pub warmup: f64,
    /// Seconds that are.
    pub seconds: f64,
    /// Seconds that answers may take which are still due at the end.
    pub patience: f64,
    /// The server's processes, whose CPU time is measured.
    pub pids: Vec<u32>,
}

/// What a server is asked.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Asked {
    /// A webhook: reviews, whose answers bear the verdict.
    Reviews {
        /// The path that they are posted to.
        path: String,
        /// The reviews, one a line; they are sent in turn.
        file: PathBuf,
    },
    /// The API server: to delete, without doing it. The status is the verdict.
    DryRuns {
        /// What to delete, in turn.
        paths: Vec<String>,
        /// Who asks.
        token: String,
    },
}

/// What an answer says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// `allowed: true`
    Allowed,
    /// `allowed: false`
    Refused,
}

/// What was seen: written to the generator's standard output, as JSON.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Outcome {
    /// Answers in the measured time.
    pub answers: u64,
    /// The measured time in seconds.
    pub seconds: f64,
    /// Milliseconds from when a review was due to the end of its answer.
    pub latency: Latency,
    /// Answers with the expected verdict to reviews that were due in the measured time.
    pub right: u64,
    /// Answers with another verdict than the expected one, or none.
    pub wrong: u64,
    /// Reviews that were never answered.
    pub lost: u64,
    /// The first of what went wrong.
    pub complaint: Option<String>,
    /// CPU seconds of the server.
    pub server_cpu: f64,
    /// CPU seconds of the generator: near the measured time, it was the limit.
    pub generator_cpu: f64,
}

/// Percentiles in milliseconds.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Latency {
    /// The median.
    pub p50: f64,
    /// The 99th.
    pub p99: f64,
    /// The 99.9th.
    pub p999: f64,
    /// The longest.
    pub max: f64,
}
