//! What people are told, word for word: one example for each reason, each effect and each kind of step.

use std::collections::BTreeSet;

use jiff::SignedDuration;
use poolguard_policy::doors::{DOORS, Effect, Operation};
use poolguard_policy::evidence::{Answer, Conclusion, Says, Why, conclude};
use poolguard_policy::overriding::Override;
use poolguard_policy::pooling::{Arm, Enforcement, Evidence, Pooling, Threshold, Watched};
use poolguard_policy::request::{Body, Object, Request};
use poolguard_policy::state::{Kind, Release};
use poolguard_policy::steps::{Step, command, steps};
use poolguard_policy::verdict::{Decision, Reason};

use crate::driver::judge;
use crate::examples::{door, key, pod, pooling, refused, request, world};
use crate::world::{World, labels, now};

const HELP: &str = "\n  help:      #sre   emergency: https://runbook.example#override";

fn delete_pod() -> Request {
    request(door(Effect::RemovePod, "pods"), "web-0", Body::Pod(pod()))
}

fn says(evidence: &str, datacenter: &str, says: Says) -> Answer {
    Answer {
        evidence: evidence.to_owned(),
        datacenter: datacenter.to_owned(),
        detail: format!("{says:?}").to_lowercase(),
        says,
        revision: None,
        since: None,
        not_serving_after: None,
        read: now() - SignedDuration::from_millis(7),
    }
}

/// A world whose only service has these sources, which say this.
fn told(evidence: Vec<Evidence>, datacenters: &[&str], answers: &[Answer]) -> World {
    let mut world = world(&Says::Serving);
    let datacenters = datacenters.iter().map(|name| (*name).to_owned()).collect();
    let pooling = Pooling { evidence, datacenters, ..pooling() };
    world.conclusions.insert(key(), conclude("eqiad", &pooling, answers, now()));
    let namespace = world.state.namespaces.get_mut("one").expect("the namespace");
    namespace.poolings.insert("eventgate".to_owned(), Watched::Known(pooling));
    world
}

fn source(name: &str, arm: Arm) -> Evidence {
    Evidence { name: name.to_owned(), arm }
}

fn conftool() -> Evidence {
    source("discovery", Arm::Conftool { source: None, record: "eventgate".to_owned() })
}

#[test]
fn a_refusal_while_it_serves_says_where_else_it_does() {
    let world = |codfw, ulsfo| {
        let mut answers = [
            says("discovery", "eqiad", Says::Serving),
            says("discovery", "codfw", codfw),
            says("discovery", "ulsfo", ulsfo),
        ];
        answers[0].revision = Some(812);
        told(vec![conftool()], &["eqiad", "codfw", "ulsfo"], &answers)
    };
    assert_eq!(
        refused(&world(Says::NotServing, Says::NotServing), &delete_pod()),
        format!(
            "eventgate serves live traffic in eqiad and nowhere else. Pod one/web-0 was not deleted.\n  \
             evidence:  conftool: eqiad serving, codfw notserving, ulsfo notserving (revision 812, read 7 ms ago)\n  \
             next:      1. confctl --object-type discovery select 'dnsdisc=eventgate,name=codfw' set/pooled=true\n             \
             2. confctl --object-type discovery select 'dnsdisc=eventgate,name=eqiad' set/pooled=false\n             \
             3. run your command again{HELP}"
        )
    );
    for (codfw, ulsfo, expected) in [
        (Says::Serving, Says::NotServing, "in eqiad and in codfw."),
        (Says::Serving, Says::Serving, "in eqiad and in codfw and in ulsfo."),
        (Says::Draining, Says::NotServing, "in eqiad and while it drains in codfw."),
        (Says::Unknown(Why::Missing), Says::NotServing, "in eqiad and perhaps in codfw."),
    ] {
        let told = refused(&world(codfw, ulsfo), &delete_pod());
        assert!(told.starts_with(&format!("eventgate serves live traffic {expected} Pod")), "{told}");
    }
}

#[test]
fn a_refusal_while_it_drains_says_for_how_long() {
    for (left, seconds) in [(2500, 3), (2000, 2), (1, 1), (0, 0), (-5000, 0)] {
        let mut answers = [says("discovery", "eqiad", Says::Draining), says("discovery", "codfw", Says::Serving)];
        answers[0].not_serving_after = Some(now() + SignedDuration::from_millis(left));
        let world = told(vec![conftool()], &["eqiad", "codfw"], &answers);
        assert_eq!(
            refused(&world, &delete_pod()),
            format!(
                "eventgate was depooled in eqiad, but clients may still hold the old answer for {seconds} s. Pod one/web-0 was \
                 not deleted.\n  evidence:  conftool: eqiad draining, codfw serving (read 7 ms ago)\n  next:      1. wait \
                 {seconds} s\n             2. run your command again{HELP}"
            )
        );
    }
}

