//! The chart and its resources under tools that apply what a repository holds: nothing changes under their feet, and they can tell
//! when a resource is done. Also `helm test`, whose pod asks whether the guard is up.

use std::fs;
use std::process::Command;

use poolguard_harness::command::{Output, run};
use poolguard_harness::datacenter::{Controllers, Datacenter, Who};
use poolguard_harness::objects::{differences, objects, record};
use poolguard_harness::operator::{NAMESPACE, Operator, Truth};
use poolguard_harness::services;
use poolguard_harness::wait::wait_for;
use serde_json::json;

use crate::scenario::{Alone, SOON, binary};

const SERVICE: &str = "tended";

/// What a repository holds of a service.
fn pooling(mode: &str) -> String {
    format!(
        "apiVersion: poolguard.dev/v1alpha1\nkind: ServicePooling\nmetadata: {{name: {SERVICE}, namespace: {SERVICE}}}\nspec:\n  \
         selector: {{matchLabels: {{app: {SERVICE}}}}}\n  mode: {mode}\n  datacenters: [{{name: codfw}}, {{name: eqiad}}]\n  \
         evidence: [{{name: switch, declared: {{pooledIn: [codfw]}}}}]\n"
    )
}

fn kubectl(datacenter: &Datacenter, arguments: &[&str]) -> String {
    datacenter.kubectl(arguments).expect("kubectl starts").success().expect("it succeeds")
}

