//! The chart with every set of values in `ci/`, as chart-testing would install it: checked by the schema and the linter, taken by
//! the API server, installed by both Helms, its pods admitted where Pod Security is `restricted`, its rights pinned.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use poolguard_harness::datacenter::{Controllers, Datacenter, Who};
use poolguard_harness::fleet;
use serde_yaml_ng::Value;

use crate::scenario::Empty;

const NAMESPACE: &str = "poolguard";
/// Where everything is installed: nothing but `restricted` pods get in.
const RESTRICTED: &str = "pod-security.kubernetes.io/enforce=restricted";

fn chart() -> PathBuf {
    poolguard_harness::root().join("charts/poolguard")
}

/// The sets of values, by name.
fn sets() -> Vec<(String, PathBuf)> {
    let entries = fs::read_dir(chart().join("ci")).expect("the folder ci");
    let mut sets: Vec<(String, PathBuf)> = entries
        .map(|entry| entry.expect("an entry").path())
        .map(|path| (path.file_stem().expect("a name").to_string_lossy().into_owned(), path))
        .collect();
    // The last one moves the canary, whose namespace takes a while to go.
    sets.sort_by_key(|(name, _)| (name == "everything-values", name.clone()));
    assert!(sets.len() >= 6, "only {sets:?}");
    assert!(sets.iter().all(|(name, _)| name.ends_with("-values")), "chart-testing does not see all of {sets:?}");
    sets
}

/// A version of Kubernetes that this Helm may believe to render for.
fn version(datacenter: &Datacenter) -> String {
    let told = datacenter.kubectl(&["version", "-o", "json"]).expect("kubectl").success().expect("a version");
    let told: serde_json::Value = serde_json::from_str(&told).expect("JSON");
    told["serverVersion"]["gitVersion"].as_str().expect("a version").to_owned()
}

fn helm(datacenter: &Datacenter, program: &str, arguments: &[&str]) -> String {
    let chart = chart();
    let arguments: Vec<&str> =
        arguments.iter().map(|word| if *word == "CHART" { chart.to_str().expect("a path") } else { word }).collect();
    datacenter.call(Who::Admin, program, &arguments).expect("helm starts").success().expect("helm succeeds")
}

/// What `helm template` renders, hooks and tests included.
fn rendered(datacenter: &Datacenter, program: &str, values: &Path) -> String {
    let values = values.to_string_lossy();
    let version = version(datacenter);
    let arguments =
        ["template", "poolguard", "CHART", "--namespace", NAMESPACE, "--kube-version", &version, "--values", &values];
    helm(datacenter, program, &arguments)
}

fn objects(rendered: &str) -> Vec<Value> {
    let documents = serde_yaml_ng::Deserializer::from_str(rendered);
    let all = documents.map(|document| serde::Deserialize::deserialize(document).expect("YAML"));
    all.filter(|object: &Value| !object.is_null()).collect()
}

fn text<'a>(value: &'a Value, path: &[&str]) -> &'a str {
    path.iter().fold(value, |value, key| &value[*key]).as_str().unwrap_or_default()
}

/// `kubectl apply` of some manifests as a dry run of the API server.
fn dry_run(datacenter: &Datacenter, name: &str, manifests: &str) -> poolguard_harness::command::Output {
    let file = datacenter.folder.join(format!("{name}.yaml"));
    fs::write(&file, manifests).expect("a file");
    let arguments = ["apply", "--server-side", "--force-conflicts", "--dry-run=server", "-f", &file.to_string_lossy()];
    datacenter.kubectl(&arguments).expect("kubectl starts")
}

