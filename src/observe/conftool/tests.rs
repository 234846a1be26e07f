//! What follows from a record as a whole, through the way that the watch's events take.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use axum::extract::State;
use axum::response::IntoResponse;
use jiff::SignedDuration;
use poolguard_policy::pooling::{Arm, Enforcement};
use poolguard_policy::selector::Selector;

use super::*;
use crate::config::{Config, Overrides};
use crate::runtime::metrics::Metrics as _;

/// A TTL that no test outlives.
const HOUR: u32 = 3600;

fn source() -> Conftool {
    source_at("http://127.0.0.1:1")
}

fn source_at(endpoint: &str) -> Conftool {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let source = format!("{{name: c, conftool: {{propagation: 0s, endpoints: ['{endpoint}']}}}}");
    let text = format!("{{datacenter: eqiad, sources: [{source}]}}");
    let config = Config::parse(&text, Overrides::default()).expect("a configuration");
    let metrics = Metrics::new().expect("metrics");
    let own = config.sources[0].conftool.as_ref().expect("a source");
    Conftool::new("c", own, metrics, Arc::default()).expect("a client")
}

fn service(mode: Mode, datacenters: &[&str]) -> Pooling {
    Pooling {
        key: poolguard_policy::pooling::Key { namespace: "space".to_owned(), name: "pilot".to_owned() },
        version: String::new(),
        selector: Selector::labels([("app", "pilot")]),
        expendable: None,
        mode,
        datacenters: datacenters.iter().map(|name| (*name).to_owned()).collect(),
        min_pooled_datacenters: 1,
        evidence: vec![Evidence {
            name: "discovery".to_owned(),
            arm: Arm::Conftool { source: None, record: "pilot".to_owned() },
        }],
        enforcement: Enforcement::Enforce,
        accepted: Vec::new(),
    }
}

/// An event of the watch.
fn event(source: &Conftool, datacenter: &str, value: Option<(bool, u32)>, revision: u64) {
    let value = value.map_or_else(
        || Err(Bad::new(Why::Malformed, "value is not JSON")),
        |(pooled, ttl)| Ok(Record { pooled, ttl, revision }),
    );
    source.take(Some("pilot"), |all| {
        all.entry("pilot".to_owned()).or_default().insert(datacenter.to_owned(), value);
    });
}

fn eqiad(source: &Conftool, pooling: &Pooling, remembered: &Remembered) -> Answer {
    let now = Timestamp::now() + SignedDuration::from_secs(2);
    let answers = source.followed(pooling, &pooling.evidence[0], "pilot", &pooling.datacenters, remembered, now);
    answers.into_iter().find(|answer| answer.datacenter == "eqiad").expect("an answer about eqiad")
}

#[test]
fn a_record_pooled_twice_elsewhere_is_ambiguous_whatever_the_spec_names() {
    let source = source();
    for (revision, datacenter, pooled) in [(1, "codfw", true), (2, "ulsfo", true), (3, "eqiad", false)] {
        event(&source, datacenter, Some((pooled, 1)), revision);
    }
    for names in [&["codfw", "eqiad", "ulsfo"] as &[&str], &["codfw", "eqiad"]] {
        let answer = eqiad(&source, &service(Mode::ActivePassive, names), &Remembered::new());
        assert_eq!(answer.says, Says::Unknown(Why::Ambiguous), "{names:?}: {}", answer.detail);
        assert_eq!(answer.not_serving_after, None);
    }
    assert_eq!(eqiad(&source, &service(Mode::ActiveActive, &["eqiad"]), &Remembered::new()).says, Says::NotServing);
    // A value that cannot be read any more makes it no better.
    event(&source, "ulsfo", None, 4);
    let all = ["codfw", "eqiad", "ulsfo"];
    for mode in MODES {
        assert_eq!(eqiad(&source, &service(mode, &all), &Remembered::new()).says, Says::Unknown(Why::Malformed));
    }
}

#[test]
fn what_changed_while_nothing_was_heard_was_not_seen_to_happen() {
    let source = source();
    let witnessed = |source: &Conftool| lock(&source.memory)[&("pilot".to_owned(), "eqiad".to_owned())].witnessed;
    event(&source, "eqiad", Some((true, 1)), 1);
    assert!(!witnessed(&source), "it was found so");
    event(&source, "eqiad", Some((false, 1)), 2);
    assert!(witnessed(&source));
    // The same again is no change.
    event(&source, "eqiad", Some((false, 1)), 2);
    assert!(witnessed(&source));
    *lock(&source.heard) = Some(Timestamp::now() - OUT_OF_TOUCH);
    event(&source, "eqiad", Some((true, 1)), 3);
    assert!(!witnessed(&source), "it may have happened at any time since");
    event(&source, "eqiad", Some((false, 1)), 4);
    assert!(witnessed(&source));
}

#[test]
fn the_clock_starts_when_dns_can_follow_again() {
    for stuck in [Some((true, HOUR)), None] {
        let source = source();
        let pooling = service(Mode::ActivePassive, &["codfw", "eqiad", "ulsfo"]);
        event(&source, "codfw", Some((true, HOUR)), 1);
        event(&source, "ulsfo", stuck, 2);
        event(&source, "eqiad", Some((false, HOUR)), 3);
        // Since yesterday, so that every TTL of that time is over.
        let yesterday = Timestamp::now() - SignedDuration::from_hours(24);
        for memory in lock(&source.memory).values_mut() {
            memory.since = yesterday;
            memory.held_until = yesterday;
        }
        assert!(matches!(eqiad(&source, &pooling, &Remembered::new()).says, Says::Unknown(_)));
        event(&source, "ulsfo", Some((false, 1)), 4);
        let answer = eqiad(&source, &pooling, &Remembered::new());
        assert_eq!(answer.says, Says::Draining);
        assert!(answer.not_serving_after.is_some_and(|after| after > Timestamp::now()));
    }
}

