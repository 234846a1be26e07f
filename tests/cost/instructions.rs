//! Instructions, as valgrind counts them: this program runs once more, under callgrind, which counts inside of one function alone.

use poolguard_harness::debian;
use std::fs;

use crate::record::Figures;

/// Set where the counting happens.
pub const COUNTED: &str = "POOLGUARD_COUNTED";
/// Told after the last one.
pub const END: &str = "nothing more";
/// What the names of the counted reviews come after.
const MARK: &str = "counted: ";

/// Tells which review is counted next; callgrind writes down here what it has counted since the last one.
#[inline(never)]
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
    let debian = debian::unpack(&|line| eprintln!("{line}")).expect("Debian's packages");
    let mut command = debian.command("usr/bin/valgrind");
    command.env("VALGRIND_LIB", debian.usr().join("libexec/valgrind"));
    command.args(["--tool=callgrind", "--toggle-collect=*the_counted_review*", "--dump-before=*announce*"]);
    command.arg(format!("--callgrind-out-file={}", out.display()));
    command.arg(own).args(["--exact", "--nocapture", test]).env(COUNTED, "yes");
    let output = command.output().expect("valgrind runs");
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{told}{}", String::from_utf8_lossy(&output.stderr));
    let names = told.lines().filter_map(|line| line.split_once(MARK)).map(|(_, name)| name.to_owned());
    let names = names.take_while(|name| name != END);
    let mut least = Figures::new();
    for (index, name) in names.enumerate() {
        let file = format!("{}.{}", out.display(), index + 2);
        let text = fs::read_to_string(&file).expect("a dump for each review");
        let total = text.lines().find_map(|line| line.strip_prefix("totals: ")).expect("a total");
        let total = total.trim().parse().expect("a number");
        let known = least.entry(name).or_insert_with(|| vec![total]);
        known[0] = known[0].min(total);
    }
    assert!(!least.is_empty() && least.values().all(|figures| figures[0] > 0), "nothing was counted: {told}");
    least
}
