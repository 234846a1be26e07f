//! What goes on all the time while something breaks, through the real API server and as a deployer: removals of a service that serves,
//! as dry runs, and ordinary work on it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use poolguard_harness::datacenter::{Datacenter, Who};
use poolguard_harness::wait::wait_for;
use serde_json::json;
use tokio::runtime::Runtime;

use crate::scenario::SOON;

/// As many removals are asked for at a time.
pub const AT_ONCE: usize = 4;
const PAUSE: Duration = Duration::from_millis(20);

/// Removals and ordinary work, until it is dropped.
pub struct Traffic {
    _runtime: Runtime,
    told: Arc<Mutex<Told>>,
}

/// What came of it since somebody last asked.
#[derive(Debug, Default)]
pub struct Told {
    /// Removals that were refused with the guard's own words.
    pub refused: u64,
    /// Removals that were let pass.
    pub permitted: u64,
    /// Ordinary changes that went through.
    pub worked: u64,
    /// Calls of the webhook that failed, as the API server says.
    pub failed: Vec<String>,
    /// Ordinary changes that failed.
    pub hindered: Vec<String>,
    /// Requests that the API server did not answer.
    pub unheard: u64,
    /// When something last failed or was not heard.
    trouble: Option<Instant>,
}

/// An API server that has just started does not know its roles yet. A refusal of ours begins otherwise.
fn is_young(status: &kube::core::Status) -> bool {
    status.code == 403 && status.message.contains(" is forbidden: User \"deployer\" cannot ")
}

impl Told {
    fn removal(&mut self, answer: Result<(), kube::Error>) {
        match answer {
            Ok(()) => self.permitted += 1,
            Err(kube::Error::Api(status)) if status.message.contains("serves live traffic") => {
                self.refused += 1;
            }
            Err(kube::Error::Api(status)) if !is_young(&status) => {
                self.trouble = Some(Instant::now());
                self.failed.push(status.message);
            }
            Err(_) => self.unheard(),
        }
    }

    fn work(&mut self, answer: Result<(), kube::Error>) {
        match answer {
            Ok(()) => self.worked += 1,
            Err(kube::Error::Api(status)) if !is_young(&status) => self.hindered.push(status.message),
            Err(_) => self.unheard(),
        }
    }

    fn unheard(&mut self) {
        self.trouble = Some(Instant::now());
        self.unheard += 1;
    }
}

impl Traffic {
    /// Starts it against the Deployment `main` of a guarded service, and waits until it is refused.
    pub fn start(datacenter: &Datacenter, namespace: &str, main: &str) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let runtime = Runtime::new().expect("a runtime");
        let told = Arc::new(Mutex::new(Told::default()));
        let file = Kubeconfig::read_from(datacenter.kubeconfig(Who::Deployer)).expect("a kubeconfig");
        let connected = async {
            let options = KubeConfigOptions::default();
            let mut config = kube::Config::from_custom_kubeconfig(file, &options).await.expect("a configuration");
            // What fails is counted, and not tried again.
            config.default_retry = false;
            kube::Client::try_from(config).expect("a client")
        };
        let client = runtime.block_on(connected);
        let deployments = Api::<Deployment>::namespaced(client, namespace);
        for _ in 0..AT_ONCE {
            let (deployments, main, told) = (deployments.clone(), main.to_owned(), Arc::clone(&told));
            runtime.spawn(async move {
                let dry_run = DeleteParams { dry_run: true, ..DeleteParams::default() };
                loop {
                    let answer = deployments.delete(&main, &dry_run).await.map(drop);
                    told.lock().unwrap_or_else(PoisonError::into_inner).removal(answer);
                    tokio::time::sleep(PAUSE).await;
                }
            });
        }
        let (main, own) = (main.to_owned(), Arc::clone(&told));
        runtime.spawn(async move {
            for count in 0_u64.. {
                let patch = json!({"metadata": {"annotations": {"example.dev/work": count.to_string()}}});
                let answer = deployments.patch(&main, &PatchParams::default(), &Patch::Merge(&patch)).await.map(drop);
                own.lock().unwrap_or_else(PoisonError::into_inner).work(answer);
                tokio::time::sleep(PAUSE * 5).await;
            }
        });
        let this = Self { _runtime: runtime, told };
        this.flows("the beginning");
        this.take();
        this
    }

    /// What came of it so far; counting begins anew.
    pub fn take(&self) -> Told {
        std::mem::take(&mut *self.told.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits until removals are refused and nothing fails, for as long as it takes to see ten of them.
    pub fn flows(&self, after: &str) {
        let seen = || {
            let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
            (told.refused, told.failed.len(), told.failed.last().cloned(), told.unheard)
        };
        let mut start = seen();
        wait_for(&format!("removals to be refused after {after}"), SOON, || {
            let now = seen();
            if now.1 != start.1 || now.3 != start.3 {
                start = now.clone();
            }
            anyhow::ensure!(now.0 >= start.0 + 10, "{} are, the last failure: {:?}", now.0 - start.0, now.2);
            Ok(())
        })
        .expect("refusals");
    }

    /// One row: breaks something, waits until all is well again, and says how long that took. Returns what was told meanwhile; nothing
    /// was permitted, and ordinary work was in nobody's way.
    pub fn row(&self, what: &str, breaks: impl FnOnce()) -> Told {
        let between = self.take();
        assert_eq!(between.permitted, 0, "before {what}: a removal was let pass");
        assert!(between.hindered.is_empty(), "before {what}: ordinary work failed: {:?}", between.hindered);
        let start = Instant::now();
        breaks();
        self.flows(what);
        let told = self.take();
        let last = told.trouble.map_or(Duration::ZERO, |at| at.saturating_duration_since(start));
        eprintln!(
            "  {what}: well again after {last:.1?}; {} removals refused, {} calls failed, {} not heard, {} ordinary changes",
            told.refused,
            told.failed.len(),
            told.unheard,
            told.worked
        );
        assert_eq!(told.permitted, 0, "{what}: a removal was let pass");
        assert!(told.hindered.is_empty(), "{what}: ordinary work failed: {:?}", told.hindered);
        assert!(told.refused > 0, "{what}: nothing was refused");
        told
    }

    /// The same, where no call may fail.
    pub fn row_without_failure(&self, what: &str, does: impl FnOnce()) -> Told {
        let told = self.row(what, does);
        assert!(told.failed.is_empty() && told.unheard == 0, "{what}: calls failed: {:?}", told.failed);
        told
    }
}
