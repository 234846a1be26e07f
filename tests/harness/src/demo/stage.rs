//! The stage of the demo: services in both datacenters, Poolguard in eqiad, and the steps that several scenes share.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};

use super::reporter::{Reporter, Tone};
use crate::datacenter::{Datacenter, Who};
use crate::fleet::Fleet;
use crate::objects::{Objects, differences, objects, ready_pods, record};
use crate::operator::Operator;
use crate::services::{SERVICES, SNOWFLAKE, Service, pool, populate, ready};
use crate::wait::{Hopeless, wait_for};

/// Everything that a scene needs.
pub(super) struct Stage<'a> {
    pub(super) fleet: &'a Fleet,
    pub(super) reporter: &'a Reporter,
    operators: Vec<Operator>,
}

impl<'a> Stage<'a> {
    /// Installs Poolguard and the services in both datacenters and waits until all is guarded.
    pub(super) fn set(fleet: &'a Fleet, binary: &Path, reporter: &'a Reporter) -> Result<Self> {
        let operators = std::thread::scope(|scope| {
            let set = |datacenter: &'a Datacenter| {
                scope.spawn(move || {
                    let operator = Operator::install(datacenter, &fleet.conftool.endpoint, binary)?;
                    populate(datacenter, true)?;
                    Ok::<_, anyhow::Error>(operator)
                })
            };
            let threads = fleet.datacenters().map(set);
            threads
                .into_iter()
                .map(|thread| thread.join().map_err(|_| anyhow!("setting the stage panicked"))?)
                .collect::<Result<Vec<_>>>()
        })?;
        for service in &SERVICES {
            let serving = if service.pooled_in == fleet.eqiad.name { "Serving" } else { "NotServing" };
            settled(&fleet.eqiad, service, serving)?;
        }
        Ok(Self { fleet, reporter, operators })
    }

    fn operator(&self) -> &Operator {
        &self.operators[0]
    }

    /// The rows of `kubectl get servicepoolings -A`, the same in words where it matters.
    pub(super) fn show_poolings(&self) -> Result<()> {
        let table = self.fleet.eqiad.kubectl(&["get", "servicepoolings", "-A"])?.success()?;
        self.reporter.line(Tone::Command, "$ kubectl get servicepoolings -A");
        for row in table.lines() {
            let (head, _) = row.rsplit_once("   ").unwrap_or((row, ""));
            let tone = if row.starts_with(SNOWFLAKE.name) { Tone::Refused } else { Tone::Plain };
            self.reporter.line(tone, &format!("  {}", head.trim_end()));
        }
        let output = self.fleet.eqiad.kubectl(&[
            "-n",
            SNOWFLAKE.name,
            "get",
            "servicepooling",
            SNOWFLAKE.name,
            "-o",
            r#"jsonpath={.status.conditions[?(@.type=="Consistent")].reason}: {.status.conditions[?(@.type=="Consistent")].message}"#,
        ])?;
        let drift = output.success()?;
        ensure!(
            drift
                == "Snowflake: eventgate-main is meant to be active/active in codfw and eqiad, but is pooled in eqiad only",
            "the snowflake is not named: {drift}"
        );
        self.reporter.line(Tone::Refused, &format!("  {drift}"));
        Ok(())
    }

    /// A release that may go, goes.
    pub(super) fn uninstalled(&self, helm: &str, namespace: &str, release: &str) -> Result<()> {
        let arguments = ["uninstall", release, "-n", namespace];
        let output = self.fleet.eqiad.call(Who::Deployer, helm, &arguments)?;
        self.reporter.detail(&output.text());
        ensure!(output.ok(), "{} failed: {}", output.command, output.text());
        ensure!(record(&self.fleet.eqiad, namespace, release)?.is_none(), "the record of {release} is still there");
        let command = format!("$ helm uninstall {release} -n {namespace}");
        self.reporter.line(Tone::Command, &format!("{command:62} → uninstalled"));
        Ok(())
    }

    /// A command that must be refused, by the webhook itself, with everything as before.
    pub(super) fn refused(&self, program: &str, arguments: &[&str], before: &Objects, whole: bool) -> Result<()> {
        let refusals = self.operator().refused()?;
        let output = self.fleet.eqiad.call(Who::Deployer, program, arguments)?;
        self.reporter.detail(&output.text());
        ensure!(!output.ok(), "{} was not refused", output.command);
        let moved = self.operator().refused()? - refusals;
        ensure!(moved >= 1.0, "{} failed, but not by the webhook: {}", output.command, output.text());
        let text = output.text();
        let reason = text.find("eventgate-main serves live traffic in eqiad").map(|at| &text[at..]);
        let reason = reason.with_context(|| format!("{} does not say why: {text}", output.command))?;
        let changed = differences(before, &objects(&self.fleet.eqiad, SNOWFLAKE.name)?);
        ensure!(changed.is_empty(), "{} changed something: {}", output.command, changed.join(", "));
        let pods = ready_pods(&self.fleet.eqiad, SNOWFLAKE.name)?;
        ensure!(pods == 4, "after {} only {pods} pods are ready", output.command);
        let program = if program == "helm3" { "helm" } else { program };
        let shown = arguments.join(" ");
        let command = format!("$ {program} {shown}");
        self.reporter.line(Tone::Command, &format!("{command:62} → refused"));
        if whole {
            let warnings = text.lines().filter_map(|line| line.split_once("Warning: "));
            for (_, warning) in warnings.take(3) {
                // Whom to ask stands at the end of a line, and is left out here.
                let warning = warning.split("   help:").next().unwrap_or_default();
                let warning = warning
                    .trim_end_matches('"')
                    .replace(" 2. ", "\n           2. ")
                    .replace(" 3. ", "\n           3. ");
                for line in warning.lines() {
                    self.reporter.line(Tone::Refused, &format!("  {line}"));
                }
            }
        } else {
            self.reporter.detail(reason);
        }
        Ok(())
    }

    /// An ordinary upgrade of the live service, which drops an old ConfigMap, goes through.
    pub(super) fn upgraded(&self, name: &str) -> Result<()> {
        let chart = crate::root().join("examples/service-chart");
        let arguments = [
            "upgrade",
            "main",
            &chart.to_string_lossy(),
            "-n",
            SNOWFLAKE.name,
            "--set",
            "app=eventgate,configVersion=v2",
        ];
        let output = self.fleet.eqiad.call(Who::Deployer, "helm3", &arguments)?;
        self.reporter.detail(&output.text());
        ensure!(output.ok(), "an upgrade of the live service was refused: {}", output.text());
        let legacy = format!("{name}-config-v1");
        let left = self.fleet.eqiad.kubectl(&["-n", SNOWFLAKE.name, "get", "configmap", &legacy])?;
        ensure!(!left.ok(), "the old ConfigMap is still there");
        ensure!(
            record(&self.fleet.eqiad, SNOWFLAKE.name, "main")?.as_deref() == Some("deployed"),
            "the upgrade is not deployed"
        );
        settle(&self.fleet.eqiad, SNOWFLAKE.name)?;
        let command = "$ helm upgrade main …, which drops an old ConfigMap";
        self.reporter.line(Tone::Command, &format!("{command:62} → upgraded, ordinary work goes on"));
        Ok(())
    }

    /// The name of one pod.
    pub(super) fn a_pod(&self, namespace: &str) -> Result<String> {
        let pods = self.fleet.eqiad.get(&["-n", namespace, "pods"])?;
        pods["items"][0]["metadata"]["name"].as_str().map(str::to_owned).context("there is no pod")
    }

    /// Right after the depool, the deployer learns how many seconds remain.
    pub(super) fn told_to_wait(&self) -> Result<()> {
        let start = "eventgate-main was depooled in eqiad, but clients may still hold the old answer for";
        // A refusal may rest on an answer that is a second old.
        let (text, at) = wait_for("the refusal to say how long", Duration::from_secs(4), || {
            let output = self.fleet.eqiad.call(Who::Deployer, "helm3", &["uninstall", "main", "-n", SNOWFLAKE.name])?;
            let text = output.text();
            ensure!(!output.ok(), Hopeless("it was not refused while clients hold the old answer".to_owned()));
            let at = text.find(start).with_context(|| format!("it says {text}"))?;
            Ok((text, at))
        })?;
        self.reporter.detail(&text);
        let sentence = text[at..].split_once(" s.").map_or(&text[at..], |(sentence, _)| sentence);
        let command = format!("$ helm uninstall main -n {}", SNOWFLAKE.name);
        self.reporter.line(Tone::Command, &format!("{command:62} → refused"));
        self.reporter.line(Tone::Refused, &format!("  {sentence} s."));
        Ok(())
    }

    /// Poolguard goes, and the services and conftool are as they were on that morning.
    pub(super) fn take_poolguard_away(&self) -> Result<()> {
        self.operator().uninstall(&self.fleet.eqiad)?;
        pool(&self.fleet.conftool)?;
        self.fleet.conftool.pool(SNOWFLAKE.name, "codfw", false)?;
        for service in &SERVICES {
            for release in service.releases {
                crate::services::install(&self.fleet.eqiad, "helm3", service.name, service.app, release)?;
            }
        }
        ready(&self.fleet.eqiad, SNOWFLAKE.name)
    }
}

