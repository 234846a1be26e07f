//! What people see: each reason brought about with the real clients against the real API server, and compared with its golden
//! message. The table in docs/reasons.md says which reason cannot occur in which client, and a test compares it with the files.

use poolguard_harness::datacenter::Who;
use poolguard_harness::operator::TRUSTED;
use poolguard_harness::services;
use poolguard_harness::wait::wait_for;
use poolguard_policy::verdict::Reason;

use crate::golden::Client::{Drain, Helm3, Helm4, Kubectl};
use crate::overrides::glass;
use crate::scenario::{SOON, Scenario, pooling, with_spec};

/// One pod on a node of its own, so that a drain of the node meets nothing else. `LABELS` are further ones of the pod.
const LONELY: &str = r#"
apiVersion: v1
kind: Node
metadata:
  name: node-NAME
  annotations: {kwok.x-k8s.io/node: fake}
  labels: {kubernetes.io/hostname: node-NAME}
spec: {taints: [{key: harness, effect: NoSchedule}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: lonely, namespace: NAME}
spec:
  replicas: 1
  selector: {matchLabels: {half: lonely}}
  template:
    metadata: {labels: {half: lonely, app: NAME, LABELS}ANNOTATIONS}
    spec: {nodeName: node-NAME, terminationGracePeriodSeconds: 1, containers: [{name: c, image: example.invalid/c:1}]}
"#;

const NEVER_READY: &str = ", annotations: {harness.poolguard.dev/never-ready: \"true\"}";

impl Scenario<'_> {
    /// A further release of the example chart.
    fn release(&self, release: &str, set: &str) {
        let chart = poolguard_harness::root().join("examples/service-chart");
        let set = format!("app={},{set}", self.name);
        self.run("helm3", &["install", release, &chart.to_string_lossy(), "--set", &set]).success().expect("a release");
    }

    /// A Deployment of one pod on a node of its own.
    fn lonely(&self, labels: &str, annotations: &str) {
        let manifest = LONELY.replace("NAME", &self.name).replace("LABELS", labels).replace("ANNOTATIONS", annotations);
        self.datacenter().apply(&manifest).expect("a node and a Deployment");
        if annotations.is_empty() {
            services::ready(self.datacenter(), &self.name).expect("ready pods");
        }
    }

    /// Compares what a drain of that node shows, and lets it have pods again.
    fn drain(&self, reason: Reason, further: &[&str]) {
        let node = format!("node-{}", self.name);
        let arguments = [&["drain", node.as_str()], further].concat();
        self.golden(reason, Drain, Who::Admin, &arguments);
        self.datacenter().kubectl(&["uncordon", &node]).expect("kubectl").success().expect("uncordoned");
    }

    /// A pod with this label, that the webhook knows.
    fn pod(&self, label: &str) -> String {
        let path = "jsonpath={.items[0].metadata.name}";
        self.kubectl(&["get", "pods", "-l", label, "-o", path]).success().expect("a pod")
    }

    fn evict(&self, reason: Reason, pod: &str) {
        let arguments = self.eviction(pod);
        self.golden(reason, Kubectl, Who::Deployer, &arguments.each_ref().map(String::as_str));
    }

    /// Waits until a dry run of this is let pass: the view learns of each change by a watch.
    fn would_pass(&self, what: &[&str]) {
        wait_for(&format!("{what:?} to pass"), SOON, || {
            self.kubectl(&[what, &["--dry-run=server"]].concat()).success()
        })
        .expect("the view");
    }

    /// Waits until a dry run of this is refused with these words.
    fn would_be_refused(&self, what: &[&str], words: &str) {
        wait_for(&format!("{what:?} to be refused for {words:?}"), SOON, || {
            let output = self.kubectl(&[what, &["--dry-run=server"]].concat());
            anyhow::ensure!(!output.ok() && output.text().contains(words), "{}", output.text());
            Ok(())
        })
        .expect("the view");
    }

    /// What is seen of the removal of a release's Deployment, and of one or two releases, in their clients.
    fn removals(&self, reason: Reason, who: Who, deployment: &str, releases: [&str; 2]) {
        self.golden(reason, Kubectl, who, &["delete", "deployment", deployment]);
        self.golden(reason, Helm3, who, &["uninstall", releases[0]]);
        self.golden(reason, Helm4, who, &["uninstall", releases[1]]);
    }
}

