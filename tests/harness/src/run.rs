//! A run: a folder, and the processes that live in it. Whatever way the owner ends — return, panic, Ctrl-C, SIGKILL — a
//! watchdog ends the processes and removes the folder, unless the owner said to keep the run: then its folder alone is
//! enough to end it later.
//!
//! Never ends a process that it did not start: a process is known by its pid and the time of its start.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, ensure};

use crate::wait::Hopeless;

const STOP: &str = include_str!("stop.sh");
/// In a run's folder, the link to that of its sockets. [`STOP`] follows it.
const SOCKETS: &str = "sockets";

/// Processes and their folder.
#[derive(Debug)]
pub struct Run {
    folder: PathBuf,
    watchdog: Mutex<Option<(Child, ChildStdin)>>,
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
        Self::in_folder(crate::root().join("target/runs").join(name))
    }

    /// A run that ends with its owner, in this folder, unless [`Run::keep`] is called.
    ///
    /// # Errors
    /// If the folder cannot be made or the watchdog cannot be started.
    pub fn in_folder(folder: PathBuf) -> Result<Self> {
        fs::create_dir_all(folder.join("log")).with_context(|| format!("cannot make {}", folder.display()))?;
        File::create(folder.join("processes")).context("cannot make the list of processes")?;
        let mut watchdog = Command::new("sh")
            .args(["-c", STOP, "stop"])
            .arg(&folder)
            .arg("watch")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // A group of its own, so that Ctrl-C in the terminal does not reach it.
            .process_group(0)
            .spawn()
            .context("cannot start the watchdog `sh`")?;
        let held = watchdog.stdin.take().expect("its standard input is a pipe");
        Ok(Self { folder, watchdog: Mutex::new(Some((watchdog, held))), children: Mutex::default() })
    }

    /// Sends the watchdog away: from now on the processes outlive their owner, until [`Run::stop`].
    ///
    /// # Errors
    /// If the watchdog does not go.
    pub fn keep(&self) -> Result<()> {
        let taken = self.watchdog.lock().expect("no panic while the watchdog is held").take();
        if let Some((mut watchdog, mut held)) = taken {
            writeln!(held, "keep").context("cannot speak to the watchdog")?;
            let status = watchdog.wait().context("cannot wait for the watchdog")?;
            ensure!(status.success(), "the watchdog ended with {status}");
        }
        Ok(())
    }

    /// The processes of a run by name, and whether each is still there.
    ///
    /// # Errors
    /// If the folder holds no run.
    pub fn processes(folder: &Path) -> Result<Vec<(String, bool)>> {
        let path = folder.join("processes");
        let list = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let processes = list.lines().filter_map(|line| {
            let mut words = line.splitn(3, ' ');
            let (pid, start, name) = (words.next()?, words.next()?, words.next()?);
            Some((name.to_owned(), state_and_start(pid).is_some_and(|(state, now)| state != "Z" && now == start)))
        });
        Ok(processes.collect())
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

    /// A folder for sockets, which goes with the run: in the kernel's view of them no path has more than 107 bytes, and a checkout may
    /// lie anywhere.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn sockets(&self) -> Result<PathBuf> {
        let link = self.folder.join(SOCKETS);
        if let Ok(folder) = fs::read_link(&link) {
            return Ok(folder);
        }
        let short = |folder: &PathBuf| folder.as_os_str().len() <= 40;
        let parent = Some(std::env::temp_dir()).filter(short).unwrap_or_else(|| PathBuf::from("/tmp"));
        static NEXT: AtomicU32 = AtomicU32::new(0);
        loop {
            let name = format!("poolguard-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
            let folder = parent.join(name);
            match DirBuilder::new().mode(0o700).create(&folder) {
                Ok(()) => {
                    symlink(&folder, &link).context("cannot note where the sockets are")?;
                    return Ok(folder);
                }
                // Of a process of that number, long ago.
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error).with_context(|| format!("cannot make {}", folder.display())),
            }
        }
    }

    /// What `sh` does once the processes have ended, in whatever way the owner did: for what the kernel keeps outside the folder.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn after(&self, script: &str) -> Result<()> {
        fs::write(self.folder.join("after"), script).context("cannot write what is done after the run")
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
        let start = state_and_start(&pid.to_string()).map_or("0".to_owned(), |(_, start)| start);
        let mut list = OpenOptions::new()
            .append(true)
            .open(self.folder.join("processes"))
            .context("cannot open the list of processes")?;
        writeln!(list, "{pid} {start} {name}").context("cannot write the list of processes")?;
        self.children.lock().expect("no panic while the list is held").push((pid, child));
        Ok(pid)
    }

    /// The pid of the process that was started last under this name.
    pub fn pid(&self, name: &str) -> Option<u32> {
        let list = fs::read_to_string(self.folder.join("processes")).ok()?;
        let mut pids = list.lines().filter_map(|line| {
            let mut words = line.splitn(3, ' ');
            let pid = words.next()?.parse().ok()?;
            (words.nth(1)? == name).then_some(pid)
        });
        pids.next_back()
    }

    /// Says with what status a process has ended that this run started, with the end of its log.
    ///
    /// # Errors
    /// If it has: a wait for what it should do is [`Hopeless`].
    pub fn ensure_running(&self, pid: u32, name: &str) -> Result<()> {
        let mut children = self.children.lock().expect("no panic while the list is held");
        let child = children.iter_mut().find(|(known, _)| *known == pid);
        match child.and_then(|(_, child)| child.try_wait().ok().flatten()) {
            Some(status) => Err(Hopeless(format!("{name} has ended with {status}:\n{}", self.log_tail(name))).into()),
            None => Ok(()),
        }
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

    /// A whole log.
    ///
    /// # Errors
    /// If there is none.
    pub fn log_text(&self, name: &str) -> Result<String> {
        fs::read_to_string(self.log(name)).with_context(|| format!("{name} has no log"))
    }

    /// How many lines of a log contain this.
    pub fn logged(&self, name: &str, words: &str) -> usize {
        let text = fs::read_to_string(self.log(name)).unwrap_or_default();
        text.lines().filter(|line| line.contains(words)).count()
    }

    fn log(&self, name: &str) -> PathBuf {
        self.folder.join("log").join(name)
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let taken = self.watchdog.get_mut().expect("no panic while the watchdog is held").take();
        if let Some((mut watchdog, held)) = taken {
            drop(held);
            // The watchdog ends them; here they are reaped.
            let children = std::mem::take(self.children.get_mut().expect("no panic while the list is held"));
            for (_, mut child) in children {
                let _ = child.wait();
            }
            let _ = watchdog.wait();
        }
    }
}

