//! What a review costs, from its bytes to those of the answer: counts that are the same on every machine, compared with those on
//! record. No network, no TLS, the real routes, and a view that was listed as it always is.

mod decision;
mod instructions;
mod memory;
mod record;
mod review;
mod world;

use std::sync::Once;

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
/// Under valgrind, where each takes long, it is the least of so many.
const COUNTS: usize = 3;
const SIZES: [usize; 2] = [2_000, 10_000];
/// Few and many services. Something that is done for each of them shows already with a hundred.
const FEW: (usize, Layout) = (10, Layout::Apart);
const MANY: (usize, Layout) = (100, Layout::Together);
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

fn named((services, layout): (usize, Layout)) -> String {
    format!("{services} {}", layout.name())
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
}

/// Does something with each kind of review that is on record, beside clusters of these sizes, by its name.
fn for_each(clusters: &[(usize, Layout)], mut measure: impl FnMut(String, &Sent<'_>)) {
    let runtime = runtime();
    let least = Router::new().route("/validate", post(floor));
    for bytes in SIZES {
        let sent = Sent::new(&runtime, &least, world(1, Layout::Apart), Question::Floor, bytes);
        measure(format!("{} {bytes}", Question::Floor.name()), &sent);
    }
    for &(services, layout) in clusters {
        let world = world(services, layout);
        let (router, shutdown) = runtime.block_on(world.router());
        for bytes in SIZES {
            for question in QUESTIONS {
                let sent = Sent::new(&runtime, &router, world, question, bytes);
                measure(format!("{} {bytes} {}", question.name(), named((services, layout))), &sent);
            }
        }
        shutdown.trigger();
    }
}

/// Many services beside the one that is concerned make no review dearer than few do.
fn grows_no_more_than(times: f64, figures: &Figures, few: (usize, Layout), many: (usize, Layout)) {
    for (name, of_many) in figures.iter().filter(|(name, _)| name.ends_with(&named(many))) {
        let of_few = &figures[&name.replace(&named(many), &named(few))];
        for (few, many) in of_few.iter().zip(of_many) {
            assert!(*many as f64 <= *few as f64 * times, "{name}: {of_many:?}, and with few services {of_few:?}");
        }
    }
}

#[test]
fn a_review_allocates_what_is_on_record() {
    let mut allocations = Figures::new();
    let clusters = [(10, Layout::Apart), (10_000, Layout::Apart), (10_000, Layout::Together)];
    for_each(&clusters, |name, sent| drop(allocations.insert(name, sent.allocations())));
    for many in &clusters[1..] {
        grows_no_more_than(1.05, &allocations, clusters[0], *many);
    }
    compare("allocations.txt", &["allocations", "bytes"], &allocations);
}

/// On record is a build without optimisation, as tests are. An optimised one takes a fraction, and tells it:
/// `cargo test --release --test cost instructions -- --nocapture`.
#[test]
fn a_review_takes_the_instructions_that_are_on_record_and_no_more_beside_a_hundred_services() {
    if std::env::var_os(instructions::COUNTED).is_some() {
        for_each(&[FEW, MANY], |name, sent| {
            // The first ones look up symbols and fill caches.
            (0..2).for_each(|_| drop(sent.answer(sent.request())));
            for _ in 0..COUNTS {
                drop(sent.answer(sent.request()));
                sent.settle();
                instructions::announce(&name);
                let request = sent.request();
                drop(instructions::the_counted_review(|| sent.answer(request)));
            }
        });
        return instructions::announce(instructions::END);
    }
    let own = "a_review_takes_the_instructions_that_are_on_record_and_no_more_beside_a_hundred_services";
    let counted = instructions::count(own);
    grows_no_more_than(1.05, &counted, FEW, MANY);
    if cfg!(debug_assertions) {
        return compare("instructions.txt", &["instructions"], &counted);
    }
    for (name, instructions) in &counted {
        println!("{name:<32}{:>16}", instructions[0]);
    }
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
