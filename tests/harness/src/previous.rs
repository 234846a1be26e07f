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
        // As new as they are here: cargo takes what is older than a program for what it is made of.
        run(Command::new("tar").arg("-xmf").arg(&archive).arg("-C").arg(&unpacked))?.success()?;
        fs::rename(unpacked, &source).context("cannot keep the previous version")?;
    }
    let built = target.join(format!("build-{commit}"));
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
///
/// Never: anything of our own crates. Cargo knows them by their names and would take this version's for that one's.
fn seed(built: &Path) -> Result<()> {
    let from = crate::root().join("target/debug");
    if !from.join("deps").is_dir() {
        return Ok(());
    }
    let seeded = built.with_extension("seeded");
    let _ = fs::remove_dir_all(&seeded);
    for folder in [".fingerprint", "build", "deps"] {
        let to = seeded.join("debug").join(folder);
        fs::create_dir_all(&to).with_context(|| format!("cannot make {}", to.display()))?;
        let mut find = Command::new("find");
        find.arg(from.join(folder)).args(["-mindepth", "1", "-maxdepth", "1", "!", "-name", "*poolguard*"]);
        if folder == "deps" {
            // All but programs, which are large.
            find.args([
                "(", "-name", "*.rlib", "-o", "-name", "*.rmeta", "-o", "-name", "*.so", "-o", "-name", "*.d", ")",
            ]);
        }
        find.args(["-exec", "cp", "-a", "-t"]).arg(to).args(["{}", "+"]);
        run(&mut find)?.success()?;
    }
    // Whole, or not at all.
    fs::rename(seeded, built).context("cannot keep what has been built")
}
