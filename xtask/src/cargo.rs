//! Runs cargo on this workspace. Never changes what the caller's environment tells cargo.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::panics;

/// Runs cargo with its output where ours goes.
///
/// # Errors
/// If it does not succeed.
pub fn run(arguments: &[&str]) -> Result<()> {
    let status = cargo().args(arguments).status().context("cannot start cargo")?;
    ensure!(status.success(), "`cargo {}` ended with {status}", arguments.join(" "));
    Ok(())
}

/// The same with variables of its own, and what went wrong in tests is part of the error: in an hour of output nobody finds it again.
///
/// # Errors
/// If it does not succeed.
pub fn run_tests(variables: &[(&str, &str)], arguments: &[&str]) -> Result<()> {
    let mut command = cargo();
    command.envs(variables.iter().copied()).args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
    if std::io::stderr().is_terminal() && std::env::var_os("CARGO_TERM_COLOR").is_none() {
        command.env("CARGO_TERM_COLOR", "always");
    }
    let mut child = command.spawn().context("cannot start cargo")?;
    let (out, err) = (child.stdout.take().context("no output")?, child.stderr.take().context("no output")?);
    let errors = thread::spawn(move || panics::copy(err, std::io::stderr()));
    let mut found = panics::copy(out, std::io::stdout());
    found.extend(errors.join().unwrap_or_default());
    let status = child.wait().context("cannot wait for cargo")?;
    ensure!(status.success(), "`cargo {}` ended with {status}{}", arguments.join(" "), panics::told(&found));
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

/// Builds the programs of the benchmark in a profile, and returns their folder.
///
/// # Errors
/// If they do not compile.
pub fn build_rig(profile: &str) -> Result<PathBuf> {
    run(&["build", "--quiet", "--profile", profile, "--package", "poolguard-rig", "--bins"])?;
    let target = metadata()?["target_directory"].as_str().context("cargo names no target directory")?.to_owned();
    Ok(PathBuf::from(target).join(profile))
}

/// A test target that is a file of its own.
#[derive(Debug, Clone)]
pub struct TestTarget {
    /// The package that it tests.
    pub package: String,
    /// Its name.
    pub name: String,
    /// The features that it wants, joined by commas.
    pub features: String,
}

impl TestTarget {
    /// Runs it, with these variables and `further` arguments.
    ///
    /// # Errors
    /// If it fails.
    pub fn run(&self, variables: &[(&str, &str)], further: &[&str]) -> Result<()> {
        run_tests(variables, &self.arguments(further))
    }

    /// How many of its tests have a name that contains one of `filters`, or of all where there is none.
    ///
    /// # Errors
    /// If it does not compile.
    pub fn count(&self, filters: &[&str]) -> Result<usize> {
        let listing = self.arguments(&[&["--quiet", "--", "--list", "--format=terse"], filters].concat());
        let output = cargo().args(&listing).stderr(Stdio::inherit()).output().context("cannot start cargo")?;
        ensure!(output.status.success(), "`cargo {}` ended with {}", listing.join(" "), output.status);
        Ok(String::from_utf8_lossy(&output.stdout).lines().filter(|line| line.ends_with(": test")).count())
    }

    fn arguments<'a>(&'a self, further: &[&'a str]) -> Vec<&'a str> {
        let Self { package, name, features } = self;
        let mut arguments = vec!["test", "--package", package, "--test", name];
        if !features.is_empty() {
            arguments.extend(["--features", features]);
        }
        arguments.extend(further);
        arguments
    }
}

/// The test targets of the workspace.
///
/// # Errors
/// If cargo cannot read the workspace.
pub fn test_targets() -> Result<Vec<TestTarget>> {
    let mut found = Vec::new();
    for package in &packages()? {
        for target in package["targets"].as_array().into_iter().flatten() {
            let kinds = target["kind"].as_array();
            if kinds.is_some_and(|kinds| kinds.iter().any(|kind| kind == "test")) {
                let name = |value: &Value| value["name"].as_str().unwrap_or_default().to_owned();
                let features = target["required-features"].as_array().into_iter().flatten();
                let features: Vec<&str> = features.filter_map(Value::as_str).collect();
                found.push(TestTarget { package: name(package), name: name(target), features: features.join(",") });
            }
        }
    }
    Ok(found)
}

/// The version of `poolguard`.
///
/// # Errors
/// If cargo cannot read the workspace.
pub fn version() -> Result<String> {
    let packages = packages()?;
    let own =
        packages.iter().find(|package| package["name"] == "poolguard").context("there is no package poolguard")?;
    Ok(own["version"].as_str().context("it has no version")?.to_owned())
}

/// The folders of the workspace's packages.
///
/// # Errors
/// If cargo cannot read the workspace.
pub fn member_folders() -> Result<Vec<PathBuf>> {
    let manifests = packages()?;
    let manifests = manifests.iter().filter_map(|package| Some(PathBuf::from(package["manifest_path"].as_str()?)));
    Ok(manifests.filter_map(|manifest| Some(manifest.parent()?.to_owned())).collect())
}

/// What cargo prints.
///
/// # Errors
/// If it does not succeed.
pub fn output(arguments: &[&str]) -> Result<String> {
    poolguard_harness::command::run(cargo().args(arguments))?.success()
}

fn packages() -> Result<Vec<Value>> {
    Ok(metadata()?["packages"].as_array().context("cargo names no packages")?.clone())
}

fn metadata() -> Result<Value> {
    let said = output(&["metadata", "--no-deps", "--format-version", "1"])?;
    serde_json::from_str(&said).context("cannot read what `cargo metadata` says")
}

fn cargo() -> Command {
    // The toolchain that runs this program, where it is cargo that does.
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(poolguard_harness::root());
    command
}
