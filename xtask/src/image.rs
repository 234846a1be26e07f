//! `cargo xtask image`: the image as it is shipped, in an archive.

use std::fs;

use anyhow::{Context, Result};
use poolguard_harness::image;

use crate::progress;

/// Builds it and says what it is.
///
/// # Errors
/// If something is missing or does not build.
pub fn run() -> Result<()> {
    let archive = poolguard_harness::root().join("target/image/poolguard.tar");
    let image = image::build(&archive, &progress)?;
    let bytes = fs::metadata(&image.archive).context("cannot look at the archive")?.len();
    println!("{}  {}\n{}, {} KiB", image::NAME, image.id, image.archive.display(), bytes / 1024);
    Ok(())
}
