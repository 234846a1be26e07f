//! What makes the API server ask somebody: applied for a turn, and taken back after it.

use std::fs;

use anyhow::{Context, Result};
use base64::Engine;
use base64::prelude::BASE64_STANDARD as BASE64;
use poolguard_harness::datacenter::Datacenter;
use serde_json::json;

use crate::bench::contestant::Running;
use crate::bench::peers::policy;

/// How the API server knows who is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked<'a> {
    /// Nobody.
    Nobody,
    /// A webhook, by the name of its entry for pods.
    Webhook(&'a str),
    /// A ValidatingAdmissionPolicy.
    Policy(&'a str),
}

/// A registration.
pub struct Registration {
    /// Who is asked.
    pub asked: Asked<'static>,
    manifests: String,
}

impl Registration {
    /// Nobody is asked: the control.
    pub fn nobody() -> Self {
        Self { asked: Asked::Nobody, manifests: String::new() }
    }

    /// The policy that runs in the API server.
    pub fn policy() -> Self {
        let manifests = policy::VALIDATING_ADMISSION_POLICY.to_owned();
        Self { asked: Asked::Policy("keep-pooled-pods"), manifests }
    }

    /// A webhook that is asked about the removal of every pod.
    pub fn webhook(running: &Running) -> Result<Self> {
        let configuration = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
            "metadata": {"name": "bench"},
            "webhooks": [{
                "name": "pods.bench.poolguard.dev",
                "admissionReviewVersions": ["v1"], "sideEffects": "None", "failurePolicy": "Fail",
                "clientConfig": {"url": format!("https://{}{}", running.address, running.path), "caBundle": bundle(running)?},
                "rules": [{
                    "apiGroups": [""], "apiVersions": ["v1"], "operations": ["DELETE"], "resources": ["pods"],
                }],
            }],
        });
        Ok(Self { asked: Asked::Webhook("pods.bench.poolguard.dev"), manifests: configuration.to_string() })
    }

    /// Poolguard, as its chart has registered it.
    pub fn poolguard(datacenter: &Datacenter) -> Result<Self> {
        let mut configuration = datacenter.get(&["validatingwebhookconfiguration", "poolguard"])?;
        configuration["metadata"] = json!({"name": "poolguard"});
        let registration = Self { asked: Asked::Webhook("pods.poolguard.dev"), manifests: configuration.to_string() };
        // Until its turn.
        registration.remove(datacenter)?;
        Ok(registration)
    }

    /// Makes it. The API server learns of it a moment later.
    pub fn apply(&self, datacenter: &Datacenter) -> Result<()> {
        if self.asked == Asked::Nobody { Ok(()) } else { datacenter.apply(&self.manifests) }
    }

    /// Takes it back.
    pub fn remove(&self, datacenter: &Datacenter) -> Result<()> {
        if self.asked == Asked::Nobody {
            return Ok(());
        }
        let file = datacenter.folder.join("registered.yaml");
        fs::write(&file, &self.manifests).context("cannot write a registration")?;
        datacenter.kubectl(&["delete", "-f", &file.to_string_lossy()])?.success()?;
        Ok(())
    }
}

fn bundle(running: &Running) -> Result<String> {
    Ok(BASE64.encode(fs::read(&running.authority).context("cannot read an authority")?))
}
