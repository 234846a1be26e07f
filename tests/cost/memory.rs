//! How much memory the webhook takes as a process, and how soon it is ready, beside an API server that holds a cluster of a chosen
//! size.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use poolguard_harness::ports::Ports;
use rcgen::{CertificateParams, KeyPair};

use crate::world::{Layout, World};

/// Bytes of a pod as large clusters have them.
const POD: usize = 4_000;
const PATIENCE: Duration = Duration::from_secs(120);

/// The process; it ends with its owner.
struct Webhook(Child);

impl Drop for Webhook {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Webhook {
    fn start(folder: &Path, api: SocketAddr, listen: u16, admin: u16) -> Self {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
        let certificate = params.self_signed(&key).expect("a certificate");
        let kubeconfig = format!(
            "{{apiVersion: v1, kind: Config, current-context: c, clusters: [{{name: c, cluster: {{server: 'http://{api}'}}}}], \
             users: [{{name: c, user: {{}}}}], contexts: [{{name: c, context: {{cluster: c, user: c}}}}]}}"
        );
        for (file, text) in [
            ("tls.crt", certificate.pem()),
            ("tls.key", key.serialize_pem()),
            ("kubeconfig", kubeconfig),
            ("config.yaml", "datacenter: eqiad".to_owned()),
        ] {
            fs::write(folder.join(file), text).expect("a file");
        }
        let mut command = Command::new(env!("CARGO_BIN_EXE_poolguard"));
        command.arg("webhook").arg("--config").arg(folder.join("config.yaml")).arg("--tls-dir").arg(folder);
        command.args([format!("--listen=127.0.0.1:{listen}"), format!("--metrics-listen=127.0.0.1:{admin}")]);
        command.env("KUBECONFIG", folder.join("kubeconfig")).stderr(Stdio::null());
        Self(command.spawn().expect("it starts"))
    }

    /// What it takes now and took at most, in MiB.
    fn memory(&self) -> (f64, f64) {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0.id())).expect("it is alive");
        let of = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("a line");
            line.trim_end_matches("kB").trim().parse::<f64>().expect("a number") / 1024.0
        };
        (of("VmRSS:"), of("VmHWM:"))
    }
}

/// What it takes beside this cluster, once it is ready, the peak until then, and how long that took.
pub async fn of(services: usize, pods: usize) -> (f64, f64, Duration) {
    let api = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = api.local_addr().expect("an address");
    let world = World { services, pods, pod_bytes: POD, layout: Layout::Apart };
    let server = tokio::spawn(async move { axum::serve(api, world.server()).await });
    let folder = tempfile::tempdir().expect("a folder");
    let mut ports = Ports::new();
    let (listen, admin) = (ports.take().expect("a port"), ports.take().expect("a port"));
    let began = Instant::now();
    let webhook = Webhook::start(folder.path(), address, listen, admin);
    let ready = || async {
        let asked = reqwest::get(format!("http://127.0.0.1:{admin}/readyz")).await;
        asked.is_ok_and(|answer| answer.status().is_success())
    };
    while !ready().await {
        assert!(began.elapsed() < PATIENCE, "not ready with {services} services");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let took = began.elapsed();
    let (now, most) = webhook.memory();
    server.abort();
    (now, most, took)
}