#[test]
fn a_live_service_is_refused_and_told_what_to_do() {
    let scenario = Scenario::guarded("mathoid");
    let main = ["main", "main"];
    scenario.removals(Reason::Serving, Who::Deployer, "mathoid-main", main);
    // A drain waits as long as an eviction is refused for now, and goes on where there is no such pod any more.
    let gone = scenario.eviction("none");
    let output = scenario.run("kubectl", &gone.each_ref().map(String::as_str));
    assert!(!output.ok() && output.text().contains("(NotFound)"), "{}", output.text());
    let patch = ["patch", "servicepooling", "mathoid", "--type=merge", "-p", r#"{"spec":{"minPooledDatacenters":2}}"#];
    scenario.golden(Reason::NotWeakened, Kubectl, Who::Deployer, &patch);

    // What is nobody's service in the same namespace.
    for release in ["batch-a", "batch-b", "batch-c"] {
        scenario.release(release, "routedVia=nobody,canary=true,replicas=1");
    }
    scenario.would_pass(&["delete", "deployment", "mathoid-batch-a"]);
    scenario.removals(Reason::NotGuarded, Who::Deployer, "mathoid-batch-a", ["batch-b", "batch-c"]);
    scenario.lonely("routed_via: nobody", "");
    scenario.drain(Reason::NotGuarded, &[]);

    // What is on its way already.
    scenario.depool();
    scenario.passes(
        "kubectl",
        &["patch", "deployment", "mathoid-main", "-p", r#"{"metadata":{"finalizers":["example.dev/wait"]}}"#],
    );
    scenario.passes("kubectl", &["delete", "deployment", "mathoid-main", "--wait=false"]);
    scenario.fleet.conftool.record("mathoid", &["eqiad"], 1).expect("conftool");
    scenario.serving("Serving");
    scenario.golden(
        Reason::AlreadyGoing,
        Kubectl,
        Who::Deployer,
        &["delete", "deployment", "mathoid-main", "--wait=false"],
    );
}

#[test]
fn a_chart_that_holds_its_service_pooling_changes_intent() {
    let scenario = Scenario::bare("echostore");
    let chart = scenario.datacenter().folder.join("echostore");
    std::fs::create_dir_all(chart.join("templates")).expect("a folder");
    std::fs::write(chart.join("Chart.yaml"), "apiVersion: v2\nname: echostore\nversion: 0.1.0\n").expect("a chart");
    let manifest = with_spec(
        "{{ .Release.Name }}",
        "selector: {matchLabels: {app: echostore}}\n  evidence: [{name: discovery, conftool: {record: echostore}}]\n  \
         minPooledDatacenters: {{ .Values.minimum }}",
    )
    .replace("namespace: {{ .Release.Name }}", "namespace: echostore");
    std::fs::write(chart.join("templates/pooling.yaml"), manifest).expect("a chart");
    let chart = chart.to_string_lossy();
    for (release, client, program) in [("a", Helm3, "helm3"), ("b", Helm4, "helm4")] {
        scenario.passes(program, &["install", release, &chart, "--set", "minimum=1"]);
        scenario.kubectl(&["wait", "servicepooling", release, "--for=condition=Guarded", "--timeout=60s"]);
        let upgrade = ["upgrade", release, &chart, "--set", "minimum=2"];
        scenario.golden(Reason::NotWeakened, client, Who::Deployer, &upgrade);
    }
}

#[test]
fn a_depooled_service_goes_without_a_word() {
    let scenario = Scenario::guarded("apertium");
    scenario.release("canary", "canary=true,replicas=1");
    scenario.lonely("routed_via: production", "");
    scenario.depool();
    // The controller takes its disruption budget away: the service is free to go.
    wait_for("no budget", SOON, || {
        let budgets = scenario.kubectl(&["get", "pdb", "-o", "name"]).success()?;
        anyhow::ensure!(budgets.is_empty(), "there is {budgets}");
        Ok(())
    })
    .expect("the controller");
    scenario.drain(Reason::NotServing, &[]);
    scenario.removals(Reason::NotServing, Who::Deployer, "lonely", ["canary", "main"]);
}

#[test]
fn a_depool_that_clients_do_not_know_of_yet_is_told_with_its_seconds() {
    let scenario = Scenario::guarded("citoid");
    scenario.fleet.conftool.record("citoid", &["codfw"], 300).expect("conftool");
    let delete = ["delete", "deployment", "citoid-main"];
    scenario.would_be_refused(&delete, "was depooled");
    scenario.removals(Reason::Draining, Who::Deployer, "citoid-main", ["main", "main"]);
}

#[test]
fn evidence_that_is_missing_is_told_with_its_cause() {
    let scenario = Scenario::guarded("cxserver");
    scenario.fleet.conftool.delete("cxserver", "eqiad").expect("etcd deletes");
    scenario.condition("SourcesReady", "False/NotAnswering");
    let delete = ["delete", "deployment", "cxserver-main"];
    scenario.would_be_refused(&delete, "key missing, since ");
    scenario.removals(Reason::EvidenceUnknown, Who::Deployer, "cxserver-main", ["main", "main"]);
}

#[test]
fn a_resource_that_this_version_cannot_read_is_told_by_name() {
    let scenario = Scenario::bare("zotero");
    let datacenter = scenario.datacenter();
    scenario.release("main", "replicas=1");
    scenario.lonely("routed_via: production", "");
    // What a newer version's definition would bring: a field that this binary does not know.
    let field = r#"[{"op":"add","path":"/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/future","value":{"type":"string"}}]"#;
    let patch = ["patch", "crd", "servicepoolings.poolguard.dev", "--type=json", "-p", field];
    datacenter.kubectl(&patch).expect("kubectl").success().expect("a newer definition");
    let newer = pooling("zotero") + "  future: \"yes\"\n";
    wait_for("the newer definition to be served", SOON, || {
        datacenter.apply(&newer)?;
        let path = "jsonpath={.spec.future}";
        let field = scenario.kubectl(&["get", "servicepooling", "zotero", "-o", path]).success()?;
        anyhow::ensure!(field == "yes", "the field is pruned");
        Ok(())
    })
    .expect("a newer resource");
    // A watch of the older definition loses the field; a change after that shows it.
    let mut looks = 0;
    wait_for("the webhook to meet the field", SOON, || {
        looks += 1;
        let mark = format!("looks={looks}");
        datacenter
            .kubectl(&["-n", "zotero", "annotate", "servicepooling", "zotero", &mark, "--overwrite"])?
            .success()?;
        let output = scenario.kubectl(&["delete", "deployment", "zotero-main", "--dry-run=server"]);
        anyhow::ensure!(output.text().contains("cannot be read"), "{}", output.text());
        Ok(())
    })
    .expect("the view");
    scenario.removals(Reason::Undecodable, Who::Deployer, "zotero-main", ["main", "main"]);
    // A budget that the controller made before it met the field would let the pod go.
    wait_for("an eviction without a budget", SOON, || {
        datacenter.kubectl(&["-n", "zotero", "delete", "pdb", "--all"])?.success()?;
        let output = datacenter.kubectl(&["drain", "node-zotero", "--dry-run=server", "--timeout=1s"])?;
        anyhow::ensure!(output.text().contains("cannot be read"), "{}", output.text());
        Ok(())
    })
    .expect("the view");
    scenario.drain(Reason::Undecodable, &["--timeout=4s"]);
}

#[test]
fn evictions_are_left_to_a_budget_where_there_is_one() {
    let alone = Scenario::bare("proton");
    alone.lonely("routed_via: production", "");
    alone.guard(&pooling("proton"));
    alone.would_be_refused(&["delete", "deployment", "lonely"], "serves live traffic");
    alone.evict(Reason::NoBudget, &alone.pod("half=lonely"));
    alone.drain(Reason::NoBudget, &["--timeout=4s"]);

    let several = Scenario::guarded("termbox");
    several.lonely("routed_via: production", "");
    wait_for("a budget that the webhook knows", SOON, || {
        several.datacenter().kubectl(&["drain", "node-termbox", "--dry-run=server", "--timeout=1s"])?.success()
    })
    .expect("the controller's budget");
    several.drain(Reason::WithinBudget, &[]);
    services::ready(several.datacenter(), "termbox").expect("ready pods");
    several.evict(Reason::WithinBudget, &several.pod("release=main"));
}

#[test]
fn what_carries_no_traffic_and_what_others_stand_in_for_goes_without_a_word() {
    let scenario = Scenario::bare("wikifeeds");
    scenario.release("main", "replicas=2");
    for release in ["canary-a", "canary-b", "canary-c"] {
        scenario.release(release, "canary=true,replicas=1");
    }
    scenario.lonely("routed_via: production, stage: canary", "");
    let spec = "selector: {matchLabels: {app: wikifeeds, routed_via: production}}\n  expendable: {matchExpressions: [{key: \
                release, operator: NotIn, values: [main]}]}\n  evidence: [{name: discovery, conftool: {record: wikifeeds}}]";
    scenario.guard(&with_spec("wikifeeds", spec));
    scenario.settled();
    scenario.would_pass(&["delete", "deployment", "wikifeeds-canary-a"]);
    scenario.drain(Reason::Expendable, &[]);
    scenario.removals(Reason::Expendable, Who::Deployer, "wikifeeds-canary-a", ["canary-b", "canary-c"]);

    let scenario = Scenario::guarded("kartotherian");
    for release in ["new-a", "new-b", "new-c"] {
        scenario.release(release, "canary=true,replicas=1,neverReady=true");
    }
    scenario.would_pass(&["delete", "deployment", "kartotherian-new-a"]);
    scenario.removals(Reason::CarriesNoTraffic, Who::Deployer, "kartotherian-new-a", ["new-b", "new-c"]);
    scenario.lonely("routed_via: production", NEVER_READY);
    wait_for("the pod", SOON, || {
        let pod = scenario.pod("half=lonely");
        let output = scenario.kubectl(&["delete", "pod", &pod, "--dry-run=server"]);
        anyhow::ensure!(output.ok(), "{}", output.text());
        Ok(())
    })
    .expect("a pod that the webhook knows");
    scenario.drain(Reason::CarriesNoTraffic, &[]);
}

#[test]
fn where_the_guard_only_warns_the_refusal_is_told_as_a_warning() {
    let scenario = Scenario::bare("recommendation-api");
    scenario.release("main", "replicas=1");
    for release in ["second", "third"] {
        scenario.release(release, "canary=true,replicas=1");
    }
    let warns = pooling("recommendation-api") + "  enforcement: Warn\n";
    scenario.datacenter().apply(&warns).expect("a ServicePooling");
    scenario.condition("Guarded", "False/WarnOnly");
    services::ready(scenario.datacenter(), "recommendation-api").expect("ready pods");
    let dry = ["delete", "deployment", "recommendation-api-third", "--dry-run=server"];
    wait_for("the webhook to warn", SOON, || {
        let output = scenario.kubectl(&dry);
        anyhow::ensure!(output.text().contains("would have refused"), "{}", output.text());
        Ok(())
    })
    .expect("the view");
    scenario.removals(Reason::WarnOnly, Who::Deployer, "recommendation-api-third", ["second", "main"]);

    // One pod: no budget could ever allow its eviction.
    let alone = Scenario::bare("blubberoid");
    alone.lonely("routed_via: production", "");
    alone.datacenter().apply(&(pooling("blubberoid") + "  enforcement: Warn\n")).expect("a ServicePooling");
    alone.condition("Guarded", "False/WarnOnly");
    let dry = ["delete", "deployment", "lonely", "--dry-run=server"];
    wait_for("the webhook to warn", SOON, || {
        let output = alone.kubectl(&dry);
        anyhow::ensure!(output.text().contains("would have refused"), "{}", output.text());
        Ok(())
    })
    .expect("the view");
    alone.drain(Reason::WarnOnly, &[]);
}

#[test]
fn an_override_is_told_to_whoever_it_lets_pass() {
    let scenario = Scenario::guarded("shellbox");
    scenario.release("second", "canary=true,replicas=1");
    scenario.lonely("routed_via: production", "");
    scenario.may_break_the_glass();
    let file = scenario.datacenter().folder.join("shellbox-override.yaml");
    let path = file.to_string_lossy();
    let glass = glass("shellbox", "shellbox", "eqiad", "2h");
    std::fs::write(&file, glass.replace("requestedBy: engineer", "requestedBy: alice")).expect("a file");
    scenario.golden(Reason::NotTheRequester, Kubectl, Who::Engineer, &["create", "-f", &path]);
    std::fs::write(&file, glass).expect("a file");
    scenario.golden(Reason::OverrideCreated, Kubectl, Who::Engineer, &["create", "-f", &path]);
    scenario.would_pass(&["delete", "deployment", "lonely"]);
    scenario.drain(Reason::Overridden, &[]);
    scenario.removals(Reason::Overridden, Who::Deployer, "lonely", ["second", "main"]);
}

#[test]
fn a_trusted_identity_is_told_nothing_and_a_dry_run_in_the_canarys_namespace_is_refused() {
    let scenario = Scenario::guarded("sessionstore");
    for release in ["second", "third"] {
        scenario.release(release, "canary=true,replicas=1");
    }
    scenario.lonely("routed_via: production", "");
    scenario.would_be_refused(&["delete", "deployment", "lonely"], "serves live traffic");
    let datacenter = scenario.datacenter();
    let bound = ["create", "clusterrolebinding", "automation", "--clusterrole=cluster-admin", "--user", TRUSTED];
    datacenter.kubectl(&bound).expect("kubectl").success().expect("a binding");
    let may = ["auth", "can-i", "*", "*", "--as", TRUSTED];
    wait_for("its rights", SOON, || datacenter.kubectl(&may)?.success()).expect("the API server");
    scenario.drain(Reason::Trusted, &["--as", TRUSTED]);
    scenario.golden(Reason::Trusted, Kubectl, Who::Admin, &["delete", "deployment", "lonely", "--as", TRUSTED]);
    // What it is not trusted with, it is refused like anybody else.
    let service = ["-n", "sessionstore", "delete", "service", "sessionstore-main", "--as", TRUSTED];
    let output = datacenter.kubectl(&service).expect("kubectl");
    assert!(!output.ok() && output.text().contains("serves live traffic"), "{}", output.text());
    for (client, release) in [(Helm3, "second"), (Helm4, "third")] {
        scenario.golden(Reason::Trusted, client, Who::Admin, &["uninstall", release, "--kube-as-user", TRUSTED]);
    }

    let canary = ["delete", "deployment", "canary", "--dry-run=server", "-n", "poolguard-canary"];
    scenario.golden(Reason::Canary, Kubectl, Who::Admin, &canary);
    let path = "jsonpath={.items[0].spec.nodeName}";
    let node = datacenter.kubectl(&["-n", "poolguard-canary", "get", "pods", "-o", path]).expect("kubectl");
    let node = node.success().expect("the canary's pod");
    // A drain asks for its dry run inside of the eviction, where the webhook is not told of it: nobody's drain is in the way.
    let drain = ["drain", &node, "--dry-run=server", "--pod-selector=app.kubernetes.io/component=canary"];
    datacenter.kubectl(&drain).expect("kubectl").success().expect("a dry run");
}
