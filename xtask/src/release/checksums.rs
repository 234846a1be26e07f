//! `SHA256SUMS`, as `sha256sum --check` reads it.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use poolguard_harness::command;

/// The file of the checksums.
const NAME: &str = "SHA256SUMS";

/// Writes the checksums of every file of a folder. Returns the names of all of its files.
///
/// # Errors
/// If `sha256sum` cannot be run or a file not be read.
pub(super) fn write(folder: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name != NAME {
            names.push(name);
        }
    }
    names.sort();
    let sums = command::run(Command::new("sha256sum").current_dir(folder).arg("--").args(&names))?.success()?;
    fs::write(folder.join(NAME), sums).context("cannot write the checksums")?;
    names.push(NAME.to_owned());
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_summed_and_a_change_is_noticed() {
        let folder = std::env::temp_dir().join(format!("poolguard-sums-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        for name in ["b", "a"] {
            fs::write(folder.join(name), name).expect("a file");
        }
        assert_eq!(write(&folder).expect("checksums"), ["a", "b", NAME]);
        let check = || {
            let mut check = Command::new("sha256sum");
            command::run(check.current_dir(&folder).args(["--check", "--strict", NAME])).expect("it starts")
        };
        assert_eq!(check().success().expect("all is well"), "a: OK\nb: OK\n");
        fs::write(folder.join("a"), "changed").expect("a file");
        let changed = check();
        assert!(!changed.ok() && changed.stdout.contains("a: FAILED"), "{}", changed.text());
        // A second time, it does not sum itself.
        assert_eq!(write(&folder).expect("checksums").len(), 3);
        fs::remove_dir_all(folder).expect("the folder goes");
    }
}
