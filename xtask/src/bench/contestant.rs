//! Who is compared, and over what: a contestant is started beside an API server that holds the services, and answers
//! AdmissionReviews over HTTPS.
//!
//! Never: a measurement. A contestant only says where it listens and which processes it is made of.

use std::any::Any;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Result;
use poolguard_harness::datacenter::Datacenter;
use poolguard_harness::run::Run;
use poolguard_rig::{Asked, Plan, Verdict};

/// Where the services stand: peers index by namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// All in the namespace `bench`.
    Together,
    /// Each in a namespace of its own, `bench-<index>`.
    Apart,
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Together => "in one namespace",
            Self::Apart => "a namespace each",
        })
    }
}

/// The services: each is a ServicePooling `service-<index>`, whose pods are labelled `app: service-<index>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Services {
    /// How many.
    pub count: usize,
    /// Where they stand.
    pub layout: Layout,
}

impl Services {
    /// The namespace of a service.
    pub fn namespace(self, index: usize) -> String {
        match self.layout {
            Layout::Together => "bench".to_owned(),
            Layout::Apart => format!("bench-{index}"),
        }
    }

    /// The name of a ServicePooling, of the label `app` of its pods, and of its record in conftool.
    pub fn name(self, index: usize) -> String {
        format!("service-{index}")
    }

    /// Whether it is pooled here: every other one is. Its ServicePooling says so in `status.serving`: `Serving` or
    /// `NotServing`.
    pub fn pooled(self, index: usize) -> bool {
        index.is_multiple_of(2)
    }
}

/// What a contestant finds when it is started.
pub struct Setting<'a> {
    /// An API server without controllers, which holds the definitions, the namespaces (labelled `poolguard.dev/protected: "true"`
    /// and `kubernetes.io/metadata.name`) and the ServicePoolings, with the status that Poolguard's controller would write.
    pub datacenter: &'a Datacenter,
    /// conftool's etcd, which says the same: `http://127.0.0.1:<port>`.
    pub conftool: &'a str,
    /// The services.
    pub services: Services,
}

impl Setting<'_> {
    /// What owns the processes: start them with [`Run::start`]. They inherit the processor that is the server's, since the
    /// thread that calls [`Contestant::start`] is bound to it; threads that it starts itself are, too.
    pub fn run(&self) -> &Run {
        self.datacenter.run()
    }
}

/// Somebody who is compared.
pub trait Contestant {
    /// As tables and `--only` name it: one word.
    fn name(&self) -> &'static str;

    /// Builds what is missing, before anything is started or measured.
    ///
    /// # Errors
    /// If it cannot be built.
    fn build(&mut self) -> Result<()>;

    /// What it answers where this is right: the floor allows whatever comes.
    fn answers(&self, right: Verdict) -> Verdict {
        right
    }

    /// With more services than this it is not measured: a run is bounded in time.
    fn most_services(&self) -> usize {
        usize::MAX
    }

    /// Starts it. The caller then sends a review of the last service, and waits until it is refused.
    ///
    /// # Errors
    /// If it does not start.
    fn start(&self, setting: &Setting<'_>) -> Result<Running>;
}

/// A contestant that runs.
pub struct Running {
    /// Where it listens.
    pub address: SocketAddr,
    /// The path that reviews are posted to, such as `/validate`.
    pub path: String,
    /// The authority that signed its certificate, PEM. The certificate names 127.0.0.1.
    pub authority: PathBuf,
    /// Its processes: whose CPU time and memory are its own. The run ends them.
    pub pids: Vec<u32>,
    /// What must live as long, such as ports that are held.
    pub held: Vec<Box<dyn Any>>,
}

impl Running {
    /// One process that listens at a port of 127.0.0.1; `held` lives as long.
    pub fn new(port: u16, path: &str, authority: PathBuf, pid: u32, held: impl Any) -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        Self { address, path: path.to_owned(), authority, pids: vec![pid], held: vec![Box::new(held)] }
    }

    /// Sends it the reviews of this file, one connection as fast as possible for a second. What differs is said by who measures.
    pub fn plan(&self, reviews: &Path, expected: Verdict) -> Plan {
        Plan {
            address: self.address,
            authority: self.authority.clone(),
            asked: Asked::Reviews { path: self.path.clone(), file: reviews.to_path_buf() },
            expected,
            connections: 1,
            rate: None,
            warmup: 0.0,
            seconds: 1.0,
            patience: 2.0,
            pids: self.pids.clone(),
        }
    }

    /// Ends it.
    ///
    /// # Errors
    /// If a process cannot be ended.
    pub fn stop(self, run: &Run) -> Result<()> {
        let Self { pids, held, .. } = self;
        pids.iter().try_for_each(|pid| run.end(*pid, false))?;
        drop(held);
        Ok(())
    }
}
