//! The chart, and what Helm makes of it.

use std::path::PathBuf;

use anyhow::Result;

use crate::command::Output;
use crate::datacenter::{Datacenter, Who};
use crate::operator::NAMESPACE;

/// Its folder.
pub fn folder() -> PathBuf {
    crate::root().join("charts/poolguard")
}

/// Renders it for the Kubernetes of a datacenter; `further` are values and what is shown.
///
/// # Errors
/// If Helm cannot be started, or the datacenter does not tell its version.
pub fn template(datacenter: &Datacenter, helm: &str, further: &[&str]) -> Result<Output> {
    let (folder, version) = (folder(), datacenter.version()?);
    let own =
        ["template", "poolguard", &folder.to_string_lossy(), "--namespace", NAMESPACE, "--kube-version", &version];
    datacenter.call(Who::Admin, helm, &[&own[..], further].concat())
}
