//! Out again, by the Jobs of the chart's hooks in pods of their own.

use std::time::{Duration, Instant};

use anyhow::ensure;
use poolguard_harness::command::Output;
use poolguard_harness::datacenter::Who;
use poolguard_harness::node::Node;
use poolguard_harness::operator::NAMESPACE;
use poolguard_harness::services::SNOWFLAKE;
use poolguard_harness::wait::wait_for;

/// How soon everything can be deleted again.
const OUT: Duration = Duration::from_secs(60);

fn helm(node: &Node, program: &str, arguments: &[&str]) -> Output {
    let all = [arguments, &["poolguard", "--namespace", NAMESPACE]].concat();
    node.datacenter.call(Who::Admin, program, &all).expect("helm starts")
}

/// The release says by itself that it guards.
pub fn tested_by_helm(node: &Node) {
    for program in ["helm3", "helm4"] {
        let start = Instant::now();
        let said = helm(node, program, &["test"]).success().expect("`helm test`");
        assert!(said.contains("Succeeded"), "{said}");
        println!("`{program} test` took {:.1} s", start.elapsed().as_secs_f64());
    }
}

/// Nobody removes the guard by accident, and it stays what it was.
pub fn refused_while_services_are_guarded(node: &Node) {
    for program in ["helm3", "helm4"] {
        let output = helm(node, program, &["uninstall"]);
        assert!(!output.ok(), "{}", output.text());
        let said = node
            .datacenter
            .kubectl(&["-n", NAMESPACE, "logs", "job/poolguard-uninstall"])
            .and_then(|output| output.success())
            .expect("the log of the hook's Job");
        let wanted = format!("poolguard still guards services of this cluster: {0}/{0}", SNOWFLAKE.name);
        assert!(said.contains(&wanted) && said.contains("--set uninstall.confirmed=true"), "{said}");
    }
    node.datacenter
        .kubectl(&["get", "validatingwebhookconfiguration", "poolguard"])
        .expect("kubectl")
        .success()
        .expect("the guard");
}

/// With nothing left to guard it goes, and whatever is left can be deleted.
pub fn goes_when_nothing_is_guarded(node: &Node) {
    let admin = |arguments: &[&str]| node.datacenter.kubectl(arguments).and_then(|output| output.success());
    admin(&["-n", SNOWFLAKE.name, "delete", "servicepooling", SNOWFLAKE.name]).expect("nothing is guarded then");
    let start = Instant::now();
    helm(node, "helm3", &["uninstall"]).success().expect("it goes");
    for namespace in [SNOWFLAKE.name, NAMESPACE] {
        admin(&["delete", "namespace", namespace, "--wait=false"]).expect("nothing is in the way");
    }
    wait_for("everything to be gone", OUT, || {
        let found = admin(&["get", "namespaces,validatingwebhookconfigurations", "-o", "name"])?;
        let ours = |line: &&str| line.contains("poolguard") || line.contains(SNOWFLAKE.name);
        let left: Vec<&str> = found.lines().filter(ours).collect();
        ensure!(left.is_empty(), "there is {left:?}");
        Ok(())
    })
    .expect("nothing but the kinds");
    println!("everything was gone {:.1} s after `helm uninstall`", start.elapsed().as_secs_f64());
}
