//! One datacenter: a real control plane, nodes that kwok plays unless its place has a real one, and the programs that people
//! reach it with.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::command::{Output, run};
use crate::http::request;
use crate::pki::{Authority, Credential, Subject, kubeconfig, token_keys};
use crate::place::Place;
use crate::ports::Ports;
use crate::programs::Programs;
use crate::run::Run;
use crate::wait::wait_for;

const STAGES: &str = include_str!("../manifests/kwok.yaml");
const CLUSTER: &str = include_str!("../manifests/cluster.yaml");
const AS_ONE: &str = include_str!("../manifests/as-one.yaml");
const AUDIT: &str = include_str!("../manifests/audit.yaml");

/// What scales to zero is refused while it serves, so it has to be possible.
const GATES: &str = "--feature-gates=HPAScaleToZero=true";

/// The address of the Service `kubernetes`: the first one of the range.
const SERVICE_ADDRESS: &str = "10.0.0.1";

/// How long a control plane may take to come up on a loaded machine.
const START: Duration = Duration::from_secs(60);

/// Who runs a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// An administrator, in `system:masters`.
    Admin,
    /// A deployer: role `admin` in the service namespaces.
    Deployer,
    /// A reliability engineer: a deployer who may break the glass where a RoleBinding says so.
    Engineer,
}

/// As whom the controllers of the controller-manager work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Controllers {
    /// Each by a ServiceAccount of its own.
    Apart,
    /// All as `system:kube-controller-manager`.
    AsOne,
    /// There are none, nor a scheduler, nor nodes: what is written stays as it was written.
    None,
}

/// The ports of a datacenter.
#[derive(Debug, Clone, Copy)]
pub struct DatacenterPorts {
    /// etcd, for clients.
    pub etcd: u16,
    /// etcd, for its peers.
    pub peer: u16,
    /// The API server.
    pub api: u16,
}

impl DatacenterPorts {
    /// Takes them from those that are free.
    ///
    /// # Errors
    /// If none is left.
    pub fn take(ports: &mut Ports) -> Result<Self> {
        Ok(Self { etcd: ports.take()?, peer: ports.take()?, api: ports.take()? })
    }
}

/// A running control plane.
#[derive(Debug)]
pub struct Datacenter {
    /// Its name, which conftool uses too.
    pub name: String,
    /// Its own folder.
    pub folder: PathBuf,
    /// The API server's URL.
    pub server: String,
    ports: DatacenterPorts,
    programs: Programs,
    run: Arc<Run>,
    /// The API server's process, and what it was started with.
    api: Mutex<(u32, Vec<String>)>,
    place: Place,
}

impl Datacenter {
    /// Starts one and waits until it answers and its nodes are ready.
    ///
    /// # Errors
    /// If a process ends or does not come up, with the end of its log.
    pub fn start(run: Arc<Run>, programs: &Programs, name: &str, ports: DatacenterPorts) -> Result<Self> {
        Self::start_with(run, programs, name, ports, Controllers::Apart)
    }

    /// The same, with controllers that are told apart or not.
    ///
    /// # Errors
    /// If a process ends or does not come up, with the end of its log.
    pub fn start_with(
        run: Arc<Run>,
        programs: &Programs,
        name: &str,
        ports: DatacenterPorts,
        controllers: Controllers,
    ) -> Result<Self> {
        Self::start_at(run, programs, name, ports, controllers, Place::Loopback)
    }

    /// The same anywhere. Where the place has a real node, nobody plays one.
    ///
    /// # Errors
    /// If a process ends or does not come up, with the end of its log.
    pub fn start_at(
        run: Arc<Run>,
        programs: &Programs,
        name: &str,
        ports: DatacenterPorts,
        controllers: Controllers,
        place: Place,
    ) -> Result<Self> {
        let folder = run.subfolder(name)?;
        let server = format!("https://{}:{}", place.address(), ports.api);
        let api = Mutex::default();
        let this = Self { name: name.to_owned(), folder, server, ports, programs: programs.clone(), run, place, api };
        this.control_plane(ports, controllers).with_context(|| format!("cannot start the control plane of {name}"))?;
        if !this.place.is_enclosed() && controllers != Controllers::None {
            this.play_nodes()?;
        }
        Ok(this)
    }

