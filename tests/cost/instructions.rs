//! Instructions, as valgrind counts them: this program runs once more, under callgrind, which counts inside of one function alone.

use std::fs;
use std::process::Command;

use crate::record::Figures;

/// Set where the counting happens.
pub const COUNTED: &str = "POOLGUARD_COUNTED";
/// What the names of the counted reviews come after.
const MARK: &str = "counted: ";

/// Tells which review is counted next.
pub fn announce(name: &str) {
    println!("{MARK}{name}");
}

/// What is counted. Callgrind finds it by its name.
#[inline(never)]
pub fn the_counted_review<T>(work: impl FnOnce() -> T) -> T {
    std::hint::black_box(work())
}

/// Runs the test of this name again, and returns what was counted.
///
/// # Panics
/// If it cannot be run.
pub fn count(test: &str) -> Figures {
    let folder = tempfile::tempdir().expect("a folder");
    let (own, out) = (std::env::current_exe().expect("its own path"), folder.path().join("counted"));
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--toggle-collect=*the_counted_review*", "--dump-after=*the_counted_review*"]);
    command.arg(format!("--callgrind-out-file={}", out.display()));
    command.arg(own).args(["--exact", "--ignored", "--nocapture", test]).env(COUNTED, "yes");
    let output = command.output().expect("valgrind runs");
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{told}{}", String::from_utf8_lossy(&output.stderr));
    let names = told.lines().filter_map(|line| line.split_once(MARK)).map(|(_, name)| name.to_owned());
    let counted = names.enumerate().map(|(index, name)| {
        let file = format!("{}.{}", out.display(), index + 1);
        let text = fs::read_to_string(&file).expect("a dump for each review");
        let total = text.lines().find_map(|line| line.strip_prefix("totals: ")).expect("a total");
        (name, vec![total.trim().parse().expect("a number")])
    });
    counted.collect()
}
