//! Readiness: named checks, each ready or not with a reason. `/readyz` names what is missing.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// All checks of a process.
#[derive(Debug, Clone, Default)]
pub struct Health {
    checks: Arc<Mutex<BTreeMap<String, Option<String>>>>,
}

/// One check; not ready until it says so.
#[derive(Debug, Clone)]
pub struct Check {
    name: String,
    health: Health,
}

impl Health {
    /// A new check.
    pub fn check(&self, name: &str) -> Check {
        let check = Check { name: name.to_owned(), health: self.clone() };
        check.not_ready("not yet");
        check
    }

    /// What is missing, one line each; nothing when ready.
    pub fn missing(&self) -> Vec<String> {
        let checks = self.checks.lock().unwrap_or_else(PoisonError::into_inner);
        checks.iter().filter_map(|(name, why)| why.as_ref().map(|why| format!("{name}: {why}"))).collect()
    }

    fn set(&self, name: &str, why: Option<&str>) {
        let mut checks = self.checks.lock().unwrap_or_else(PoisonError::into_inner);
        if checks.get(name).map(Option::as_deref) != Some(why) {
            checks.insert(name.to_owned(), why.map(str::to_owned));
        }
    }
}

impl Check {
    /// It is fine.
    pub fn ready(&self) {
        self.health.set(&self.name, None);
    }

    /// It is not, and why.
    pub fn not_ready(&self, why: &str) {
        self.health.set(&self.name, Some(why));
    }
}
