//! Debian's packages of the programs that are no Go modules or Python packages: gdnsd and Prometheus, a clock that is wrong, a counter
//! of instructions, and what a real node runs. They are downloaded by apt, whose signatures count, and unpacked below `target/debian`: nothing is installed.

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::command::run;

/// Packages that are unpacked together.
struct Packages {
    /// Their list in `tests/controlplane/debian`, and their folder in `target/debian`.
    name: &'static str,
    /// What they are for.
    what: &'static str,
    /// Seconds that they take.
    seconds: u64,
}

const EDGE: Packages = Packages { name: "edge", what: "gdnsd, Prometheus and valgrind", seconds: 15 };
const NODE: Packages = Packages { name: "node", what: "containerd, runc, buildah and the rest of a node", seconds: 20 };

/// The unpacked packages.
#[derive(Debug, Clone)]
pub struct Debian {
    root: PathBuf,
}

impl Debian {
    /// A command that runs one of their programs, by its path such as `usr/sbin/gdnsd`, with their libraries.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.root.join(program));
        command.env("LD_LIBRARY_PATH", self.root.join("usr/lib").join(library_folder()));
        command
    }

    /// A command that sees the packages installed, and is the only one who does. Wants root.
    pub fn installed(&self, program: &str) -> Command {
        let mut command = Command::new("unshare");
        let script = r#"mount -t overlay -o "lowerdir=$0:/usr" overlay /usr && exec "$@""#;
        command.args(["--mount", "sh", "-c", script]).arg(self.usr()).arg(program);
        command
    }

    /// What lies over `/usr` where they are installed.
    pub fn usr(&self) -> PathBuf {
        self.root.join("usr")
    }
}

impl Debian {
    /// A library that gives a program another clock, and the setting of this one, as its environment.
    pub fn clock(&self, offset: &str) -> [(&'static str, String); 3] {
        let library = self.root.join("usr/lib").join(library_folder()).join("faketime/libfaketime.so.1");
        [
            ("LD_PRELOAD", library.display().to_string()),
            ("FAKETIME", offset.to_owned()),
            // What is waited for is no time of day.
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        ]
    }
}

/// Debian's name for the machine in paths of libraries.
fn library_folder() -> &'static str {
    if cfg!(target_arch = "aarch64") { "aarch64-linux-gnu" } else { "x86_64-linux-gnu" }
}

/// gdnsd and Prometheus, downloaded and unpacked where they are missing.
///
/// # Errors
/// If apt is missing, or a pinned version is gone.
pub fn unpack(progress: &dyn Fn(&str)) -> Result<Debian> {
    EDGE.unpack(progress)
}

/// What a node runs, downloaded and unpacked where it is missing.
///
/// # Errors
/// If apt is missing, or a package is gone.
pub fn unpack_node(progress: &dyn Fn(&str)) -> Result<Debian> {
    NODE.unpack(progress)
}

impl Packages {
    fn unpack(&self, progress: &dyn Fn(&str)) -> Result<Debian> {
        let list = crate::root().join(format!("tests/controlplane/debian/{}.txt", self.name));
        let packages = fs::read_to_string(&list).with_context(|| format!("cannot read {}", list.display()))?;
        let target = crate::root().join("target/debian");
        let own = target.join(self.name);
        fs::create_dir_all(&own).with_context(|| format!("cannot make {}", own.display()))?;
        let lock = File::create(target.join("lock")).context("cannot make the lock of the packages")?;
        lock.lock().context("cannot wait for another download")?;
        let debian = Debian { root: own.join("root") };
        let mut hasher = DefaultHasher::new();
        (&packages, library_folder()).hash(&mut hasher);
        let (stamp, stamp_file) = (format!("{:016x}", hasher.finish()), own.join("stamp"));
        if fs::read_to_string(&stamp_file).is_ok_and(|text| text == stamp) {
            return Ok(debian);
        }
        progress(&format!("{}: Debian's packages, about {} s", self.what, self.seconds));
        for tool in ["apt-get", "dpkg-deb"] {
            run(Command::new(tool).arg("--version")).with_context(|| {
                format!("`{tool}` is needed for {}: use Debian 12, or put it on the PATH", self.what)
            })?;
        }
        let downloads = own.join("downloads");
        for folder in [&downloads, &debian.root] {
            let _ = fs::remove_dir_all(folder);
            fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        }
        let config = configure(&target)?;
        let apt = |arguments: &[&str]| {
            run(Command::new("apt-get")
                .current_dir(&downloads)
                .env("APT_CONFIG", &config)
                .arg("--quiet")
                .args(arguments))?
            .success()
        };
        apt(&["update"]).context("apt cannot read its lists of packages")?;
        let lines = packages.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        let names: Vec<&str> = lines.collect();
        apt(&[&["download"], &names[..]].concat()).with_context(|| {
            format!("a package cannot be downloaded: if it is gone, change its line in {}", list.display())
        })?;
        let mut count = 0;
        for entry in fs::read_dir(&downloads).context("cannot read what was downloaded")? {
            let path = entry.context("cannot read what was downloaded")?.path();
            run(Command::new("dpkg-deb").arg("--extract").arg(&path).arg(&debian.root))?.success()?;
            count += 1;
        }
        ensure!(count == names.len(), "{count} of {} packages were downloaded", names.len());
        // Some packages still ship /lib, which is /usr/lib on every machine.
        let (old, new) = (debian.root.join("lib"), debian.root.join("usr"));
        if old.exists() {
            run(Command::new("cp").arg("-a").arg(old).arg(new))?.success()?;
        }
        let _ = fs::remove_dir_all(&downloads);
        fs::write(stamp_file, stamp).context("cannot write a stamp")?;
        Ok(debian)
    }
}

/// A configuration of apt with folders of our own, and the machine's sources and keys.
fn configure(target: &Path) -> Result<PathBuf> {
    let apt = target.join("apt");
    for folder in ["state/lists/partial", "cache/archives/partial"] {
        fs::create_dir_all(apt.join(folder)).context("cannot make apt's folders")?;
    }
    fs::write(apt.join("status"), "").context("cannot write apt's status")?;
    let path = apt.join("apt.conf");
    let text = format!(
        "Dir::State \"{0}/state\";\nDir::State::status \"{0}/status\";\nDir::Cache \"{0}/cache\";\nAPT::Sandbox::User \"\";\n",
        apt.display()
    );
    fs::write(&path, text).context("cannot configure apt")?;
    Ok(path)
}
