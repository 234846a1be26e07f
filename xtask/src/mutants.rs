//! `cargo xtask mutants`: changes the policy in every way that cargo-mutants knows, one at a time, and looks whether a test fails.
//!
//! Its result stands in `docs/correctness.md`; a part of the files is tried without writing it there.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{progress, tools};

const VERSION: &str = "27.1.0";
const DOCUMENT: &str = "docs/correctness.md";
const BEGIN: &str = "<!-- Written by `cargo xtask mutants`. -->\n";
const END: &str = "<!-- The end of what is written. -->\n";
/// How many are tried side by side.
const JOBS: &str = "2";
/// What is left out, each with its reason in a comment above it.
const LIST: &str = ".cargo/mutants.toml";

/// What became of the mutants.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Counts {
    caught: u64,
    timeout: u64,
    unviable: u64,
    missed: u64,
}

impl Counts {
    fn tried(&self) -> u64 {
        self.caught + self.timeout + self.unviable + self.missed
    }

    /// These, after another pass over what had survived or run into its time-out.
    fn after(&self, rest: &Self) -> Self {
        Self {
            caught: self.caught + rest.caught,
            unviable: self.unviable + rest.unviable,
            timeout: rest.timeout,
            missed: rest.missed,
        }
    }

    /// Where the counts of the last run are kept, to go on with.
    fn file() -> PathBuf {
        poolguard_harness::root().join("target/mutants/counts.json")
    }

    fn keep(&self) -> Result<()> {
        fs::write(Self::file(), serde_json::to_vec(self)?).context("cannot keep the counts")
    }
}

/// Tries the mutants of these files of `policy/src`, or of all: first with a tenth of the generated cases, which is enough for
/// nearly all of them, then what has survived with all cases. With `go_on`, only what survived the last run.
///
/// # Errors
/// If a mutant survives, or the tests fail without any.
pub fn run(files: &[String], go_on: bool) -> Result<()> {
    let mut counts = if go_on {
        let kept = read(&Counts::file()).context("there is no run to go on with")?;
        serde_json::from_str(&kept).context("the counts of the last run cannot be read")?
    } else {
        pass(files, &["--no-shuffle"], Some("26"))?
    };
    if counts.missed + counts.timeout > 0 {
        progress(&format!("{counts:?}: what is left is tried with all cases"));
        counts = counts.after(&pass(files, &["--iterate"], None)?);
    }
    counts.keep()?;
    ensure!(counts.missed == 0, "{} mutants survive:\n{}", counts.missed, read(&results().join("missed.txt"))?);
    progress(&format!("{counts:?}: none survives"));
    if files.is_empty() {
        write(&counts)?;
    }
    Ok(())
}

fn results() -> PathBuf {
    poolguard_harness::root().join("target/mutants/mutants.out")
}

/// One run of cargo-mutants, with so many generated cases.
fn pass(files: &[String], further: &[&str], cases: Option<&str>) -> Result<Counts> {
    let program = tools::install("cargo-mutants", VERSION)?;
    let output = poolguard_harness::root().join("target/mutants");
    fs::create_dir_all(&output).context("cannot make the folder of the results")?;
    let mut command = Command::new(&program);
    command
        .args(["mutants", "--package", "poolguard-policy", "--jobs", JOBS])
        .args(further)
        .arg("--output")
        .arg(&output)
        .env("CARGO", std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        // A law that fails need not find its smallest case.
        .env("PROPTEST_MAX_SHRINK_ITERS", "0");
    if let Some(cases) = cases {
        command.env("PROPTEST_CASES", cases);
    }
    for file in files {
        command.args(["--file", &format!("policy/src/{file}")]);
    }
    command.args(["--", "--lib", "--tests"]);
    let code = tools::run(&mut command)?;
    // 2: some survive, 3: one ran into its time-out, which is as good as a failure.
    ensure!(matches!(code, 0 | 2 | 3), "cargo-mutants ended with {code}");
    counts(&results())
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

fn counts(results: &Path) -> Result<Counts> {
    let outcomes: Value =
        serde_json::from_str(&read(&results.join("outcomes.json"))?).context("outcomes.json is no JSON")?;
    let count = |key: &str| outcomes[key].as_u64().with_context(|| format!("outcomes.json has no {key}"));
    Ok(Counts {
        caught: count("caught")?,
        timeout: count("timeout")?,
        unviable: count("unviable")?,
        missed: count("missed")?,
    })
}

/// Writes the result between its marks.
fn write(counts: &Counts) -> Result<()> {
    let path = poolguard_harness::root().join(DOCUMENT);
    let text = read(&path)?;
    let (before, rest) = text.split_once(BEGIN).context("the document has no mark")?;
    let (_, after) = rest.split_once(END).context("the document has no second mark")?;
    let table = format!(
        "\n| cargo-mutants {VERSION} on `policy/` | |\n| --- | --- |\n| mutants | {} |\n| killed by a failing test | {} |\n\
         | killed by the time-out | {} |\n| do not compile | {} |\n| survive | {} |\n| left out | {} |\n\n",
        counts.tried(),
        counts.caught,
        counts.timeout,
        counts.unviable,
        counts.missed,
        excluded(&read(&poolguard_harness::root().join(LIST))?).len(),
    );
    let listed: String = excluded(&read(&poolguard_harness::root().join(LIST))?)
        .into_iter()
        .map(|(expression, reason)| format!("- `{expression}`: {reason}\n"))
        .collect();
    let listed = if listed.is_empty() { "Nothing is left out.\n".to_owned() } else { listed };
    fs::write(&path, format!("{before}{BEGIN}{table}{listed}{END}{after}")).context("cannot write the document")
}

/// The expressions of the list, each with the comment above it.
fn excluded(list: &str) -> Vec<(String, String)> {
    let (mut found, mut reason) = (Vec::new(), String::new());
    for line in list.lines().skip_while(|line| !line.starts_with("exclude_re")).map(str::trim) {
        if let Some(comment) = line.strip_prefix('#') {
            reason.push_str(comment);
        } else if let Some(expression) = line.strip_prefix('\'').and_then(|rest| rest.strip_suffix("',")) {
            found.push((expression.to_owned(), std::mem::take(&mut reason).trim().to_owned()));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_further_pass_finds_takes_the_place_of_what_was_left() {
        let first = Counts { caught: 5, timeout: 2, unviable: 1, missed: 3 };
        let all = first.after(&Counts { caught: 4, timeout: 1, unviable: 0, missed: 0 });
        assert_eq!((all.tried(), all.caught, all.timeout, all.missed), (11, 9, 1, 0));
        assert_eq!(first.tried(), all.tried());
    }

    #[test]
    fn every_expression_of_the_list_is_told_with_its_reason() {
        let list =
            "# All.\nprofile = \"mutants\"\nexclude_re = [\n  # It is\n  # the same.\n  'replace a with b',\n]\n";
        assert_eq!(excluded(list), [("replace a with b".to_owned(), "It is the same.".to_owned())]);
        let own = read(&poolguard_harness::root().join(LIST)).expect("the list");
        for (expression, reason) in excluded(&own) {
            assert!(reason.len() > 20, "{expression} has no reason");
        }
    }
}
