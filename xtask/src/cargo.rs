//! Runs cargo on this workspace. Never changes what the caller's environment tells cargo.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// Runs cargo with its output where ours goes.
///
/// # Errors
/// If it does not succeed.
pub fn run(arguments: &[&str]) -> Result<()> {
    run_with(&[], arguments)
}

/// The same, with variables of its own.
///
/// # Errors
/// If it does not succeed.
pub fn run_with(variables: &[(&str, &str)], arguments: &[&str]) -> Result<()> {
    let mut command = cargo();
    command.envs(variables.iter().copied()).args(arguments);
    let status = command.status().context("cannot start cargo")?;
    ensure!(status.success(), "`cargo {}` ended with {status}", arguments.join(" "));
    Ok(())
}

/// Builds the program `poolguard` and returns its path.
///
/// # Errors
/// If it does not compile.
pub fn build_poolguard() -> Result<PathBuf> {
    run(&["build", "--quiet", "--bin", "poolguard"])?;
    let target = metadata()?["target_directory"].as_str().context("cargo names no target directory")?.to_owned();
    Ok(PathBuf::from(target).join("debug/poolguard"))
}

/// Builds the program `poolguard` as it is shipped, and returns its path.
///
/// # Errors
/// If it does not compile.
pub fn build_release() -> Result<PathBuf> {
    run(&["build", "--quiet", "--release", "--bin", "poolguard"])?;
    let target = metadata()?["target_directory"].as_str().context("cargo names no target directory")?.to_owned();
    Ok(PathBuf::from(target).join("release/poolguard"))
}

/// Builds the programs of the benchmark, and returns their folder.
///
/// # Errors
/// If they do not compile.
pub fn build_rig() -> Result<PathBuf> {
    run(&["build", "--quiet", "--release", "--package", "poolguard-rig", "--bins"])?;
    let target = metadata()?["target_directory"].as_str().context("cargo names no target directory")?.to_owned();
    Ok(PathBuf::from(target).join("release"))
}

/// The test targets of the workspace that are files of their own, as (package, target).
///
/// # Errors
/// If cargo cannot read the workspace.
pub fn test_targets() -> Result<Vec<(String, String)>> {
    let metadata = metadata()?;
    let packages = metadata["packages"].as_array().context("cargo names no packages")?;
    let mut found = Vec::new();
    for package in packages {
        for target in package["targets"].as_array().into_iter().flatten() {
            let kinds = target["kind"].as_array();
            if kinds.is_some_and(|kinds| kinds.iter().any(|kind| kind == "test")) {
                let name = |value: &Value| value["name"].as_str().unwrap_or_default().to_owned();
                found.push((name(package), name(target)));
            }
        }
    }
    Ok(found)
}

fn metadata() -> Result<Value> {
    let mut command = cargo();
    let output = poolguard_harness::command::run(command.args(["metadata", "--no-deps", "--format-version", "1"]))?;
    serde_json::from_str(&output.success()?).context("cannot read what `cargo metadata` says")
}

fn cargo() -> Command {
    // The toolchain that runs this program, where it is cargo that does.
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(poolguard_harness::root());
    command
}
