//! The command line: reads flags, environment and configuration, runs one process, and turns its end into an exit code.
//!
//! Exit codes: 0 after a requested stop, 1 after a failure, 2 for a wrong command line or configuration.

use std::error::Error;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use poolguard::config::{Config, LogFormat, Overrides};
use poolguard::observe::Sources;
use poolguard::runtime::metrics::{Build, Metrics as _};
use poolguard::runtime::{Environment, Health, Shutdown, admin, chain, client, telemetry};
use poolguard::{controller, uninstall, webhook};

/// Refuses to take a service away in a datacenter that still serves its live traffic.
#[derive(Parser)]
#[command(
    version,
    about,
    after_help = "Exit codes: 0 after a requested stop, 1 after a failure, 2 for a wrong command line or configuration."
)]
struct Cli {
    #[command(subcommand)]
    process: Process,
}

#[derive(Subcommand)]
enum Process {
    /// Answer the API server's admission reviews.
    Webhook(Flags),
    /// Keep the status of ServicePoolings, namespace labels and disruption budgets true.
    Controller(Flags),
    /// Do nothing until told to stop: the pod of the canary, whose deletion is tried and must be refused.
    Idle,
    /// Open the guard before the chart goes: what `helm uninstall` runs first. Fails while services are guarded.
    Uninstall(Uninstall),
    /// Wait until the guard is up: a dry run is refused, and the controller says that all are. Fails if it is not in time.
    CheckGuard(CheckGuard),
}

/// Where to look, and for how long.
#[derive(Args)]
struct CheckGuard {
    /// The canary's namespace.
    #[arg(long, value_name = "NAME", default_value = "poolguard-canary")]
    canary_namespace: String,
    /// How long to wait.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    within: u64,
}

/// What is removed, and whether it may be.
#[derive(Args)]
struct Uninstall {
    /// The ValidatingWebhookConfiguration to remove.
    #[arg(long, value_name = "NAME", default_value = "poolguard")]
    webhook_configuration: String,
    /// The namespace of the canary, whose ServicePooling does not count.
    #[arg(long, value_name = "NAME", default_value = "poolguard-canary")]
    canary_namespace: String,
    /// Also while services are guarded.
    #[arg(long)]
    confirmed: bool,
}

/// What both processes are told. A flag or variable overrides the single value of the file.
#[derive(Args)]
struct Flags {
    /// The configuration file.
    #[arg(long, env = "POOLGUARD_CONFIG", value_name = "FILE", default_value = "/etc/poolguard/config.yaml")]
    config: PathBuf,
    /// Overrides `datacenter`.
    #[arg(long, env = "POOLGUARD_DATACENTER", value_name = "NAME")]
    datacenter: Option<String>,
    /// Overrides `webhook.listen`.
    #[arg(long, env = "POOLGUARD_LISTEN", value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,
    /// Overrides `webhook.tlsDir`: the folder with tls.crt and tls.key.
    #[arg(long, env = "POOLGUARD_TLS_DIR", value_name = "FOLDER")]
    tls_dir: Option<PathBuf>,
    /// Overrides `metrics.listen`.
    #[arg(long, env = "POOLGUARD_METRICS_LISTEN", value_name = "ADDRESS:PORT")]
    metrics_listen: Option<SocketAddr>,
    /// Overrides `log.format`.
    #[arg(long, env = "POOLGUARD_LOG_FORMAT", value_enum)]
    log_format: Option<Format>,
    /// Overrides `log.level`.
    #[arg(long, env = "POOLGUARD_LOG_LEVEL", value_name = "LEVEL")]
    log_level: Option<String>,
    /// Overrides `traces.endpoint`.
    #[cfg(feature = "otlp")]
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", value_name = "URL")]
    traces_endpoint: Option<String>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    Json,
    Text,
}

fn main() -> ExitCode {
    let process = Cli::parse().process;
    rustls::crypto::ring::default_provider().install_default().expect("nobody installed a provider before");
    match process {
        Process::Webhook(flags) => serve(&flags, Work::Webhook),
        Process::Controller(flags) => serve(&flags, Work::Controller),
        Process::Idle => idle(),
        Process::Uninstall(flags) => open(&flags),
        Process::CheckGuard(flags) => check(&flags),
    }
}

