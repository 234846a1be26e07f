//! Rules of the repository that no compiler holds.

use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| format!("cannot be read: {error}"))
}

fn sources(folder: &str) -> Vec<PathBuf> {
    files(folder, "rs")
}

fn files(folder: &str, kind: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == kind) {
                found.push(path);
            }
        }
    }
    found
}

#[test]
fn rustls_has_one_provider_and_no_other_tls_is_in_the_tree() {
    let lock = read(&root().join("Cargo.lock"));
    // The lock file has what every feature brings.
    for package in ["aws-lc-rs", "aws-lc-sys", "boring-sys", "openssl", "openssl-sys", "native-tls"] {
        assert!(!lock.contains(&format!("name = \"{package}\"")), "{package} has entered the tree");
    }
    assert!(lock.contains("name = \"ring\""));
}

#[test]
fn every_module_begins_with_what_it_is_for() {
    for folder in ["src", "policy/src", "tests/harness/src", "xtask/src", "xtask/rig/src"] {
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
fn metrics_are_registered_only_as_sets_that_the_documentation_lists() {
    for path in sources("src").into_iter().filter(|path| !path.ends_with("src/runtime/metrics.rs")) {
        let text = read(&path);
        assert!(!text.contains(".register(Box::new("), "{} registers a metric by itself", path.display());
    }
}

#[test]
fn every_dependency_says_what_it_is_for() {
    for manifest in
        ["Cargo.toml", "policy/Cargo.toml", "tests/harness/Cargo.toml", "xtask/Cargo.toml", "xtask/rig/Cargo.toml"]
    {
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

/// What stands below a heading of the second level, up to the next one.
fn section<'a>(page: &'a str, heading: &str) -> &'a str {
    let start = format!("\n## {heading}\n\n");
    assert!(page.contains(&start), "there is no heading `## {heading}`");
    let rest = page.split_once(&start).map_or("", |(_, rest)| rest);
    &rest[..rest.find("\n## ").unwrap_or(rest.len())]
}

/// A golden message, where there is one.
fn golden(reason: &str, client: &str) -> Option<String> {
    std::fs::read_to_string(root().join(format!("tests/cluster/messages/{reason}.{client}.txt"))).ok()
}

const CLIENTS: [&str; 4] = ["kubectl", "helm3", "helm4", "drain"];

#[test]
fn every_reason_of_a_verdict_has_a_paragraph() {
    let page = read(&root().join("docs/reasons.md"));
    for reason in poolguard_policy::verdict::Reason::ALL {
        let section = section(&page, reason.as_str());
        let begins = section.starts_with("Allowed. ")
            || section.starts_with("Allowed with a warning. ")
            || section.starts_with("Refused. ")
            || section.starts_with("Refused for now (429). ");
        assert!(begins, "{} does not say what becomes of the request", reason.as_str());
    }
}

#[test]
fn the_table_of_reasons_says_which_golden_messages_there_are() {
    let page = read(&root().join("docs/reasons.md"));
    let mut told = std::collections::BTreeSet::new();
    for reason in poolguard_policy::verdict::Reason::ALL.map(poolguard_policy::verdict::Reason::as_str) {
        let link = format!("| [{reason}](#{}) | ", reason.to_lowercase());
        let row = page.lines().find_map(|line| line.strip_prefix(&link));
        assert!(row.is_some(), "docs/reasons.md has no row that begins with {link}");
        let row = row.unwrap_or_default();
        let cells: Vec<&str> = row.trim_end_matches(" |").split(" | ").collect();
        assert_eq!(cells.len(), CLIENTS.len(), "{reason}");
        for (client, cell) in CLIENTS.into_iter().zip(cells) {
            let golden = golden(reason, client);
            let seen = match &golden {
                None => "–",
                Some(text) if text.contains("poolguard let this pass") || text.contains("poolguard only warns") => {
                    "warned"
                }
                Some(text) if text.contains("emergency: ") => "refused",
                Some(_) => "nothing",
            };
            assert_eq!(cell, seen, "{reason} in {client}: the table of docs/reasons.md, and its golden message");
            told.extend(golden.map(|_| format!("{reason}.{client}.txt")));
        }
    }
    for entry in std::fs::read_dir(root().join("tests/cluster/messages")).expect("the golden messages") {
        let name = entry.expect("an entry").file_name().to_string_lossy().into_owned();
        assert!(told.contains(&name), "{name} is no golden message of a reason");
    }
}

#[test]
fn the_documentation_quotes_the_golden_messages() {
    let path = root().join("docs/reasons.md");
    let mut page = read(&path);
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    for reason in poolguard_policy::verdict::Reason::ALL.map(poolguard_policy::verdict::Reason::as_str) {
        for client in CLIENTS {
            let Some(golden) = golden(reason, client) else { continue };
            let start = format!("<!-- {reason}.{client} -->\n```text\n");
            let Some(at) = page.find(&start).map(|at| at + start.len()) else {
                let says_something = golden.contains("poolguard ") || golden.contains("emergency: ");
                let further = ["helm4", "drain"].contains(&client);
                assert!(further || !says_something, "docs/reasons.md does not quote {reason}.{client}");
                continue;
            };
            let end = at + page[at..].find("```\n").expect("the end of the quotation");
            if update {
                page.replace_range(at..end, &golden);
            } else {
                assert_eq!(page[at..end], golden, "docs/reasons.md, {reason}.{client}: UPDATE_GOLDEN=1 writes it");
            }
        }
    }
    if update {
        std::fs::write(&path, page).expect("docs/reasons.md");
    }
}

#[test]
fn the_runbook_has_what_refusals_conditions_and_alerts_lead_to() {
    let page = read(&root().join("docs/runbook.md"));
    section(&page, "override");
    // The reasons of the condition Guarded, as they stand in the code.
    let code = read(&root().join("src/controller/status.rs"));
    let guarded = code.split("\nfn guarded(").nth(1).and_then(|rest| rest.split("\n}\n").next()).expect("fn guarded");
    let kinds = read(&root().join("src/controller/proof/mod.rs"));
    let kinds = kinds.split("fn as_str(").nth(1).and_then(|rest| rest.split("\n    }\n").next()).expect("fn as_str");
    let quoted = guarded.split('"').skip(1).step_by(2).chain(kinds.split('"').skip(1).step_by(2));
    let reasons: Vec<&str> = quoted.filter(|text| text.chars().all(|c| c.is_ascii_alphabetic())).collect();
    assert!(reasons.len() >= 11, "only {reasons:?} were found");
    for reason in reasons {
        assert!(page.contains(&format!("\n| `{reason}` | ")), "docs/runbook.md lacks {reason}");
    }
    let alerts = read(&root().join("charts/poolguard/files/alerts.yaml"));
    let names: Vec<&str> = alerts.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(!names.is_empty(), "no alert was found");
    for name in &names {
        assert!(page.contains(&format!("\n### {name}\n\n")), "docs/runbook.md lacks {name}");
        let link = format!("runbook_url: https://poolguard.dev/docs/runbook#{}\n", name.to_lowercase());
        assert_eq!(alerts.matches(&link).count(), 1, "{name} does not link to its paragraph");
    }
    assert_eq!(alerts.matches("runbook_url: ").count(), names.len());
    for heading in section(&page, "Alerts").lines().filter_map(|line| line.strip_prefix("### ")) {
        assert!(names.contains(&heading), "docs/runbook.md speaks of an alert {heading} that there is not");
    }
}

#[test]
fn every_alert_is_tried_when_it_must_fire_and_when_it_must_not() {
    let alerts = read(&root().join("charts/poolguard/files/alerts.yaml"));
    let cases = read(&root().join("tests/alerts/guard.yaml"));
    let cases: serde_json::Value = serde_yaml_ng::from_str(&cases).expect("YAML");
    let tried: Vec<(&str, bool)> = cases["tests"]
        .as_array()
        .into_iter()
        .flatten()
        .flat_map(|test| test["alert_rule_test"].as_array().into_iter().flatten())
        .map(|case| {
            let name = case["alertname"].as_str().unwrap_or_default();
            (name, case["exp_alerts"].as_array().is_some_and(|alerts| !alerts.is_empty()))
        })
        .collect();
    for name in alerts.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")) {
        for fires in [true, false] {
            assert!(tried.contains(&(name, fires)), "tests/alerts/guard.yaml does not try {name} to fire: {fires}");
        }
    }
}

#[test]
fn every_threat_has_its_tests_or_a_reason_to_have_none() {
    let mut tests = std::collections::BTreeSet::new();
    for path in ["src", "policy", "tests", "xtask/src"].into_iter().flat_map(sources) {
        let text = read(&path);
        let mut test = false;
        for line in text.lines().map(str::trim) {
            let name = line.trim_start_matches("async ").strip_prefix("fn ").and_then(|rest| rest.split('(').next());
            match name {
                Some(name) if test => drop(tests.insert(name.to_owned())),
                _ => {}
            }
            test = line.starts_with("#[test]") || line.starts_with("#[tokio::test") || (test && line.starts_with("#["));
        }
    }
    let page = read(&root().join("docs/threat-model.md"));
    let sections: Vec<&str> = page.split("\n## ").skip(1).collect();
    for number in 1..=18 {
        assert!(sections[number - 1].starts_with(&format!("{number}. ")), "threat {number} is missing");
    }
    for section in sections {
        let title = section.lines().next().unwrap_or_default();
        let shown = section.split_once("\n**Shown by** ").map(|(_, shown)| shown);
        assert!(shown.is_some(), "{title} does not say what it is shown by");
        let shown = shown.unwrap_or_default();
        let named: Vec<&str> = shown.split('`').skip(1).step_by(2).collect();
        assert!(!named.is_empty() || shown.starts_with("nothing"), "{title} names no test");
        for name in named {
            assert!(tests.contains(name), "{title}: there is no test {name}");
        }
    }
}

#[test]
fn links_of_the_documentation_lead_somewhere() {
    let mut pages = vec![root().join("README.md"), root().join("ARCHITECTURE.md"), root().join("CONTRIBUTING.md")];
    for entry in std::fs::read_dir(root().join("docs")).expect("the documentation") {
        pages.push(entry.expect("an entry").path());
    }
    let anchors = |page: &Path| -> Vec<String> {
        let text = read(page);
        let headings =
            text.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
        let kept = |c: &char| c.is_alphanumeric() || [' ', '-', '_'].contains(c);
        headings
            .map(|heading| heading.to_lowercase().chars().filter(kept).collect::<String>().replace(' ', "-"))
            .collect()
    };
    let mut followed = 0;
    for page in pages.iter().filter(|page| page.extension().is_some_and(|extension| extension == "md")) {
        let text = read(page);
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.contains("://") || link.contains(char::is_whitespace) {
                continue;
            }
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let folder = page.parent().expect("a page lies in a folder");
            let target = if file.is_empty() { page.clone() } else { folder.join(file) };
            assert!(target.exists(), "{}: {link} leads nowhere", page.display());
            assert!(
                anchor.is_empty() || anchors(&target).iter().any(|known| known == anchor),
                "{}: there is no heading for {link}",
                page.display()
            );
            followed += 1;
        }
    }
    assert!(followed > 30, "only {followed} links were found");
}

