//! Writes the generated files: the CustomResourceDefinitions, the chart's copies of them, the chart's webhook entries, the
//! schema of the configuration file, and the page about doors. `cargo xtask generate` runs it; a test fails where a file differs.

use std::path::Path;

fn main() -> std::io::Result<()> {
    let doors = poolguard_harness::lists::page().map_err(std::io::Error::other)?;
    for (path, text) in poolguard::generated::files().into_iter().chain([("docs/doors.md", doors)]) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::write(path, text)?;
    }
    Ok(())
}