/// Which process serves.
#[derive(Clone, Copy)]
enum Work {
    Webhook,
    Controller,
}

impl Work {
    fn name(self) -> &'static str {
        match self {
            Self::Webhook => "webhook",
            Self::Controller => "controller",
        }
    }
}

/// Reads the configuration, and runs until the end.
fn serve(flags: &Flags, work: Work) -> ExitCode {
    let overrides = Overrides {
        datacenter: flags.datacenter.clone(),
        webhook_listen: flags.listen,
        tls_dir: flags.tls_dir.clone(),
        metrics_listen: flags.metrics_listen,
        log_format: flags.log_format.map(|format| match format {
            Format::Json => LogFormat::Json,
            Format::Text => LogFormat::Text,
        }),
        log_level: flags.log_level.clone(),
        #[cfg(feature = "otlp")]
        traces_endpoint: flags.traces_endpoint.clone(),
        #[cfg(not(feature = "otlp"))]
        traces_endpoint: None,
    };
    let config = match Config::load(&flags.config, overrides) {
        Ok(config) => config,
        Err(errors) => {
            eprintln!("{errors}");
            return ExitCode::from(2);
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("cannot start the runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let inside = runtime.enter();
    let telling = match telemetry::start(&config.log, work.name(), config.traces.endpoint.as_deref()) {
        Ok(telling) => telling,
        Err(message) => {
            eprintln!("configuration: {message}");
            return ExitCode::from(2);
        }
    };
    drop(inside);
    let code = match runtime.block_on(run(work, config)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = &*error as &dyn Error, "ended");
            eprintln!("poolguard: {}", chain(&*error));
            ExitCode::FAILURE
        }
    };
    telling.end();
    code
}

/// Waits for the end.
fn idle() -> ExitCode {
    ended(once(async {
        Shutdown::on_signals()?.requested().await;
        Ok(())
    }))
}

/// Opens the guard.
fn open(flags: &Uninstall) -> ExitCode {
    ended(once(async {
        let client = client::connect().await?;
        Ok(uninstall::run(client, &flags.webhook_configuration, &flags.canary_namespace, flags.confirmed).await?)
    }))
}

/// Waits for the guard.
fn check(flags: &CheckGuard) -> ExitCode {
    ended(once(async {
        let client = client::connect().await?;
        let within = Duration::from_secs(flags.within);
        let found = controller::check::check(client, &flags.canary_namespace, within).await?;
        println!("The guard is up: {found}.");
        Ok(())
    }))
}

/// Runs something small.
fn once(work: impl Future<Output = Result<(), Box<dyn Error>>>) -> Result<(), Box<dyn Error>> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}

fn ended(result: Result<(), Box<dyn Error>>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("poolguard: {}", chain(&*error));
            ExitCode::FAILURE
        }
    }
}

async fn run(which: Work, config: Config) -> Result<(), Box<dyn Error + Send + Sync>> {
    let config = Arc::new(config);
    let shutdown = Shutdown::on_signals()?;
    let registry = prometheus::Registry::new();
    Build::register(&registry)?.runs(which.name());
    let health = Health::default();
    let sources = Sources::new(&config, &registry)?;
    let client = client::connect().await?;
    let env = Environment { client, registry: registry.clone(), health: health.clone(), shutdown: shutdown.clone() };
    let admin = admin::serve(config.metrics.listen, admin::router(registry, health), shutdown.clone());
    let work = async {
        match which {
            Work::Webhook => webhook::run(env, config, sources).await.map_err(Box::<dyn Error + Send + Sync>::from),
            Work::Controller => controller::run(env, config, sources).await.map_err(Box::from),
        }
    };
    tokio::pin!(work);
    tokio::select! {
        ended = &mut work => ended?,
        ended = admin => {
            ended?;
            // Metrics stop as soon as a stop is requested; the work may take longer to end well.
            work.await?;
        }
    }
    match shutdown.failed() {
        Some(task) => Err(format!("the task {task:?} has ended, and nothing works without it").into()),
        None => Ok(()),
    }
}
