//! The programs of a control plane, built once from the Go modules that pin them, into `target/controlplane/bin/`. Another minor
//! version of Kubernetes has a module and a folder of its own. What Poolguard is measured against is built in the same way, into
//! `target/peers/bin/`, and only when it is measured.
//!
//! A program is built again only when its pins, its flags or the compiler change. Versions stand in `go.mod` alone.

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, anyhow, ensure};

use crate::command::run;

/// The variable that names another minor version of Kubernetes, such as `1.33`.
pub const VERSION: &str = "POOLGUARD_KUBERNETES";

/// A program and where it comes from.
#[derive(Clone, Copy)]
struct Program {
    name: &'static str,
    folder: &'static str,
    package: &'static str,
    /// The module whose version is the program's.
    module: &'static str,
    /// How the version is linked in, with `{}` for it; clients refuse a server whose version does not parse.
    link: &'static str,
    /// How the program tells its version.
    version: &'static [&'static str],
    /// Seconds that a cold build takes on two cores, for the estimate.
    seconds: u64,
}

const KUBERNETES: Program = Program {
    name: "",
    folder: "kubernetes",
    package: "",
    module: "k8s.io/kubernetes",
    link: "-X k8s.io/component-base/version.gitVersion={} -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor={minor}",
    version: &["--version"],
    seconds: 0,
};

/// What the datacenters need, in the order in which it is built.
const PROGRAMS: [Program; 8] = [
    Program {
        name: "etcd",
        folder: "etcd",
        package: "go.etcd.io/etcd/server/v3",
        module: "go.etcd.io/etcd/server/v3",
        link: "",
        version: &["--version"],
        seconds: 31,
    },
    Program { name: "kube-apiserver", package: "k8s.io/kubernetes/cmd/kube-apiserver", seconds: 240, ..KUBERNETES },
    Program {
        name: "kube-controller-manager",
        package: "k8s.io/kubernetes/cmd/kube-controller-manager",
        seconds: 60,
        ..KUBERNETES
    },
    Program { name: "kube-scheduler", package: "k8s.io/kubernetes/cmd/kube-scheduler", seconds: 7, ..KUBERNETES },
    Program {
        name: "kubectl",
        package: "k8s.io/kubernetes/cmd/kubectl",
        version: &["version", "--client"],
        seconds: 40,
        ..KUBERNETES
    },
    Program {
        name: "helm3",
        folder: "helm3",
        package: "helm.sh/helm/v3/cmd/helm",
        module: "helm.sh/helm/v3",
        link: "-X helm.sh/helm/v3/internal/version.version={}",
        version: &["version", "--short"],
        seconds: 61,
    },
    Program {
        name: "helm4",
        folder: "helm4",
        package: "helm.sh/helm/v4/cmd/helm",
        module: "helm.sh/helm/v4",
        link: "-X helm.sh/helm/v4/internal/version.version={}",
        version: &["version", "--short"],
        seconds: 106,
    },
    Program {
        name: "kwok",
        folder: "kwok",
        package: "sigs.k8s.io/kwok/cmd/kwok",
        module: "sigs.k8s.io/kwok",
        link: "-X sigs.k8s.io/kwok/pkg/consts.Version={}",
        version: &["--version"],
        seconds: 64,
    },
];

/// What Poolguard is measured against.
const PEERS: [Program; 3] = [
    Program {
        name: "gatekeeper",
        folder: "gatekeeper",
        package: "github.com/open-policy-agent/gatekeeper/v3",
        module: "github.com/open-policy-agent/gatekeeper/v3",
        link: "",
        version: &[],
        seconds: 240,
    },
    Program {
        name: "opa",
        folder: "opa",
        package: "github.com/open-policy-agent/opa",
        module: "github.com/open-policy-agent/opa",
        link: "",
        version: &["version"],
        seconds: 90,
    },
    Program {
        name: "kyverno",
        folder: "kyverno",
        package: "github.com/kyverno/kyverno/cmd/kyverno",
        module: "github.com/kyverno/kyverno",
        link: "",
        version: &[],
        seconds: 480,
    },
];