#[test]
fn every_set_of_values_is_linted_taken_by_the_api_server_and_installed_by_both_helms_among_restricted_pods() {
    let Empty { datacenter, .. } = &Empty::start(Controllers::Apart);
    fleet::optional(datacenter).expect("what others read");
    let kubectl = |arguments: &[&str]| datacenter.kubectl(arguments).expect("kubectl").success().expect("it succeeds");
    kubectl(&["create", "namespace", NAMESPACE]);
    kubectl(&["label", "namespace", NAMESPACE, RESTRICTED]);
    let version = version(datacenter);
    for (name, file) in sets() {
        let values = file.to_string_lossy();
        helm(datacenter, "helm3", &["lint", "--strict", "--kube-version", &version, "CHART", "--values", &values]);
        let text = rendered(datacenter, "helm3", &file);
        assert_eq!(text, rendered(datacenter, "helm3", &file), "{name} is rendered differently each time");
        // Both Helms say the same, but for the order and the quotes.
        let keys =
            |text: &str| -> BTreeSet<String> { objects(text).iter().map(|object| format!("{object:?}")).collect() };
        assert_eq!(keys(&text), keys(&rendered(datacenter, "helm4", &file)), "{name} differs between Helm 3 and 4");
        for object in objects(&text).iter().filter(|object| self::text(object, &["kind"]) == "Namespace") {
            datacenter.apply(&serde_yaml_ng::to_string(object).expect("YAML")).expect("the canary's namespace");
        }
        // A pod by itself needs its account first: such pods are tried below.
        let parts: Vec<&str> = text.split("\n---").filter(|part| !part.contains("\nkind: Pod\n")).collect();
        let taken = dry_run(datacenter, &name, &parts.join("\n---")).success().expect("the API server takes it");
        assert!(taken.contains("validatingwebhookconfiguration.admissionregistration.k8s.io/poolguard"), "{taken}");
        admitted(datacenter, &name, &objects(&text));
    }
    // Only now: what is tried above must not be merged with what is installed.
    for (index, (name, file)) in sets().into_iter().enumerate() {
        let values = file.to_string_lossy();
        // The first is installed, the others are upgrades of the one before.
        let program = if index % 2 == 0 { "helm3" } else { "helm4" };
        let upgrade =
            ["upgrade", "--install", "poolguard", "CHART", "-n", NAMESPACE, "--reset-values", "--values", &values];
        // Namespaces that were made above belong to nobody yet.
        helm(datacenter, program, &[&upgrade[..], &["--take-ownership", "--wait", "--timeout", "90s"]].concat());
        let deployments = kubectl(&["-n", NAMESPACE, "get", "deployments", "-o", "name"]);
        assert_eq!(deployments.lines().count(), if name == "outside-values" { 0 } else { 2 }, "{name}: {deployments}");
        let history = helm(datacenter, "helm3", &["status", "poolguard", "-n", NAMESPACE]);
        assert!(history.contains("STATUS: deployed"), "{name}: {history}");
    }
}

/// Every pod of these manifests gets in where Pod Security is `restricted`, and would not without its security context.
fn admitted(datacenter: &Datacenter, name: &str, objects: &[Value]) {
    let mut pods = Vec::new();
    for object in objects {
        let spec = match text(object, &["kind"]) {
            "Deployment" | "DaemonSet" | "StatefulSet" | "Job" => &object["spec"]["template"]["spec"],
            "CronJob" => &object["spec"]["jobTemplate"]["spec"]["template"]["spec"],
            "Pod" => &object["spec"],
            _ => continue,
        };
        let mut spec = spec.clone();
        // The account may not be there yet.
        spec.as_mapping_mut().expect("a spec").remove("serviceAccountName");
        pods.push(spec);
    }
    let manifest = |index: usize, spec: &Value| {
        let head = format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: admitted-{index}, namespace: {NAMESPACE}}}\n");
        let spec = serde_yaml_ng::to_string(spec).expect("YAML");
        format!("{head}spec:\n{}", spec.lines().fold(String::new(), |text, line| text + "  " + line + "\n"))
    };
    assert!(!pods.is_empty(), "{name} has no pods");
    let all: Vec<String> = pods.iter().enumerate().map(|(index, spec)| manifest(index, spec)).collect();
    dry_run(datacenter, &format!("{name}-pods"), &all.join("---\n")).success().expect("every pod is admitted");
    let mut loose = pods.remove(0);
    loose.as_mapping_mut().expect("a spec").remove("securityContext");
    let output = dry_run(datacenter, &format!("{name}-loose"), &manifest(0, &loose));
    assert!(!output.ok() && output.text().contains("violates PodSecurity \"restricted"), "{}", output.text());
    // What `restricted` does not ask for.
    for container in pods.iter().flat_map(|spec| spec["containers"].as_sequence().into_iter().flatten()) {
        assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true, "{name}: {container:?}");
    }
}

/// Words of a list, as one.
fn listed(value: &Value) -> Vec<&str> {
    value.as_sequence().into_iter().flatten().map(|word| word.as_str().unwrap_or_default()).collect()
}