    fn control_plane(&self, ports: DatacenterPorts, controllers: Controllers) -> Result<()> {
        let pki = self.folder.join("pki");
        let authority = Authority::new(pki.clone(), "datacenter")?;
        let hosts = ["kubernetes", "kubernetes.default.svc", self.place.address(), SERVICE_ADDRESS];
        let serving = authority.sign("apiserver", Subject::Server(&hosts))?;
        let tokens = token_keys(&pki)?;
        for (file, user, groups) in [
            ("kubeconfig", "admin", &["system:masters"] as &[&str]),
            ("deployer.kubeconfig", "deployer", &["deployers"]),
            ("engineer.kubeconfig", "engineer", &["deployers"]),
            ("controller-manager.kubeconfig", "system:kube-controller-manager", &[]),
            ("scheduler.kubeconfig", "system:kube-scheduler", &[]),
            ("kwok.kubeconfig", "system:node:kwok", &["system:nodes"]),
            ("kubelet.kubeconfig", "system:node:node-a", &["system:nodes"]),
            ("proxy.kubeconfig", "system:kube-proxy", &[]),
        ] {
            let (certificate, key) = authority.sign(file, Subject::User(user, groups))?;
            let credential = Credential::Certificate(certificate, key);
            kubeconfig(&self.folder.join(file), &self.server, &authority.file(), &credential)?;
        }
        let etcd = format!("http://127.0.0.1:{}", ports.etcd);
        let peer = format!("http://127.0.0.1:{}", ports.peer);
        let etcd_pid = self.spawn("etcd", |command| {
            command
                .arg(format!("--data-dir={}", self.folder.join("etcd").display()))
                .args(["--unsafe-no-fsync", "--log-level=warn"])
                .arg(format!("--listen-client-urls={etcd}"))
                .arg(format!("--advertise-client-urls={etcd}"))
                .arg(format!("--listen-peer-urls={peer}"))
                .arg(format!("--initial-advertise-peer-urls={peer}"))
                .arg(format!("--initial-cluster=default={peer}"));
        })?;
        let policy = self.folder.join("audit-policy.yaml");
        fs::write(&policy, AUDIT).context("cannot write the audit policy")?;
        let to_kubelet = authority.sign("kubelet-client", Subject::User("kube-apiserver", &["system:masters"]))?;
        let mut arguments = vec![
            format!("--etcd-servers={etcd}"),
            format!("--audit-policy-file={}", policy.display()),
            format!("--audit-log-path={}", self.audit_log().display()),
            GATES.to_owned(),
            format!("--bind-address={}", self.place.address()),
            format!("--advertise-address={}", self.place.address()),
            format!("--secure-port={}", ports.api),
            format!("--tls-cert-file={}", serving.0.display()),
            format!("--tls-private-key-file={}", serving.1.display()),
            format!("--client-ca-file={}", authority.file().display()),
            "--service-cluster-ip-range=10.0.0.0/16".to_owned(),
            "--profiling=false".to_owned(),
            "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
            format!("--service-account-signing-key-file={}", tokens.0.display()),
            format!("--service-account-key-file={}", tokens.1.display()),
        ];
        if self.place.is_enclosed() {
            // Pods reach it by its Service, and its node is held to what is its own.
            arguments.extend([
                "--endpoint-reconciler-type=lease".to_owned(),
                "--authorization-mode=Node,RBAC".to_owned(),
                "--enable-admission-plugins=NodeRestriction".to_owned(),
                "--kubelet-preferred-address-types=InternalIP".to_owned(),
                format!("--kubelet-client-certificate={}", to_kubelet.0.display()),
                format!("--kubelet-client-key={}", to_kubelet.1.display()),
            ]);
        } else {
            arguments.extend(["--endpoint-reconciler-type=none", "--authorization-mode=RBAC"].map(str::to_owned));
        }
        self.ensure_running(etcd_pid, "etcd")?;
        *self.api.lock().unwrap_or_else(PoisonError::into_inner) = (0, arguments);
        self.start_api().with_context(|| self.run.log_tail(&self.log("etcd")))?;
        if controllers == Controllers::None {
            return Ok(());
        }
        if controllers == Controllers::AsOne {
            self.apply(AS_ONE)?;
        }
        self.spawn("kube-controller-manager", |command| {
            command
                .arg(self.own("controller-manager.kubeconfig"))
                .arg(format!("--use-service-account-credentials={}", controllers == Controllers::Apart))
                .args(["--secure-port=0", "--leader-elect=false", GATES])
                .arg(format!("--service-account-private-key-file={}", tokens.0.display()))
                .arg(format!("--root-ca-file={}", authority.file().display()));
        })?;
        self.spawn("kube-scheduler", |command| {
            command.arg(self.own("scheduler.kubeconfig")).args(["--secure-port=0", "--leader-elect=false"]);
        })?;
        Ok(())
    }

