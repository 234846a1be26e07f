//! The commands of this repository.
use anyhow::Result;
use poolguard_harness::{datacenter::Who, operator::Operator, services::*};
fn main() -> Result<()> {
    let fleet = poolguard_harness::fleet::Fleet::start(&|line| eprintln!("{line}"))?;
    eprintln!("up in {:?}", fleet.took);
    let bin = poolguard_harness::root().join("target/debug/poolguard");
    pool(&fleet.conftool)?;
    let dc = &fleet.eqiad;
    let op = Operator::install(dc, &fleet.conftool.endpoint, &bin)?;
    deploy(dc, &SNOWFLAKE)?;
    ready(dc, "eventgate-main")?;
    guard(dc, &SNOWFLAKE)?;
    dc.kubectl(&["label", "ns", "eventgate-main", "poolguard.dev/protected=true"])?.success()?;
    let run = |who, p: &str, a: &[&str]| -> Result<()> {
        let o = dc.call(who, p, a)?;
        println!("$ {} -> {}\n{}", o.command, o.code, o.text());
        Ok(())
    };
    for a in [
        &["-n", "eventgate-main", "delete", "pod", "-l", "app=eventgate"][..],
        &["-n", "eventgate-main", "scale", "deployment", "eventgate-main", "--replicas=0"],
        &["-n", "eventgate-main", "delete", "deployment", "eventgate-main"],
        &["delete", "ns", "eventgate-main"],
        &["-n", "eventgate-main", "delete", "configmap", "--all"],
        &["-n", "eventgate-main", "delete", "svc,ingress,sa,secret,hpa,role,rolebinding,netpol,rs", "--all"],
        &["-n", "eventgate-main", "delete", "spool", "eventgate-main"],
    ] {
        run(Who::Deployer, "kubectl", a)?;
    }
    run(Who::Deployer, "helm3", &["-n", "eventgate-main", "uninstall", "main"])?;
    run(Who::Deployer, "helm4", &["-n", "eventgate-main", "uninstall", "main"])?;
    run(Who::Admin, "kubectl", &["-n", "eventgate-main", "get", "all,cm,secret,ingress,spool", "-o", "wide"])?;
    run(Who::Admin, "kubectl", &["get", "events", "-A"])?;
    println!("refused {}", op.refused()?);
    fleet.conftool.pool("eventgate-main", "codfw", true)?;
    fleet.conftool.pool("eventgate-main", "eqiad", false)?;
    run(Who::Deployer, "helm3", &["-n", "eventgate-main", "uninstall", "main"])?;
    std::thread::sleep(std::time::Duration::from_secs(6));
    run(Who::Deployer, "helm3", &["-n", "eventgate-main", "uninstall", "main"])?;
    println!("{}", fleet.run().log_tail("eqiad-poolguard-webhook"));
    Ok(())
}