/// The licences that deny.toml allows.
fn allowed() -> Vec<spdx::Licensee> {
    let text = read(&root().join("deny.toml"));
    let list = text.split_once("\nallow = [").and_then(|(_, rest)| rest.split(']').next()).expect("a list");
    list.split('"').skip(1).step_by(2).map(|name| spdx::Licensee::parse(name).expect("an SPDX licence")).collect()
}

#[test]
fn every_package_has_a_licence_that_deny_toml_allows() {
    let allowed = allowed();
    assert!(allowed.len() > 3, "only {allowed:?} were found");
    let mut cargo = std::process::Command::new(env!("CARGO"));
    let arguments = ["metadata", "--locked", "--all-features", "--format-version", "1"];
    let said = cargo.current_dir(root()).args(arguments).output().expect("cargo");
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&said.stdout).expect("JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    assert!(packages.len() > 200, "only {} packages were found", packages.len());
    for package in packages {
        let (name, licence) = (&package["name"], package["license"].as_str().unwrap_or_default());
        let expression = spdx::Expression::parse_mode(licence, spdx::ParseMode::LAX);
        let fine = |expression: spdx::Expression| {
            expression.evaluate(|wanted| allowed.iter().any(|licence| licence.satisfies(wanted)))
        };
        assert!(expression.is_ok_and(fine), "{name} is under {licence:?}: see deny.toml");
    }
}