#[test]
fn a_refusal_without_proof_names_the_source_that_does_not_tell() {
    let mut answers =
        [says("discovery", "eqiad", Says::NotServing), says("traffic", "eqiad", Says::Unknown(Why::TimedOut))];
    answers[1].detail = "no answer in 2 s".to_owned();
    let query = Arm::Prometheus { source: None, query: "q".to_owned(), threshold: Threshold::default() };
    let sources = vec![conftool(), source("traffic", query)];
    let mut asked = told(sources.clone(), &["eqiad"], &answers);
    let start = "Whether eventgate serves live traffic in eqiad cannot be told";
    assert_eq!(
        refused(&asked, &delete_pod()),
        format!(
            "{start} (traffic: no answer in 2 s). Pod one/web-0 was not deleted.\n  \
             evidence:  conftool: eqiad notserving (read 7 ms ago); prometheus: eqiad no answer in 2 s (read 7 ms ago)\n  \
             next:      1. kubectl -n one describe servicepooling eventgate   (look what its sources say)\n             2. run your command again{HELP}"
        )
    );
    answers[1].since = Some(now() - SignedDuration::from_secs(65));
    asked = told(sources, &["eqiad"], &answers);
    let since = format!("{start} (traffic: no answer in 2 s, since 03:03:00 UTC).");
    assert!(refused(&asked, &delete_pod()).starts_with(&since));
    asked = told(Vec::new(), &["eqiad"], &[]);
    asked.settings.contact = None;
    let told = refused(&asked, &delete_pod());
    assert!(told.starts_with(&format!("{start} (no source answered). Pod")), "{told}");
    assert!(told.ends_with("\n  help:      emergency: https://runbook.example#override"), "{told}");
}

