//! Sets of metrics: each is registered whole, and listed whole in the documentation.

use prometheus::core::Collector;
use prometheus::{Error, IntGaugeVec, Opts, Registry};

/// Everything that a set exposes.
pub type Collectors = Vec<Box<dyn Collector>>;

/// Metrics that belong together.
pub trait Metrics: Sized {
    /// Makes them; nobody sees them yet.
    ///
    /// # Errors
    /// If a name or a label is none that Prometheus takes.
    fn new() -> Result<Self, Error>;

    /// All of them: what is not here is exposed nowhere.
    fn collectors(&self) -> Collectors;

    /// Makes and registers them.
    ///
    /// # Errors
    /// If one of them is there already.
    fn register(registry: &Registry) -> Result<Self, Error> {
        let this = Self::new()?;
        for collector in this.collectors() {
            registry.register(collector)?;
        }
        Ok(this)
    }
}

/// What is running.
pub struct Build {
    info: IntGaugeVec,
}

impl Build {
    /// Says which process this is.
    pub fn runs(&self, process: &str) {
        self.info.with_label_values(&[env!("CARGO_PKG_VERSION"), process]).set(1);
    }
}

impl Metrics for Build {
    fn new() -> Result<Self, Error> {
        let info = IntGaugeVec::new(
            Opts::new(
                "poolguard_build_info",
                "Always 1, with the version; alert when process=\"webhook\" is absent for 2 minutes.",
            ),
            &["version", "process"],
        )?;
        Ok(Self { info })
    }

    fn collectors(&self) -> Collectors {
        let Self { info } = self;
        vec![Box::new(info.clone())]
    }
}
