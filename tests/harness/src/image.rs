//! The image as it is shipped: a static program, and the last stage of the Dockerfile around it. The same sources give the same
//! bytes.
//!
//! Never runs the stages before the last one: they begin with an image of a registry.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::command::{as_from_a_shell, run};
use crate::debian::{self, Debian};

/// What the program is built for: the machine that it is built on.
const TARGET: &str =
    if cfg!(target_arch = "aarch64") { "aarch64-unknown-linux-gnu" } else { "x86_64-unknown-linux-gnu" };
/// Everything that it needs is inside of it.
const STATIC: &str = "-C target-feature=+crt-static";
/// The image's name, as the chart has it.
pub const NAME: &str = concat!("docker.io/library/poolguard:", env!("CARGO_PKG_VERSION"));

/// An image in an archive.
#[derive(Debug)]
pub struct Image {
    /// The archive, as `docker load` and `ctr images import` read it.
    pub archive: PathBuf,
    /// The digest of its configuration, which names its layers by theirs.
    pub id: String,
}

/// How cargo builds the program; `--target` and [`TARGET`] follow.
const BUILD: [&str; 6] = ["build", "--locked", "--profile", "dist", "--bin", "poolguard"];

/// Builds the image into this archive.
///
/// # Errors
/// If something is missing or does not build.
pub fn build(archive: &Path, progress: &dyn Fn(&str)) -> Result<Image> {
    let program = program(progress)?;
    let text = fs::read_to_string(crate::root().join("Dockerfile")).context("cannot read the Dockerfile")?;
    around(&program, last_stage(&text)?, NAME, archive, &debian::unpack_node(progress)?)
}

/// The program, static.
///
/// # Errors
/// If it does not compile.
pub fn program(progress: &dyn Fn(&str)) -> Result<PathBuf> {
    progress("poolguard as it is shipped: about 4 minutes on two cores where nothing is built yet");
    compile(&BUILD)?;
    Ok(folder().join("dist/poolguard"))
}

/// What runs in pods of the tests, static too.
///
/// # Errors
/// If it does not compile.
pub fn service() -> Result<PathBuf> {
    compile(&["build", "--locked", "--package", "poolguard-service"])?;
    Ok(folder().join("debug/poolguard-service"))
}

fn folder() -> PathBuf {
    crate::root().join("target").join(TARGET)
}

/// Runs cargo with the flags that make programs static and leave the machine's paths out.
fn compile(arguments: &[&str]) -> Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from).or_else(|| Some(std::env::home_dir()?.join(".cargo")));
    let home = home.context("cargo has no home")?;
    let root = crate::root();
    let flags = [
        STATIC.replace(' ', "\u{1f}"),
        format!("--remap-path-prefix={}=/poolguard", root.display()),
        format!("--remap-path-prefix={}=/cargo", home.display()),
    ];
    let mut command = Command::new(cargo);
    command.current_dir(root).env_remove("RUSTFLAGS").env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"));
    as_from_a_shell(&mut command);
    run(command.args(arguments).args(["--target", TARGET, "--quiet"]))?.success()?;
    Ok(())
}

/// The last stage of a Dockerfile.
fn last_stage(dockerfile: &str) -> Result<&str> {
    let at = dockerfile.rfind("\nFROM ").context("the Dockerfile has one stage only")?;
    Ok(&dockerfile[at + 1..])
}

/// An image around a static program, which `stage`, a Dockerfile of one stage, copies from `/out` of the stage `build`.
///
/// # Errors
/// If it does not build.
pub fn around(program: &Path, stage: &str, name: &str, archive: &Path, debian: &Debian) -> Result<Image> {
    let parent = archive.parent().context("the archive lies in no folder")?;
    fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
    let work = archive.with_extension("work");
    let _ = fs::remove_dir_all(&work);
    let out = work.join("build/out");
    fs::create_dir_all(&out).with_context(|| format!("cannot make {}", out.display()))?;
    let file = program.file_name().context("the program has no name")?;
    fs::copy(program, out.join(file)).with_context(|| format!("cannot copy {}", program.display()))?;
    fs::write(work.join("Dockerfile"), stage).context("cannot write a stage")?;
    fs::write(work.join("policy.json"), r#"{"default": [{"type": "insecureAcceptAnything"}]}"#)
        .context("cannot write a policy")?;
    let buildah = |arguments: &[&str]| {
        let mut command = debian.installed("buildah");
        command.arg("--root").arg(work.join("storage")).arg("--runroot").arg(work.join("run"));
        run(command.args(["--storage-driver", "vfs"]).args(arguments))?.success()
    };
    let path = |name: &str| work.join(name).to_string_lossy().into_owned();
    // Nothing of when or by what it was built gets in.
    buildah(&[
        "bud",
        "--isolation=chroot",
        "--format=oci",
        "--timestamp=0",
        "--identity-label=false",
        &format!("--build-context=build={}", path("build")),
        &format!("--signature-policy={}", path("policy.json")),
        &format!("--iidfile={}", path("id")),
        &format!("--file={}", path("Dockerfile")),
        &format!("--tag={name}"),
        &path("build"),
    ])
    .with_context(|| format!("cannot build the image {name}"))?;
    let id = fs::read_to_string(work.join("id")).context("cannot read the image's id")?.trim().to_owned();
    ensure!(id.starts_with("sha256:"), "the image's id is {id:?}");
    let _ = fs::remove_file(archive);
    let target = format!("docker-archive:{}:{name}", archive.display());
    buildah(&["push", &format!("--signature-policy={}", path("policy.json")), name, &target])
        .context("cannot write the archive")?;
    fs::remove_dir_all(&work).context("cannot remove what the image was built in")?;
    Ok(Image { archive: archive.to_path_buf(), id })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dockerfile_builds_what_the_tests_run() {
        let text = fs::read_to_string(crate::root().join("Dockerfile")).expect("the Dockerfile");
        let command = format!("\nRUN cargo {} --target ", BUILD.join(" "));
        assert!(text.contains(&command), "its command differs");
        assert!(text.contains(&format!("RUSTFLAGS=\"{STATIC} ")), "its flags differ");
        let stage = last_stage(&text).expect("a last stage");
        assert!(stage.starts_with("FROM scratch\n"), "{stage}");
        assert!(stage.contains("\nUSER 65532:65532\n"), "{stage}");
        assert!(stage.contains(&format!("image.version=\"{}\"", env!("CARGO_PKG_VERSION"))), "{stage}");
    }
}