#[test]
fn every_effect_has_its_own_words() {
    let mut seen = BTreeSet::new();
    for (effect, resource, word) in [
        (Effect::RemovePod, "pods", "Pod one/x was not deleted."),
        (Effect::EvictPod, "pods/eviction", "Pod one/x was not evicted."),
        (Effect::RelabelPod, "pods", "Pod one/x was not relabelled."),
        (Effect::RemoveWorkload, "deployments", "Deployment one/x was not deleted."),
        (Effect::ScaleWorkload, "deployments", "Deployment one/x was not scaled down."),
        (Effect::MoveDaemonSet, "daemonsets", "DaemonSet one/x was not changed."),
        (Effect::RemoveService, "services", "Service one/x was not deleted."),
        (Effect::ChangeService, "services", "Service one/x was not changed."),
        (Effect::RemoveRoute, "ingresses", "Ingress one/x was not deleted."),
        (Effect::ChangeRoute, "httproutes", "HTTPRoute one/x was not changed."),
        (Effect::RemoveAccompanying, "roles", "Role one/x was not deleted."),
        (Effect::ChangeBudget, "poddisruptionbudgets", "PodDisruptionBudget one/x was not changed."),
        (Effect::RemoveNamespace, "namespaces", "Namespace x was not deleted."),
        (Effect::UnlabelNamespace, "namespaces", "Namespace x was not taken out of the guard."),
        (Effect::RemovePooling, "servicepoolings", "ServicePooling one/x was not deleted."),
        (Effect::ChangePooling, "servicepoolings", "ServicePooling one/x was not changed."),
        (Effect::RemoveDefinition, "customresourcedefinitions", "CustomResourceDefinition x was not deleted."),
    ] {
        seen.insert(format!("{effect:?}"));
        // The object is not in the request: then nobody can tell what goes.
        let mut asked = request(door(effect, resource), "x", Body::Plain);
        asked.old = None;
        if effect == Effect::RemoveDefinition {
            asked.name = "servicepoolings.poolguard.dev".to_owned();
        }
        let told = refused(&world(&Says::Serving), &asked);
        let word = word.replace("CustomResourceDefinition x", "CustomResourceDefinition servicepoolings.poolguard.dev");
        assert!(told.contains(&word), "{effect:?}: {told}");
    }
    let told_elsewhere = [Effect::RemoveReference, Effect::RemoveRelease, Effect::CreateOverride];
    let missing: Vec<_> = DOORS
        .iter()
        .filter(|door| !told_elsewhere.contains(&door.effect) && !seen.contains(&format!("{:?}", door.effect)))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// A Deployment of a release, and a request about that release's record.
fn uninstalling() -> (World, Request) {
    let mut world = world(&Says::Serving);
    let release = Release { namespace: "one".to_owned(), name: "main".to_owned() };
    let mut workload = crate::examples::workload(Kind::Deployment, "web");
    workload.release = Some(release);
    workload.references.config_maps = ["settings".to_owned()].into();
    let namespace = world.state.namespaces.get_mut("one").expect("the namespace");
    namespace.workloads.insert((Kind::Deployment, "web".to_owned()), workload);
    let record = door(Effect::RemoveRelease, "secrets");
    (world, request(record, "sh.helm.release.v1.main.v3", Body::Plain))
}

#[test]
fn helm_is_told_in_warnings_what_it_does_not_show() {
    let (world, record) = uninstalling();
    let Decision::Refuse(refusal) = judge(&world, &record) else { unreachable!("a refusal") };
    assert!(refusal.message.contains("Helm release one/main was not uninstalled."), "{}", refusal.message);
    assert_eq!(
        refusal.warnings,
        [
            "eventgate serves live traffic in eqiad and nowhere else. Helm release one/main was not uninstalled.",
            "evidence:  conftool: eqiad pooled=true, codfw pooled=true (revision 812, read 0 ms ago)   help:      #sre   emergency: \
             https://runbook.example#override",
            "next:      1. confctl --object-type discovery select 'dnsdisc=eventgate,name=codfw' set/pooled=true 2. confctl \
             --object-type discovery select 'dnsdisc=eventgate,name=eqiad' set/pooled=false 3. run your command again",
        ]
    );
    let mut reference = request(door(Effect::RemoveReference, "configmaps"), "settings", Body::Plain);
    let Decision::Refuse(refusal) = judge(&world, &reference) else { unreachable!("a refusal") };
    assert!(refusal.message.contains("ConfigMap one/settings was not deleted."), "{}", refusal.message);
    assert!(refusal.warnings.is_empty(), "it is of no release");
    let release = Some(Release { namespace: "one".to_owned(), name: "main".to_owned() });
    reference.old.iter_mut().for_each(|object| object.release.clone_from(&release));
    let Decision::Refuse(refusal) = judge(&world, &reference) else { unreachable!("a refusal") };
    assert_eq!(
        refusal.warnings,
        ["eventgate serves live traffic in eqiad and nowhere else. ConfigMap one/settings was not deleted."]
    );
}

#[test]
fn a_record_of_another_name_is_of_the_release_that_its_label_names() {
    let (world, mut record) = uninstalling();
    record.name = "main".to_owned();
    assert!(matches!(judge(&world, &record), Decision::Allow(_)), "nothing says what release it is of");
    for object in record.old.iter_mut() {
        object.labels = labels(object.labels.iter().chain([("name", "main")]));
    }
    assert!(matches!(judge(&world, &record), Decision::Refuse(_)));
    record.name = "sh.helm.release.v1.other.v3".to_owned();
    assert!(matches!(judge(&world, &record), Decision::Allow(_)), "the name counts before the label");
}

#[test]
fn a_guard_that_only_warns_tells_the_headline() {
    let mut world = world(&Says::Serving);
    world.settings.enforcement = Enforcement::Warn;
    let Decision::Allow(allowed) = judge(&world, &delete_pod()) else { unreachable!("a permission") };
    assert_eq!(
        (allowed.reason, allowed.warned, allowed.service),
        (Reason::WarnOnly, Some(Reason::Serving), Some(key()))
    );
    assert_eq!(
        allowed.warnings,
        ["poolguard only warns here, and would have refused this: eventgate serves live traffic in eqiad and nowhere \
             else (Pod one/web-0)."]
    );
}

fn glass() -> Override {
    Override {
        name: "glass".to_owned(),
        service: "eventgate".to_owned(),
        datacenter: "eqiad".to_owned(),
        because: "INC-1 is on fire".to_owned(),
        requested_by: "bob".to_owned(),
        since: now(),
        until: now() + SignedDuration::from_secs(60),
        terminating: false,
    }
}

#[test]
fn broken_glass_is_told_to_whoever_uses_it() {
    let mut world = world(&Says::Serving);
    let namespace = world.state.namespaces.get_mut("one").expect("the namespace");
    namespace.overrides.insert("glass".to_owned(), glass());
    let Decision::Allow(allowed) = judge(&world, &delete_pod()) else { unreachable!("a permission") };
    assert_eq!((allowed.reason, allowed.service, allowed.glass), (Reason::Overridden, Some(key()), Some(glass())));
    assert_eq!(
        allowed.warnings,
        [
            "poolguard let this pass by PoolingOverride glass of bob, until 03:05:05 UTC (INC-1 is on fire): eventgate may be \
             serving live traffic in eqiad."
        ]
    );
}

#[test]
fn whoever_breaks_the_glass_is_told_what_it_will_not_do() {
    let world = world(&Says::Serving);
    let ask = |user: &str, glass: Override| {
        let mut asked = request(door(Effect::CreateOverride, "poolingoverrides"), "glass", Body::Plain);
        asked.old = None;
        asked.user = user.to_owned();
        asked.new = Some(Object { body: Body::Override(glass), ..Object::default() });
        judge(&world, &asked)
    };
    let warnings = |decided| match decided {
        Decision::Allow(allowed) => allowed.warnings,
        other => unreachable!("{other:?}"),
    };
    assert_eq!(warnings(ask("bob", glass())), [""; 0]);
    assert_eq!(
        warnings(ask("bob", Override { datacenter: "codfw".to_owned(), service: "nothing".to_owned(), ..glass() })),
        [
            "poolguard: this cluster is eqiad; an override about codfw lets nothing pass here.",
            "poolguard: there is no ServicePooling nothing in this namespace; the override lets nothing pass.",
        ]
    );
    let Decision::Refuse(refusal) = ask("alice", glass()) else { unreachable!("a refusal") };
    assert_eq!(
        refusal.message,
        format!(
            "PoolingOverride one/glass was not made: its spec.requestedBy is bob, and you, who ask for it, are alice.\n  \
             next:      1. write requestedBy: alice\n             2. run your command again{HELP}"
        )
    );
    assert_eq!((refusal.reason, refusal.code), (Reason::NotTheRequester, 403));
}

#[test]
fn a_canary_is_told_that_the_guard_is_up() {
    let mut world = world(&Says::Serving);
    world.settings.canary_namespace = "one".to_owned();
    let mut asked = delete_pod();
    assert!(matches!(judge(&world, &asked), Decision::Refuse(refusal) if refusal.reason == Reason::Serving));
    asked.dry_run = true;
    let Decision::Refuse(refusal) = judge(&world, &asked) else { unreachable!("a refusal") };
    assert_eq!((refusal.reason, refusal.service.name.as_str()), (Reason::Canary, "canary"));
    assert_eq!(
        refusal.message,
        format!(
            "poolguard is up: this dry run was refused as it should be. Nothing in this namespace is anybody's service, and in \
             earnest everything here may go.\n  next:      kubectl get servicepoolings -A   (GUARDED says the same of every \
             service){HELP}"
        )
    );
}

#[test]
fn what_must_be_done_stays_whole_and_the_evidence_gives_way() {
    let mut answers: Vec<Answer> = Vec::new();
    let sources: Vec<Evidence> = (0..8)
        .map(|index| {
            let name = format!("e{index}");
            for (datacenter, what) in [("eqiad", Says::Serving), ("codfw", Says::Serving)] {
                let mut answer = says(&name, datacenter, what);
                answer.detail = "x".repeat(500);
                answers.push(answer);
            }
            source(&name, Arm::Dns { source: None, name: "eventgate.example".to_owned() })
        })
        .collect();
    let told = refused(&told(sources, &["eqiad", "codfw"], &answers), &delete_pod());
    assert!(told.len() <= 1024, "{} bytes", told.len());
    assert!(told.ends_with(HELP) && told.contains("3. run your command again\n"), "{told}");
    assert!(told.contains("…\n  next:"), "{told}");
    assert!(told.len() > 1000, "as much of the evidence as there is room for: {}", told.len());
}

fn step_texts(sources: Vec<Evidence>, datacenters: &[&str], answers: &[Answer], remaining: Option<i64>) -> Vec<String> {
    let datacenters = datacenters.iter().map(|name| (*name).to_owned()).collect();
    let pooling = Pooling { evidence: sources, datacenters, ..pooling() };
    let conclusion: Conclusion = conclude("eqiad", &pooling, answers, now());
    steps(&pooling, &conclusion, remaining).iter().map(|step| command(&pooling, step)).collect()
}

#[test]
fn each_source_is_switched_in_its_own_way() {
    let declared = source("said", Arm::Declared { pooled_in: vec!["ulsfo".to_owned(), "eqiad".to_owned()] });
    let answers = [says("said", "eqiad", Says::Serving), says("said", "codfw", Says::NotServing)];
    let again = "run your command again";
    assert_eq!(
        step_texts(vec![declared], &["eqiad", "codfw"], &answers, None),
        [
            r#"kubectl -n one patch servicepooling eventgate --type=json -p '[{"op":"add","path":"/spec/evidence/0/declared/pooledIn/-","value":"codfw"}]'"#,
            r#"kubectl -n one patch servicepooling eventgate --type=json -p '[{"op":"test","path":"/spec/evidence/0/declared/pooledIn/1","value":"eqiad"},{"op":"remove","path":"/spec/evidence/0/declared/pooledIn/1"}]'"#,
            again,
        ]
    );
    let alone = [says("discovery", "eqiad", Says::Serving), says("discovery", "codfw", Says::Unknown(Why::Missing))];
    assert_eq!(
        step_texts(vec![conftool()], &["eqiad", "codfw"], &alone, None),
        ["ask for help: no other datacenter is known that could take the traffic"]
    );
    let pooled = [says("discovery", "eqiad", Says::Serving), says("discovery", "codfw", Says::Serving)];
    let depool = "confctl --object-type discovery select 'dnsdisc=eventgate,name=eqiad' set/pooled=false";
    assert_eq!(step_texts(vec![conftool()], &["eqiad", "codfw"], &pooled, Some(3)), [depool, again]);
    let unknown = [says("discovery", "eqiad", Says::Unknown(Why::Missing))];
    let look = "confctl --object-type discovery select 'dnsdisc=eventgate' get   (look what it says)";
    assert_eq!(step_texts(vec![conftool()], &["eqiad"], &unknown, Some(3)), [look, again]);
    let draining = [says("discovery", "eqiad", Says::Draining)];
    assert_eq!(step_texts(vec![conftool()], &["eqiad"], &draining, Some(3)), ["wait 3 s", again]);
    let observed = |name: &str| source(name, Arm::Dns { source: None, name: "eventgate.example".to_owned() });
    let quiet = "kubectl -n one wait servicepooling/eventgate --for=condition=Serving=False --timeout=15m   (until a and b see \
                 no more traffic)";
    let by_hand = "move its traffic from eqiad to another datacenter, where that is switched";
    let seen = [says("a", "eqiad", Says::Serving), says("b", "eqiad", Says::Serving)];
    assert_eq!(step_texts(vec![observed("a"), observed("b")], &["eqiad"], &seen, Some(3)), [by_hand, quiet, again]);
    // Where one of them is a switch, and it is depooled already, the others are waited for.
    let late = [says("discovery", "eqiad", Says::NotServing), says("a", "eqiad", Says::Serving)];
    let waiting = quiet.replace("a and b see", "a sees");
    assert_eq!(step_texts(vec![conftool(), observed("a")], &["eqiad"], &late, Some(3)), [waiting.as_str(), again]);
    // What only observes has no switch.
    let pooling = Pooling { evidence: vec![observed("a")], ..pooling() };
    let depool = Step::Depool { evidence: "a".to_owned(), datacenter: "eqiad".to_owned() };
    assert_eq!(command(&pooling, &depool), "");
}

#[test]
fn words_are_what_the_code_calls_them() {
    for reason in Reason::ALL {
        assert_eq!(reason.as_str(), format!("{reason:?}"));
    }
    for kind in [Kind::Deployment, Kind::StatefulSet, Kind::DaemonSet, Kind::ReplicaSet, Kind::ReplicationController] {
        assert_eq!(kind.as_str(), format!("{kind:?}"));
        assert_eq!(Kind::built_in(kind.as_str()), Some(kind));
    }
    assert_eq!((Kind::Custom("Rollout").as_str(), Kind::built_in("Rollout")), ("Rollout", None));
    assert_eq!(key().to_string(), "one/eventgate");
    let arms = [
        (Arm::Declared { pooled_in: Vec::new() }, "declared", false, false),
        (Arm::Conftool { source: None, record: String::new() }, "conftool", false, false),
        (Arm::Dns { source: None, name: String::new() }, "dns", false, true),
        (
            Arm::Prometheus { source: None, query: String::new(), threshold: Threshold::default() },
            "prometheus",
            true,
            true,
        ),
    ];
    for (arm, word, local, observes) in arms {
        assert_eq!((arm.as_str(), arm.is_local(), arm.only_observes()), (word, local, observes));
    }
    assert!((Threshold { thousandths: 2500 }.value() - 2.5).abs() < f64::EPSILON);
    let words = [Operation::Create, Operation::Update, Operation::Delete].map(Operation::as_str);
    assert_eq!(words, ["CREATE", "UPDATE", "DELETE"]);
}
