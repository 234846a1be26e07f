//! The enclosure of a node: nothing of it is left, in whatever way its owner ends.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use poolguard_harness::command::run;
use poolguard_harness::debian;
use poolguard_harness::node::enclosure::Enclosure;
use poolguard_harness::run::Run;
use poolguard_harness::wait::wait_for;

use crate::progress;

const TOLD: &str = "POOLGUARD_TEST_TOLD";
const SOON: Duration = Duration::from_secs(20);

/// The other half of the next test: owns an enclosure until it is killed.
#[test]
#[ignore = "only as a child of the next test"]
fn owner_that_waits_to_be_killed() {
    let debian = debian::unpack_node(&progress).expect("packages");
    let run = Arc::new(Run::temporary().expect("a run"));
    let enclosure = Enclosure::start(&run, &debian).expect("an enclosure");
    // Something that nobody outside knows of, in a control group, with a mount of its own.
    let cgroup = enclosure.cgroup();
    let script = format!(
        "for group in /sys/fs/cgroup/*{cgroup}; do mkdir $group/below; echo $$ >$group/below/cgroup.procs || :; done; \
         mount -t tmpfs tmpfs {0}; ip link add lost type bridge; exec sleep 611",
        run.subfolder("mount").expect("a folder").display()
    );
    run.start("sleeper", &mut enclosure.wrap(Command::new("setsid").args(["sh", "-c", &script]))).expect("a process");
    let sleeps = || {
        let found = crate::enclosure::processes("sleep 611");
        ensure!(found.len() == 1, "there are {found:?}");
        Ok(())
    };
    wait_for("the process inside", SOON, sleeps).expect("a process");
    let told = std::env::var(TOLD).expect("where to tell");
    std::fs::write(&told, format!("{cgroup} {}", run.folder().display())).expect("to tell");
    std::fs::rename(&told, format!("{told}.done")).expect("to tell");
    std::thread::park();
}

/// The pids of processes with this command line.
fn processes(line: &str) -> Vec<String> {
    let entries = std::fs::read_dir("/proc").expect("/proc").flatten();
    let pids = entries.filter_map(|entry| entry.file_name().into_string().ok());
    pids.filter(|pid| {
        std::fs::read_to_string(format!("/proc/{pid}/cmdline"))
            .is_ok_and(|text| text.trim_end_matches('\0').replace('\0', " ") == line)
    })
    .collect()
}

#[test]
fn nothing_is_left_of_an_enclosure_whose_owner_is_killed() {
    let told = std::env::temp_dir().join(format!("poolguard-enclosure-{}", std::process::id()));
    let mut owner = Command::new(std::env::current_exe().expect("this test"))
        .args(["--ignored", "--exact", "enclosure::owner_that_waits_to_be_killed"])
        .env(TOLD, &told)
        .stdout(Stdio::null())
        .spawn()
        .expect("an owner");
    let done = PathBuf::from(format!("{}.done", told.display()));
    let said = wait_for("the owner to have an enclosure", Duration::from_secs(120), || {
        ensure!(owner.try_wait()?.is_none(), "it has ended");
        std::fs::read_to_string(&done).context("it has not told yet")
    });
    owner.kill().expect("to kill it");
    owner.wait().expect("its end");
    let said = said.expect("an enclosure");
    std::fs::remove_file(done).expect("the file goes");
    let (cgroup, folder) = said.split_once(' ').expect("a control group and a folder");
    wait_for("all of it to go", SOON, || {
        ensure!(!Path::new(folder).exists(), "{folder} is there");
        let left = processes("sleep 611");
        ensure!(left.is_empty(), "the processes {left:?} are there");
        let script = format!("find /sys/fs/cgroup -name '{}*'; ip link show lost 2>/dev/null || :", &cgroup[1..]);
        let left = run(Command::new("sh").args(["-c", &script]))?.success()?;
        ensure!(left.is_empty(), "{left} is there");
        Ok(())
    })
    .expect("nothing left");
}
