//! Poolguard's webhook as it is shipped, with conftool's etcd as its source.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use poolguard_harness::image;
use poolguard_harness::operator::{Operator, Truth};
use serde_json::{Value, json};

use super::contestant::{Contestant, Running, Setting};
use crate::progress;

/// It.
#[derive(Debug, Clone)]
pub struct Poolguard {
    /// Another program than the one that is shipped.
    other: Option<PathBuf>,
    program: PathBuf,
}

impl Poolguard {
    /// As it is shipped, or another program.
    pub fn new(other: Option<PathBuf>) -> Self {
        Self { other, program: PathBuf::new() }
    }

    /// Its program, once it is built.
    pub fn program(&self) -> &Path {
        &self.program
    }
}

impl Contestant for Poolguard {
    fn name(&self) -> &'static str {
        "poolguard"
    }

    fn build(&mut self) -> Result<()> {
        if !self.program.as_os_str().is_empty() {
            return Ok(());
        }
        self.program = match &self.other {
            Some(program) => program.canonicalize().with_context(|| format!("no program {}", program.display()))?,
            None => image::program(&progress)?,
        };
        Ok(())
    }

    fn start(&self, setting: &Setting<'_>) -> Result<Running> {
        let operator = prepare(&self.program, setting)?;
        operator.start(setting.datacenter, "webhook")?;
        operator.ready(setting.datacenter, "webhook")?;
        running(operator)
    }
}

/// Installs the chart, and configures the webhook with what is shipped: the harness has settings for tests.
///
/// # Errors
/// If the chart cannot be installed.
pub fn prepare(program: &Path, setting: &Setting<'_>) -> Result<Operator> {
    let operator = Operator::prepare(setting.datacenter, &Truth::conftool(setting.conftool), program)?;
    let file = operator.folder().join("webhook.yaml");
    let text = fs::read_to_string(&file).context("cannot read the configuration")?;
    let mut configuration: Value = serde_json::from_str(&text).context("the configuration is no JSON")?;
    configuration["log"] = json!({});
    // The API server here has no definition of it.
    configuration["customWorkloads"] = json!([]);
    fs::write(&file, configuration.to_string()).context("cannot write the configuration")?;
    Ok(operator)
}

/// The webhook that has been started.
///
/// # Errors
/// If it has not.
pub fn running(operator: Operator) -> Result<Running> {
    let pid = operator.pid("webhook").context("the webhook has not been started")?;
    Ok(Running::new(operator.webhook_port(), "/validate", operator.folder().join("tls/ca.crt"), pid, operator))
}