    /// Starts kwok, and waits until its nodes are ready.
    fn play_nodes(&self) -> Result<()> {
        self.apply(CLUSTER)?;
        let stages = self.folder.join("kwok.yaml");
        fs::write(&stages, STAGES).context("cannot write kwok's stages")?;
        let kwok = self.spawn("kwok", |command| {
            command
                .arg(self.own("kwok.kubeconfig"))
                .arg(format!("--config={}", stages.display()))
                .args(["--manage-all-nodes=false", "--manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake"])
                .args(["--node-ip=10.0.0.1", "--node-lease-duration-seconds=40"]);
        })?;
        wait_for(&format!("the nodes of {} to be ready", self.name), START, || {
            self.ensure_running(kwok, "kwok")?;
            let ready = self.kubectl(&[
                "get",
                "nodes",
                "-o",
                r#"jsonpath={.items[*].status.conditions[?(@.type=="Ready")].status}"#,
            ])?;
            let ready = ready.success()?;
            ensure!(ready == "True True", "they say {ready:?}: {}", self.run.log_tail(&self.log("kwok")));
            Ok(())
        })
    }

    /// Ends the API server by SIGKILL.
    ///
    /// # Errors
    /// If it cannot be ended.
    pub fn kill_api(&self) -> Result<()> {
        let (pid, _) = self.api.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.run.end(pid, true)
    }

    /// Starts the API server, again with the same arguments over the same data, and waits until it is ready.
    ///
    /// # Errors
    /// If it does not come up, with the end of its log.
    pub fn start_api(&self) -> Result<()> {
        let (_, arguments) = self.api.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let pid = self.spawn("kube-apiserver", |command| {
            command.args(&arguments);
        })?;
        self.api.lock().unwrap_or_else(PoisonError::into_inner).0 = pid;
        wait_for(&format!("the API server of {}", self.name), START, || {
            self.ensure_running(pid, "kube-apiserver")?;
            self.kubectl(&["get", "--raw", "/readyz"])?.success()
        })
        .with_context(|| self.run.log_tail(&self.log("kube-apiserver")))?;
        Ok(())
    }

    /// Has etcd forget the history of every object, up to now: an older watch cannot go on.
    ///
    /// # Errors
    /// If etcd does not do it.
    pub fn forget_history(&self) -> Result<()> {
        let call = |path: &str, body: serde_json::Value| -> Result<serde_json::Value> {
            let address = format!("127.0.0.1:{}", self.ports.etcd);
            let answer = request(&address, "POST", path, &["Content-Type: application/json"], &body.to_string())?;
            ensure!(answer.status == 200, "etcd answered {}: {}", answer.status, answer.body);
            Ok(serde_json::from_str(&answer.body)?)
        };
        // A key that is not there: only the revision of the answer is of interest.
        let found = call("/v3/kv/range", serde_json::json!({"key": "LQ=="}))?;
        let revision = &found["header"]["revision"];
        call("/v3/kv/compaction", serde_json::json!({"revision": revision, "physical": true}))?;
        Ok(())
    }

