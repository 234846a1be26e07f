//! An enclosure: namespaces of its own for processes, mounts and network, in which Debian's packages are installed. Nothing that
//! is done inside touches the machine, and nothing outlives the process that holds it; what the kernel does not take away by
//! itself, control groups, the run removes.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;
use std::{fs, io};

use anyhow::{Context, Result, ensure};

use crate::debian::Debian;
use crate::run::Run;
use crate::wait::wait_for;

const LAYOUT: &str = include_str!("enclosure.sh");
const HOLDER: &str = "enclosure";
const CGROUPS: &str = "/sys/fs/cgroup";

/// The address of the node; its network is that of nobody else in there.
pub const ADDRESS: &str = "10.123.0.1";

/// Where sockets are inside. The kernel takes no path of more than 107 bytes for one, and a checkout may lie anywhere.
pub const SOCKETS: &str = "/run/sockets";
/// Where the kubelet keeps what it has, sockets among it.
pub const KUBELET: &str = "/run/kubelet";

/// Namespaces, and the process that holds them.
#[derive(Debug)]
pub struct Enclosure {
    holder: u32,
    cgroup: String,
    /// Where what is inside keeps its files.
    pub folder: PathBuf,
}

impl Enclosure {
    /// Makes one that ends with the run.
    ///
    /// # Errors
    /// If the kernel does not allow it.
    pub fn start(run: &Arc<Run>, debian: &Debian) -> Result<Self> {
        let folder = run.subfolder(HOLDER)?;
        let cgroup = format!("poolguard-{}", name(run.folder())?);
        run.after(&remove(&cgroup))?;
        for hierarchy in hierarchies()? {
            let path = hierarchy.join(&cgroup);
            fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
        }
        let holder = run.start(
            HOLDER,
            Command::new("unshare")
                .args([
                    "--mount",
                    "--net",
                    "--pid",
                    "--fork",
                    "--kill-child",
                    "--mount-proc",
                    "sh",
                    "-c",
                    LAYOUT,
                    HOLDER,
                ])
                .arg(&folder)
                .arg(debian.usr())
                .arg(crate::root())
                .arg(format!("{ADDRESS}/24")),
        )?;
        let this = Self { holder, cgroup, folder };
        wait_for("the enclosure to be laid out", Duration::from_secs(20), || {
            run.ensure_running(holder, HOLDER)?;
            ensure!(this.folder.join("laid-out").exists(), "{}", run.log_tail(HOLDER));
            Ok(())
        })?;
        Ok(this)
    }

    /// The control group below which everything belongs that a kubelet starts.
    pub fn cgroup(&self) -> String {
        format!("/{}", self.cgroup)
    }

    /// The same command, inside.
    pub fn wrap(&self, command: &Command) -> Command {
        let namespaces = PathBuf::from(format!("/proc/{}/ns", self.holder));
        let namespace = |flag: &str, file: &str| format!("--{flag}={}", namespaces.join(file).display());
        let mut inside = Command::new("nsenter");
        inside
            .args([namespace("mount", "mnt"), namespace("net", "net"), namespace("pid", "pid_for_children")])
            .arg("--")
            .arg(command.get_program())
            .args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => inside.env(name, value),
                None => inside.env_remove(name),
            };
        }
        inside
    }
}

/// What an enclosure and a node in it need from this machine and lack.
pub fn missing() -> Vec<String> {
    let mut missing = Vec::new();
    let root = fs::read_to_string("/proc/self/status").is_ok_and(|text| {
        text.lines().any(|line| line.strip_prefix("Uid:").is_some_and(|ids| ids.split_whitespace().nth(1) == Some("0")))
    });
    if !root {
        missing.push("root".to_owned());
    }
    for program in ["unshare", "nsenter", "mount", "ip"] {
        if Command::new(program).arg("-V").output().is_err() {
            missing.push(format!("`{program}` on the PATH"));
        }
    }
    if !fs::read_to_string("/proc/filesystems").is_ok_and(|text| text.contains("\toverlay\n")) {
        missing.push("a kernel with overlayfs".to_owned());
    }
    if hierarchies().is_ok_and(|found| found.is_empty()) {
        missing.push(format!("control groups at {CGROUPS}"));
    }
    missing
}

/// The hierarchies of control groups: one for each controller, or one for all.
fn hierarchies() -> Result<Vec<PathBuf>> {
    let root = Path::new(CGROUPS);
    if root.join("cgroup.controllers").exists() {
        return Ok(vec![root.to_path_buf()]);
    }
    let entries: io::Result<Vec<_>> = fs::read_dir(root).and_then(Iterator::collect);
    let paths = entries.with_context(|| format!("cannot read {CGROUPS}"))?.into_iter().map(|entry| entry.path());
    Ok(paths.filter(|path| path.join("cgroup.procs").exists() && !path.is_symlink()).collect())
}

/// Removes the control groups of an enclosure, as soon as the kernel has ended the last process in them.
fn remove(cgroup: &str) -> String {
    format!(
        "tries=0\nwhile [ -n \"$(find {CGROUPS} -maxdepth 2 -name {cgroup} -type d)\" ] && [ $tries -lt 100 ]; do\n  \
         tries=$((tries + 1))\n  \
         find {CGROUPS} -depth -type d -path '*/{cgroup}*' -exec rmdir {{}} \\; 2>/dev/null\n  sleep 0.05\ndone\n"
    )
}

fn name(folder: &Path) -> Result<&str> {
    folder.file_name().and_then(|name| name.to_str()).context("the run has no name")
}
