//! A scenario: one service in a namespace of its own, in a datacenter that all scenarios share.

use std::path::Path;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use poolguard_harness::command::Output;
use poolguard_harness::datacenter::{Controllers, Datacenter, DatacenterPorts, Who};
use poolguard_harness::fleet::{self, Fleet};
use poolguard_harness::objects::{Objects, differences, objects};
use poolguard_harness::operator::{Operator, Truth};
use poolguard_harness::ports::Ports;
use poolguard_harness::run::Run;
use poolguard_harness::services;
use poolguard_harness::wait::wait_for;

/// Long enough for a loaded machine.
pub const SOON: Duration = Duration::from_secs(60);
/// Seconds that clients may hold an answer: the real mechanism, shortened at its real setting.
pub const TTL: u32 = 1;

/// Both datacenters, with Poolguard in eqiad. They end with the process.
pub struct Shared {
    pub fleet: Fleet,
    pub operator: Operator,
}

/// One datacenter with Poolguard, for what breaks it for everybody; services are served where their resources declare it.
pub struct Alone {
    pub datacenter: Datacenter,
    pub operator: Operator,
    _ports: Ports,
}

impl Alone {
    pub fn start(controllers: Controllers) -> Self {
        Self::with(controllers, &Truth::nothing())
    }

    pub fn with(controllers: Controllers, truth: &Truth) -> Self {
        Self::installed(controllers, |datacenter| Operator::install_with(datacenter, truth, binary()))
    }

    /// The same, installed in any way.
    pub fn installed(controllers: Controllers, install: impl FnOnce(&Datacenter) -> anyhow::Result<Operator>) -> Self {
        let Empty { datacenter, _ports } = Empty::start(controllers);
        datacenter.apply(fleet::ROLLOUTS).expect("a custom workload");
        fleet::routes(&datacenter).expect("HTTPRoutes");
        let operator = install(&datacenter).expect("poolguard");
        Self { datacenter, operator, _ports }
    }

    /// A service with the example chart, release `main`, that is declared to be pooled in eqiad only, and guarded.
    pub fn guarded(&self, name: &str) {
        services::namespace(&self.datacenter, name).expect("a namespace");
        services::install(&self.datacenter, "helm3", name, name, "main").expect("the example chart");
        self.declare(name, "eqiad");
        services::ready(&self.datacenter, name).expect("ready pods");
        services::guarded(&self.datacenter, name).expect("guarded");
    }

    /// Declares, as a deployer, where such a service is pooled.
    pub fn declare(&self, name: &str, pooled_in: &str) {
        self.declare_as(name, pooled_in, "Enforce");
    }

    /// The same, with how its guard is meant.
    pub fn declare_as(&self, name: &str, pooled_in: &str, enforcement: &str) {
        let evidence = format!("evidence: [{{name: switch, declared: {{pooledIn: [{pooled_in}]}}}}]");
        let selector = format!("selector: {{matchLabels: {{app: {name}, routed_via: production}}}}");
        let lines = format!("{selector}\n  {evidence}\n  enforcement: {enforcement}");
        let applied = self.datacenter.apply_as(Who::Deployer, &with_spec(name, &lines));
        applied.and_then(Output::success).expect("a ServicePooling");
    }

    /// `kubectl` as a deployer, in a service's namespace.
    pub fn kubectl(&self, name: &str, arguments: &[&str]) -> Output {
        // Whatever hangs is told.
        let own = ["-n", name, "--request-timeout=40s"];
        self.datacenter.call(Who::Deployer, "kubectl", &[&own[..], arguments].concat()).expect("kubectl starts")
    }
}

/// One datacenter that nobody has installed anything in.
pub struct Empty {
    pub datacenter: Datacenter,
    _ports: Ports,
}

impl Empty {
    pub fn start(controllers: Controllers) -> Self {
        let (programs, _) = Fleet::prepare(&|line| eprintln!("  {line}")).expect("the programs");
        let run = Arc::new(Run::temporary().expect("a run"));
        let mut ports = Ports::new();
        let own = DatacenterPorts::take(&mut ports).expect("ports");
        let datacenter = Datacenter::start_with(run, &programs, "eqiad", own, controllers).expect("a datacenter");
        Self { datacenter, _ports: ports }
    }
}

