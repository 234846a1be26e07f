//! `cargo xtask release`: the program, what it is made of, the chart, and checksums of all of it, in `target/release-artifacts`.
//!
//! Never publishes anything.

mod checksums;
mod sbom;

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use poolguard_harness::{command, programs};

use crate::{cargo, progress};

/// Makes all of it.
///
/// # Errors
/// If a part cannot be made, or says another version than the others.
pub fn run() -> Result<()> {
    let root = poolguard_harness::root();
    let version = cargo::version()?;
    let chart = root.join("charts/poolguard");
    let text = fs::read_to_string(chart.join("Chart.yaml")).context("cannot read Chart.yaml")?;
    same_version(&text, &version)?;
    let folder = root.join("target/release-artifacts");
    // Nothing of an earlier release stays among what is told by the checksums.
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).context("cannot make the folder of the release")?;
    progress("the program, as it is shipped");
    let built = cargo::build_release()?;
    let said = command::run(Command::new(&built).arg("--version"))?.success()?;
    ensure!(said.trim().ends_with(&version), "the program calls itself {:?}, not {version}", said.trim());
    let name = format!("poolguard-{version}-linux-{}", std::env::consts::ARCH);
    fs::copy(&built, folder.join(&name)).context("cannot copy the program")?;
    progress("what it is made of, in CycloneDX");
    sbom::write(&folder.join(format!("{name}.cdx.json")))?;
    progress("the chart");
    package(&chart, &folder)?;
    for name in checksums::write(&folder)? {
        println!("{}", folder.join(name).display());
    }
    Ok(())
}

/// Chart and program are of one version.
fn same_version(chart: &str, version: &str) -> Result<()> {
    for key in ["version: ", "appVersion: "] {
        let said = chart.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default().trim_matches('"');
        ensure!(said == version, "Chart.yaml says {key}{said}, and Cargo.toml {version}: write the same in both");
    }
    Ok(())
}

/// `helm package`.
fn package(chart: &Path, folder: &Path) -> Result<()> {
    let mut helm = Command::new(programs::build(&progress)?.path("helm3"));
    command::run(helm.arg("package").arg(chart).arg("--destination").arg(folder))?.success()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chart_of_another_version_is_not_released() {
        let version = cargo::version().expect("a version");
        let path = poolguard_harness::root().join("charts/poolguard/Chart.yaml");
        let chart = fs::read_to_string(path).expect("the chart");
        same_version(&chart, &version).expect("the chart of this repository is of its version");
        for key in ["version", "appVersion"] {
            let other = chart.replace(&format!("\n{key}: "), &format!("\n{key}: 9"));
            let error = same_version(&other, &version).expect_err("another version");
            assert!(error.to_string().starts_with(&format!("Chart.yaml says {key}: 9")), "{error}");
        }
    }
}
