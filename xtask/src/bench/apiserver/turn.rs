//! One turn: somebody is registered, tried, measured, and taken back.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use poolguard_harness::http::request_within;
use poolguard_harness::wait::wait_for;
use poolguard_rig::Verdict;

use crate::bench::contestant::{Contestant, Running};

use super::measure::PATIENCE;
use super::metrics::{Durations, Metrics};
use super::registration::{Asked, Registration};
use super::stage::Stage;

/// How long a registration may take to be known, and a policy to know its ServicePoolings.
const SOON: Duration = Duration::from_secs(120);
/// What every refusal says, so that one of another origin does not count.
const WORDS: &str = "serves live traffic";

/// The control.
pub const NOBODY: &str = "none";
/// What runs in the API server itself.
pub const POLICY: &str = "validatingadmissionpolicy";

/// Who takes a turn.
pub struct Candidate {
    /// As tables name it.
    pub name: &'static str,
    /// What makes the API server ask it.
    pub registration: Registration,
    /// Its processes beside the API server.
    pub pids: Vec<u32>,
    /// What it answers about the pod of a pooled service.
    pub pooled: Verdict,
    _running: Option<Running>,
}

impl Candidate {
    /// The control.
    pub fn nobody() -> Self {
        let registration = Registration::nobody();
        Self { name: NOBODY, registration, pids: Vec::new(), pooled: Verdict::Allowed, _running: None }
    }

    /// The policy in the API server.
    pub fn policy() -> Self {
        let registration = Registration::policy();
        Self { name: POLICY, registration, pids: Vec::new(), pooled: Verdict::Refused, _running: None }
    }

    /// A contestant that runs.
    ///
    /// # Errors
    /// If its registration cannot be made.
    pub fn of(contestant: &dyn Contestant, running: Running, stage: &Stage) -> Result<Self> {
        let registration = match contestant.name() {
            "poolguard" => Registration::poolguard(&stage.world.datacenter)?,
            _ => Registration::webhook(&running)?,
        };
        Ok(Self {
            name: contestant.name(),
            registration,
            pids: running.pids.clone(),
            pooled: contestant.answers(Verdict::Refused),
            _running: Some(running),
        })
    }

    /// Registers it, and waits until the API server asks it and it decides as it should.
    ///
    /// # Errors
    /// If it does not.
    pub fn register(&self, stage: &Stage) -> Result<()> {
        self.registration.apply(&stage.world.datacenter)?;
        wait_for(&format!("the API server to ask {}", self.name), SOON, || {
            let before = self.durations(&Metrics::read(&stage.proxy)?);
            self.verdicts(stage)?;
            let asked = self.durations(&Metrics::read(&stage.proxy)?).since(before).count;
            let expected = match self.registration.asked {
                Asked::Nobody => 0.0,
                Asked::Webhook(_) => 2.0,
                // The API server counts the evaluations of a policy that refuse.
                Asked::Policy(_) => 1.0,
            };
            ensure!(asked >= expected, "it was asked {asked} times");
            Ok(())
        })
    }

    /// Takes it back, and waits until nobody refuses any more.
    ///
    /// # Errors
    /// If somebody does.
    pub fn unregister(&self, stage: &Stage) -> Result<()> {
        self.registration.remove(&stage.world.datacenter)?;
        wait_for(&format!("the API server to leave {} alone", self.name), SOON, || {
            let before = self.durations(&Metrics::read(&stage.proxy)?);
            ensure!(decided(stage, &stage.pooled[0])? == Verdict::Allowed, "it is refused");
            let asked = self.durations(&Metrics::read(&stage.proxy)?).since(before).count;
            ensure!(asked == 0.0, "it is still asked");
            Ok(())
        })
    }

    /// How long the API server has spent on it.
    pub fn durations(&self, metrics: &Metrics) -> Durations {
        match self.registration.asked {
            Asked::Nobody => Durations::default(),
            Asked::Webhook(name) => metrics.webhook(name),
            Asked::Policy(name) => metrics.policy(name),
        }
    }

    fn verdicts(&self, stage: &Stage) -> Result<()> {
        let (pooled, depooled) = (decided(stage, &stage.pooled[0])?, decided(stage, &stage.depooled[0])?);
        ensure!(pooled == self.pooled, "the pod of a pooled service is {pooled:?}");
        ensure!(depooled == Verdict::Allowed, "the pod of a depooled service is {depooled:?}");
        Ok(())
    }
}

/// What becomes of the removal of a pod.
fn decided(stage: &Stage, path: &str) -> Result<Verdict> {
    let (patience, path) = (Duration::from_secs_f64(PATIENCE), format!("{path}?dryRun=All"));
    let answer =
        request_within(patience, &stage.proxy, "DELETE", &path, &[], "").context("the API server does not answer")?;
    match answer.status {
        200 => Ok(Verdict::Allowed),
        400 | 403 if answer.body.contains(WORDS) => Ok(Verdict::Refused),
        other => bail!("the API server answered {other}: {}", answer.body),
    }
}