static SHARED: LazyLock<Shared> = LazyLock::new(|| {
    let fleet = Fleet::start(&|line| eprintln!("  {line}")).expect("two datacenters");
    let operator = Operator::install(&fleet.eqiad, &fleet.conftool.endpoint, binary()).expect("poolguard in eqiad");
    Shared { fleet, operator }
});

/// The binary under test.
pub fn binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_poolguard"))
}

/// One service.
pub struct Scenario<'a> {
    pub fleet: &'a Fleet,
    pub operator: &'a Operator,
    pub name: String,
}

impl Scenario<'static> {
    /// A service with the example chart, release `main`, pooled in eqiad only, and guarded.
    pub fn guarded(name: &str) -> Self {
        let scenario = Self::bare(name);
        services::install(scenario.datacenter(), "helm3", name, name, "main").expect("the example chart");
        scenario.guard(&pooling(name));
        services::ready(scenario.datacenter(), name).expect("ready pods");
        scenario.settled();
        scenario
    }

    /// What all scenarios share.
    pub fn shared() -> &'static Shared {
        &SHARED
    }

    /// Only a namespace and a record that is pooled in eqiad.
    pub fn bare(name: &str) -> Self {
        let Shared { fleet, operator } = &*SHARED;
        Scenario::in_fleet(fleet, operator, name)
    }
}

impl<'a> Scenario<'a> {
    /// The same in datacenters of one's own.
    pub fn in_fleet(fleet: &'a Fleet, operator: &'a Operator, name: &str) -> Self {
        fleet.conftool.record(name, &["eqiad"], TTL).expect("a record");
        services::namespace(&fleet.eqiad, name).expect("a namespace");
        Self { fleet, operator, name: name.to_owned() }
    }

    /// Where it all happens.
    pub fn datacenter(&self) -> &Datacenter {
        &self.fleet.eqiad
    }

    /// Applies a ServicePooling and waits until it guards.
    pub fn guard(&self, manifest: &str) {
        self.datacenter().apply(manifest).expect("a ServicePooling");
        self.kubectl(&["wait", "servicepooling", "--all", "--for=condition=Guarded", "--timeout=60s"])
            .success()
            .expect("guarded");
    }

    /// Waits until the webhook's view has what the API server has: a guarded pod is refused in a dry run.
    pub fn settled(&self) {
        wait_for(&format!("the guard of {}", self.name), SOON, || {
            let output = self.kubectl(&["delete", "pods", "--all", "--dry-run=server"]);
            anyhow::ensure!(output.text().contains("serves live traffic"), "{}", output.text());
            Ok(())
        })
        .expect("a guard");
    }

    /// `kubectl` as a deployer, in the service's namespace.
    pub fn kubectl(&self, arguments: &[&str]) -> Output {
        self.run("kubectl", arguments)
    }

    /// A program as a deployer, in the service's namespace.
    pub fn run(&self, program: &str, arguments: &[&str]) -> Output {
        let mut all = vec!["-n", &self.name];
        all.extend(arguments);
        self.datacenter().call(Who::Deployer, program, &all).expect("the program starts")
    }

    /// Applies manifests in the service's namespace as a deployer.
    pub fn apply(&self, manifests: &str) -> Output {
        let manifests = manifests.replace("NAME", &self.name);
        self.datacenter().apply_as(Who::Deployer, &manifests).expect("kubectl starts")
    }

    /// What the namespace holds.
    pub fn objects(&self) -> Objects {
        objects(self.datacenter(), &self.name).expect("the objects")
    }

