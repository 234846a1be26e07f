//! A run: a folder, and the processes that live in it. Whatever way the owner ends — return, panic, Ctrl-C, SIGKILL — a
//! watchdog ends the processes and removes the folder; a run that is kept is ended by its folder alone.
//!
//! Never ends a process that it did not start.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};

const STOP: &str = include_str!("stop.sh");

/// Processes and their folder.
#[derive(Debug)]
pub struct Run {
    folder: PathBuf,
    watchdog: Option<(Child, Option<ChildStdin>)>,
    children: Mutex<Vec<(u32, Child)>>,
}

impl Run {
    /// A run that ends with its owner, in a folder of its own below `target/runs`.
    ///
    /// # Errors
    /// If the folder cannot be made or the watchdog cannot be started.
    pub fn temporary() -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let mut run = Self::kept(crate::root().join("target/runs").join(name))?;
        let mut watchdog = Command::new("sh")
            .args(["-c", STOP, "stop"])
            .arg(&run.folder)
            .arg("watch")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // A group of its own, so that Ctrl-C in the terminal does not reach it.
            .process_group(0)
            .spawn()
            .context("cannot start the watchdog `sh`")?;
        let held = watchdog.stdin.take();
        run.watchdog = Some((watchdog, held));
        Ok(run)
    }

    /// A run that outlives its owner, until [`Run::stop`].
    ///
    /// # Errors
    /// If the folder cannot be made.
    pub fn kept(folder: PathBuf) -> Result<Self> {
        fs::create_dir_all(folder.join("log")).with_context(|| format!("cannot make {}", folder.display()))?;
        File::create(folder.join("processes")).context("cannot make the list of processes")?;
        Ok(Self { folder, watchdog: None, children: Mutex::default() })
    }

    /// Ends the processes of a kept run and removes its folder.
    ///
    /// # Errors
    /// If `sh` cannot be run.
    pub fn stop(folder: &Path) -> Result<()> {
        if folder.join("processes").exists() {
            crate::command::run(Command::new("sh").args(["-c", STOP, "stop"]).arg(folder).arg("now"))?.success()?;
        }
        Ok(())
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// A folder below it, made if it is missing.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn subfolder(&self, name: &str) -> Result<PathBuf> {
        let folder = self.folder.join(name);
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        Ok(folder)
    }

    /// Starts a process in a group of its own, with a log named `name`. Returns its pid.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start(&self, name: &str, command: &mut Command) -> Result<u32> {
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.log(name))
            .with_context(|| format!("cannot write the log of {name}"))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("cannot share a log")?)
            .stderr(log)
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        let pid = child.id();
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let start = stat.split(' ').nth(21).unwrap_or("0").to_owned();
        let mut list = OpenOptions::new()
            .append(true)
            .open(self.folder.join("processes"))
            .context("cannot open the list of processes")?;
        writeln!(list, "{pid} {start} {name}").context("cannot write the list of processes")?;
        self.children.lock().expect("no panic while the list is held").push((pid, child));
        Ok(pid)
    }

    /// Ends one process that this run started, by SIGTERM or, if `hard`, by SIGKILL, and waits for its end.
    ///
    /// # Errors
    /// If `kill` cannot be run.
    pub fn end(&self, pid: u32, hard: bool) -> Result<()> {
        let mut children = self.children.lock().expect("no panic while the list is held");
        if let Some(index) = children.iter().position(|(known, _)| *known == pid) {
            let (_, mut child) = children.swap_remove(index);
            drop(children);
            self.signal(pid, if hard { "KILL" } else { "TERM" })?;
            child.wait().context("cannot wait for a process")?;
        }
        Ok(())
    }

    /// Sends a signal to a process that this run started.
    ///
    /// # Errors
    /// If `kill` cannot be run.
    pub fn signal(&self, pid: u32, signal: &str) -> Result<()> {
        crate::command::run(Command::new("kill").args([&format!("-{signal}"), "--", &format!("-{pid}")]))?.success()?;
        Ok(())
    }

    /// The end of a process's log, for messages.
    pub fn log_tail(&self, name: &str) -> String {
        let text = fs::read_to_string(self.log(name)).unwrap_or_default();
        let lines: Vec<_> = text.lines().rev().take(15).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }

    fn log(&self, name: &str) -> PathBuf {
        self.folder.join("log").join(name)
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if let Some((mut watchdog, held)) = self.watchdog.take() {
            drop(held);
            // Reaped here, the children are gone for the watchdog too.
            let children = std::mem::take(self.children.get_mut().expect("no panic while the list is held"));
            for (_, mut child) in children {
                let _ = child.wait();
            }
            let _ = watchdog.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_left_of_a_run_whose_owner_ends() {
        let run = Run::temporary().expect("a run");
        let pid = run.start("sleeper", Command::new("sleep").arg("600")).expect("a process");
        let folder = run.folder().to_path_buf();
        assert!(Path::new(&format!("/proc/{pid}")).exists());
        drop(run);
        assert!(!folder.exists());
        assert!(!Path::new(&format!("/proc/{pid}")).exists());
    }

    #[test]
    fn a_kept_run_is_ended_by_its_folder_alone() {
        let folder = crate::root().join("target/runs").join(format!("kept-{}", std::process::id()));
        let run = Run::kept(folder.clone()).expect("a run");
        let pid = run.start("sleeper", Command::new("sleep").arg("600")).expect("a process");
        Run::stop(&folder).expect("to stop");
        let state = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        assert!(state.is_empty() || state.contains(") Z "), "{state}");
        assert!(!folder.exists());
    }
}
