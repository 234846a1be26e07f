//! Breaking the glass: who may, what it lets pass, what it leaves behind, and how it ends.

use poolguard_harness::command::Output;
use poolguard_harness::datacenter::Who;
use poolguard_harness::objects::differences;
use poolguard_harness::wait::wait_for;

use crate::golden::noted;
use crate::scenario::{SOON, Scenario};

impl Scenario<'_> {
    /// Lets the engineer make overrides in the service's namespace, as a platform team would.
    pub fn may_break_the_glass(&self) {
        let bound = ["-n", &self.name, "create", "rolebinding", "break-glass", "--clusterrole=poolguard-override"];
        let bound = [&bound[..], &["--user=engineer"]].concat();
        self.datacenter().kubectl(&bound).expect("kubectl").success().expect("a binding");
        wait_for("the engineer's right", SOON, || {
            let may = ["-n", &self.name, "auth", "can-i", "create", "poolingoverrides"];
            self.datacenter().call(Who::Engineer, "kubectl", &may)?.success()
        })
        .expect("the API server");
    }

    /// `kubectl create` of a manifest as somebody.
    fn create(&self, who: Who, manifest: &str) -> Output {
        let file = self.datacenter().folder.join(format!("override-{}.yaml", self.name));
        std::fs::write(&file, manifest).expect("a file");
        self.datacenter().call(who, "kubectl", &["create", "-f", &file.to_string_lossy()]).expect("kubectl starts")
    }

    /// Waits until a metric of overrides has this value.
    fn counts(&self, metric: &str, label: &str, expected: f64) {
        let namespace = format!("namespace=\"{}\"", self.name);
        wait_for(&format!("{metric}{{{label}}} to be {expected}"), SOON, || {
            let found = self.operator.metric("controller", metric, &[&namespace, label])?;
            anyhow::ensure!((found - expected).abs() < 0.5, "it is {found}");
            Ok(())
        })
        .expect("the metric");
    }

    /// Waits for an Event with this reason, and returns its message.
    fn event(&self, reason: &str) -> String {
        let path = format!("jsonpath={{.items[?(@.reason==\"{reason}\")].message}}");
        wait_for(&format!("an Event {reason}"), SOON, || {
            let message = self.kubectl(&["get", "events", "-o", &path]).success()?;
            anyhow::ensure!(!message.is_empty(), "there is none");
            Ok(message)
        })
        .expect("an Event")
    }
}

/// An override by the engineer.
pub fn glass(namespace: &str, service: &str, datacenter: &str, duration: &str) -> String {
    format!(
        "apiVersion: poolguard.dev/v1alpha1\nkind: PoolingOverride\nmetadata: {{name: inc-4711, namespace: {namespace}}}\nspec:\n  \
         servicePoolingRef: {{name: {service}}}\n  datacenter: {datacenter}\n  reason: INC-4711, eqiad is on fire\n  \
         duration: {duration}\n  requestedBy: engineer\n"
    )
}

