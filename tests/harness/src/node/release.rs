//! Poolguard on a real node, as people install it: the image imported, the chart installed with its two values, everything else in
//! the cluster.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::names::CONFTOOL;
use super::{CONFTOOL_PORTS, Node};
use crate::datacenter::Who;
use crate::image::Image;
use crate::operator::NAMESPACE;
use crate::wait::wait_for;

const SOON: Duration = Duration::from_secs(60);

/// A release of the chart.
#[derive(Debug)]
pub struct Release {
    /// How long it took from `helm install` until every pod was ready.
    pub took: Duration,
}

impl Release {
    /// Imports the image and installs the chart with a datacenter and one source, then waits for its pods.
    ///
    /// # Errors
    /// If something does not work.
    pub fn install(node: &Node, image: &Image) -> Result<Self> {
        node.import(&image.archive)?;
        let datacenter = &node.datacenter;
        // The strictest that a cluster asks of pods.
        datacenter.apply(&format!(
            "{{apiVersion: v1, kind: Namespace, metadata: {{name: {NAMESPACE}, labels: \
             {{pod-security.kubernetes.io/enforce: restricted}}}}}}"
        ))?;
        let start = Instant::now();
        let values = json!({"datacenter": datacenter.name, "sources": sources("http", CONFTOOL_PORTS.0, None)});
        helm(node, "install", &values)?;
        let this = Self { took: start.elapsed() };
        this.ready(node)?;
        Ok(Self { took: start.elapsed() })
    }

    /// Reaches conftool's etcd by TLS from now on, with an authority of its own, which a Secret holds.
    ///
    /// # Errors
    /// If something does not work.
    pub fn upgrade_to_tls(&self, node: &Node) -> Result<()> {
        let authority = fs::read_to_string(&node.conftool_authority).context("cannot read an authority")?;
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "sources", "namespace": NAMESPACE},
            "stringData": {"ca.pem": authority},
        });
        node.datacenter.apply(&secret.to_string())?;
        let file = Some("/etc/poolguard/credentials/ca.pem");
        let values = json!({"credentialsSecretName": "sources", "sources": sources("https", CONFTOOL_PORTS.1, file)});
        helm(node, "upgrade", &values)?;
        self.ready(node)
    }

    /// Waits until every Deployment of the chart has what it wants, and its pods alone.
    ///
    /// # Errors
    /// After a minute, with what the pods say.
    pub fn ready(&self, node: &Node) -> Result<()> {
        let rolled = |namespace: &str| {
            wait_for(&format!("the Deployments in {namespace}"), SOON, || {
                let deployments = node.datacenter.get(&["-n", namespace, "deployments"])?;
                let items = deployments["items"].as_array().context("there is no list")?;
                ensure!(!items.is_empty(), "there are none");
                // Whoever is told to go still answers, and its metrics are not looked at.
                let pods = node.datacenter.get(&["-n", namespace, "pods"])?;
                let pods = pods["items"].as_array().map_or(0, Vec::len);
                let wanted: i64 = items.iter().filter_map(|item| item["spec"]["replicas"].as_i64()).sum();
                ensure!(i64::try_from(pods) == Ok(wanted), "there are {pods} pods and not {wanted}");
                for item in items {
                    let (wanted, status) = (&item["spec"]["replicas"], &item["status"]);
                    let observed = status["observedGeneration"] == item["metadata"]["generation"];
                    let all = [&status["replicas"], &status["updatedReplicas"], &status["availableReplicas"]];
                    let settled = observed && all.iter().all(|count| *count == wanted);
                    ensure!(settled, "{} says {status}", item["metadata"]["name"]);
                }
                Ok(())
            })
            .with_context(|| explain(node, namespace))
        };
        rolled(NAMESPACE)?;
        rolled("poolguard-canary")
    }

    /// The sum of a metric over the webhook's replicas: its samples whose labels contain all of `labels`.
    ///
    /// # Errors
    /// If a pod does not answer.
    pub fn metric(&self, node: &Node, name: &str, labels: &[&str]) -> Result<f64> {
        let mut sum = 0.0;
        for pod in pods(node, NAMESPACE, "app.kubernetes.io/component=webhook")? {
            let path = format!("/api/v1/namespaces/{NAMESPACE}/pods/{pod}:8080/proxy/metrics");
            let text = node.datacenter.kubectl(&["get", "--raw", &path])?.success()?;
            sum += crate::http::sum(&text, name, labels);
        }
        Ok(sum)
    }
}

/// The names of the pods that a selector matches and nobody has told to go.
///
/// # Errors
/// If `kubectl` fails.
pub fn pods(node: &Node, namespace: &str, selector: &str) -> Result<Vec<String>> {
    let list = node.datacenter.get(&["-n", namespace, "pods", "-l", selector])?;
    let items = list["items"].as_array().into_iter().flatten();
    let staying = items.filter(|pod| pod["metadata"]["deletionTimestamp"].is_null());
    Ok(staying.filter_map(|pod| pod["metadata"]["name"].as_str().map(str::to_owned)).collect())
}

/// conftool's etcd as the source, by its name in DNS.
fn sources(scheme: &str, port: u16, authority: Option<&str>) -> Value {
    let mut conftool = json!({"endpoints": [format!("{scheme}://{CONFTOOL}:{port}")], "propagation": "0s"});
    if let Some(file) = authority {
        conftool["caFile"] = json!(file);
    }
    json!([{"name": "conftool", "conftool": conftool}])
}

fn helm(node: &Node, verb: &str, values: &Value) -> Result<()> {
    let file = node.datacenter.folder.join(format!("{verb}.json"));
    fs::write(&file, values.to_string()).context("cannot write the chart's values")?;
    let (chart, file) = (crate::root().join("charts/poolguard"), file.to_string_lossy());
    let chart = chart.to_string_lossy();
    let mut arguments = vec![verb, "poolguard", &chart, "--namespace", NAMESPACE, "--values", &file];
    if verb == "upgrade" {
        arguments.push("--reuse-values");
    }
    node.datacenter.call(Who::Admin, "helm3", &arguments)?.success()?;
    Ok(())
}

/// What the cluster says about pods that do not become ready.
fn explain(node: &Node, namespace: &str) -> String {
    let say = |arguments: &[&str]| node.datacenter.kubectl(arguments).map(|output| output.text()).unwrap_or_default();
    let events = say(&["-n", namespace, "get", "events", "--sort-by=.lastTimestamp"]);
    let logs: String = pods(node, namespace, "")
        .unwrap_or_default()
        .iter()
        .map(|pod| format!("--- {pod}\n{}", say(&["-n", namespace, "logs", pod, "--tail=8"])))
        .collect();
    format!("{}\n{events}\n{logs}", say(&["-n", namespace, "get", "pods", "-o", "wide"]))
}
