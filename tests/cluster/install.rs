//! The chart as people install it: what it renders is taken by the API server, and its configuration by the binary.

use std::process::Command;

use poolguard_harness::chart;
use poolguard_harness::command::{Output, run};

use crate::scenario::{Scenario, binary};

/// One source of truth: as much as is required.
const SOURCE: &str = "sources[0].name=conftool,sources[0].conftool.endpoints={https://conf1001.example:4001}";

/// An identity that may do nothing yet.
const TRUSTED: &str = "trustedIdentities[0].user=rollouts,trustedIdentities[0].resources={pods}";

/// What `helm template` says about these values.
fn render(scenario: &Scenario, values: &[&str]) -> Output {
    let mut arguments = vec!["--skip-tests"];
    for value in values {
        arguments.extend(["--set", value]);
    }
    chart::template(scenario.datacenter(), "helm3", &arguments).expect("helm starts")
}

#[test]
fn what_the_chart_renders_in_the_cluster_is_taken_by_the_api_server_and_the_binary() {
    let scenario = Scenario::bare("install-chart");
    let workload = "customWorkloads[0].group=argoproj.io,customWorkloads[0].version=v1alpha1,customWorkloads[0].resource=rollouts,customWorkloads[0].kind=Rollout";
    let rendered = render(&scenario, &["datacenter=eqiad", SOURCE, workload]).success().expect("a rendering");
    let file = scenario.datacenter().folder.join("rendered.yaml");
    std::fs::write(&file, &rendered).expect("a file");
    let arguments = ["apply", "--server-side", "--force-conflicts", "--dry-run=server", "-f", &file.to_string_lossy()];
    // The other datacenter has no Poolguard: nothing there is merged with what is rendered.
    let codfw = &scenario.fleet.codfw;
    for name in ["poolguard", "poolguard-canary"] {
        codfw.apply(&format!("{{apiVersion: v1, kind: Namespace, metadata: {{name: {name}}}}}")).expect("a namespace");
    }
    let taken = codfw.kubectl(&arguments).expect("kubectl").success().expect("the API server takes it");
    for object in [
        "deployment.apps/poolguard-webhook",
        "deployment.apps/poolguard-controller",
        "service/poolguard-webhook",
        "configmap/poolguard",
        "clusterrole.rbac.authorization.k8s.io/poolguard-override",
        "deployment.apps/canary",
    ] {
        assert!(taken.contains(object), "{object} is missing: {taken}");
    }
    // The override's role is bound to nobody.
    assert!(!rendered.contains("name: poolguard-override\nsubjects"), "{rendered}");
    let bindings: Vec<&str> = rendered.split("\n---").filter(|part| part.contains("kind: RoleBinding")).collect();
    assert!(!bindings.iter().any(|binding| binding.contains("poolguard-override")), "{bindings:?}");
    // Its configuration is one that the binary takes: it goes on to look for an API server, and finds none.
    let path = scenario.datacenter().folder.join("rendered-config.yaml");
    let config: String = rendered
        .split("config.yaml: |\n")
        .nth(1)
        .unwrap_or_default()
        .lines()
        .take_while(|line| line.is_empty() || line.starts_with("    "))
        .map(|line| format!("{}\n", line.get(4..).unwrap_or_default()))
        .collect();
    assert!(config.contains(r#"datacenter: "eqiad""#), "{config}");
    std::fs::write(&path, config).expect("a file");
    let mut command = Command::new(binary());
    command.env_clear().env("HOME", "/nonexistent").args(["controller", "--log-format=json", "--config"]).arg(&path);
    let output = run(&mut command).expect("it starts");
    assert_eq!(output.code, 1, "{}", output.text());
    assert!(output.text().contains("neither a ServiceAccount of a pod nor a kubeconfig"), "{}", output.text());
    let line = output.text().lines().find(|line| line.starts_with('{')).expect("a line of JSON").to_owned();
    let line: serde_json::Value = serde_json::from_str(&line).expect("JSON");
    assert_eq!(line["level"], "ERROR");
}

#[test]
fn values_that_make_no_sense_are_refused_with_what_to_write() {
    let scenario = Scenario::bare("install-values");
    let required = "set both datacenter, the name of the datacenter that this cluster is in, and sources, where the truth about pooling \
                    is found (or declaredOnly=true, where each ServicePooling declares it): docs/values.md";
    for (values, sentence) in [
        (&[] as &[&str], required),
        (&["datacenter=eqiad"], required),
        (&[SOURCE], required),
        (&["datacenter=eqiad", SOURCE, "declaredOnly=true"], "leave out one of the two"),
        (&["datacenter=eqiad", SOURCE, "canary.namespace=kube-system"], "give the canary a namespace of its own"),
        (&["datacenter=eqiad", SOURCE, "canary.namespace=poolguard"], "give the canary a namespace of its own"),
        (&["datacenter=eqiad", SOURCE, "datacentre=x"], "additional properties 'datacentre' not allowed"),
        (&["datacenter=eqiad", SOURCE, "webhook.replica=3"], "additional properties 'replica' not allowed"),
        (
            &["datacenter=eqiad", SOURCE, "sources[0].conftool.endpoint=x"],
            "additional properties 'endpoint' not allowed",
        ),
        (&["datacenter=eqiad", SOURCE, "networks[0].cidr=x"], "additional properties 'cidr' not allowed"),
        (&["datacenter=eqiad", SOURCE, "webhook.tolerations[0].kee=x"], "additional properties 'kee' not allowed"),
        (
            &["datacenter=eqiad", SOURCE, "controller.resources.request.cpu=1"],
            "additional properties 'request' not allowed",
        ),
        (&["datacenter=eqiad", SOURCE, "sources[0].dns.servers={10.3.0.1}"], "'oneOf' failed"),
        (&["datacenter=eqiad", SOURCE, "enforcement=Sometimes"], "enforcement"),
        (&["datacenter=eqiad", SOURCE, "webhook.timeoutSeconds=1"], "timeoutSeconds"),
        (&["datacenter=eqiad", SOURCE, "evidenceTimeout=5s"], "evidenceTimeout"),
        (&["datacenter=eqiad", SOURCE, "evidenceTimeout=99ms"], "evidenceTimeout"),
        (&["datacenter=eqiad", SOURCE, TRUSTED, "trustedIdentities[0].verbs={update}"], "verbs"),
        (
            &[
                "datacenter=eqiad",
                SOURCE,
                "sources[1].name=conftool,sources[1].prometheus.url=https://prometheus.example",
            ],
            "\"conftool\" stands twice: give each source its own name",
        ),
        (
            &["datacenter=eqiad", SOURCE, "webhook.tlsSecretName=poolguard-webhook-ca"],
            "the authority's key must not be mounted into the webhook",
        ),
        (&["datacenter=eqiad", SOURCE, "certificates.overlap=541h"], "must be at most a quarter of servingValidity"),
        (
            &["datacenter=eqiad", SOURCE, "certificates.authorityValidity=179d"],
            "certificates.authorityValidity must be at least twice servingValidity",
        ),
        (&["datacenter=eqiad", SOURCE, "webhook.resources=null"], "missing property 'resources'"),
        (&["datacenter=eqiad", SOURCE, "webhook.resources.requests.memory=null"], "missing property 'memory'"),
    ] {
        let output = render(&scenario, values);
        assert!(!output.ok() && output.text().contains(sentence), "{values:?}: {}", output.text());
    }
}

#[test]
fn an_installation_that_only_warns_fails_open() {
    let scenario = Scenario::bare("install-warn");
    let rendered = render(&scenario, &["datacenter=eqiad", SOURCE, "enforcement=Warn"]).success().expect("a rendering");
    assert!(rendered.contains("failurePolicy: Ignore"), "{rendered}");
    assert!(!rendered.contains("failurePolicy: Fail"), "some entry fails closed");
}
