//! Whether the guard is really up: whatever opens it is told, and nothing but `caBundle` and namespace labels is mended.

use poolguard_harness::datacenter::Controllers;
use poolguard_harness::services;
use poolguard_harness::wait::wait_for;

use crate::scenario::{Alone, SOON};

const SERVICE: &str = "proof";

struct Stage {
    alone: Alone,
}

impl Stage {
    fn start() -> Self {
        let alone = Alone::start(Controllers::Apart);
        let datacenter = &alone.datacenter;
        services::namespace(datacenter, SERVICE).expect("a namespace");
        services::install(datacenter, "helm3", SERVICE, SERVICE, "main").expect("the example chart");
        let pooling = std::fs::read_to_string(poolguard_harness::lists::folder().join("expendable.yaml"));
        datacenter.apply(&pooling.expect("a manifest").replace("NAME", SERVICE)).expect("a ServicePooling");
        Self { alone }
    }

    fn kubectl(&self, arguments: &[&str]) -> String {
        self.alone.datacenter.kubectl(arguments).expect("kubectl").success().expect("it succeeds")
    }

    /// Waits until the condition `Guarded` is as expected, and its message says this.
    fn guarded(&self, expected: &str, words: &str) {
        let of = ".status.conditions[?(@.type==\"Guarded\")]";
        let path = format!("jsonpath={{{of}.status}}/{{{of}.reason}} {{{of}.message}}");
        wait_for(&format!("Guarded to be {expected}: {words}"), SOON, || {
            let found =
                self.alone.datacenter.kubectl(&["-n", SERVICE, "get", "servicepooling", SERVICE, "-o", &path])?;
            let found = found.success()?;
            anyhow::ensure!(found.starts_with(expected) && found.contains(words), "it is {found}");
            Ok(())
        })
        .expect("the condition");
    }

    fn metric(&self, name: &str, labels: &[&str], expected: f64) {
        wait_for(&format!("{name} to be {expected}"), SOON, || {
            let found = self.alone.operator.metric("controller", name, labels)?;
            anyhow::ensure!((found - expected).abs() < 0.5, "it is {found}");
            Ok(())
        })
        .expect("the metric");
    }

    /// As the platform team makes it whole again. Helm merges: a match condition that somebody added would stay, so what is there is
    /// deleted first.
    fn upgrade(&self) {
        self.kubectl(&["delete", "validatingwebhookconfiguration", "poolguard", "--ignore-not-found"]);
        self.alone.operator.upgrade(&self.alone.datacenter, &[]).expect("an upgrade");
        self.guarded("True/Guarded", "");
    }
}

