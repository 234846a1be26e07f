//! `cargo xtask deny`: licences, banned packages, sources and advisories, as `deny.toml` wants them.
//!
//! Never silent about advisories that could not be looked at: their database is a git repository, which not every machine reaches.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail, ensure};

use crate::{progress, tools};

const VERSION: &str = "0.20.2";

/// Checks all of it. With `strict`, advisories that cannot be looked at are a failure.
///
/// # Errors
/// If something is not as `deny.toml` wants it, or the tool cannot be installed.
pub fn run(strict: bool) -> Result<()> {
    let program = tools::install("cargo-deny", VERSION)?;
    let code = deny(&program, &["check", "licenses", "bans", "sources"])?;
    ensure!(code == 0, "licences, bans or sources are not as deny.toml wants them");
    progress("licences, bans and sources are as deny.toml wants them");
    if deny(&program, &["fetch", "db"])? != 0 {
        let said = "ADVISORIES WERE NOT CHECKED: their database cannot be fetched from here, see above. Nobody knows whether a \
                    package has a known flaw. Run this again where github.com can be reached";
        if strict {
            bail!(said);
        }
        progress(said);
        return Ok(());
    }
    let code = deny(&program, &["check", "--disable-fetch", "advisories"])?;
    ensure!(code == 0, "a package has a known flaw");
    progress("no package has a known flaw");
    Ok(())
}

fn deny(program: &Path, arguments: &[&str]) -> Result<i32> {
    tools::run(Command::new(program).args(["deny", "--locked"]).args(arguments))
}
