//! What people would use instead of Poolguard, with policies of ours that decide the same: a pod may not be deleted while a
//! ServicePooling of its namespace selects it and is not `NotServing` here.
//!
//! Where the truth is, a peer cannot ask. It reads `status.serving`, one word, as Poolguard's controller writes it: that is the
//! least work there is for it. Of selectors the policies know `matchLabels` alone. Each program is built from a Go module of
//! its own in `tests/peers`, and runs as an administrator of the API server.
//!
//! Never: a part of Poolguard, or of its tests.

mod certificate;
mod gatekeeper;
mod kyverno;
mod opa;
pub mod policy;

use std::time::Duration;

use anyhow::{Context, Result};
use poolguard_harness::datacenter::Datacenter;
use poolguard_harness::run::Run;
use poolguard_harness::wait::wait_for;

use super::contestant::Contestant;

/// Those that answer over HTTPS.
pub fn all() -> Vec<Box<dyn Contestant>> {
    vec![
        Box::new(gatekeeper::Gatekeeper::default()),
        Box::new(opa::Opa::default()),
        Box::new(kyverno::Kyverno::default()),
    ]
}

/// Whether it is one of them.
pub fn is_one(name: &str) -> bool {
    all().iter().any(|peer| peer.name() == name)
}

/// Waits until a peer's process is as it should be before it is asked; `looks` is tried again and again.
fn ready(run: &Run, name: &str, pid: u32, patience: Duration, looks: impl Fn() -> Result<()>) -> Result<()> {
    wait_for(&format!("{name} to be ready"), patience, || {
        run.ensure_running(pid, name)?;
        looks()
    })
    .with_context(|| run.log_tail(name))
}

/// Waits until the API server serves every kind that it has a definition of.
fn established(datacenter: &Datacenter) -> Result<()> {
    let wait = ["wait", "--for=condition=Established", "customresourcedefinitions", "--all", "--timeout=60s"];
    datacenter.kubectl(&wait)?.success()?;
    Ok(())
}