#[test]
fn the_page_about_doors_is_what_the_lists_say() {
    let page = poolguard_harness::lists::page().expect("the lists");
    assert!(
        read(&root().join("docs/doors.md")) == page,
        "docs/doors.md differs from the lists: run `cargo xtask generate`"
    );
}

#[test]
fn the_schema_and_the_page_of_values_are_what_values_and_configuration_say() {
    use poolguard_harness::values;
    let schema = values::schema(&poolguard::config::schema()).expect("a schema");
    let page = values::page(&schema).expect("a page");
    for (path, text) in [(values::SCHEMA, schema), (values::PAGE, page)] {
        assert!(read(&root().join(path)) == text, "{path} differs from values.yaml: run `cargo xtask generate`");
    }
}

/// Every object of ours in a schema says which keys it has.
fn closed(schema: &serde_json::Value, path: &str, open: &mut Vec<String>) {
    if schema.get("properties").is_some() && schema["additionalProperties"] != false && schema.get("type").is_some() {
        open.push(path.to_owned());
    }
    for (name, below) in schema.as_object().into_iter().flatten() {
        closed(below, &format!("{path}/{name}"), open);
    }
    for (index, below) in schema.as_array().into_iter().flatten().enumerate() {
        closed(below, &format!("{path}/{index}"), open);
    }
}

#[test]
fn the_schema_of_values_leaves_no_group_open() {
    let text = read(&root().join("charts/poolguard/values.schema.json"));
    let schema: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let mut open = Vec::new();
    closed(&schema, "", &mut open);
    assert!(open.is_empty(), "keys that are not known would be taken: {open:?}");
}

#[test]
fn every_right_in_the_chart_is_justified_in_the_line_above_it() {
    let mut rights = 0;
    for path in files("charts/poolguard/templates", "yaml") {
        let text = read(&path);
        let mut before = "";
        for line in text.lines() {
            if line.starts_with("- {apiGroups: ") || line.starts_with("- apiGroups: ") {
                rights += 1;
                assert!(before.starts_with("# "), "{}: nothing above says why: {line}", path.display());
            }
            before = line;
        }
        let written = text.matches("- {apiGroups: ").count() + text.matches("- apiGroups: ").count();
        assert_eq!(
            text.matches("apiGroups: ").count(),
            written,
            "{}: a right is written in another way",
            path.display()
        );
    }
    assert!(rights > 20, "only {rights} rights were found");
}
