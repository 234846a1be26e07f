//! `cargo xtask record-reviews`: what the real API server sends us for a request through each door, kept in `tests/reviews`.
//!
//! Never decides anything: the receiver allows whatever comes.

mod commands;
mod plain;
mod receiver;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use poolguard_harness::chart;
use poolguard_harness::datacenter::{Datacenter, Who};
use poolguard_harness::fleet::Fleet;
use poolguard_harness::wait::wait_for;
use serde_json::{Value, json};

use crate::progress;
use commands::{Ask, NAMESPACE};
use receiver::{Receiver, Review};

/// How long a review may take to arrive.
const SOON: Duration = Duration::from_secs(60);

/// Records every door anew.
///
/// # Errors
/// If the control plane does not come up, or a request brings no review.
pub fn run() -> Result<()> {
    let fleet = Fleet::start(&progress)?;
    let datacenter = &fleet.eqiad;
    for file in ["poolguard.dev_servicepoolings.yaml", "poolguard.dev_poolingoverrides.yaml"] {
        datacenter.apply_file(&poolguard_harness::root().join("crds").join(file))?;
    }
    datacenter
        .kubectl(&["wait", "crd", "--all", "--for=condition=Established", "--timeout=60s"])?
        .success()
        .context("the definitions are not established")?;
    let receiver = Receiver::start(&datacenter.folder)?;
    register(datacenter, &receiver)?;
    commands::prepare(datacenter)?;
    let folder = folder();
    fs::create_dir_all(&folder).context("cannot make the folder of the recordings")?;
    for old in fs::read_dir(&folder)? {
        let path = old?.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            fs::remove_file(path)?;
        }
    }
    let asks = commands::all(datacenter)?;
    for ask in &asks {
        let review = record(datacenter, &receiver, ask)?;
        keep(&folder, ask, review)?;
    }
    progress(&format!("{} reviews are in tests/reviews", asks.len()));
    Ok(())
}

fn folder() -> PathBuf {
    poolguard_harness::root().join("tests/reviews")
}

/// The chart's own webhook configuration, without its conditions; each entry has a path of its own, so that it is known which
/// one a review came through.
fn register(datacenter: &Datacenter, receiver: &Receiver) -> Result<()> {
    let values = datacenter.folder.join("recorder.json");
    let workloads = poolguard_harness::operator::custom_workloads();
    let settings = json!({
        "datacenter": datacenter.name, "declaredOnly": true, "customWorkloads": workloads,
        "certificates": {"source": "Provided"},
        "webhook": {"url": receiver.url, "caBundle": receiver.authority},
    });
    fs::write(&values, settings.to_string()).context("cannot write the chart's values")?;
    let shown = ["--show-only=templates/webhookconfiguration.yaml", "--values", &values.to_string_lossy()];
    let rendered = chart::template(datacenter, "helm3", &shown)?.success()?;
    let file = datacenter.folder.join("registration.yaml");
    fs::write(&file, rendered).context("cannot write the registration")?;
    let read = datacenter.kubectl(&["create", "--dry-run=client", "-o", "json", "-f", &file.to_string_lossy()])?;
    let mut registration: Value = serde_json::from_str(&read.success()?).context("the chart renders no JSON")?;
    for entry in registration["webhooks"].as_array_mut().context("the chart registers nothing")? {
        entry.as_object_mut().context("an entry is no object")?.remove("matchConditions");
        let name = entry["name"].as_str().and_then(|name| name.split('.').next()).unwrap_or_default().to_owned();
        entry["clientConfig"]["url"] = json!(format!("{}/{name}", receiver.url));
    }
    datacenter.apply(&registration.to_string())?;
    // The API server learns of it by a watch of its own.
    datacenter.apply(&format!(
        "apiVersion: v1\nkind: Namespace\nmetadata: {{name: {NAMESPACE}, labels: {{poolguard.dev/protected: 'true'}}}}\n"
    ))?;
    wait_for("the API server to ask", SOON, || {
        datacenter
            .kubectl(&["label", "namespace", NAMESPACE, "poolguard.dev/protected-", "--dry-run=server"])?
            .success()?;
        ensure!(receiver.count() > 0, "nothing has arrived");
        Ok(())
    })
}

/// Runs one command, and waits for the review that it brings.
fn record(datacenter: &Datacenter, receiver: &Receiver, ask: &Ask) -> Result<Value> {
    let from = receiver.count();
    progress(&format!("{}: {}", ask.file, ask.command.join(" ")));
    let command: Vec<&str> = ask.command.iter().map(String::as_str).collect();
    let (program, arguments) = command.split_first().context("an empty command")?;
    let said = datacenter.call(Who::Admin, program, arguments)?;
    wait_for(&format!("a review of {}", ask.file), SOON, || {
        let found = receiver.since(from).into_iter().find(|review| fits(review, ask));
        found.map(|review| review.body).with_context(|| format!("none came: {}", said.text()))
    })
}

fn fits(review: &Review, ask: &Ask) -> bool {
    let request = &review.body["request"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let subresource = text(&request["subResource"]);
    let resource = text(&request["resource"]["resource"]);
    let resource = if subresource.is_empty() { resource } else { format!("{resource}/{subresource}") };
    let user = text(&request["userInfo"]["username"]);
    // The nodes and the controllers ask too, at the same time.
    let theirs = if ask.by.is_empty() { !user.starts_with("system:") } else { user.ends_with(ask.by) };
    review.entry == ask.entry
        && text(&request["operation"]) == ask.operation
        && resource == ask.resource
        && theirs
        && text(&request["name"]).starts_with(ask.of)
}

fn keep(folder: &Path, ask: &Ask, mut review: Value) -> Result<()> {
    plain::strip(&mut review);
    let text = serde_json::to_string_pretty(&review).context("a review is no JSON")?;
    fs::write(folder.join(format!("{}.json", ask.file)), format!("{text}\n")).context("cannot keep a review")
}