#[test]
fn whatever_opens_the_guard_is_told_and_only_the_authority_and_labels_are_mended() {
    let stage = Stage::start();
    let configuration = ["validatingwebhookconfiguration", "poolguard"];
    stage.guarded("True/Guarded", "removals are refused");
    stage.metric("poolguard_guard_registration_intact", &[], 1.0);
    let entries = poolguard_policy::doors::ENTRIES.len() as f64;
    stage.metric("poolguard_guard_proved", &[], entries);
    let patch = |kind: &str, patch: &str| {
        stage.kubectl(&["patch", configuration[0], configuration[1], kind, "-p", patch]);
    };
    let webhooks = || stage.kubectl(&["get", configuration[0], configuration[1], "-o", "jsonpath={.webhooks[*].name}"]);

    // Edited: told field by field, and left as it is.
    patch("--type=json", r#"[{"op":"replace","path":"/webhooks/0/failurePolicy","value":"Ignore"}]"#);
    stage.guarded(
        "False/RegistrationDiffers",
        "pods.poolguard.dev of ValidatingWebhookConfiguration poolguard differs in failurePolicy",
    );
    stage.metric("poolguard_guard_registration_intact", &[], 0.0);
    let policy =
        stage.kubectl(&["get", configuration[0], configuration[1], "-o", "jsonpath={.webhooks[0].failurePolicy}"]);
    assert_eq!(policy, "Ignore", "nobody is fought");
    stage.upgrade();
    // A condition that lets everything by: the dry run of that entry passes.
    patch(
        "--type=json",
        r#"[{"op":"replace","path":"/webhooks/0/matchConditions","value":[{"name":"never","expression":"false"}]}]"#,
    );
    stage.guarded("False/RegistrationDiffers", "differs in matchConditions");
    stage.metric("poolguard_guard_proved", &["entry=\"pods\""], 0.0);
    stage.upgrade();
    // Emptied.
    patch("--type=merge", r#"{"webhooks":null}"#);
    stage.guarded("False/WebhookMissing", "lacks pods.poolguard.dev");
    stage.metric("poolguard_guard_proved", &[], 0.0);
    assert_eq!(webhooks(), "", "nothing is made again");
    stage.upgrade();
    stage.metric("poolguard_guard_proved", &[], entries);
    // Its authority wiped: mended, and told.
    let every: Vec<String> = (0..poolguard_policy::doors::ENTRIES.len())
        .map(|index| format!(r#"{{"op":"remove","path":"/webhooks/{index}/clientConfig/caBundle"}}"#))
        .collect();
    patch("--type=json", &format!("[{}]", every.join(",")));
    stage.metric("poolguard_repairs_total", &["what=\"caBundle\""], 1.0);
    stage.guarded("True/Guarded", "");
    let managers = stage.kubectl(&[
        "get",
        configuration[0],
        configuration[1],
        "--show-managed-fields",
        "-o",
        "jsonpath={.metadata.managedFields[*].manager}",
    ]);
    assert!(managers.contains("poolguard-ca"), "a manager of its own: {managers}");
    // The rights of the proof taken away.
    stage.kubectl(&["-n", "poolguard-canary", "delete", "rolebinding", "poolguard-proof"]);
    stage.guarded("False/NotProvable", "forbidden");
    stage.upgrade();
    // The webhook dead.
    stage.alone.operator.stop(&stage.alone.datacenter, "webhook", true).expect("the webhook dies");
    stage.guarded("False/WebhookUnreachable", "failed calling webhook");
    stage.alone.operator.start(&stage.alone.datacenter, "webhook").expect("it starts again");
    stage.guarded("True/Guarded", "");
    // Deleted: told, and not made again. A label that goes meanwhile is put back.
    stage.kubectl(&["delete", configuration[0], configuration[1]]);
    stage.guarded("False/WebhookMissing", "there is no ValidatingWebhookConfiguration poolguard");
    stage.kubectl(&["label", "namespace", SERVICE, "poolguard.dev/protected-"]);
    stage.metric("poolguard_repairs_total", &["what=\"namespaceLabel\""], 1.0);
    let label =
        stage.kubectl(&["get", "namespace", SERVICE, "-o", "jsonpath={.metadata.labels.poolguard\\.dev/protected}"]);
    assert_eq!(label, "true");
    let there = stage.alone.datacenter.kubectl(&["get", configuration[0], configuration[1]]).expect("kubectl");
    assert!(!there.ok(), "it was made again");
    wait_for("Events of all that was told", SOON, || {
        let events =
            stage.alone.datacenter.kubectl(&["-n", SERVICE, "get", "events", "-o", "jsonpath={.items[*].reason}"])?;
        let events = events.success()?;
        for reason in
            ["RegistrationDiffers", "WebhookMissing", "NotProvable", "WebhookUnreachable", "NamespaceNotLabelled"]
        {
            anyhow::ensure!(events.contains(reason), "{reason} is missing: {events}");
        }
        Ok(())
    })
    .expect("Events");
    // The definition gone: nothing is left to bear a condition, so the metric tells.
    stage.upgrade();
    let definition = ["delete", "crd", "servicepoolings.poolguard.dev", "--timeout=60s"];
    let refused = || stage.alone.operator.refused().expect("the metric");
    let before = refused();
    let output = stage.alone.datacenter.kubectl(&definition).expect("kubectl");
    assert!(
        !output.ok() && output.text().contains("servicepoolings.poolguard.dev was not deleted"),
        "{}",
        output.text()
    );
    assert!(refused() > before, "not by the webhook: {}", output.text());
    let depool = r#"[{"op":"replace","path":"/spec/evidence/0/declared/pooledIn","value":["codfw"]}]"#;
    stage.kubectl(&["-n", SERVICE, "patch", "servicepooling", SERVICE, "--type=json", "-p", depool]);
    wait_for("the definition to go after the depool", SOON, || stage.alone.datacenter.kubectl(&definition)?.success())
        .expect("it goes");
    stage.metric("poolguard_guard_proved", &["entry=\"pods\""], 1.0);
    stage.metric("poolguard_guard_proved", &["entry=\"poolings\""], 0.0);
    stage.metric("poolguard_guard_registration_intact", &[], 1.0);
    // All rights gone: the metric tells, nothing else can.
    stage.kubectl(&["delete", "clusterrolebinding", "poolguard-controller"]);
    stage.metric("poolguard_guard_registration_intact", &[], 0.0);
}