#[test]
fn an_override_lets_the_refused_command_pass_tells_who_and_is_taken_back() {
    let scenario = Scenario::guarded("glass");
    let chart = poolguard_harness::root().join("examples/service-chart");
    for release in ["second", "third"] {
        let set = ["--set", "app=glass,canary=true"];
        scenario.passes("helm3", &[&["install", release, &chart.to_string_lossy()][..], &set].concat());
    }
    let delete = ["delete", "deployment", "glass-second"];
    let uninstall = ["uninstall", "third"];
    scenario.refused_saying(&delete, "glass serves live traffic");
    scenario.refused("helm3", &uninstall);

    // Who may is a matter of RBAC, and only by their own name.
    scenario.may_break_the_glass();
    let good = glass("glass", "glass", "eqiad", "10m");
    let own = good.replace("requestedBy: engineer", "requestedBy: deployer");
    let said = scenario.create(Who::Deployer, &own).text();
    assert!(said.contains("cannot create resource \"poolingoverrides\""), "{said}");
    let said = scenario.create(Who::Engineer, &own).text();
    assert!(said.contains("its spec.requestedBy is deployer, and you, who ask for it, are engineer"), "{said}");

    // What makes no sense is told with what to write.
    for (from, to, sentence) in [
        (
            "INC-4711, eqiad is on fire",
            "INC-12345",
            "write what is going on and the ticket, in at least ten characters",
        ),
        ("10m", "25h", "the duration must lie above 0s and at most at 24h: write for example 30m"),
    ] {
        let output = scenario.create(Who::Engineer, &good.replace(from, to));
        assert!(!output.ok() && output.text().contains(sentence), "{to}: {}", output.text());
    }

    // What will do nothing is told at once.
    for (name, from, to, sentence) in [
        ("elsewhere", "datacenter: eqiad", "datacenter: codfw", "an override about codfw lets nothing pass here"),
        ("nobody", "{name: glass}", "{name: nobody}", "there is no ServicePooling nobody in this namespace"),
    ] {
        let output = scenario.create(Who::Engineer, &good.replace("inc-4711", name).replace(from, to));
        assert!(output.ok() && output.text().contains(sentence), "{name}: {}", output.text());
    }
    scenario.refused("kubectl", &delete);
    scenario.condition("Guarded", "True/Guarded");

    // The real one.
    let audited = scenario.audited();
    scenario.create(Who::Engineer, &good).success().expect("an override");
    let told = scenario.condition("Guarded", "False/Overridden");
    assert!(told.contains("engineer has opened the guard until") && told.contains("INC-4711"), "{told}");
    assert_eq!(scenario.status(".overrides[*].requestedBy").expect("the status"), "engineer");
    let row = scenario.kubectl(&["get", "spool", "-o", "wide"]).success().expect("a row");
    assert!(row.contains("OVERRIDE") && row.contains("engineer until "), "{row}");
    let changed = r#"{"spec":{"duration":"24h"}}"#;
    let update = ["-n", "glass", "patch", "poolingoverride", "inc-4711", "--type=merge", "-p", changed];
    let output = scenario.datacenter().kubectl(&update).expect("kubectl");
    let sentence = "an override cannot be changed: delete it, and make another one";
    assert!(!output.ok() && output.text().contains(sentence), "{}", output.text());
    wait_for("the webhook to know it", SOON, || {
        scenario.kubectl(&[&delete[..], &["--dry-run=server"]].concat()).success()
    })
    .expect("the view");
    let warning = "poolguard let this pass by PoolingOverride inc-4711 of engineer, until ";
    for (program, arguments) in [("kubectl", &delete[..]), ("helm3", &uninstall[..])] {
        let said = scenario.passes(program, arguments);
        assert!(said.contains(warning), "{program}: {said}");
    }

    // What it leaves behind: Events, metrics, and who, in the audit log.
    let created = scenario.event("OverrideCreated");
    assert!(created.contains("override inc-4711 of engineer opens the guard until"), "{created}");
    let used = scenario.event("OverrideUsed");
    assert!(used.contains("glass-second by deployer was let pass by override inc-4711"), "{used}");
    scenario.counts("poolguard_overrides_total", "event=\"created\"", 1.0);
    scenario.counts("poolguard_overrides_in_force", "service=\"glass\"", 1.0);
    let labels = ["namespace=\"glass\"", "reason=\"Overridden\""];
    let passed = scenario.operator.metric("webhook", "poolguard_permissions_total", &labels).expect("the metric");
    assert!(passed >= 3.0, "a Deployment, and a release with its own: {passed}");
    let events = scenario.audit_since(audited);
    for (verb, resource, key, user) in [
        ("create", "poolingoverrides", "overrides.poolguard.dev/override", "engineer"),
        ("delete", "deployments", "workloads.poolguard.dev/override", "deployer"),
        ("update", "secrets", "releases.poolguard.dev/override", "deployer"),
    ] {
        let ours = |event: &&serde_json::Value| {
            event["verb"] == verb && event["objectRef"]["resource"] == resource && noted(event, "override").is_some()
        };
        let event = events.iter().find(ours).expect("the audit log has it, with the override");
        assert_eq!(event["user"]["username"], user);
        let who = event["annotations"][key].as_str().unwrap_or_default();
        assert!(
            who.starts_with("inc-4711 by engineer until ") && who.ends_with("INC-4711, eqiad is on fire"),
            "{event}"
        );
    }

    // Taken back, it counts no longer: at once, whatever the webhook's view knows.
    let taken = ["-n", "glass", "delete", "poolingoverride", "inc-4711"];
    scenario.datacenter().call(Who::Engineer, "kubectl", &taken).expect("kubectl").success().expect("taken back");
    scenario.refused("kubectl", &["delete", "deployment", "glass-main"]);
    scenario.condition("Guarded", "True/Guarded");
    scenario.event("OverrideRemoved");
    scenario.counts("poolguard_overrides_total", "event=\"removed\"", 1.0);
    scenario.counts("poolguard_overrides_in_force", "service=\"glass\"", 0.0);
    scenario.depool();
    scenario.passes("kubectl", &["delete", "deployment", "glass-main"]);
}

#[test]
fn an_override_ends_by_itself_and_what_was_refused_is_never_done_later() {
    let scenario = Scenario::guarded("glass-end");
    scenario.may_break_the_glass();
    let delete = ["delete", "deployment", "glass-end-main"];
    scenario.refused("kubectl", &delete);
    scenario.refused("helm3", &["uninstall", "main"]);
    wait_for("the controller's budget", SOON, || scenario.kubectl(&["get", "pdb", "poolguard-glass-end"]).success())
        .expect("a budget");
    let before = scenario.objects();
    scenario.create(Who::Engineer, &glass("glass-end", "glass-end", "eqiad", "15s")).success().expect("an override");
    scenario.condition("Guarded", "False/Overridden");
    scenario.condition("Guarded", "True/Guarded");
    let ended = scenario.event("OverrideExpired");
    assert!(ended.contains("override inc-4711 of engineer has ended"), "{ended}");
    scenario.counts("poolguard_overrides_total", "event=\"expired\"", 1.0);
    scenario.counts("poolguard_overrides_in_force", "service=\"glass-end\"", 0.0);
    // Only the controller's budget has gone, not to hold a drain, and comes back.
    wait_for("all to be as it was, but for the budget", SOON, || {
        let changed = differences(&before, &scenario.objects());
        anyhow::ensure!(changed == ["PodDisruptionBudget poolguard-glass-end changed"], "{changed:?}");
        Ok(())
    })
    .expect("nothing else was done while it was in force, or after");
    assert_eq!(scenario.status(".overrides").expect("the status"), "");
    // The resource itself is still there, and opens nothing.
    scenario.kubectl(&["get", "servicepooling", "glass-end"]).success().expect("it is there");
    let row = ["-n", "glass-end", "get", "poolingoverride", "inc-4711", "--no-headers"];
    scenario.datacenter().call(Who::Engineer, "kubectl", &row).expect("kubectl").success().expect("it is there");
    scenario.refused("kubectl", &delete);
    scenario.refused("helm3", &["uninstall", "main"]);
    scenario.depool();
    scenario.passes("kubectl", &delete);
}
