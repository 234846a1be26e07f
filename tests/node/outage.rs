//! The outage of the demo, with pods that run and answer.

use std::time::Duration;

use anyhow::ensure;
use poolguard_harness::command::Output;
use poolguard_harness::conftool::TTL;
use poolguard_harness::datacenter::Who;
use poolguard_harness::fleet::{self, NAMES};
use poolguard_harness::node::Node;
use poolguard_harness::node::release::{Release, pods};
use poolguard_harness::objects::{differences, objects, record};
use poolguard_harness::services::{self, SNOWFLAKE};
use poolguard_harness::wait::wait_for;

const SOON: Duration = Duration::from_secs(60);
const NAMESPACE: &str = SNOWFLAKE.name;

/// Installs the service that is pooled here only, and guards it.
pub fn deploy(node: &Node) {
    let datacenter = &node.datacenter;
    fleet::routes(datacenter).expect("HTTPRoutes");
    datacenter.apply(fleet::ROLLOUTS).expect("a custom workload");
    node.conftool.sync(&[SNOWFLAKE.name], &NAMES).expect("a record");
    for name in NAMES {
        let set = node.conftool.confctl(SNOWFLAKE.name, name, &format!("set/ttl={TTL}"));
        set.expect("confctl").success().expect("a TTL");
    }
    node.conftool.pool(SNOWFLAKE.name, SNOWFLAKE.pooled_in, true).expect("conftool");
    services::deploy(datacenter, &SNOWFLAKE).expect("the service");
    services::guard(datacenter, &SNOWFLAKE).expect("its guard");
    services::ready(datacenter, NAMESPACE).expect("its pods");
    services::guarded(datacenter, SNOWFLAKE.name).expect("to be guarded");
    assert!(answer(node).is_some(), "nobody answers");
}

/// The pod that answers a request to the service, if one does.
fn answer(node: &Node) -> Option<String> {
    let path = format!("/api/v1/namespaces/{NAMESPACE}/services/eventgate-main:http/proxy/");
    let output = node.datacenter.kubectl(&["get", "--raw", &path]).expect("kubectl");
    output.ok().then(|| output.stdout.trim().to_owned()).filter(|pod| pod.starts_with("eventgate-main-"))
}

fn deployer(node: &Node, program: &str, arguments: &[&str]) -> Output {
    node.datacenter.call(Who::Deployer, program, arguments).expect("it starts")
}

fn refusals(node: &Node, release: &Release) -> f64 {
    let label = format!("namespace=\"{NAMESPACE}\"");
    release.metric(node, "poolguard_refusals_total", &[&label]).expect("the metric")
}

/// Every way to the outage is refused by the webhook itself, and the service goes on answering.
pub fn refused(node: &Node, release: &Release) {
    let before = objects(&node.datacenter, NAMESPACE).expect("the objects");
    let pod = pods(node, NAMESPACE, "app=eventgate").expect("pods").pop().expect("a pod");
    for (program, arguments) in [
        ("helm3", &["uninstall", "main", "-n", NAMESPACE] as &[&str]),
        ("helm3", &["uninstall", "canary", "-n", NAMESPACE]),
        ("helm4", &["uninstall", "main", "-n", NAMESPACE]),
        ("kubectl", &["delete", "deployment", "eventgate-main", "-n", NAMESPACE]),
        ("kubectl", &["delete", "pod", &pod, "-n", NAMESPACE]),
        ("kubectl", &["scale", "deployment", "eventgate-main", "--replicas=0", "-n", NAMESPACE]),
        ("kubectl", &["delete", "namespace", NAMESPACE]),
    ] {
        let counted = refusals(node, release);
        let output = deployer(node, program, arguments);
        assert!(!output.ok(), "`{}` was not refused: {}", output.command, output.text());
        assert!(output.text().contains("serves live traffic in eqiad and nowhere else"), "{}", output.text());
        assert!(refusals(node, release) > counted, "`{}`: {}", output.command, output.text());
        let changed = differences(&before, &objects(&node.datacenter, NAMESPACE).expect("the objects"));
        assert!(changed.is_empty(), "`{}` changed {changed:?}", output.command);
        assert!(answer(node).is_some(), "nobody answers after `{}`", output.command);
    }
    let status = record(&node.datacenter, NAMESPACE, "main").expect("Helm's record");
    assert_eq!(status.as_deref(), Some("deployed"));
}

/// A rollout replaces every pod of the service that serves, up to the kubelet's own last word about each.
pub fn ordinary_work_goes_on(node: &Node) {
    let before = pods(node, NAMESPACE, "release=main").expect("pods");
    assert_eq!(before.len(), 2);
    let name = "deployment/eventgate-main";
    for arguments in [["rollout", "restart", name], ["rollout", "status", name]] {
        let output = deployer(node, "kubectl", &[&arguments[..], &["-n", NAMESPACE]].concat());
        output.success().expect("a rollout");
    }
    wait_for("the old pods to be gone", SOON, || {
        let list = node.datacenter.get(&["-n", NAMESPACE, "pods", "-l", "release=main"])?;
        let now: Vec<&str> =
            list["items"].as_array().into_iter().flatten().filter_map(|pod| pod["metadata"]["name"].as_str()).collect();
        ensure!(now.len() == 2 && !now.iter().any(|name| before.iter().any(|old| old == name)), "{now:?} are there");
        Ok(())
    })
    .expect("new pods only");
    assert!(answer(node).is_some(), "nobody answers");
}

/// What the refusal said to do, done; then the same command goes through.
pub fn goes_after_the_depool(node: &Node, release: &Release) {
    for (name, pooled) in [("codfw", true), ("eqiad", false)] {
        node.conftool.pool(SNOWFLAKE.name, name, pooled).expect("conftool");
    }
    wait_for("the record's TTL to be over", SOON, || {
        let pooling = node.datacenter.get(&["-n", NAMESPACE, "servicepooling", SNOWFLAKE.name])?;
        ensure!(pooling["status"]["serving"] == "NotServing", "{}", pooling["status"]);
        Ok(())
    })
    .expect("a depool");
    let counted = refusals(node, release);
    for name in SNOWFLAKE.releases {
        deployer(node, "helm3", &["uninstall", name, "-n", NAMESPACE]).success().expect("it goes");
    }
    wait_for("the pods to be gone", SOON, || {
        let left = node.datacenter.kubectl(&["-n", NAMESPACE, "get", "pods", "-o", "name"])?.success()?;
        ensure!(left.is_empty(), "{left}");
        Ok(())
    })
    .expect("nothing runs");
    assert!(answer(node).is_none(), "somebody answers");
    assert!((refusals(node, release) - counted).abs() < 0.5, "something was refused");
}