#[test]
fn a_status_written_while_dns_was_stuck_proves_nothing_afterwards() {
    let source = source();
    let pooling = service(Mode::ActivePassive, &["codfw", "eqiad"]);
    event(&source, "codfw", Some((true, HOUR)), 1);
    event(&source, "eqiad", Some((false, HOUR)), 2);
    // A status without a time from when on the depool may be believed reads as one of a pooled value.
    let yesterday = Timestamp::now() - SignedDuration::from_hours(24);
    let record = Record { pooled: true, ttl: 0, revision: 2 };
    let status = Memory { record, since: yesterday, held_until: yesterday, witnessed: false };
    let remembered = Remembered::from([(("discovery".to_owned(), "eqiad".to_owned()), status)]);
    assert_eq!(eqiad(&source, &pooling, &remembered).says, Says::Draining);
}

/// etcd, at the wire: it lists nothing, and ends every watch at once.
async fn hasty(State(lists): State<Arc<AtomicUsize>>, uri: axum::http::Uri) -> String {
    if uri.query().is_some_and(|query| query.contains("wait=true")) {
        return String::new();
    }
    lists.fetch_add(1, Ordering::SeqCst);
    r#"{"action":"get","node":{"key":"/conftool/v1/discovery","dir":true}}"#.to_owned()
}

#[tokio::test]
async fn an_etcd_that_ends_every_watch_is_listed_less_and_less_often() {
    let lists = Arc::new(AtomicUsize::new(0));
    let routes = axum::Router::new().fallback(axum::routing::get(hasty)).with_state(Arc::clone(&lists));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
    tokio::spawn(async move { axum::serve(listener, routes).await });
    let start = Instant::now();
    let following = tokio::spawn(follow(Arc::new(source_at(&endpoint)), crate::runtime::Shutdown::default()));
    while lists.load(Ordering::SeqCst) < 4 {
        assert!(start.elapsed() < std::time::Duration::from_secs(30), "it is not listed again");
        tokio::task::yield_now().await;
    }
    // 100 ms, 200 ms and 400 ms.
    assert!(start.elapsed() >= std::time::Duration::from_millis(700), "listed 4 times within {:?}", start.elapsed());
    following.abort();
}

/// etcd, at the wire: one record, and a watch that never says anything.
#[derive(Default)]
struct Quiet {
    /// Its index.
    index: AtomicU64,
    /// Single records cannot be read.
    broken: AtomicBool,
    lists: AtomicUsize,
    watches: AtomicUsize,
}

async fn quiet(State(etcd): State<Arc<Quiet>>, uri: axum::http::Uri) -> impl IntoResponse {
    if uri.query().is_some_and(|query| query.contains("wait=true")) {
        etcd.watches.fetch_add(1, Ordering::SeqCst);
        std::future::pending::<()>().await;
    }
    let list = uri.path().ends_with("/discovery");
    etcd.lists.fetch_add(list.into(), Ordering::SeqCst);
    let node = r#"{"key":"/conftool/v1/discovery/pilot/eqiad","value":"{\"pooled\":true}","modifiedIndex":3}"#;
    let broken = !list && etcd.broken.load(Ordering::SeqCst);
    let text = if broken { "?".to_owned() } else { format!(r#"{{"action":"get","node":{node}}}"#) };
    ([("x-etcd-index", etcd.index.load(Ordering::SeqCst).to_string())], text)
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < std::time::Duration::from_secs(30), "waited for {what}");
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn a_silent_watch_is_begun_again_and_everything_listed_only_where_etcd_may_have_changed() {
    let etcd = Arc::new(Quiet { index: 7.into(), ..Quiet::default() });
    let routes = axum::Router::new().fallback(axum::routing::get(quiet)).with_state(Arc::clone(&etcd));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
    tokio::spawn(async move { axum::serve(listener, routes).await });
    let mut source = source_at(&endpoint);
    source.client.silence = std::time::Duration::from_millis(20);
    let source = Arc::new(source);
    let following = tokio::spawn(follow(Arc::clone(&source), crate::runtime::Shutdown::default()));
    let (lists, watches) = (|| etcd.lists.load(Ordering::SeqCst), || etcd.watches.load(Ordering::SeqCst));
    until("the fifth watch", || watches() >= 5).await;
    assert_eq!(lists(), 1, "nothing has changed");
    // An answer that was under way when the switch was told.
    let older = Values::from([("eqiad".to_owned(), Ok(Record { pooled: false, ttl: 0, revision: 2 }))]);
    source.look("pilot", &older, Timestamp::now());
    let place = ("pilot".to_owned(), "eqiad".to_owned());
    until("what the watch told", || lock(&source.memory)[&place].record.revision == 3).await;
    assert_eq!(lists(), 1, "nothing has changed");
    // Whatever it was, the watch may have missed it.
    etcd.index.store(9, Ordering::SeqCst);
    until("a list after a change", || lists() >= 2).await;
    let before = watches();
    until("five watches more", || watches() >= before + 5).await;
    assert_eq!(lists(), 2, "it is as it was listed");
    assert!(lock(&source.restored).is_none());
    // Restored from an older state.
    etcd.index.store(5, Ordering::SeqCst);
    until("a list after a restore", || lists() >= 3).await;
    assert!(lock(&source.restored).is_some());
    // A record that cannot be read is no reason to lose all others.
    etcd.broken.store(true, Ordering::SeqCst);
    let before = lists();
    until("further lists", || lists() >= before + 2).await;
    assert_eq!(source.down(), None);
    following.abort();
}
