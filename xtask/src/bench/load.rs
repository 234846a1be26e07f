//! Runs the load generator, a program of its own: ours is not optimised, and would be measured too.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use poolguard_rig::{Outcome, Plan};

use crate::cargo;

/// The programs of `poolguard-rig`.
pub struct Rig {
    /// The load generator.
    load: PathBuf,
    /// The floor.
    pub floor: PathBuf,
}

impl Rig {
    /// Builds them in a profile: the floor in that of what it is compared with.
    ///
    /// # Errors
    /// If they do not compile.
    pub fn build(profile: &str) -> Result<Self> {
        let folder = cargo::build_rig(profile)?;
        Ok(Self { load: folder.join("load"), floor: folder.join("floor") })
    }

    /// Does what is planned.
    ///
    /// # Errors
    /// If the server cannot be reached or a process is gone.
    pub fn send(&self, plan: &Plan) -> Result<Outcome> {
        send(&self.load, plan)
    }
}

fn send(program: &Path, plan: &Plan) -> Result<Outcome> {
    let mut child = Command::new(program)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start the load generator")?;
    let mut input = child.stdin.take().context("the load generator reads nothing")?;
    input.write_all(serde_json::to_string(plan)?.as_bytes()).context("the load generator reads nothing")?;
    drop(input);
    let output = child.wait_with_output().context("cannot wait for the load generator")?;
    let told = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "the load generator ended with {}: {told}", output.status);
    serde_json::from_slice(&output.stdout).context("the load generator says nothing that can be read")
}
