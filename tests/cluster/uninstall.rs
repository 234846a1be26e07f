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
    for (helm, before) in rounds {
        let operator = further.as_ref().unwrap_or(&alone.operator);
        alone.guarded(NAME);
        wait_for("the guard", SOON, || {
            let output = delete(&alone, "deployment", &["--dry-run=server"]);
            anyhow::ensure!(output.text().contains("serves live traffic"), "{}", output.text());
            Ok(())
        })
        .expect("the guard");
        identity(datacenter);
        // Not by accident.
        let output = hook(datacenter, &[]);
        assert!(!output.ok(), "{}", output.text());
        assert!(
            output.text().contains("poolguard still guards services of this cluster: left/left")
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
