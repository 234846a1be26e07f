//! Out again: nothing stays locked, and only what the documentation names is left. The hook runs as the chart's own identity for it;
//! the real Job is run on the real node.

use std::process::Command;
use std::time::Duration;

use poolguard_harness::chart;
use poolguard_harness::command::{Output, run};
use poolguard_harness::datacenter::{Controllers, Datacenter, Who};
use poolguard_harness::operator::{NAMESPACE, Operator, Truth};
use poolguard_harness::wait::wait_for;

use crate::scenario::{Alone, SOON, binary};

const NAME: &str = "left";
/// How soon everything can be deleted again.
const OUT: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Before {
    Alive,
    Dead,
    NamespaceGone,
}

/// What the Job of the chart's hook does, by its ServiceAccount.
fn hook(datacenter: &Datacenter, arguments: &[&str]) -> Output {
    let file = datacenter.folder.join("uninstall.kubeconfig");
    datacenter.account(NAMESPACE, "poolguard-uninstall", &file).expect("a kubeconfig");
    let mut command = Command::new(binary());
    command.env_clear().env("KUBECONFIG", file).arg("uninstall").args(arguments);
    run(&mut command).expect("it starts")
}

/// The identity of the hook, as the chart renders it inside a cluster.
fn identity(datacenter: &Datacenter) {
    let shown = ["--set=datacenter=eqiad,declaredOnly=true", "--show-only=templates/uninstall.yaml"];
    let rendered =
        chart::template(datacenter, "helm3", &shown).and_then(|output| output.success()).expect("a rendering");
    let all: Vec<&str> = rendered.split("\n---").filter(|one| !one.contains("\nkind: Job")).collect();
    assert_eq!(all.len(), 3, "{rendered}");
    datacenter.apply(&all.join("\n---")).expect("the hook's identity");
}

#[test]
fn it_goes_only_when_it_is_meant_and_leaves_nothing_locked() {
    let alone = Alone::start(Controllers::Apart);
    let datacenter = &alone.datacenter;
    let rounds = [
        ("helm3", Before::Alive),
        ("helm4", Before::Dead),
        ("helm3", Before::Dead),
        ("helm4", Before::Alive),
        ("helm3", Before::NamespaceGone),
    ];
    let mut further = None;
    for (round, (helm, before)) in rounds.into_iter().enumerate() {
        let operator = further.as_ref().unwrap_or(&alone.operator);
        alone.guarded(NAME);
        wait_for("the guard", SOON, || {
            let output = delete(&alone, "deployment", &["--dry-run=server"]);
            anyhow::ensure!(output.text().contains("serves live traffic"), "{}", output.text());
            Ok(())
        })
        .expect("the guard");
        // Not by accident.
        if round < 2 {
            refused_then_meant(datacenter, helm);
        }
        identity(datacenter);
        let output = hook(datacenter, &[]);
        assert!(!output.ok(), "{}", output.text());
        assert!(
            output.text().contains("poolguard still guards services of this cluster: left/left")
                && output.text().contains("helm rollback RELEASE REVISION")
                && output.text().contains("--set uninstall.confirmed=true"),
            "{}",
            output.text()
        );
        assert!(!delete(&alone, "ingress", &[]).ok(), "the guard is still closed");

        leave(datacenter, operator, helm, before);
        wait_for("everything to be deletable again", OUT, || {
            for kind in ["ingress", "deployment", "servicepooling"] {
                let output = delete(&alone, kind, &["--ignore-not-found", "--wait=false"]);
                anyhow::ensure!(output.ok(), "{}", output.text());
            }
            Ok(())
        })
        .expect("an open guard");
        left(datacenter, before);
        // Over what is left.
        further = Some(Operator::install_with(datacenter, &Truth::nothing(), binary()).expect("poolguard"));
    }
}

