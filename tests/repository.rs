//! Rules of the repository that no compiler holds.

use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| format!("cannot be read: {error}"))
}

fn sources(folder: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    found
}

#[test]
fn rustls_has_one_provider_and_no_other_tls_is_in_the_tree() {
    let lock = read(&root().join("Cargo.lock"));
    for package in ["aws-lc-rs", "aws-lc-sys", "openssl-sys", "native-tls"] {
        assert!(!lock.contains(&format!("name = \"{package}\"")), "{package} has entered the tree");
    }
    assert!(lock.contains("name = \"ring\""));
}

#[test]
fn every_module_begins_with_what_it_is_for() {
    for folder in ["src", "policy/src", "tests/harness/src", "xtask/src"] {
        for path in sources(folder) {
            assert!(read(&path).starts_with("//! "), "{} does not", path.display());
        }
    }
}

#[test]
fn the_policy_has_neither_a_clock_nor_input_and_output() {
    for path in sources("policy/src") {
        let text = read(&path);
        for word in ["Timestamp::now", "SystemTime", "Instant", "std::fs", "std::net", "std::env", "println!", "tokio"]
        {
            assert!(!text.contains(word), "{} has {word}", path.display());
        }
    }
}

#[test]
fn only_main_reads_the_environment_or_prints() {
    for path in sources("src").into_iter().filter(|path| !path.ends_with("src/main.rs")) {
        let text = read(&path);
        for word in ["std::env::", "println!", "process::exit"] {
            assert!(!text.contains(word), "{} has {word}", path.display());
        }
    }
}

#[test]
fn every_dependency_says_what_it_is_for() {
    for manifest in ["Cargo.toml", "policy/Cargo.toml", "tests/harness/Cargo.toml", "xtask/Cargo.toml"] {
        let text = read(&root().join(manifest));
        let mut dependencies = false;
        let mut before = "";
        for line in text.lines() {
            if line.starts_with('[') {
                dependencies = line.contains("dependencies");
            } else if dependencies && line.contains(" = ") {
                assert!(before.starts_with("# "), "{manifest}: {line}");
            }
            before = line;
        }
    }
}

#[test]
fn every_reason_has_its_place_in_the_documentation() {
    let drift = read(&root().join("docs/drift.md"));
    for reason in poolguard_policy::drift::DriftReason::ALL {
        assert!(drift.contains(&format!("\n## {}\n\n", reason.as_str())), "docs/drift.md lacks {}", reason.as_str());
    }
    let sources = read(&root().join("docs/sources.md"));
    for why in poolguard_policy::evidence::Why::ALL {
        assert!(sources.contains(&format!("\n| `{}` | ", why.as_str())), "docs/sources.md lacks {}", why.as_str());
    }
}
