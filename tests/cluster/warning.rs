//! An installation that only warns: the first weeks in a running fleet. The same verdicts, counted and told; nothing is refused.

use poolguard_harness::fleet::Fleet;
use poolguard_harness::operator::{Operator, Truth};
use poolguard_harness::services;
use poolguard_harness::wait::wait_for;

use crate::scenario::{SOON, Scenario, binary, pooling};

#[test]
fn an_installation_that_only_warns_counts_what_it_would_refuse_and_is_in_nobodys_way() {
    let fleet = Fleet::start(&|line| eprintln!("  {line}")).expect("two datacenters");
    let truth = Truth { enforcement: "Warn", ..Truth::conftool(&fleet.conftool.endpoint) };
    let operator = Operator::install_with(&fleet.eqiad, &truth, binary()).expect("poolguard");
    let scenario = Scenario::in_fleet(&fleet, &operator, "warned");
    for release in ["main", "second", "third"] {
        services::install(&fleet.eqiad, "helm3", "warned", "warned", release).expect("the example chart");
    }
    fleet.eqiad.apply(&pooling("warned")).expect("a ServicePooling");
    services::ready(&fleet.eqiad, "warned").expect("ready pods");
    let message = scenario.condition("Guarded", "False/WarnOnly");
    assert!(message.contains("the operator's configuration has enforcement: Warn"), "{message}");
    let warning = "poolguard only warns here, and would have refused this: warned serves live traffic in eqiad and nowhere else (";
    let dry = ["delete", "deployment", "warned-main", "--dry-run=server"];
    wait_for("the webhook to warn", SOON, || {
        let output = scenario.kubectl(&dry);
        anyhow::ensure!(output.ok() && output.text().contains(warning), "{}", output.text());
        Ok(())
    })
    .expect("the view");

    let warned = |reason: &str| {
        let labels = ["namespace=\"warned\"".to_owned(), format!("reason=\"{reason}\"")];
        let labels = labels.each_ref().map(String::as_str);
        operator.metric("webhook", "poolguard_warnings_total", &labels).expect("the metric")
    };
    assert!(warned("Serving") < 0.5, "a dry run is not counted");
    // What is unknown, too.
    fleet.conftool.delete("warned", "eqiad").expect("etcd deletes");
    scenario.serving("Unknown");
    wait_for("the webhook to know no more", SOON, || {
        let output = scenario.kubectl(&dry);
        anyhow::ensure!(output.text().contains("cannot be told"), "{}", output.text());
        Ok(())
    })
    .expect("a warning");
    let said = scenario.passes("kubectl", &["delete", "ingress", "warned-third"]);
    assert!(
        said.contains("would have refused this: Whether warned serves live traffic in eqiad cannot be told"),
        "{said}"
    );
    assert!((warned("EvidenceUnknown") - 1.0).abs() < 0.5, "it was not counted");
    fleet.conftool.record("warned", &["eqiad"], 1).expect("conftool");
    scenario.serving("Serving");
    wait_for("the webhook to know again", SOON, || {
        let output = scenario.kubectl(&dry);
        anyhow::ensure!(output.text().contains(warning), "{}", output.text());
        Ok(())
    })
    .expect("a warning");
    let mut counted = 0.0;
    for (program, arguments) in [
        ("kubectl", &["delete", "ingress", "warned-main"] as &[&str]),
        ("kubectl", &["scale", "deployment", "warned-main", "--replicas=0"]),
        ("kubectl", &["patch", "service", "warned-second", "-p", r#"{"spec":{"selector":{"routed_via":"nobody"}}}"#]),
        ("kubectl", &["delete", "deployment", "warned-third"]),
        ("helm3", &["uninstall", "second"]),
    ] {
        let said = scenario.passes(program, arguments);
        assert!(said.contains(warning), "{arguments:?}: {said}");
        assert!(warned("Serving") > counted, "{arguments:?} was not counted");
        counted = warned("Serving");
    }
    // Dead, it is in nobody's way either.
    operator.stop(&fleet.eqiad, "webhook", true).expect("the webhook dies");
    services::install(&fleet.eqiad, "helm3", "warned", "warned", "fourth").expect("the example chart");
    for (program, arguments) in [
        ("kubectl", &["delete", "pods", "--all", "--wait=false"] as &[&str]),
        ("kubectl", &["scale", "deployment", "warned-fourth", "--replicas=0"]),
        ("helm3", &["uninstall", "fourth"]),
        ("kubectl", &["delete", "servicepooling", "warned"]),
        ("kubectl", &["delete", "namespace", "warned", "--wait=false"]),
    ] {
        let said = scenario.passes(program, arguments);
        assert!(!said.contains("poolguard only warns"), "nobody is there to say so: {said}");
    }
    operator.start(&fleet.eqiad, "webhook").expect("it starts again");
    operator.ready(&fleet.eqiad, "webhook").expect("and becomes ready");
    // The only refusals are those of the canary's dry runs, which leave no trace here.
    let refused = operator.metric("webhook", "poolguard_refusals_total", &[]).expect("the metric");
    assert!(refused < 0.5, "nothing was refused: {refused}");
}
