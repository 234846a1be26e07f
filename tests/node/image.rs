//! The image: what is in it, and that it is the same each time.

use std::path::{Path, PathBuf};
use std::process::Command;

use poolguard_harness::command::run;
use poolguard_harness::image::{self, Image};

use crate::{IMAGE, progress};

/// As much as a registry should have to keep for it.
const LIMIT: u64 = 20 * 1024 * 1024;

/// Builds it into an archive of this name.
pub fn build(name: &str) -> Image {
    let archive = poolguard_harness::root().join(format!("target/image/{name}.tar"));
    image::build(&archive, &progress).expect("the image")
}

/// What `tar` says about an archive.
fn tar(arguments: &[&str]) -> Vec<u8> {
    let output = Command::new("tar").args(arguments).output().expect("tar starts");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn member(archive: &Path, name: &str) -> Vec<u8> {
    tar(&["-xOf", &archive.to_string_lossy(), name])
}

fn json(archive: &Path, name: &str) -> serde_json::Value {
    serde_json::from_slice(&member(archive, name)).expect("JSON")
}

#[test]
fn it_is_the_same_each_time() {
    let again = build("again");
    assert_eq!(IMAGE.id, again.id);
    let bytes = |image: &Image| std::fs::read(&image.archive).expect("an archive");
    assert!(bytes(&IMAGE) == bytes(&again), "the archives differ");
    std::fs::remove_file(again.archive).expect("it goes");
}

#[test]
fn it_is_one_static_program_and_a_user_without_rights() {
    let archive = &IMAGE.archive;
    let size = std::fs::metadata(archive).expect("an archive").len();
    println!("the image has {:.1} MiB: {}", size as f64 / 1024.0 / 1024.0, IMAGE.id);
    assert!(size <= LIMIT, "{size} bytes");
    let manifest = json(archive, "manifest.json");
    assert_eq!(manifest[0]["RepoTags"], serde_json::json!([image::NAME]));
    let config = json(archive, manifest[0]["Config"].as_str().expect("a configuration"));
    assert_eq!(config["created"], "1970-01-01T00:00:00Z");
    let config = &config["config"];
    assert_eq!(config["User"], "65532:65532");
    assert_eq!(config["Entrypoint"], serde_json::json!(["/poolguard"]));
    assert_eq!(config["Labels"]["org.opencontainers.image.version"], env!("CARGO_PKG_VERSION"));
    // Whatever it had to do by itself would be done by a shell that is not there.
    assert!(config["Cmd"].is_null(), "{config}");
    let layers = manifest[0]["Layers"].as_array().expect("layers");
    assert_eq!(layers.len(), 1, "{layers:?}");
    let folder = poolguard_harness::root().join("target/image/layer");
    std::fs::create_dir_all(&folder).expect("a folder");
    let layer = folder.join("layer.tar");
    std::fs::write(&layer, member(archive, layers[0].as_str().expect("a layer"))).expect("a layer");
    let listed = String::from_utf8(tar(&["-tvf", &layer.to_string_lossy(), "--numeric-owner"])).expect("names");
    let files: Vec<&str> = listed.lines().collect();
    assert!(files.len() == 1 && files[0].starts_with("-r-xr-xr-x 0/0 "), "{listed}");
    let program: PathBuf = folder.join("poolguard");
    std::fs::write(&program, member(&layer, "poolguard")).expect("the program");
    let told = run(Command::new("readelf").args(["--program-headers", "--dynamic"]).arg(&program)).expect("readelf");
    let told = told.success().expect("an ELF file");
    assert!(!told.contains("INTERP") && !told.contains("(NEEDED)"), "it wants something that is not there: {told}");
    std::fs::remove_dir_all(folder).expect("it goes");
}
