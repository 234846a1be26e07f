//! The outage of 2021-11-25, replayed: once with Poolguard, once without. Every step is checked; one that is not as told ends
//! the demo with an error.

mod reporter;
mod stage;

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::conftool::TTL;
use crate::datacenter::Who;
use crate::fleet::Fleet;
use crate::objects::{objects, ready_pods, record};
use crate::services::{SERVICES, SNOWFLAKE, pool};
use crate::wait::wait_for;
pub use reporter::{Reporter, Tone};
use stage::Stage;

/// Replays the outage.
///
/// # Errors
/// If a step is not as told.
pub fn replay(fleet: &Fleet, binary: &Path, reporter: &Reporter) -> Result<()> {
    pool(&fleet.conftool)?;
    let stage = Stage::set(fleet, binary, reporter)?;
    guarded(&stage)?;
    depooled(&stage)?;
    stage.take_poolguard_away()?;
    unguarded(&stage)
}

/// The migration with Poolguard in place.
fn guarded(stage: &Stage<'_>) -> Result<()> {
    let (reporter, datacenter) = (stage.reporter, &stage.fleet.eqiad);
    reporter.line(
        Tone::Heading,
        "2021-11-25, eqiad, with Poolguard: all services are to be deployed again, and believed to be served from codfw.",
    );
    stage.show_poolings()?;
    for service in &SERVICES[..4] {
        stage.uninstalled("helm3", service.name, "main")?;
    }
    let before = objects(datacenter, SNOWFLAKE.name)?;
    let pods = ready_pods(datacenter, SNOWFLAKE.name)?;
    ensure!(pods == 4, "{pods} of 4 pods of {} are ready", SNOWFLAKE.name);
    let (name, namespace) = ("eventgate-main", SNOWFLAKE.name);
    stage.refused("helm3", &["uninstall", "main", "-n", namespace], &before, true)?;
    stage.refused("helm3", &["uninstall", "canary", "-n", namespace], &before, false)?;
    let status = record(datacenter, namespace, "main")?;
    ensure!(status.as_deref() == Some("deployed"), "the release's record says {status:?}");
    reporter.line(
        Tone::Good,
        &format!("  unchanged: {} objects by uid and content, {pods} pods Ready, the release deployed", before.len()),
    );
    stage.upgraded(name)?;
    let before = objects(datacenter, namespace)?;
    let pod = stage.a_pod(namespace)?;
    reporter.line(Tone::Heading, "Other ways to the same outage:");
    for (program, arguments) in [
        ("helm4", &["uninstall", "main", "-n", namespace] as &[&str]),
        ("kubectl", &["delete", "deployment", name, "-n", namespace]),
        ("kubectl", &["delete", "pod", &pod, "-n", namespace]),
        ("kubectl", &["scale", "deployment", name, "--replicas=0", "-n", namespace]),
        ("kubectl", &["delete", "namespace", namespace]),
    ] {
        stage.refused(program, arguments, &before, false)?;
    }
    Ok(())
}

/// What the refusal said to do next, done.
fn depooled(stage: &Stage<'_>) -> Result<()> {
    let (reporter, conftool) = (stage.reporter, &stage.fleet.conftool);
    reporter.line(Tone::Heading, "What the refusal said to do next:");
    for (name, pooled) in [("codfw", true), ("eqiad", false)] {
        let action = format!("set/pooled={pooled}");
        reporter.line(
            Tone::Command,
            &format!("$ confctl --object-type discovery select 'dnsdisc={},name={name}' {action}", SNOWFLAKE.name),
        );
        conftool.pool(SNOWFLAKE.name, name, pooled)?;
    }
    stage.told_to_wait()?;
    wait_for("the record's TTL to be over", Duration::from_secs(u64::from(TTL) + 10), || {
        let output = stage.fleet.eqiad.kubectl(&[
            "-n",
            SNOWFLAKE.name,
            "get",
            "servicepooling",
            SNOWFLAKE.name,
            "-o",
            "jsonpath={.status.serving}",
        ])?;
        let serving = output.success()?;
        ensure!(serving == "NotServing", "it is {serving}");
        Ok(())
    })?;
    reporter.line(Tone::Plain, &format!("  … {TTL} s later, when no client can hold the old answer any more:"));
    for release in SNOWFLAKE.releases {
        stage.uninstalled("helm3", SNOWFLAKE.name, release)?;
    }
    Ok(())
}

/// The same list without Poolguard.
fn unguarded(stage: &Stage<'_>) -> Result<()> {
    let (reporter, datacenter) = (stage.reporter, &stage.fleet.eqiad);
    reporter.line(Tone::Heading, "The same morning without Poolguard:");
    for service in &SERVICES {
        for release in service.releases {
            let output = datacenter.call(Who::Deployer, "helm3", &["uninstall", release, "-n", service.name])?;
            reporter.detail(&output.text());
            ensure!(output.ok(), "{} failed without Poolguard: {}", output.command, output.text());
        }
    }
    wait_for("the pods to be gone", Duration::from_secs(30), || {
        let pods = ready_pods(datacenter, SNOWFLAKE.name)?;
        ensure!(pods == 0, "{pods} are ready");
        Ok(())
    })?;
    let said = stage.fleet.conftool.confctl(SNOWFLAKE.name, "eqiad", "get")?.success()?;
    ensure!(said.contains(r#""pooled": true"#), "conftool says {said}");
    reporter.line(
        Tone::Bad,
        "  all five are uninstalled, nobody is asked. eventgate-main is pooled in eqiad only, and has 0 pods there:",
    );
    reporter.line(Tone::Bad, "  3 minutes, 25,000 backend errors, event intake from 3,000/s to 0.");
    Ok(())
}