    /// Starts a `kubectl proxy`, as an administrator: the API server over plain HTTP. Returns its address.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn proxy(&self, ports: &mut Ports) -> Result<String> {
        let port = ports.take()?;
        let mut proxy = self.command(Who::Admin, "kubectl");
        self.run.start("proxy", proxy.args(["proxy", &format!("--port={port}")]))?;
        Ok(format!("127.0.0.1:{port}"))
    }

    /// The API server's port.
    pub fn api_port(&self) -> u16 {
        self.ports.api
    }

    /// The flag that makes a program somebody of this datacenter.
    fn own(&self, file: &str) -> String {
        format!("--kubeconfig={}", self.folder.join(file).display())
    }

    /// Starts a program of this datacenter where it is. Returns its pid.
    pub(crate) fn spawn(&self, program: &str, arguments: impl FnOnce(&mut Command)) -> Result<u32> {
        let mut command = self.place.command(&self.programs.path(program), &self.folder);
        command.current_dir(&self.folder);
        arguments(&mut command);
        self.run.start(&self.log(program), &mut command)
    }

    /// Says that a program has ended which this datacenter started.
    pub(crate) fn ensure_running(&self, pid: u32, program: &str) -> Result<()> {
        self.run.ensure_running(pid, &self.log(program))
    }

    /// The name of a program's log in the run.
    fn log(&self, program: &str) -> String {
        format!("{}-{program}", self.name)
    }

    /// The run that it belongs to.
    pub fn run(&self) -> &Arc<Run> {
        &self.run
    }

    /// The kubeconfig of somebody.
    pub fn kubeconfig(&self, who: Who) -> PathBuf {
        self.folder.join(match who {
            Who::Admin => "kubeconfig",
            Who::Deployer => "deployer.kubeconfig",
            Who::Engineer => "engineer.kubeconfig",
        })
    }

    /// Who asked for what, and what the webhook noted of it: one JSON object a line.
    pub fn audit_log(&self) -> PathBuf {
        self.folder.join("audit.log")
    }

    /// The certificate of the authority that the API server's certificate is from.
    pub fn authority(&self) -> PathBuf {
        self.folder.join("pki/ca.crt")
    }

    /// Runs `kubectl` as an administrator.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<Output> {
        self.call(Who::Admin, "kubectl", arguments)
    }

    /// Runs `kubectl`, `helm3` or `helm4` as somebody.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn call(&self, who: Who, program: &str, arguments: &[&str]) -> Result<Output> {
        run(self.command(who, program).args(arguments))
    }

    /// A command that reaches this datacenter as somebody.
    pub fn command(&self, who: Who, program: &str) -> Command {
        let mut command = self.place.command(&self.programs.path(program), &self.folder);
        command.env("KUBECONFIG", self.kubeconfig(who));
        command
    }

    /// A command line for bash, as somebody, with the programs of the control plane on the PATH.
    pub fn shell(&self, who: Who, script: &str) -> Command {
        // Whatever hangs is ended, and told.
        let mut command = self.place.command(Path::new("timeout"), &self.folder);
        let path = std::env::var("PATH").unwrap_or_default();
        command
            .env("PATH", format!("{}:{path}", self.programs.folder().display()))
            .env("KUBECONFIG", self.kubeconfig(who))
            .env("ADMIN_KUBECONFIG", self.kubeconfig(Who::Admin))
            .args(["240", "bash", "-c", script]);
        command
    }

    /// Applies manifests as an administrator.
    ///
    /// # Errors
    /// If `kubectl apply` fails.
    pub fn apply(&self, manifests: &str) -> Result<()> {
        self.apply_as(Who::Admin, manifests)?.success()?;
        Ok(())
    }

    /// Applies manifests as somebody.
    ///
    /// # Errors
    /// If `kubectl` cannot be started.
    pub fn apply_as(&self, who: Who, manifests: &str) -> Result<Output> {
        use std::hash::{DefaultHasher, Hash, Hasher};
        let mut hasher = DefaultHasher::new();
        (manifests, std::thread::current().id()).hash(&mut hasher);
        let file = self.folder.join(format!("manifest-{:016x}.yaml", hasher.finish()));
        fs::write(&file, manifests).context("cannot write manifests")?;
        let apply = ["apply", "--request-timeout=60s", "--server-side", "--force-conflicts", "-f"];
        self.call(who, "kubectl", &[&apply[..], &[&file.to_string_lossy()]].concat())
    }

    /// Applies a file as an administrator.
    ///
    /// # Errors
    /// If `kubectl apply` fails.
    pub fn apply_file(&self, file: &Path) -> Result<()> {
        self.kubectl(&["apply", "--server-side", "-f", &file.to_string_lossy()])?.success()?;
        Ok(())
    }

    /// The version of its Kubernetes, such as `v1.36.3`.
    ///
    /// # Errors
    /// If it does not tell.
    pub fn version(&self) -> Result<String> {
        let told: serde_json::Value = serde_json::from_str(&self.kubectl(&["version", "-o", "json"])?.success()?)?;
        Ok(told["serverVersion"]["gitVersion"].as_str().context("it tells no version")?.to_owned())
    }

    /// Writes a kubeconfig for a ServiceAccount, with a token for a day.
    ///
    /// # Errors
    /// If there is no such account, or the file cannot be written.
    pub fn account(&self, namespace: &str, account: &str, file: &Path) -> Result<()> {
        self.account_by(&self.server, &self.authority(), namespace, account, file)
    }

    /// The same, for who reaches the API server at another URL, and trusts another authority there.
    ///
    /// # Errors
    /// If there is no such account, or the file cannot be written.
    pub fn account_by(
        &self,
        server: &str,
        authority: &Path,
        namespace: &str,
        account: &str,
        file: &Path,
    ) -> Result<()> {
        let token = self.kubectl(&["-n", namespace, "create", "token", account, "--duration=24h"])?.success()?;
        kubeconfig(file, server, authority, &Credential::Token(token.trim().to_owned()))
    }

    /// What `kubectl get ARGUMENTS -o json` says.
    ///
    /// # Errors
    /// If it fails.
    pub fn get(&self, arguments: &[&str]) -> Result<serde_json::Value> {
        let mut all = vec!["get", "-o", "json"];
        all.extend(arguments);
        Ok(serde_json::from_str(&self.kubectl(&all)?.success()?)?)
    }
}