    /// The arguments of an eviction without the help of `kubectl drain`.
    pub fn eviction(&self, pod: &str) -> [String; 5] {
        let file = self.datacenter().folder.join(format!("eviction-{}.json", self.name));
        let eviction = format!(
            r#"{{"apiVersion":"policy/v1","kind":"Eviction","metadata":{{"name":"{pod}","namespace":"{}"}}}}"#,
            self.name
        );
        std::fs::write(&file, eviction).expect("a file");
        let path = format!("/api/v1/namespaces/{}/pods/{pod}/eviction", self.name);
        ["create".to_owned(), "--raw".to_owned(), path, "-f".to_owned(), file.to_string_lossy().into_owned()]
    }

    /// How many requests in this namespace the webhook has refused.
    pub fn refusals(&self) -> f64 {
        self.operator.refused_in(&self.name).expect("the metric")
    }

    /// A command that the webhook must refuse, with all objects as before. Returns what the user saw.
    pub fn refused(&self, program: &str, arguments: &[&str]) -> String {
        let (before, refusals) = (self.objects(), self.refusals());
        let output = self.run(program, arguments);
        assert!(!output.ok(), "`{}` was not refused: {}", output.command, output.text());
        assert!(self.refusals() > refusals, "`{}` failed, but not by the webhook: {}", output.command, output.text());
        let changed = differences(&before, &self.objects());
        assert!(changed.is_empty(), "`{}` changed {changed:?}", output.command);
        output.text()
    }

    /// The same, once the refusal says this: a refusal may rest on an answer that is a second old.
    pub fn refused_saying(&self, arguments: &[&str], sentence: &str) {
        wait_for(&format!("a refusal that says {sentence:?}"), SOON, || {
            let said = self.refused("kubectl", arguments);
            anyhow::ensure!(said.contains(sentence), "it says {said}");
            Ok(())
        })
        .expect("the refusal");
    }

    /// A command that must go through.
    pub fn passes(&self, program: &str, arguments: &[&str]) -> String {
        let output = self.run(program, arguments);
        assert!(output.ok(), "`{}` failed: {}", output.command, output.text());
        output.text()
    }

    /// Pools codfw and depools eqiad with the real conftool, and waits until the TTL is over.
    pub fn depool(&self) {
        self.fleet.conftool.record(&self.name, &["codfw"], TTL).expect("conftool");
        self.serving("NotServing");
    }

    /// Waits until the status says this of the service.
    pub fn serving(&self, expected: &str) {
        wait_for(&format!("{} to be {expected}", self.name), SOON, || {
            let serving = self.status(".serving")?;
            anyhow::ensure!(serving == expected, "it is {serving}");
            Ok(())
        })
        .expect("the status");
    }

    /// A part of the ServicePooling's status, by JSONPath.
    pub fn status(&self, path: &str) -> anyhow::Result<String> {
        let path = format!("jsonpath={{.status{path}}}");
        self.kubectl(&["get", "servicepooling", &self.name, "-o", &path]).success()
    }

    /// Waits until a condition's `status/reason` is as expected, and returns its message.
    pub fn condition(&self, kind: &str, expected: &str) -> String {
        let part = |part: &str| self.status(&format!(".conditions[?(@.type==\"{kind}\")].{part}"));
        wait_for(&format!("{kind} of {} to be {expected}", self.name), SOON, || {
            let found = format!("{}/{}", part("status")?, part("reason")?);
            anyhow::ensure!(found == expected, "it is {found}");
            part("message")
        })
        .expect("the condition")
    }
}

/// The ServicePooling of the example chart's pods.
pub fn pooling(name: &str) -> String {
    with_spec(
        name,
        &format!(
            "selector: {{matchLabels: {{app: {name}, routed_via: production}}}}\n  evidence: [{{name: discovery, conftool: {{record: {name}}}}}]"
        ),
    )
}

/// A ServicePooling with these lines in its spec.
pub fn with_spec(name: &str, lines: &str) -> String {
    format!(
        "apiVersion: poolguard.dev/v1alpha1\nkind: ServicePooling\nmetadata: {{name: {name}, namespace: {name}}}\nspec:\n  \
         datacenters: [{{name: codfw}}, {{name: eqiad}}]\n  {lines}\n"
    )
}