/// Waits until a rollout is over: the pods of its old ReplicaSet are gone.
fn settle(datacenter: &Datacenter, namespace: &str) -> Result<()> {
    ready(datacenter, namespace)?;
    wait_for("the rollout to be over", Duration::from_secs(30), || {
        let pods = datacenter.get(&["-n", namespace, "pods"])?;
        let count = pods["items"].as_array().map_or(0, Vec::len);
        ensure!(count == 4, "there are {count} pods");
        Ok(())
    })
}

/// Waits until the status says what conftool says.
fn settled(datacenter: &Datacenter, service: &Service, serving: &str) -> Result<()> {
    let deadline = Duration::from_secs(30);
    wait_for(&format!("{} to be {serving} in {}", service.name, datacenter.name), deadline, || {
        let path = "jsonpath={.status.serving} {.status.conditions[?(@.type==\"Serving\")].reason}";
        let output = datacenter.kubectl(&["-n", service.name, "get", "servicepooling", service.name, "-o", path])?;
        let said = output.success()?;
        // codfw's drained answer must be gone too, or the table would show it as draining.
        let summary = datacenter
            .kubectl(&["-n", service.name, "get", "servicepooling", service.name, "-o", "jsonpath={.status.summary}"])?
            .success()?;
        ensure!(said.starts_with(serving) && !summary.contains("draining"), "it says {said} and {summary}");
        Ok(())
    })
}
