//! Limits of a container, by the kernel's control groups of either version.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

const ROOT: &str = "/sys/fs/cgroup";

/// A group with limits for one process.
pub struct Limits {
    folders: Vec<PathBuf>,
    peak: PathBuf,
}

impl Limits {
    /// Makes a group with so many thousandths of a core, and so much memory.
    pub fn new(name: &str, millicores: u64, memory: u64) -> Result<Self> {
        let name = format!("poolguard-{name}-{}", std::process::id());
        let write = |file: PathBuf, text: String| fs::write(&file, text).with_context(|| format!("{}", file.display()));
        let make = |folder: &Path| fs::create_dir(folder).with_context(|| format!("{}", folder.display()));
        let root = Path::new(ROOT);
        if root.join("cgroup.controllers").exists() {
            let folder = root.join(name);
            write(root.join("cgroup.subtree_control"), "+cpu +memory".to_owned())?;
            make(&folder)?;
            let this = Self { peak: folder.join("memory.peak"), folders: vec![folder.clone()] };
            write(folder.join("cpu.max"), format!("{} 100000", millicores * 100))?;
            write(folder.join("memory.max"), memory.to_string())?;
            return Ok(this);
        }
        let (cpu, held) = (root.join("cpu").join(&name), root.join("memory").join(&name));
        let mut this = Self { peak: held.join("memory.max_usage_in_bytes"), folders: Vec::new() };
        for folder in [&cpu, &held] {
            make(folder)?;
            this.folders.push(folder.clone());
        }
        write(cpu.join("cpu.cfs_period_us"), "100000".to_owned())?;
        write(cpu.join("cpu.cfs_quota_us"), (millicores * 100).to_string())?;
        write(held.join("memory.limit_in_bytes"), memory.to_string())?;
        Ok(this)
    }

    /// A command that runs this program in the group from its first instruction on.
    pub fn command(&self, program: &Path) -> Command {
        let enter =
            "while [ \"$1\" != -- ]; do echo $$ > \"$1/cgroup.procs\" || exit 1; shift; done; shift; exec \"$@\"";
        let mut command = Command::new("/bin/sh");
        command.args(["-c", enter, "enter"]).args(&self.folders).arg("--").arg(program);
        command
    }

    /// The most memory that was ever used, in bytes, where the kernel says so.
    pub fn peak(&self) -> Option<u64> {
        fs::read_to_string(&self.peak).ok()?.trim().parse().ok()
    }
}

impl Drop for Limits {
    fn drop(&mut self) {
        for folder in &self.folders {
            let _ = fs::remove_dir(folder);
        }
    }
}