/// Once with each Helm, as the documentation says: after an uninstallation that failed, Helm has to be told that the release is there.
fn refused_then_meant(datacenter: &Datacenter, helm: &str) {
    // Outside of the cluster, the chart has no hook. Here it has one, whose Job no node runs.
    let chart = datacenter.folder.join(format!("hooked-{helm}"));
    run(Command::new("cp").arg("-r").arg(chart::folder()).arg(&chart)).and_then(Output::success).expect("a copy");
    let template = chart.join("templates/uninstall.yaml");
    let hook = std::fs::read_to_string(&template).expect("a template");
    let replaced = [
        ("{{- if not .Values.webhook.url }}", "{{- if true }}"),
        ("restartPolicy: Never", "restartPolicy: Never\n      nodeSelector: {poolguard.dev/hook: nowhere}"),
    ];
    let hooked = replaced.iter().fold(hook, |hook, (from, to)| {
        assert!(hook.contains(from), "{hook}");
        hook.replacen(from, to, 1)
    });
    std::fs::write(&template, hooked).expect("a template");
    let of_helm = |arguments: &[&str]| {
        datacenter.call(Who::Admin, helm, &[arguments, &["--namespace", NAMESPACE]].concat()).expect("helm starts")
    };
    let chart = chart.to_string_lossy();
    let upgrade = |set: &str| of_helm(&["upgrade", "poolguard", &chart, "--reuse-values", "--set", set]);
    let confirmed = "uninstall.confirmed=true";
    upgrade("uninstall.confirmed=false").success().expect("a chart with its hook");

    let output = of_helm(&["uninstall", "poolguard", "--timeout", "3s"]);
    assert!(!output.ok(), "{}", output.text());
    let output = upgrade(confirmed);
    assert!(!output.ok() && output.text().contains("has no deployed releases"), "{}", output.text());
    let status = of_helm(&["status", "poolguard", "--output", "json"]).success().expect("a status");
    let status: serde_json::Value = serde_json::from_str(&status).expect("JSON");
    assert_eq!(status["info"]["status"], "uninstalling");
    of_helm(&["rollback", "poolguard", &status["version"].to_string()]).success().expect("it is there again");
    upgrade(confirmed).success().expect("it is meant");
}

fn delete(alone: &Alone, kind: &str, further: &[&str]) -> Output {
    let name = if kind == "servicepooling" { NAME } else { "left-main" };
    alone.kubectl(NAME, &[&["delete", kind, name], further].concat())
}

/// As the documentation says.
fn leave(datacenter: &Datacenter, operator: &Operator, helm: &str, before: Before) {
    let admin = |program: &str, arguments: &[&str]| {
        datacenter.call(Who::Admin, program, arguments).and_then(|output| output.success()).expect("it works");
    };
    let stop = || {
        for process in poolguard_harness::operator::PROCESSES {
            operator.stop(datacenter, process, before != Before::Alive).expect("a process ends");
        }
    };
    let registration = ["delete", "validatingwebhookconfiguration", "poolguard"];
    match before {
        Before::Alive => {
            hook(datacenter, &["--confirmed"]).success().expect("the guard is opened");
            admin(helm, &["uninstall", "poolguard", "--namespace", NAMESPACE, "--no-hooks"]);
            stop();
        }
        Before::Dead => {
            stop();
            admin("kubectl", &registration);
            admin(helm, &["uninstall", "poolguard", "--namespace", NAMESPACE, "--no-hooks"]);
        }
        Before::NamespaceGone => {
            stop();
            admin("kubectl", &["delete", "namespace", NAMESPACE, "--wait=false"]);
            admin("kubectl", &registration);
            admin("kubectl", &["delete", "clusterroles,clusterrolebindings", "-l", "app.kubernetes.io/name=poolguard"]);
            admin("kubectl", &["delete", "namespace", "poolguard-canary", "--wait=false"]);
        }
    }
}

/// Only what the documentation names.
fn left(datacenter: &Datacenter, before: Before) {
    wait_for("what the chart made to be gone", OUT, || {
        let ours = ["-l", "app.kubernetes.io/name=poolguard", "--all-namespaces", "-o", "name"];
        let kinds = "validatingwebhookconfigurations,clusterroles,clusterrolebindings,namespaces,deployments,services,configmaps,serviceaccounts,roles,rolebindings,jobs,poddisruptionbudgets";
        let found = datacenter.kubectl(&[&["get", kinds], &ours[..]].concat())?.success()?;
        let further: Vec<&str> = found.lines().filter(|line| !line.contains("poolguard-uninstall")).collect();
        anyhow::ensure!(further.is_empty(), "there is {further:?}");
        let namespaces = datacenter.kubectl(&["get", "namespaces", "-o", "name"])?.success()?;
        anyhow::ensure!(!namespaces.contains("namespace/poolguard-canary"), "the canary's namespace is there");
        let own = namespaces.lines().any(|line| line == format!("namespace/{NAMESPACE}"));
        anyhow::ensure!(before != Before::NamespaceGone || !own, "the namespace is there");
        Ok(())
    })
    .expect("nothing is left");
    let kept = datacenter.kubectl(&["get", "crd", "servicepoolings.poolguard.dev", "poolingoverrides.poolguard.dev"]);
    kept.and_then(|output| output.success()).expect("the definitions are kept");
}
