//! One datacenter with every kind of source: real etcds, gdnsd and Prometheus, and servers that fail at the wire.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use poolguard_harness::command::Output;
use poolguard_harness::conftool::{self, Conftool};
use poolguard_harness::datacenter::{Datacenter, DatacenterPorts, Who};
use poolguard_harness::debian;
use poolguard_harness::edge::addresses::{CLIENTS, NETWORKS};
use poolguard_harness::edge::{Edge, Record, Scraped, guarded_prometheus};
use poolguard_harness::etcd::Etcd;
use poolguard_harness::operator::{Operator, Truth};
use poolguard_harness::pki::{Authority, Subject};
use poolguard_harness::ports::Ports;
use poolguard_harness::programs;
use poolguard_harness::run::Run;
use poolguard_harness::wait::wait_for;
use serde_json::{Value, json};

use super::wire;
use crate::scenario::{SOON, binary};

/// The password of [`World::three`].
pub const PASSWORD: &str = "not a good one";

/// The longest that clients of the source `wire-held` are believed to hold an answer, in seconds.
pub const LONGEST: u32 = 20;
/// A service that nothing is wrong with, on a source of its own.
const BYSTANDER: &str = "bystander";
/// All sources together have 3 s, and `kubectl` takes its time where four scenarios share two processors. Less than the 10 s that the API
/// server waits: a decision of ours.
const DEADLINE: Duration = Duration::from_secs(8);

/// Everything. It ends with the process.
pub struct World {
    pub eqiad: Datacenter,
    pub operator: Operator,
    /// conftool's etcd, and conftool itself, which reads every record at each call: only well-formed ones are in it.
    pub etcd: Etcd,
    pub conftool: Conftool,
    /// Three members behind a password.
    pub three: Etcd,
    /// One that goes back to an older state.
    pub restored: Etcd,
    /// One that holds values which nobody can read.
    pub garbled: Etcd,
    /// One that much happens in.
    pub apart: Etcd,
    /// One that speaks TLS.
    pub tls: Etcd,
    pub edge: Edge,
    /// Traffic that may be paused, and its own Prometheus.
    pub scraped: Scraped,
    pub dns: [wire::Dns; 2],
    pub prometheus: wire::Prometheus,
    pub slow: wire::Slow,
    _ports: Ports,
}

static WORLD: LazyLock<World> = LazyLock::new(World::start);

/// The records that gdnsd answers for.
fn records() -> Vec<Record> {
    [
        ("edge-active", false),
        ("edge-passive", true),
        ("edge-traffic", false),
        ("edge-third", true),
        ("edge-lost", false),
    ]
    .map(|(name, active_passive)| Record { name: name.to_owned(), active_passive })
    .to_vec()
}

