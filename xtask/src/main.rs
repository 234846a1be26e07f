//! The commands of this repository.
use anyhow::Result;
fn main() -> Result<()> {
    let fleet = poolguard_harness::fleet::Fleet::start(&|line| eprintln!("{line}"))?;
    eprintln!("up in {:?}", fleet.took);
    println!("{}", fleet.eqiad.kubectl(&["get", "nodes,pods,sa", "-A"])?.success()?);
    println!("{}", fleet.eqiad.kubectl(&["create", "deployment", "x", "--image=x", "--replicas=3"])?.success()?);
    poolguard_harness::wait::wait_for("pods", std::time::Duration::from_secs(20), || {
        let out = fleet.eqiad.kubectl(&["get", "deploy", "x", "-o", "jsonpath={.status.readyReplicas}"])?.success()?;
        anyhow::ensure!(out == "3", "{out}");
        Ok(())
    })?;
    fleet.conftool.sync(&["a", "b"], &["eqiad", "codfw"])?;
    fleet.conftool.pool("a", "eqiad", true)?;
    println!("{:?}", fleet.conftool.confctl("a", "eqiad", "get")?);
    Ok(())
}