#[test]
fn nothing_that_is_applied_changes_under_its_owners_feet_and_its_health_can_be_read() {
    let certificates = json!({"authorityValidity": "365d", "servingValidity": "90d", "overlap": "1h"});
    let truth = Truth { certificates: Some(certificates), ..Truth::nothing() };
    let Alone { datacenter, operator, .. } = &Alone::with(Controllers::Apart, &truth);
    services::namespace(datacenter, SERVICE).expect("a namespace");
    let manifest = datacenter.call(Who::Admin, "helm3", &["get", "manifest", "poolguard", "-n", NAMESPACE]);
    let manifest = manifest.expect("helm starts").success().expect("the manifest");
    assert!(!manifest.contains("caBundle: "), "the controller makes the authority");
    let namespace = format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {SERVICE}, labels: {{team: a}}}}\n");
    let file = datacenter.folder.join("repository.yaml");
    let repository = format!("{}\n---\n{namespace}---\n{}", manifest, pooling("ActiveActive"));
    fs::write(&file, repository).expect("a file");
    let file = file.to_string_lossy();
    let as_owner = ["--server-side", "--force-conflicts", "--field-manager=gitops", "-f", &file];
    kubectl(datacenter, &[&["apply"][..], &as_owner].concat());
    services::guarded(datacenter, SERVICE).expect("guarded");
    // The authority goes, and comes back by its own manager.
    let entries = poolguard_policy::doors::ENTRIES.len();
    let every: Vec<String> = (0..entries)
        .map(|index| format!(r#"{{"op":"remove","path":"/webhooks/{index}/clientConfig/caBundle"}}"#))
        .collect();
    let registration = ["validatingwebhookconfiguration", "poolguard"];
    let wipe = format!("[{}]", every.join(","));
    kubectl(datacenter, &["patch", registration[0], registration[1], "--type=json", "-p", &wipe]);
    wait_for("the authority to be mended", SOON, || {
        let path = "jsonpath={.webhooks[*].clientConfig.caBundle}";
        let found = datacenter.kubectl(&["get", registration[0], registration[1], "-o", path])?.success()?;
        let found = found.split_whitespace().count();
        anyhow::ensure!(found == entries, "{found} of {entries}");
        Ok(())
    })
    .expect("an authority");
    services::guarded(datacenter, SERVICE).expect("guarded");
    let label = kubectl(datacenter, &["get", "namespace", SERVICE, "-o", "jsonpath={.metadata.labels}"]);
    assert!(label.contains("poolguard.dev/protected") && label.contains("team"), "{label}");
    // After all that, the owner finds nothing to change.
    let differs = datacenter.kubectl(&[&["diff"][..], &as_owner].concat()).expect("kubectl starts");
    assert!(differs.ok(), "the owner would change this: {}", differs.text());
    // What has changed is found: the question can be answered otherwise.
    kubectl(datacenter, &["label", "--overwrite", "namespace", SERVICE, "team=b"]);
    let differs = datacenter.kubectl(&[&["diff"][..], &as_owner].concat()).expect("kubectl starts");
    assert!(!differs.ok() && differs.text().contains("team: a"), "{}", differs.text());

    health(datacenter, operator);
    whole(datacenter, operator);
    tested(datacenter, operator);
}

/// Helm 4 waits by kstatus: until the controller has seen the new spec, and no longer.
fn health(datacenter: &Datacenter, operator: &Operator) {
    let chart = datacenter.folder.join("chart");
    fs::create_dir_all(chart.join("templates")).expect("a folder");
    let text = "apiVersion: v2\nname: tended\nversion: 1.0.0\n";
    fs::write(chart.join("Chart.yaml"), text).expect("a file");
    let upgrade = |mode: &str, patience: &str| -> Output {
        fs::write(chart.join("templates/pooling.yaml"), pooling(mode)).expect("a file");
        let chart = chart.to_string_lossy();
        let arguments =
            ["upgrade", "--install", "tended", &chart, "-n", SERVICE, "--take-ownership", "--force-conflicts"];
        let arguments = [&arguments[..], &["--wait", "--timeout", patience]].concat();
        datacenter.call(Who::Admin, "helm4", &arguments).expect("helm starts")
    };
    upgrade("ActiveActive", "60s").success().expect("what is as it was is done");
    operator.stop(datacenter, "controller", true).expect("the controller dies");
    let output = upgrade("ActivePassive", "4s");
    assert!(!output.ok(), "nobody has seen the new spec: {}", output.text());
    assert!(output.text().contains("InProgress") || output.text().contains("deadline exceeded"), "{}", output.text());
    operator.start(datacenter, "controller").expect("it starts again");
    upgrade("ActivePassive", "60s").success().expect("the controller has seen it");
    let path = "jsonpath={.metadata.generation}={.status.observedGeneration}";
    let seen = kubectl(datacenter, &["-n", SERVICE, "get", "servicepooling", SERVICE, "-o", path]);
    let (wanted, seen) = seen.split_once('=').expect("both");
    assert_eq!(wanted, seen);
}

/// The example chart with its ServicePooling in it, as the documentation advises: the resource goes together with what it guards.
fn whole(datacenter: &Datacenter, operator: &Operator) {
    let chart = datacenter.folder.join("whole");
    fs::create_dir_all(chart.join("templates")).expect("a folder");
    for file in ["Chart.yaml", "values.yaml", "templates/service.yaml"] {
        let example = poolguard_harness::root().join("examples/service-chart").join(file);
        fs::copy(example, chart.join(file)).expect("a copy");
    }
    let pooling = pooling("ActiveActive").replace(SERVICE, "{{ .Release.Namespace }}");
    let pooling = pooling.replace("pooledIn: [codfw]", "pooledIn: [{{ .Values.pooledIn }}]");
    fs::write(chart.join("templates/pooling.yaml"), pooling).expect("a file");
    let chart = chart.to_string_lossy();
    // The controller takes the namespace's label away once no ServicePooling is left, or it does not.
    for (helm, namespace, controlled) in [("helm3", "whole", true), ("helm4", "headless", false)] {
        services::namespace(datacenter, namespace).expect("a namespace");
        let own = ["-n", namespace];
        let helm = |arguments: &[&str]| {
            datacenter.call(Who::Deployer, helm, &[&own[..], arguments].concat()).expect("helm starts")
        };
        let deploy = |pooled_in: &str| {
            let values = format!("app={namespace},pooledIn={pooled_in}");
            helm(&["upgrade", "--install", "main", &chart, "--set", &values]).success().expect("it is installed");
        };
        deploy("eqiad");
        services::ready(datacenter, namespace).expect("ready pods");
        services::guarded(datacenter, namespace).expect("guarded");
        let delete = format!("{namespace}-main");
        let delete = ["delete", "deployment", &delete, "--dry-run=server"];
        let dry = || datacenter.call(Who::Deployer, "kubectl", &[&own[..], &delete].concat());
        wait_for("the guard", SOON, || {
            let output = dry()?;
            anyhow::ensure!(output.text().contains("serves live traffic"), "{}", output.text());
            Ok(())
        })
        .expect("a guard");
        let refused = || operator.refused_in(namespace).expect("the metric");
        let (before, refusals) = (objects(datacenter, namespace).expect("the objects"), refused());
        let output = helm(&["uninstall", "main"]);
        assert!(!output.ok() && refused() > refusals, "{}", output.text());
        let changed = differences(&before, &objects(datacenter, namespace).expect("the objects"));
        assert!(changed.is_empty(), "`{}` changed {changed:?}", output.command);
        let state = record(datacenter, namespace, "main").expect("records");
        assert_eq!(state.as_deref(), Some("deployed"));
        deploy("codfw");
        wait_for("the depool to be seen", SOON, || dry()?.success()).expect("a permission");
        if !controlled {
            operator.stop(datacenter, "controller", true).expect("the controller dies");
        }
        helm(&["uninstall", "main"]).success().expect("all of it goes at once");
        let left = kubectl(datacenter, &[&own[..], &["get", "deployments,servicepoolings", "-o", "name"]].concat());
        assert_eq!(left, "", "nothing is left");
        let label = || {
            let path = r"jsonpath={.metadata.labels.poolguard\.dev/protected}";
            datacenter.kubectl(&["get", "namespace", namespace, "-o", path])?.success()
        };
        if controlled {
            wait_for("the label to go", SOON, || {
                let label = label()?;
                anyhow::ensure!(label.is_empty(), "it is {label:?}");
                Ok(())
            })
            .expect("no label");
        } else {
            assert_ne!(label().expect("the namespace"), "", "nobody takes it away");
            operator.start(datacenter, "controller").expect("it starts again");
        }
    }
}

/// The pod of `helm test`, with the rights of its own ServiceAccount and no others.
fn tested(datacenter: &Datacenter, operator: &Operator) {
    let hooks = datacenter.call(Who::Admin, "helm3", &["get", "hooks", "poolguard", "-n", NAMESPACE]);
    let hooks = hooks.expect("helm starts").success().expect("the hooks");
    let ours = |part: &&str| part.contains("name: poolguard-test") && !part.contains("kind: Pod\n");
    let rights: Vec<&str> = hooks.split("\n---").filter(ours).collect();
    assert_eq!(rights.len(), 3, "an account, a role and a binding: {hooks}");
    datacenter.apply(&rights.join("\n---")).expect("the rights");
    let file = datacenter.folder.join("test.kubeconfig");
    datacenter.account(NAMESPACE, "poolguard-test", &file).expect("a kubeconfig");
    assert!(hooks.contains("args: [check-guard, --canary-namespace=poolguard-canary]"), "{hooks}");
    let check = |within: &str| {
        let mut command = Command::new(binary());
        command.env_clear().env("KUBECONFIG", &file);
        run(command.args(["check-guard", "--canary-namespace=poolguard-canary", "--within", within]))
            .expect("it starts")
    };
    let said = check("60").success().expect("the guard is up");
    assert!(said.contains("The guard is up: a dry run was refused"), "{said}");
    operator.stop(datacenter, "webhook", true).expect("the webhook dies");
    let output = check("1");
    assert!(output.code == 1 && output.stderr.contains("the guard is not up: "), "{}", output.text());
    assert!(output.stderr.contains("failed calling webhook"), "{}", output.text());
    operator.start(datacenter, "webhook").expect("it starts again");
    check("60").success().expect("the guard is up again");
    kubectl(datacenter, &["delete", "validatingwebhookconfiguration", "poolguard"]);
    let output = check("1");
    assert!(output.code == 1 && output.stderr.contains("a dry run was let pass"), "{}", output.text());
}