/// Every right that the chart grants, and to whom.
fn rights(objects: &[Value]) -> String {
    let mut told = String::new();
    for object in objects {
        let kind = text(object, &["kind"]);
        let place = match text(object, &["metadata", "namespace"]) {
            "" => String::new(),
            namespace => format!(" in {namespace}"),
        };
        let name = text(object, &["metadata", "name"]);
        if kind == "ClusterRole" || kind == "Role" {
            writeln!(told, "{kind} {name}{place}").expect("a string");
            for rule in object["rules"].as_sequence().into_iter().flatten() {
                let [groups, resources, names, verbs, urls] =
                    ["apiGroups", "resources", "resourceNames", "verbs", "nonResourceURLs"]
                        .map(|key| listed(&rule[key]));
                let group = |group: &&str| if group.is_empty() { "core".to_owned() } else { (*group).to_owned() };
                let groups: Vec<String> = groups.iter().map(group).collect();
                let named = if names.is_empty() { String::new() } else { format!(" named {}", names.join(", ")) };
                let what = [resources, urls].concat().join(", ");
                writeln!(told, "  {} {what} ({}){named}", verbs.join(", "), groups.join(", ")).expect("a string");
            }
        } else if kind == "ClusterRoleBinding" || kind == "RoleBinding" {
            let subjects = object["subjects"].as_sequence().into_iter().flatten();
            let subjects: Vec<String> =
                subjects.map(|subject| format!("{} {}", text(subject, &["kind"]), text(subject, &["name"]))).collect();
            let role = format!("{} {}", text(object, &["roleRef", "kind"]), text(object, &["roleRef", "name"]));
            writeln!(told, "{kind} {name}{place}: {role} for {}", subjects.join(", ")).expect("a string");
        }
    }
    told
}

#[test]
fn the_rights_that_the_chart_grants_are_those_that_are_pinned_without_wildcards_and_without_the_secrets_of_others() {
    let Empty { datacenter, .. } = &Empty::start(Controllers::Apart);
    let mut told = String::new();
    for (name, file) in sets() {
        let objects = objects(&rendered(datacenter, "helm3", &file));
        let roles = objects.iter().filter(|object| text(object, &["kind"]).ends_with("Role"));
        for rule in roles.flat_map(|role| role["rules"].as_sequence().into_iter().flatten()) {
            for key in ["apiGroups", "resources", "resourceNames", "verbs", "nonResourceURLs"] {
                assert!(!listed(&rule[key]).iter().any(|word| word.contains('*')), "{name}: a wildcard in {rule:?}");
            }
            let reads = listed(&rule["verbs"]).iter().any(|verb| ["get", "list", "watch"].contains(verb));
            let secrets = listed(&rule["resources"]).contains(&"secrets");
            let all = listed(&rule["resourceNames"]).is_empty();
            assert!(!(reads && secrets && all), "{name}: the Secrets of others: {rule:?}");
        }
        // Bindings name accounts of the chart, never a group or somebody.
        for binding in objects.iter().filter(|object| text(object, &["kind"]).ends_with("RoleBinding")) {
            for subject in binding["subjects"].as_sequence().into_iter().flatten() {
                assert_eq!(text(subject, &["kind"]), "ServiceAccount", "{name}: {subject:?}");
                assert_eq!(text(subject, &["namespace"]), NAMESPACE, "{name}: {subject:?}");
            }
        }
        if name == "outside-values" || name == "everything-values" {
            write!(told, "# {name}\n{}\n", rights(&objects)).expect("a string");
        }
    }
    let golden = poolguard_harness::root().join("tests/golden/rights.txt");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::create_dir_all(golden.parent().expect("a folder")).expect("a folder");
        fs::write(&golden, &told).expect("the golden file");
    }
    let pinned = fs::read_to_string(&golden).unwrap_or_default();
    assert!(told == pinned, "rights have changed: UPDATE_GOLDEN=1 writes {}; read it: {told}", golden.display());
    // What the API server makes of them.
    let (_, minimal) = sets().into_iter().find(|(name, _)| name == "minimal-values").expect("a set of values");
    let values = minimal.to_string_lossy();
    helm(
        datacenter,
        "helm3",
        &["install", "poolguard", "CHART", "-n", NAMESPACE, "--create-namespace", "--values", &values],
    );
    for account in ["webhook", "controller"] {
        let account = format!("--as=system:serviceaccount:{NAMESPACE}:poolguard-{account}");
        for (verb, what) in [
            ("list", "secrets"),
            ("get", "secrets"),
            ("delete", "pods"),
            ("patch", "deployments"),
            ("create", "validatingwebhookconfigurations"),
            ("delete", "validatingwebhookconfigurations"),
            ("create", "poolingoverrides"),
            ("impersonate", "users"),
            ("escalate", "clusterroles"),
        ] {
            let output = datacenter.kubectl(&["auth", "can-i", verb, what, "-A", &account]).expect("kubectl starts");
            assert!(!output.ok() && output.stdout.trim() == "no", "{account} may {verb} {what}: {}", output.text());
        }
    }
}