/// What a real node needs besides.
const OF_A_NODE: [Program; 2] = [
    Program { name: "kubelet", package: "k8s.io/kubernetes/cmd/kubelet", seconds: 30, ..KUBERNETES },
    Program { name: "kube-proxy", package: "k8s.io/kubernetes/cmd/kube-proxy", seconds: 10, ..KUBERNETES },
];

/// The Go modules that pin the programs of a control plane.
const CONTROL_PLANE: &str = "tests/controlplane";

/// Those that pin the peers.
const PEER_MODULES: &str = "tests/peers";

/// Where the programs of this checkout are.
#[derive(Debug, Clone)]
pub struct Programs {
    folder: PathBuf,
    /// Where their modules are, below the root.
    modules: &'static str,
    /// The minor version of Kubernetes, where it is another than the one that everything is tested with.
    version: Option<String>,
}

impl Programs {
    /// Where they are.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The path of a program.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

/// Builds what is missing, telling `progress` which program it is at. Which Kubernetes it is, the variable [`VERSION`] may say.
///
/// # Errors
/// If Go is missing or a build fails.
pub fn build(progress: &dyn Fn(&str)) -> Result<Programs> {
    match std::env::var(VERSION) {
        Ok(version) => build_version(&version, progress),
        Err(_) => build_all(&PROGRAMS, None, progress),
    }
}

/// The same, with this minor version of Kubernetes. Everything else is as always.
///
/// # Errors
/// If no module pins the version, or a build fails.
pub fn build_version(version: &str, progress: &dyn Fn(&str)) -> Result<Programs> {
    let modules = crate::root().join(CONTROL_PLANE).join(format!("kubernetes-{version}"));
    ensure!(modules.exists(), "{} is missing: no module pins Kubernetes {version}", modules.display());
    let (kubernetes, others): (Vec<Program>, Vec<Program>) =
        PROGRAMS.iter().partition(|program| program.folder == KUBERNETES.folder);
    let common = build_all(&others, None, progress)?;
    let programs = build_all(&kubernetes, Some(version.to_owned()), progress)?;
    for program in others {
        let link = programs.path(program.name);
        let _ = fs::remove_file(&link);
        std::os::unix::fs::symlink(common.path(program.name), &link).context("cannot link a program")?;
    }
    Ok(programs)
}

/// Builds one that Poolguard is measured against. Returns its path.
///
/// # Errors
/// If nobody of this name is known, Go is missing, or the build fails.
pub fn build_peer(name: &str, progress: &dyn Fn(&str)) -> Result<PathBuf> {
    let peer = PEERS.iter().find(|peer| peer.name == name).with_context(|| format!("no module pins {name}"))?;
    let folder = crate::root().join("target/peers/bin");
    let programs = Programs { folder, modules: PEER_MODULES, version: None };
    let _lock = lock(&programs)?;
    build_missing(1, &[peer], &programs, progress)?;
    Ok(programs.path(name))
}

/// The same as [`build`], also for the programs of a node.
///
/// # Errors
/// If Go is missing or a build fails.
pub fn build_for_node(progress: &dyn Fn(&str)) -> Result<Programs> {
    build_all(&PROGRAMS, None, progress)?;
    build_all(&OF_A_NODE, None, progress)
}

fn build_all(all: &[Program], version: Option<String>, progress: &dyn Fn(&str)) -> Result<Programs> {
    let suffix = version.as_ref().map(|version| format!("-{version}")).unwrap_or_default();
    let folder = crate::root().join(format!("target/controlplane{suffix}/bin"));
    let programs = Programs { folder, modules: CONTROL_PLANE, version };
    let _lock = lock(&programs)?;
    let assets =
        std::env::var_os("KUBEBUILDER_ASSETS").map(PathBuf::from).filter(|assets| !same(assets, &programs.folder));
    let missing: Vec<&Program> =
        all.iter().filter(|program| !given(program, assets.as_deref(), &programs).unwrap_or(false)).collect();
    build_missing(all.len(), &missing, &programs, progress)?;
    Ok(programs)
}

/// Waits for whoever builds into the same folder. The lock is held for as long as the file.
fn lock(programs: &Programs) -> Result<File> {
    fs::create_dir_all(&programs.folder).with_context(|| format!("cannot make {}", programs.folder.display()))?;
    let lock = File::create(programs.folder.with_file_name("lock")).context("cannot make the lock of the builds")?;
    lock.lock().context("cannot wait for another build")?;
    Ok(lock)
}

/// Builds those whose stamp is not the one of their pins; `all` is how many there are, with those that are not missing.
fn build_missing(all: usize, missing: &[&Program], programs: &Programs, progress: &dyn Fn(&str)) -> Result<()> {
    if missing.is_empty() {
        return Ok(());
    }
    let go = go_version()?;
    let stamped: Vec<(&Program, String)> =
        missing.iter().map(|program| Ok((*program, stamp_of(program, programs, &go)?))).collect::<Result<_>>()?;
    let missing: Vec<_> = stamped.into_iter().filter(|(program, stamp)| !built(program, programs, stamp)).collect();
    let (start, seconds): (_, u64) = (Instant::now(), missing.iter().map(|(program, _)| program.seconds).sum());
    let mut done = 0;
    for (index, (program, stamp)) in missing.iter().enumerate() {
        progress(&format!(
            "program {} of {}: {}, {} s so far, about {} s to go",
            all - missing.len() + index + 1,
            all,
            program.name,
            start.elapsed().as_secs(),
            seconds - done
        ));
        compile(program, programs)?;
        fs::write(stamp_file(program, programs), stamp).context("cannot write a stamp")?;
        done += program.seconds;
    }
    Ok(())
}

/// The version that a module pins.
fn pinned(program: &Program, programs: &Programs) -> Result<String> {
    let path = module_folder(program, programs).join("go.mod");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    text.lines()
        .map(|line| line.trim().trim_start_matches("require "))
        .find_map(|line| line.strip_prefix(program.module)?.strip_prefix(' '))
        .map(|rest| rest.split(' ').next().unwrap_or(rest).to_owned())
        .ok_or_else(|| anyhow!("{} does not pin {}", path.display(), program.module))
}

fn module_folder(program: &Program, programs: &Programs) -> PathBuf {
    let modules = crate::root().join(programs.modules);
    match &programs.version {
        Some(version) => modules.join(format!("{}-{version}", program.folder)),
        None => modules.join(program.folder),
    }
}

fn flags(program: &Program, programs: &Programs) -> Result<String> {
    let version = pinned(program, programs)?;
    let minor = version.split('.').nth(1).unwrap_or_default().to_owned();
    // kwok writes its version without the v.
    let version = if program.name == "kwok" { version.trim_start_matches('v').to_owned() } else { version };
    Ok(format!("-s -w {}", program.link.replace("{}", &version).replace("{minor}", &minor)))
}

fn go_version() -> Result<String> {
    let output = run(Command::new("go").arg("version"))
        .context("Go is needed to build the control plane: install Go 1.26 or newer and put `go` on the PATH")?;
    output.success()
}

fn stamp_of(program: &Program, programs: &Programs, go: &str) -> Result<String> {
    let folder = module_folder(program, programs);
    let mut hasher = DefaultHasher::new();
    for file in ["go.mod", "go.sum"] {
        fs::read(folder.join(file))
            .with_context(|| format!("cannot read {file} of {}", program.folder))?
            .hash(&mut hasher);
    }
    (go, flags(program, programs)?, program.package).hash(&mut hasher);
    Ok(format!("{:016x}", hasher.finish()))
}

fn stamp_file(program: &Program, programs: &Programs) -> PathBuf {
    programs.folder.with_file_name("stamps").join(program.name)
}

fn built(program: &Program, programs: &Programs, stamp: &str) -> bool {
    let file = stamp_file(program, programs);
    programs.path(program.name).exists() && fs::read_to_string(file).is_ok_and(|text| text == stamp)
}

fn compile(program: &Program, programs: &Programs) -> Result<()> {
    fs::create_dir_all(programs.folder.with_file_name("stamps")).context("cannot make the folder of the stamps")?;
    let target = programs.path(program.name);
    // Go would write through a link, into the folder of KUBEBUILDER_ASSETS.
    if target.is_symlink() {
        fs::remove_file(&target).with_context(|| format!("cannot remove {}", target.display()))?;
    }
    run(Command::new("go")
        .current_dir(module_folder(program, programs))
        .env("CGO_ENABLED", "0")
        .env("GOTOOLCHAIN", "local")
        .env("GOFLAGS", "-mod=readonly")
        .args(["build", "-trimpath", "-ldflags", flags(program, programs)?.trim(), "-o"])
        .arg(target)
        .arg(program.package))?
    .success()
    .with_context(|| format!("cannot build {}", program.name))?;
    Ok(())
}

/// Whether both are one folder: a program there, linked to itself, would be lost.
fn same(one: &Path, other: &Path) -> bool {
    matches!((one.canonicalize(), other.canonicalize()), (Ok(one), Ok(other)) if one == other)
}

/// Whether the folder of `KUBEBUILDER_ASSETS` has the program in the pinned version; then a link to it is made.
fn given(program: &Program, assets: Option<&Path>, programs: &Programs) -> Result<bool> {
    let Some(assets) = assets else { return Ok(false) };
    let path = assets.join(program.name);
    ensure!(path.exists(), "not there");
    let told = run(Command::new(&path).args(program.version))?.text();
    let wanted = pinned(program, programs)?;
    if !told.contains(wanted.trim_start_matches('v')) {
        return Ok(false);
    }
    let link = programs.path(program.name);
    let _ = fs::remove_file(&link);
    let _ = fs::remove_file(stamp_file(program, programs));
    std::os::unix::fs::symlink(&path, &link).context("cannot link a program")?;
    Ok(true)
}

/// Where a Go module is that a folder below the root pins: it holds CustomResourceDefinitions.
///
/// # Errors
/// If it cannot be downloaded.
pub fn module(folder: &str, module: &str) -> Result<PathBuf> {
    let folder = crate::root().join(folder);
    let go = |arguments: &[&str]| {
        run(Command::new("go").current_dir(&folder).env("GOTOOLCHAIN", "local").args(arguments))?.success()
    };
    go(&["mod", "download", module]).with_context(|| format!("cannot download {module}"))?;
    Ok(PathBuf::from(go(&["list", "-m", "-f", "{{.Dir}}", module])?.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn programs(version: Option<&str>) -> Programs {
        Programs { folder: PathBuf::new(), modules: CONTROL_PLANE, version: version.map(str::to_owned) }
    }

    #[test]
    fn every_program_is_pinned_by_the_module_that_builds_it() {
        for program in PROGRAMS.iter().chain(&OF_A_NODE) {
            assert!(pinned(program, &programs(None)).expect("a pin").starts_with('v'), "{}", program.name);
        }
        for peer in &PEERS {
            let programs = Programs { modules: PEER_MODULES, ..programs(None) };
            assert!(pinned(peer, &programs).expect("a pin").starts_with('v'), "{}", peer.name);
        }
    }

    #[test]
    fn the_oldest_version_that_the_chart_claims_is_pinned() {
        let chart = fs::read_to_string(crate::root().join("charts/poolguard/Chart.yaml")).expect("the chart");
        let claimed =
            chart.split("kubeVersion: \">=").nth(1).and_then(|rest| rest.split(".0-0").next()).expect("a claim");
        let pin = pinned(&KUBERNETES, &programs(Some(claimed))).expect("a pin");
        assert!(pin.starts_with(&format!("v{claimed}.")), "{pin} is not {claimed}");
    }

    #[test]
    fn a_folder_is_known_again_by_another_path() {
        let root = crate::root();
        assert!(same(&root, &root.join("tests/..")));
        assert!(!same(&root, &root.join("tests")) && !same(&root, &root.join("none")));
    }

    #[test]
    fn a_stamp_changes_with_the_compiler() {
        let stamp = |go| stamp_of(&PROGRAMS[0], &programs(None), go).expect("a stamp");
        assert_eq!(stamp("go1"), stamp("go1"));
        assert_ne!(stamp("go1"), stamp("go2"));
    }
}
