//! What the runbook says to do when no webhook answers: it opens what it says, and nothing else, and the guard comes back.

use poolguard_harness::fleet::Fleet;
use poolguard_harness::operator::Operator;
use poolguard_harness::services;

use crate::scenario::{Scenario, binary, pooling};

#[test]
fn while_the_webhook_is_dead_one_namespace_is_opened_then_everything_and_an_upgrade_closes_it() {
    let fleet = Fleet::start(&|line| eprintln!("  {line}")).expect("two datacenters");
    let operator = Operator::install(&fleet.eqiad, &fleet.conftool.endpoint, binary()).expect("poolguard");
    let [one, other] = ["book", "book-other"].map(|name| {
        let scenario = Scenario::in_fleet(&fleet, &operator, name);
        services::install(&fleet.eqiad, "helm3", name, name, "main").expect("the example chart");
        scenario.guard(&pooling(name));
        services::ready(&fleet.eqiad, name).expect("ready pods");
        scenario.settled();
        scenario
    });
    operator.stop(&fleet.eqiad, "webhook", true).expect("the webhook dies");
    let fails = |scenario: &Scenario<'_>, arguments: &[&str]| {
        let output = scenario.kubectl(arguments);
        assert!(!output.ok() && output.text().contains("failed calling webhook"), "{}", output.text());
    };
    fails(&one, &["delete", "deployment", "book-main"]);
    let upgrade = |further: &[&str]| operator.upgrade(&fleet.eqiad, further).expect("an upgrade");

    // One namespace.
    upgrade(&["--set", "webhook.excludedNamespaces={book}"]);
    one.passes("kubectl", &["delete", "ingress", "book-main"]);
    one.passes("kubectl", &["delete", "deployment", "book-main"]);
    fails(&one, &["delete", "servicepooling", "book"]);
    fails(&other, &["delete", "deployment", "book-other-main"]);
    one.condition("Guarded", "False/WebhookUnreachable");
    upgrade(&["--set-json", "webhook.excludedNamespaces=[]"]);
    fails(&one, &["delete", "service", "book-main"]);

    // Everything. Nobody makes the registration again.
    let delete = ["delete", "validatingwebhookconfiguration", "poolguard"];
    fleet.eqiad.kubectl(&delete).expect("kubectl").success().expect("it is not guarded");
    other.passes("kubectl", &["delete", "ingress", "book-other-main"]);
    let message = other.condition("Guarded", "False/WebhookMissing");
    assert!(message.contains("there is no ValidatingWebhookConfiguration poolguard"), "{message}");
    operator.start(&fleet.eqiad, "webhook").expect("it starts again");
    operator.ready(&fleet.eqiad, "webhook").expect("and becomes ready");
    other.condition("Guarded", "False/WebhookMissing");
    other.passes("kubectl", &["delete", "networkpolicy", "book-other-main"]);

    // An upgrade that changes nothing brings it back.
    upgrade(&[]);
    other.condition("Guarded", "True/Guarded");
    other.refused("kubectl", &["delete", "deployment", "book-other-main"]);
    other.depool();
    other.passes("kubectl", &["delete", "deployment", "book-other-main"]);
}
