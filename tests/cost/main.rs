//! What a review costs, from its bytes to those of the answer: counts that are the same on every machine, compared with those on
//! record. No network, no TLS, the real routes, and a view that was listed as it always is.

mod instructions;
mod memory;
mod record;
mod review;
mod world;

use std::collections::BTreeMap;
use std::sync::Once;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{Request, header};
use axum::response::Response;
use axum::routing::post;
use poolguard::config::{Log, LogFormat};
use poolguard::runtime::telemetry;
use tokio::runtime::Runtime;
use tower::ServiceExt;
use tracing_subscriber::layer::SubscriberExt;

use record::{Figures, compare};
use review::{Question, floor, review};
use world::{Layout, World};

/// What disturbs a count, such as a task that happens to be due, only adds to it: the least of as many counts.
const TIMES: usize = 20;
const SIZES: [usize; 2] = [2_000, 10_000];
const QUESTIONS: [Question; 3] = [Question::Unguarded, Question::Refused, Question::Allowed];

/// Everything on one thread, so that all that a review costs is counted and nothing else.
fn runtime() -> Runtime {
    static LOG: Once = Once::new();
    LOG.call_once(|| {
        let log = Log { format: LogFormat::Json, level: "info".to_owned() };
        let lines = telemetry::lines(&log, std::io::sink).expect("a level");
        tracing::subscriber::set_global_default(tracing_subscriber::registry().with(lines)).expect("the first");
    });
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

fn world(services: usize, layout: Layout) -> World {
    World { services, pods: 1, pod_bytes: 0, layout }
}

/// A review that can be sent again and again.
struct Sent<'a> {
    runtime: &'a Runtime,
    router: Router,
    body: Bytes,
}

impl<'a> Sent<'a> {
    /// Sends it once, and looks at the answer. From then on its evidence is warm.
    fn new(runtime: &'a Runtime, router: &Router, world: World, question: Question, bytes: usize) -> Self {
        let this = Self { runtime, router: router.clone(), body: review(world, question, bytes) };
        assert!(this.body.len().abs_diff(bytes) <= 100, "{} bytes", this.body.len());
        let answer = axum::body::to_bytes(this.answer(this.request()).into_body(), 1 << 20);
        let answer: serde_json::Value =
            serde_json::from_slice(&runtime.block_on(answer).expect("a body")).expect("JSON");
        assert_eq!(answer["response"]["allowed"], question != Question::Refused, "{answer}");
        this
    }

    fn request(&self) -> Request<Body> {
        let request = Request::post("/validate").header(header::CONTENT_TYPE, "application/json");
        request.body(Body::from(self.body.clone())).expect("a request")
    }

    fn answer(&self, request: Request<Body>) -> Response {
        self.runtime.block_on(self.router.clone().oneshot(request)).expect("the router never fails")
    }

    /// Lets everything else finish, such as the Event of the last refusal.
    fn settle(&self) {
        self.runtime.block_on(async {
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
        });
    }

    /// How much is allocated for it: how often, and how many bytes.
    fn allocations(&self) -> Vec<u64> {
        let count = |_| {
            self.settle();
            let request = self.request();
            let counted = allocation_counter::measure(|| drop(self.answer(request)));
            (counted.count_total, counted.bytes_total)
        };
        let (count, bytes) = (0..TIMES).map(count).min().expect("several");
        vec![count, bytes]
    }

    /// The least time that it takes.
    fn time(&self) -> Duration {
        let time = |_| {
            let request = self.request();
            let start = Instant::now();
            let answer = self.answer(request);
            let took = start.elapsed();
            drop(answer);
            took
        };
        (0..10 * TIMES).map(time).min().expect("several")
    }
}

/// Does something with each kind of review that is on record, by its name.
fn for_each(mut measure: impl FnMut(String, &Sent<'_>)) {
    let runtime = runtime();
    let least = Router::new().route("/validate", post(floor));
    for bytes in SIZES {
        let sent = Sent::new(&runtime, &least, world(1, Layout::Apart), Question::Floor, bytes);
        measure(format!("{} {bytes}", Question::Floor.name()), &sent);
    }
    for (services, layout) in [(10, Layout::Apart), (10_000, Layout::Apart), (10_000, Layout::Together)] {
        let world = world(services, layout);
        let (router, shutdown) = runtime.block_on(world.router());
        for bytes in SIZES {
            for question in QUESTIONS {
                let sent = Sent::new(&runtime, &router, world, question, bytes);
                measure(format!("{} {bytes} {services} {}", question.name(), layout.name()), &sent);
            }
        }
        shutdown.trigger();
    }
}

#[test]
fn a_review_costs_what_is_on_record_and_no_more_beside_ten_thousand_services() {
    let (mut allocations, mut times) = (Figures::new(), BTreeMap::new());
    for_each(|name, sent| {
        allocations.insert(name.clone(), sent.allocations());
        times.insert(name, sent.time());
    });
    compare("allocations.txt", &["allocations", "bytes"], &allocations);
    for (name, time) in &times {
        println!("{name:<32}{time:>16.1?}");
        // Something that is done for each service would take hundreds of times as long; caches alone make some difference.
        let few = name.replace("10000 apart", "10 apart").replace("10000 together", "10 apart");
        assert!(*time < times[&few] * 3, "{name}: {time:?}, and with ten services {:?}", times[&few]);
    }
}

#[test]
#[ignore = "needs valgrind and an optimised build: cargo test --release --test cost -- --ignored"]
fn a_review_takes_the_instructions_that_are_on_record() {
    if std::env::var_os(instructions::COUNTED).is_some() {
        return for_each(|name, sent| {
            // The first ones look up symbols and fill caches.
            (0..3).for_each(|_| drop(sent.answer(sent.request())));
            sent.settle();
            instructions::announce(&name);
            let request = sent.request();
            drop(instructions::the_counted_review(|| sent.answer(request)));
        });
    }
    let unoptimised = std::hint::black_box(cfg!(debug_assertions));
    assert!(!unoptimised, "instructions of such a build say nothing: use --release");
    compare(
        "instructions.txt",
        &["instructions"],
        &instructions::count("a_review_takes_the_instructions_that_are_on_record"),
    );
}

/// Services, pods of each, and the most that the webhook may take beside them, in MiB.
const MEMORY: [(usize, usize, f64); 3] = [(0, 0, 15.0), (500, 20, 40.0), (10_000, 15, 120.0)];

#[test]
#[ignore = "needs an optimised build: cargo test --release --test cost -- --ignored"]
fn a_large_cluster_fits_into_memory() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let mut over = Vec::new();
    for (services, pods, limit) in MEMORY {
        let (now, most, took) = runtime.block_on(memory::of(services, pods));
        let line = format!(
            "{services} services, {} pods: {now:.1} MiB, {most:.1} MiB at most, ready after {took:.1?}",
            services * pods
        );
        println!("{line}");
        if now > limit {
            over.push(format!("{line}, and not more than {limit} MiB"));
        }
    }
    assert!(over.is_empty(), "{}", over.join("\n"));
}