/// The state of a process and the time of its start, in clock ticks since boot: fields 3 and 22 of proc(5).
fn state_and_start(pid: &str) -> Option<(String, String)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name, in parentheses, and may hold spaces.
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    Some((fields.next()?.to_owned(), fields.nth(18)?.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_left_of_a_run_whose_owner_ends() {
        let run = Run::temporary().expect("a run");
        let pid = run.start("sleeper", Command::new("sleep").arg("600")).expect("a process");
        assert_eq!((run.pid("sleeper"), run.pid("nobody")), (Some(pid), None));
        let folder = run.folder().to_path_buf();
        let sockets = run.sockets().expect("a folder for sockets");
        assert_eq!(run.sockets().expect("the same"), sockets);
        std::os::unix::net::UnixListener::bind(sockets.join("of-some-length.sock")).expect("a socket");
        assert!(Path::new(&format!("/proc/{pid}")).exists());
        drop(run);
        assert!(!folder.exists() && !sockets.exists());
        assert!(!Path::new(&format!("/proc/{pid}")).exists());
    }

    #[test]
    fn a_kept_run_outlives_its_owner_and_is_ended_by_its_folder_alone() {
        let folder = crate::root().join("target/runs").join(format!("kept-{}", std::process::id()));
        let run = Run::in_folder(folder.clone()).expect("a run");
        run.start("sleeper", Command::new("sleep").arg("600")).expect("a process");
        run.keep().expect("the watchdog to go");
        drop(run);
        assert_eq!(Run::processes(&folder).expect("a list"), [("sleeper".to_owned(), true)]);
        Run::stop(&folder).expect("to stop");
        assert!(!folder.exists());
    }

    /// The other half of the next test: owns a run until it is killed.
    #[test]
    #[ignore = "only as a child of the next test"]
    fn owner_that_waits_to_be_killed() {
        let run = Run::temporary().expect("a run");
        let pid = run.start("sleeper", Command::new("sleep").arg("600")).expect("a process");
        let told = std::env::var("POOLGUARD_TEST_TOLD").expect("where to tell");
        fs::write(&told, format!("{pid} {}", run.folder().display())).expect("to tell");
        fs::rename(&told, format!("{told}.done")).expect("to tell");
        std::thread::park();
    }

    #[test]
    fn nothing_is_left_of_a_run_whose_owner_is_killed() {
        let told = std::env::temp_dir().join(format!("poolguard-owner-{}", std::process::id()));
        let mut owner = Command::new(std::env::current_exe().expect("this test"))
            .args(["--ignored", "--exact", "run::tests::owner_that_waits_to_be_killed"])
            .env("POOLGUARD_TEST_TOLD", &told)
            .stdout(Stdio::null())
            .spawn()
            .expect("an owner");
        let soon = std::time::Duration::from_secs(20);
        let done = PathBuf::from(format!("{}.done", told.display()));
        let said = crate::wait::wait_for("the owner to have a run", soon, || {
            fs::read_to_string(&done).context("it has not told yet")
        });
        owner.kill().expect("to kill it");
        owner.wait().expect("its end");
        let said = said.expect("a run");
        fs::remove_file(done).expect("the file goes");
        let (pid, folder) = said.split_once(' ').expect("a pid and a folder");
        crate::wait::wait_for("its process and folder to go", soon, || {
            ensure!(!Path::new(folder).exists(), "{folder} is there");
            ensure!(!Path::new("/proc").join(pid).exists(), "process {pid} is there");
            Ok(())
        })
        .expect("nothing left");
    }

    #[test]
    fn another_process_with_the_same_pid_is_left_alone() {
        let folder = crate::root().join("target/runs").join(format!("reused-{}", std::process::id()));
        let run = Run::in_folder(folder.clone()).expect("a run");
        let mut other = Command::new("sleep");
        let mut other =
            other.arg("600").process_group(0).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("a process");
        fs::write(folder.join("processes"), format!("{} 1 sleeper\n", other.id())).expect("a list");
        drop(run);
        assert!(!folder.exists());
        assert!(other.try_wait().expect("a state").is_none(), "it has been ended");
        other.kill().expect("to end it");
        other.wait().expect("its end");
    }

    #[test]
    fn a_process_that_ends_by_itself_is_told_with_its_last_words() {
        let run = Run::temporary().expect("a run");
        let pid =
            run.start("talker", Command::new("sh").args(["-c", "echo no such thing; exit 3"])).expect("a process");
        let error = crate::wait::wait_for("it to serve", std::time::Duration::from_secs(20), || {
            run.ensure_running(pid, "talker")?;
            anyhow::bail!("not yet") as Result<()>
        })
        .expect_err("it has ended");
        assert!(format!("{error:#}").contains("exit status: 3:\nno such thing"), "{error:#}");
    }
}
