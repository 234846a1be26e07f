//! The version before this one, from the commit that `tests/controlplane/previous.txt` names: its program and its chart, built once into
//! `target/previous`. It is what an installation comes from when it is upgraded, and goes back to.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::command::{as_from_a_shell, run};

/// The version before this one.
#[derive(Debug, Clone)]
pub struct Previous {
    /// Its program.
    pub binary: PathBuf,
    /// Its chart.
    pub chart: PathBuf,
}

/// The commit of it.
fn commit() -> Result<String> {
    let list = crate::root().join("tests/controlplane/previous.txt");
    Ok(fs::read_to_string(&list).with_context(|| format!("cannot read {}", list.display()))?.trim().to_owned())
}

/// Whether this checkout has it: one without history has not.
pub fn is_here() -> bool {
    commit()
        .and_then(|commit| {
            let object = format!("{commit}^{{commit}}");
            run(Command::new("git").current_dir(crate::root()).args(["cat-file", "-e", &object]))?.success()
        })
        .is_ok()
}

/// Builds it, where that has not been done.
///
/// # Errors
/// If this checkout lacks the commit, or it cannot be built.
pub fn build(progress: &dyn Fn(&str)) -> Result<Previous> {
    let commit = &commit()?;
    let target = crate::root().join("target/previous");
    fs::create_dir_all(&target).with_context(|| format!("cannot make {}", target.display()))?;
    let lock = File::create(target.join("lock")).context("cannot make the lock of the previous version")?;
    lock.lock().context("cannot wait for another build")?;
    let source = target.join(commit);
    if !source.exists() {
        let (archive, unpacked) = (target.join("archive.tar"), target.join("unpacked"));
        let _ = fs::remove_dir_all(&unpacked);
        fs::create_dir_all(&unpacked).context("cannot make a folder for the previous version")?;
        run(Command::new("git")
            .current_dir(crate::root())
            .args(["archive", "--format=tar", "--output"])
            .arg(&archive)
            .arg(commit))?
        .success()
        .with_context(|| {
            format!("this checkout does not have {commit}, the previous version: fetch its whole history")
        })?;
        run(Command::new("tar").arg("-xf").arg(&archive).arg("-C").arg(&unpacked))?.success()?;
        fs::rename(unpacked, &source).context("cannot keep the previous version")?;
    }
    let built = target.join("build");
    if !built.exists() {
        progress("the previous version: 1 to 4 min");
        seed(&built)?;
    }
    run(as_from_a_shell(&mut Command::new("cargo"))
        .current_dir(&source)
        .env_remove("CARGO_TARGET_DIR")
        .args(["build", "--quiet", "--locked", "--bin", "poolguard", "--target-dir"])
        .arg(&built))?
    .success()
    .context("the previous version cannot be built")?;
    Ok(Previous { binary: built.join("debug/poolguard"), chart: source.join("charts/poolguard") })
}

/// Copies what cargo has built of other crates for this version: the one before has nearly the same, and whatever differs is built.
fn seed(built: &Path) -> Result<()> {
    let (from, to) = (crate::root().join("target/debug"), built.join("debug"));
    if !from.join("deps").is_dir() {
        return Ok(());
    }
    fs::create_dir_all(to.join("deps")).with_context(|| format!("cannot make {}", to.display()))?;
    for folder in [".fingerprint", "build"] {
        run(Command::new("cp").arg("-a").arg(from.join(folder)).arg(&to))?.success()?;
    }
    // All but programs, which are of this version, and large.
    let mut find = Command::new("find");
    find.arg(from.join("deps")).args(["-maxdepth", "1", "-type", "f", "("]);
    find.args(["-name", "*.rlib", "-o", "-name", "*.rmeta", "-o", "-name", "*.so", "-o", "-name", "*.d", ")"]);
    find.args(["-exec", "cp", "-a", "-t"]).arg(to.join("deps")).args(["{}", "+"]);
    run(&mut find)?.success().map(drop)
}
