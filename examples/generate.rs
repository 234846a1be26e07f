//! Writes the generated files: the CustomResourceDefinitions, the chart's copies of them, the chart's webhook entries, the
//! schemas of the configuration file and of the chart's values, and the pages about doors and values. `cargo xtask generate` runs
//! it; a test fails where a file differs.

use std::path::Path;

use poolguard_harness::{lists, values};

fn main() -> std::io::Result<()> {
    let doors = lists::page().map_err(std::io::Error::other)?;
    let schema = values::schema(&poolguard::config::schema()).map_err(std::io::Error::other)?;
    let page = values::page(&schema).map_err(std::io::Error::other)?;
    let further = [("docs/doors.md", doors), (values::SCHEMA, schema), (values::PAGE, page)];
    for (path, text) in poolguard::generated::files().into_iter().chain(further) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::write(path, text)?;
    }
    Ok(())
}
