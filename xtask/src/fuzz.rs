//! `cargo xtask fuzz`: a review's bytes, guided by coverage, through the decoder and the decision.
//!
//! cargo-fuzz wants a nightly toolchain for its sanitizers alone. None of this code is unsafe, so it runs without one, and the
//! toolchain of the repository will do. What it finds stays in `fuzz/artifacts`.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::{progress, tools};

const VERSION: &str = "0.13.2";
const TARGET: &str = "review";

/// Fuzzes for this many seconds, and builds before.
///
/// # Errors
/// If something is missing, or something is found.
pub fn run(seconds: u64) -> Result<()> {
    let compiler = std::env::var("CXX").unwrap_or_else(|_| "c++".to_owned());
    if Command::new(&compiler).arg("--version").output().is_err() {
        bail!("CANNOT FUZZ: there is no C++ compiler `{compiler}`, with which libFuzzer is built");
    }
    let program = tools::install("cargo-fuzz", VERSION)?;
    let folder = poolguard_harness::root().join("fuzz");
    seed(&folder.join("corpus").join(TARGET))?;
    progress(&format!("the target {TARGET}, for {seconds} s"));
    let code = tools::run(
        Command::new(program)
            .args(["fuzz", "run", "--sanitizer=none", "--dev", "--fuzz-dir"])
            .arg(&folder)
            .args([TARGET, "--", "-max_len=16384", "-timeout=10", "-rss_limit_mb=2048"])
            .arg(format!("-max_total_time={seconds}")),
    )?;
    ensure!(code == 0, "cargo-fuzz ended with {code}: what it found is in fuzz/artifacts/{TARGET}");
    progress("nothing was found");
    Ok(())
}

/// The recordings of `tests/reviews` are where it begins.
fn seed(corpus: &Path) -> Result<()> {
    fs::create_dir_all(corpus).context("cannot make the corpus")?;
    let recordings = poolguard_harness::root().join("tests/reviews");
    for entry in fs::read_dir(&recordings).context("there are no recordings: run `cargo xtask record-reviews`")? {
        let path = entry?.path();
        if let (Some(name), true) = (path.file_name(), path.extension().is_some_and(|extension| extension == "json")) {
            fs::copy(&path, corpus.join(name)).with_context(|| format!("cannot copy {}", path.display()))?;
        }
    }
    Ok(())
}