impl World {
    /// The world that all tests of this module share.
    pub fn shared() -> &'static Self {
        &WORLD
    }

    fn start() -> Self {
        let progress = |line: &str| eprintln!("  {line}");
        let programs = programs::build(&progress).expect("the programs");
        let confctl = conftool::install(&progress).expect("conftool");
        let debian = debian::unpack(&progress).expect("gdnsd and Prometheus");
        let run = Arc::new(Run::temporary().expect("a run"));
        let mut ports = Ports::new();
        let own = DatacenterPorts::take(&mut ports).expect("ports");
        let eqiad = Datacenter::start(Arc::clone(&run), &programs, "eqiad", own).expect("a datacenter");
        let start = |name, members| Etcd::start(&run, &programs, name, members).expect("an etcd");
        let (etcd, three, restored) = (start("main", 1), start("three", 3), start("restored", 1));
        let (garbled, apart) = (start("garbled", 1), start("apart", 1));
        let authority = Authority::new(run.folder().join("pki"), "sources").expect("an authority");
        let serving = authority.sign("server", Subject::Server(&[])).expect("a certificate");
        let known = authority.sign("client", Subject::User("poolguard", &[])).expect("a certificate");
        let tls = Etcd::start_tls(&run, &programs, "tls", serving.clone()).expect("an etcd");
        three.lock(PASSWORD).expect("a locked etcd");
        let client = etcd.endpoints()[0].rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port");
        let folder = run.subfolder("conftool").expect("a folder");
        let conftool = Conftool::new(confctl, &folder, client).expect("conftool's configuration");
        let names: Vec<Record> = records();
        let list: Vec<&str> = names.iter().map(|record| record.name.as_str()).collect();
        conftool.sync(&list, &["eqiad", "codfw"]).expect("records");
        // Their TTL is short before anybody looks: an old one counts for as long as it was handed out.
        list.iter().for_each(|record| etcd.record(None, record, &[]).expect("a short TTL"));
        let edge = Edge::start(&run, &debian, &conftool, &names).expect("gdnsd and Prometheus");
        let scraped = Scraped::start(&run, &debian, edge.dns, "edge-lost").expect("traffic and its Prometheus");
        let guarded = ports.take().expect("a port");
        guarded_prometheus(&run, &debian, guarded, &authority.file(), &serving).expect("a guarded Prometheus");
        let dns = [wire::Dns::start(false), wire::Dns::start(true)];
        let prometheus = wire::Prometheus::start();
        let slow = wire::Slow::start(&etcd.endpoints()[0]);
        let file = |name: &str, text: &str| -> PathBuf {
            let path = run.folder().join(name);
            fs::write(&path, text).expect("a credential");
            path
        };
        let (user, password) = (file("user", "poolguard\n"), file("password", PASSWORD));
        let wrong = file("wrong", "guessed");
        let clients: Vec<&str> = CLIENTS.iter().map(|(_, network)| *network).collect();
        let asked = |servers: &[SocketAddr]| {
            let servers: Vec<String> = servers.iter().map(ToString::to_string).collect();
            json!({"servers": servers, "clientNetworks": clients, "maxTTL": "3s", "interval": "500ms", "timeout": "500ms"})
        };
        // Clients may hold an answer for longer than a test takes to look.
        let mut held = asked(&[dns[0].address]);
        held["maxTTL"] = json!(format!("{LONGEST}s"));
        let etcds = |endpoints: Vec<String>, password: Option<&PathBuf>| json!({"endpoints": endpoints, "usernameFile": password.map(|_| &user), "passwordFile": password, "propagation": "0s"});
        let traffic = |url: &str| json!({"url": url, "interval": "500ms", "timeout": "1s"});
        let mut networks: Vec<Value> =
            NETWORKS.iter().map(|(name, network)| json!({"datacenter": name, "cidrs": [network]})).collect();
        networks.push(json!({"datacenter": "eqiad", "cidrs": ["2001:db8:2::/48"]}));
        let etcd_tls = tls.tls_endpoint().expect("an endpoint with TLS");
        let guarded = format!("https://127.0.0.1:{guarded}");
        let token = file("token", "a-token\n");
        let truth = Truth {
            sources: json!([
                {"name": "main", "conftool": etcds(etcd.endpoints(), None)},
                {"name": "three", "conftool": etcds(three.endpoints(), Some(&password))},
                {"name": "wrong-password", "conftool": etcds(three.endpoints(), Some(&wrong))},
                {"name": "restored", "conftool": etcds(restored.endpoints(), None)},
                {"name": "garbled", "conftool": etcds(garbled.endpoints(), None)},
                {"name": "apart", "conftool": etcds(apart.endpoints(), None)},
                {"name": "slow", "conftool": etcds(vec![slow.url.clone()], None)},
                {"name": "etcd-tls", "conftool": {"endpoints": [etcd_tls], "caFile": authority.file(), "propagation": "2s"}},
                {"name": "etcd-stranger", "conftool": {"endpoints": [etcd_tls]}},
                {"name": "prometheus-tls", "prometheus": {
                    "url": guarded, "caFile": authority.file(), "interval": "500ms",
                    "clientCertificateFile": known.0, "clientKeyFile": known.1,
                }},
                {"name": "prometheus-stranger", "prometheus": {"url": guarded, "caFile": authority.file()}},
                {"name": "prometheus-token", "prometheus": {
                    "url": prometheus.url, "bearerTokenFile": token, "interval": "500ms",
                }},
                {"name": "gdnsd", "dns": asked(&[edge.dns])},
                {"name": "wire-held", "dns": held},
                {"name": "wire", "dns": asked(&[dns[0].address])},
                {"name": "wire-both", "dns": asked(&[dns[0].address, dns[1].address])},
                {"name": "prometheus", "prometheus": traffic(&edge.prometheus("eqiad"))},
                {"name": "prometheus-dying", "prometheus": traffic(&edge.prometheus("codfw"))},
                {"name": "prometheus-scraped", "prometheus": traffic(&format!("http://127.0.0.1:{}", scraped.port))},
                {"name": "wire-prometheus", "prometheus": traffic(&prometheus.url)},
            ]),
            networks: json!(networks),
            ..Truth::nothing()
        };
        let operator = Operator::install_with(&eqiad, &truth, binary()).expect("poolguard");
        let this = Self {
            eqiad,
            operator,
            etcd,
            conftool,
            three,
            restored,
            garbled,
            apart,
            tls,
            edge,
            scraped,
            dns,
            prometheus,
            slow,
            _ports: ports,
        };
        this.etcd.record(None, BYSTANDER, &["codfw"]).expect("a record");
        let entry = format!("{{name: discovery, source: main, conftool: {{record: {BYSTANDER}}}}}");
        this.services(&[(BYSTANDER.to_owned(), entry)]);
        this.says(BYSTANDER, 0, "NotServing");
        this
    }

    /// Makes a namespace with a Deployment and its ServicePooling for each of these, as (name, entry of `evidence`), and waits
    /// until all are guarded and their pods ready.
    pub fn services(&self, evidence: &[(String, String)]) {
        let manifests: Vec<String> = evidence
            .iter()
            .map(|(name, entries)| {
                format!(
                    "---\napiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}}}\n---\n\
                     apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: {name}, namespace: {name}}}\nspec:\n  \
                     selector: {{matchLabels: {{app: {name}}}}}\n  replicas: 2\n  template:\n    \
                     metadata: {{labels: {{app: {name}}}}}\n    spec: {{containers: [{{name: main, image: \"example/{name}:1\"}}]}}\n---\n\
                     apiVersion: poolguard.dev/v1alpha1\nkind: ServicePooling\nmetadata: {{name: {name}, namespace: {name}}}\nspec:\n  \
                     selector: {{matchLabels: {{app: {name}}}}}\n  datacenters: [{{name: codfw}}, {{name: eqiad}}]\n  \
                     evidence: [{entries}]\n"
                )
            })
            .collect();
        self.eqiad.apply(&manifests.concat()).expect("services");
        for (name, _) in evidence {
            let wait = |what: &[&str]| {
                let arguments = [&["-n", name, "wait", "--timeout=90s"], what].concat();
                self.eqiad.kubectl(&arguments).expect("kubectl").success().expect("in time");
            };
            wait(&["--for=condition=Available", "deployment", name]);
            wait(&["--for=condition=Guarded", "servicepooling", name]);
        }
    }

    /// Deletes the Deployment of a service, and says how long that took.
    pub fn delete(&self, name: &str) -> (Output, Duration) {
        let start = Instant::now();
        let output =
            self.eqiad.call(Who::Admin, "kubectl", &["-n", name, "delete", "deployment", name, "--wait=false"]);
        (output.expect("kubectl starts"), start.elapsed())
    }

    /// A counter of the webhook for a service.
    pub fn counted(&self, metric: &str, name: &str) -> f64 {
        self.operator.metric("webhook", metric, &[&format!("namespace=\"{name}\"")]).expect("the metric")
    }

    /// The deletion of a service must be refused by the webhook, with these words, for the reason that its metric counts, and
    /// within the deadline of evidence; nothing of it was ever permitted.
    pub fn refused(&self, name: &str, words: &str) {
        let reason = if words.contains("serves live traffic") { "Serving" } else { "EvidenceUnknown" };
        self.refused_as(reason, name, words);
    }

    /// The same, for any reason.
    pub fn refused_as(&self, reason: &str, name: &str, words: &str) {
        let before = self.refusals(name, reason);
        let (output, took) = self.delete(name);
        assert!(!output.ok(), "{name} was not refused: {}", output.text());
        assert!(output.text().contains(words), "{name}: the refusal does not say {words:?}: {}", output.text());
        assert!(self.refusals(name, reason) > before, "{name}: not counted as {reason}: {}", output.text());
        assert!(took < DEADLINE, "{name}: the refusal took {took:?}");
        self.never_permitted(name);
    }

    /// The same, while the source hangs: meanwhile the verdict about another service does not wait.
    pub fn refused_and_nobody_else(&self, name: &str, words: &str) {
        std::thread::scope(|scope| {
            let refused = scope.spawn(|| self.refused(name, words));
            let start = Instant::now();
            let bystander = ["-n", BYSTANDER, "delete", "deployment", BYSTANDER, "--wait=false", "--dry-run=server"];
            let output = self.eqiad.kubectl(&bystander).expect("kubectl starts");
            let took = start.elapsed();
            assert!(output.ok(), "another service is refused: {}", output.text());
            assert!(took < DEADLINE, "another service waits for {took:?}");
            refused.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        });
    }

    /// Nothing of a service was ever permitted.
    pub fn never_permitted(&self, name: &str) {
        assert_eq!(self.counted("poolguard_permissions_total", name), 0.0, "{name} was permitted");
    }

    fn refusals(&self, name: &str, reason: &str) -> f64 {
        let labels = [format!("namespace=\"{name}\""), format!("reason=\"{reason}\"")];
        let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
        self.operator.metric("webhook", "poolguard_refusals_total", &labels).expect("the metric")
    }

    /// Waits until the controller's metric gives a service this state in eqiad.
    pub fn state(&self, name: &str, state: &str) {
        let labels = [format!("namespace=\"{name}\""), "datacenter=\"eqiad\"".to_owned(), format!("state=\"{state}\"")];
        let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
        wait_for(&format!("the metric to call {name} {state}"), SOON, || {
            let told = self.operator.metric("controller", "poolguard_service_state", &labels)?;
            anyhow::ensure!(told == 1.0, "it is {told}");
            Ok(())
        })
        .expect("the metric");
    }

    /// The same deletion must go through, and is counted as a permission.
    pub fn permitted(&self, name: &str) {
        self.says(name, 0, "NotServing");
        // The webhook has a clock of its own for what clients may hold.
        wait_for(&format!("the permission for {name}"), SOON, || {
            let (output, _) = self.delete(name);
            anyhow::ensure!(output.ok(), "it says {}", output.text());
            Ok(())
        })
        .expect("a permission");
        assert_eq!(self.counted("poolguard_permissions_total", name), 1.0, "{name}");
    }

    /// Waits until the status has this to say of an entry of evidence about eqiad.
    pub fn says(&self, name: &str, entry: usize, expected: &str) {
        let of = format!(".status.datacenters[?(@.name==\"eqiad\")].evidence[{entry}]");
        let path = format!("jsonpath={{{of}.says}}, {{{of}.detail}}");
        let expected = format!("{expected}, ");
        wait_for(&format!("the status of {name} to say {expected}"), SOON, || {
            let said = self.eqiad.kubectl(&["-n", name, "get", "servicepooling", name, "-o", &path])?.success()?;
            anyhow::ensure!(said.starts_with(&expected), "it says {said:?}");
            Ok(())
        })
        .expect("the status");
    }

    /// For how many seconds its first entry of evidence says that clients held the old answer in eqiad.
    pub fn held(&self, name: &str) -> i64 {
        let time = |field: &str| -> jiff::Timestamp {
            let path = format!(".datacenters[?(@.name==\"eqiad\")].evidence[0].{field}");
            self.status(name, &path).expect("the status").parse().expect("a time")
        };
        time("notServingAfter").duration_since(time("since")).as_secs()
    }

    /// A part of a service's status, by JSONPath.
    pub fn status(&self, name: &str, path: &str) -> anyhow::Result<String> {
        let path = format!("jsonpath={{.status{path}}}");
        self.eqiad.kubectl(&["-n", name, "get", "servicepooling", name, "-o", &path])?.success()
    }

    /// How often a source has answered with this result.
    pub fn results(&self, source: &str, result: &str) -> f64 {
        let labels = [format!("source=\"{source}\""), format!("result=\"{result}\"")];
        let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
        self.operator.metric("webhook", "poolguard_source_requests_total", &labels).expect("the metric")
    }
}
