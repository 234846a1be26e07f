//! Programs that a command installs below `target/tools`, each in a pinned version.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::{cargo, progress};

/// The path of `name` in this version; installed where it is not there.
///
/// # Errors
/// If it cannot be installed.
pub fn install(name: &str, version: &str) -> Result<PathBuf> {
    let root = poolguard_harness::root().join("target/tools");
    let program = root.join("bin").join(name);
    if is(&program, version) {
        return Ok(program);
    }
    progress(&format!("{name} {version}: a few minutes, once"));
    let root = root.to_string_lossy();
    cargo::run(&["install", "--quiet", "--locked", "--root", &root, "--version", version, name])?;
    ensure!(is(&program, version), "{} is not {name} {version}", program.display());
    Ok(program)
}

fn is(program: &Path, version: &str) -> bool {
    let subcommand = program.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_prefix("cargo-"));
    let said = Command::new(program).args(subcommand).arg("--version").output();
    said.is_ok_and(|said| String::from_utf8_lossy(&said.stdout).trim().ends_with(version))
}

/// Runs a program in the root of the repository, with its output where ours goes. Returns its exit code.
///
/// # Errors
/// If it cannot be started.
pub fn run(command: &mut Command) -> Result<i32> {
    command.current_dir(poolguard_harness::root());
    let program = command.get_program().to_string_lossy().into_owned();
    let status = command.status().with_context(|| format!("cannot start {program}"))?;
    Ok(status.code().unwrap_or(-1))
}
