//! What the program is made of: a software bill of materials in CycloneDX, written by cargo-cyclonedx and then looked through.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use poolguard_harness::command;
use serde_json::Value;

use crate::{cargo, tools};

const VERSION: &str = "0.5.9";
/// The version of CycloneDX.
const SPECIFICATION: &str = "1.5";
/// What the tool calls its files, one beside each manifest of the workspace.
const NAME: &str = "poolguard-release.cdx";

/// Writes it.
///
/// # Errors
/// If the tool cannot be installed or run, or leaves something out.
pub(super) fn write(path: &Path) -> Result<()> {
    let program = tools::install("cargo-cyclonedx", VERSION)?;
    let root = poolguard_harness::root();
    let mut committed = Command::new("git");
    committed.current_dir(&root).args(["log", "-1", "--format=%ct"]);
    let mut tool = Command::new(program);
    tool.args(["cyclonedx", "--quiet", "--format", "json", "--all", "--spec-version", SPECIFICATION])
        .args(["--override-filename", NAME])
        // The same commit has the same bill.
        .env("SOURCE_DATE_EPOCH", command::run(&mut committed)?.success()?.trim());
    let code = tools::run(&mut tool);
    let text = fs::read_to_string(root.join(format!("{NAME}.json")));
    for folder in cargo::member_folders()? {
        let _ = fs::remove_file(folder.join(format!("{NAME}.json")));
    }
    let code = code?;
    ensure!(code == 0, "cargo-cyclonedx ended with {code}");
    let text = text.context("cargo-cyclonedx has written nothing")?;
    let bill = serde_json::from_str(&text).context("the bill is no JSON")?;
    whole(&bill, &linked()?)?;
    // Where it was made says nothing of what it is made of.
    let text = text.replace(&format!("path+file://{}", root.display()), "path+file:///poolguard");
    fs::write(path, text).context("cannot write the bill")
}

/// What is linked into the program, as `name version`, by cargo's own account.
fn linked() -> Result<BTreeSet<String>> {
    let arguments =
        ["tree", "--locked", "--package", "poolguard", "--edges", "normal,no-proc-macro", "--prefix", "none"];
    let tree = cargo::output(&[&arguments[..], &["--format", "{p}"]].concat())?;
    let packages = tree.lines().filter_map(|line| {
        let mut words = line.split(' ');
        Some(format!("{} {}", words.next()?, words.next()?.trim_start_matches('v')))
    });
    Ok(packages.collect())
}

/// A bill in the right format that has all of these, each with a licence, and nothing that only tests need.
fn whole(bill: &Value, linked: &BTreeSet<String>) -> Result<()> {
    let of = |key: &str| bill[key].as_str().unwrap_or_default();
    ensure!(of("bomFormat") == "CycloneDX" && of("specVersion") == SPECIFICATION, "it is no bill in CycloneDX");
    let own = &bill["metadata"]["component"];
    let components = bill["components"].as_array().context("it has no components")?;
    let named = |component: &Value| {
        let of = |key: &str| component[key].as_str().unwrap_or_default().to_owned();
        format!("{} {}", of("name"), of("version"))
    };
    let told: BTreeSet<String> = components.iter().chain([own]).map(named).collect();
    let missing: Vec<&String> = linked.difference(&told).collect();
    ensure!(missing.is_empty(), "the bill leaves out {missing:?}");
    for component in components {
        ensure!(component["licenses"].is_array(), "{} has no licence in the bill", named(component));
        ensure!(component["purl"].is_string(), "{} has no package URL in the bill", named(component));
    }
    ensure!(!told.iter().any(|name| name.starts_with("proptest ")), "the bill has what only tests need");
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn bill() -> Value {
        let component = |name: &str, version: &str| {
            let purl = format!("pkg:cargo/{name}@{version}");
            json!({"name": name, "version": version, "purl": purl, "licenses": [{"expression": "MIT"}]})
        };
        json!({
            "bomFormat": "CycloneDX", "specVersion": SPECIFICATION,
            "metadata": {"component": component("poolguard", "0.1.0")},
            "components": [component("ring", "0.17.1"), component("tokio", "1.2.3")],
        })
    }

    #[test]
    fn a_bill_that_leaves_something_out_or_has_too_much_is_none() {
        let linked = ["poolguard 0.1.0", "ring 0.17.1"].map(str::to_owned).into();
        whole(&bill(), &linked).expect("a whole bill");
        let further = ["ring 0.17.2"].map(str::to_owned).into();
        assert!(whole(&bill(), &further).expect_err("of another version").to_string().contains("ring 0.17.2"));
        for (pointer, value, words) in [
            ("/specVersion", json!("1.0"), "no bill in CycloneDX"),
            ("/components/1/licenses", Value::Null, "tokio 1.2.3 has no licence"),
            ("/components/1/purl", Value::Null, "tokio 1.2.3 has no package URL"),
            ("/components/1/name", json!("proptest"), "what only tests need"),
        ] {
            let mut changed = bill();
            *changed.pointer_mut(pointer).expect("it is there") = value;
            let error = whole(&changed, &linked).expect_err(words).to_string();
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn cargo_tells_what_is_linked() {
        let linked = linked().expect("a tree");
        let has = |name: &str| linked.iter().any(|package| package.split(' ').next() == Some(name));
        assert!(has("poolguard") && has("poolguard-policy") && has("ring") && has("tokio"), "{linked:?}");
        assert!(!has("proptest") && !has("tempfile") && !has("opentelemetry"), "{linked:?}");
    }
}
