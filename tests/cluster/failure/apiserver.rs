//! The API server as the webhook and the controller see it: it restarts, its watches fall silent, their history is gone, and what
//! happened meanwhile comes all at once.

use std::time::{Duration, Instant};

use poolguard_harness::datacenter::{Controllers, Datacenter};
use poolguard_harness::http::get;
use poolguard_harness::operator::{Operator, PROCESSES};
use poolguard_harness::relay::Relay;
use poolguard_harness::services;
use poolguard_harness::wait::wait_for;
use serde_json::json;

use super::gate::Gate;
use super::traffic::Traffic;
use crate::scenario::{Alone, SOON};

const NAME: &str = "watched";
const MAIN: &str = "watched-main";
/// A service that changes while nobody hears of it.
const LATE: &str = "late";
const LATE_MAIN: &str = "late-main";
/// One that comes, goes and comes again meanwhile.
const AGAIN: &str = "again";
const AGAIN_MAIN: &str = "again-main";
/// What the webhook says of a `ServicePooling` that it cannot read, or has not heard of.
const UNHEARD: [&str; 2] = ["cannot read ServicePooling", "has just changed or gone"];
/// `webhook.watchSilence`.
const SILENCE: Duration = Duration::from_secs(16);

/// Both processes, with the relay and the gate in their way to the API server.
fn led(datacenter: &Datacenter, operator: &Operator) -> (Relay, Gate) {
    let gate = Gate::start(datacenter, "api");
    let relay = Relay::start(&[gate.port]).expect("a relay");
    for process in PROCESSES {
        operator.stop(datacenter, process, false).expect("it ends");
        operator.reach(datacenter, process, relay.port, &gate.authority).expect("another way");
        operator.set(process, "/webhook/watchSilence", json!(format!("{}s", SILENCE.as_secs()))).expect("a setting");
        operator.start(datacenter, process).expect("it starts again");
    }
    for process in PROCESSES {
        operator.ready(datacenter, process).expect("it is ready");
    }
    (relay, gate)
}

/// Waits until a dry run of a removal says this.
fn says(alone: &Alone, name: &str, main: &str, words: &str) {
    wait_for(&format!("the removal of {name} to be told {words:?}"), SOON, || {
        let output = alone.kubectl(name, &["delete", "deployment", main, "--dry-run=server"]);
        anyhow::ensure!(output.text().contains(words), "{}", output.text());
        Ok(())
    })
    .expect("an answer");
}

/// The same, and until then no dry run of it is let pass: what has just been declared counts, whoever has heard of it. Returns how often it
/// was the `ServicePooling` itself that the webhook had not heard of.
fn comes_to_say(alone: &Alone, name: &str, main: &str, words: &str) -> usize {
    let mut unheard = 0;
    wait_for(&format!("the removal of {name} to be told {words:?}"), SOON, || {
        let output = alone.kubectl(name, &["delete", "deployment", main, "--dry-run=server"]);
        let text = output.text();
        assert!(!output.ok(), "it was let pass: {text}");
        unheard += usize::from(UNHEARD.iter().any(|unheard| text.contains(unheard)));
        anyhow::ensure!(text.contains(words), "{text}");
        Ok(())
    })
    .expect("an answer");
    unheard
}

fn not_ready(operator: &Operator, process: &str) {
    wait_for(&format!("{process} to doubt its view"), SILENCE * 3, || {
        let answer = get(operator.metrics_port(process), "/readyz")?;
        anyhow::ensure!(answer.status == 503 && answer.body.contains("nothing heard of"), "{}", answer.body);
        Ok(())
    })
    .expect("it is not ready");
}

/// What is said of `ServicePooling`s that nothing was heard of for too long.
const DOUBTED: &str = "nothing heard of servicepoolings";

/// Nobody has a reason to doubt what is known of `ServicePooling`s, as long as a silence that would be one lasts, and longer.
fn believed(operator: &Operator) {
    let until = Instant::now() + SILENCE * 5 / 4;
    while Instant::now() < until {
        for process in PROCESSES {
            // Other kinds have less time, and a busy machine may use it up.
            let told = get(operator.metrics_port(process), "/readyz").map(|answer| answer.body).unwrap_or_default();
            assert!(!told.contains(DOUBTED), "{process}: {told}");
        }
        std::thread::sleep(Duration::from_millis(500));
    }
}

#[test]
fn the_api_server_restarts_and_falls_silent_and_nothing_is_permitted() {
    let alone = &Alone::start(Controllers::Apart);
    let Alone { datacenter, operator, .. } = alone;
    let (relay, gate) = led(datacenter, operator);
    alone.guarded(NAME);
    services::namespace(datacenter, LATE).expect("a namespace");
    services::install(datacenter, "helm3", LATE, LATE, "main").expect("the example chart");
    services::ready(datacenter, LATE).expect("ready pods");
    let traffic = Traffic::start(datacenter, NAME, MAIN);
    let quiet =
        traffic.row("nothing happens to any ServicePooling for longer than silence is borne", || believed(operator));
    let doubted = quiet.failed.iter().find(|failed| failed.contains(DOUBTED));
    assert_eq!(doubted, None, "they are doubted though nothing is wrong");

    // As a network does that has forgotten the connections: new ones work.
    let told = traffic.row("open connections to the API server fall silent", || {
        relay.forget_open();
        let silent = Instant::now();
        alone.declare(LATE, "eqiad");
        says(alone, LATE, LATE_MAIN, "serves live traffic");
        eprintln!("  what was declared meanwhile is guarded after {:.1?}", silent.elapsed());
    });
    eprintln!("  the first failed call: {:?}", told.failed.first());
    alone.declare(LATE, "codfw");
    says(alone, LATE, LATE_MAIN, "deleted");
    let mut unheard = 0;
    traffic.row("they fall silent, and a service moves here", || {
        relay.forget_open();
        alone.declare(LATE, "eqiad");
        unheard += comes_to_say(alone, LATE, LATE_MAIN, "serves live traffic");
    });
    alone.declare(LATE, "codfw");
    says(alone, LATE, LATE_MAIN, "deleted");
    alone.declare_as(LATE, "eqiad", "Warn");
    says(alone, LATE, LATE_MAIN, "would have refused this");
    traffic.row("they fall silent, and a service that only warned is enforced", || {
        relay.forget_open();
        alone.declare(LATE, "eqiad");
        unheard += comes_to_say(alone, LATE, LATE_MAIN, "serves live traffic");
    });
    alone.declare(LATE, "codfw");
    says(alone, LATE, LATE_MAIN, "deleted");

    // Altogether: the webhook says that it cannot tell, and ordinary work goes on.
    let spoken = traffic.row("the API server is silent altogether, and speaks again", || {
        relay.fall_silent();
        let silent = Instant::now();
        alone.declare(LATE, "eqiad");
        let output = alone.kubectl(LATE, &["delete", "deployment", LATE_MAIN, "--dry-run=server"]);
        // Nothing may have been heard for so long already that the whole view is doubted.
        assert!(!output.ok() && output.text().contains("poolguard cannot tell"), "{}", output.text());
        not_ready(operator, "webhook");
        eprintln!("  doubted after {:.1?}", silent.elapsed());
        // Whatever was known: nothing rests on it any more.
        let output = alone.kubectl(LATE, &["delete", "deployment", LATE_MAIN]);
        assert!(!output.ok(), "{}", output.text());
        let output = alone.kubectl(NAME, &["delete", "deployment", MAIN]);
        assert!(output.text().contains("the view of the cluster is not current"), "{}", output.text());
        relay.speak();
        let speaks = Instant::now();
        says(alone, LATE, LATE_MAIN, "serves live traffic");
        eprintln!("  current again {:.1?} after it spoke", speaks.elapsed());
    });
    assert!(!spoken.failed.is_empty(), "nothing failed while nothing was known");
    for process in PROCESSES {
        operator.ready(datacenter, process).expect("it is ready again");
    }

    let restarted = traffic.row("kill -9 of the API server, and a start", || {
        datacenter.kill_api().expect("it dies");
        let dead = Instant::now();
        datacenter.start_api().expect("it starts again");
        eprintln!("  the API server is back after {:.1?}", dead.elapsed());
    });
    assert!(restarted.unheard > 0, "nobody noticed");

    coalesced(alone, &gate, &traffic);
    traffic.row("watches are held up while a service moves here", || {
        gate.hold_lists_too();
        alone.declare(LATE, "eqiad");
        let output = alone.kubectl(LATE, &["delete", "deployment", LATE_MAIN, "--dry-run=server"]);
        assert!(!output.ok(), "it was let pass: {}", output.text());
        unheard += usize::from(UNHEARD.iter().any(|unheard| output.text().contains(unheard)));
        gate.release();
        unheard += comes_to_say(alone, LATE, LATE_MAIN, "serves live traffic");
    });
    alone.declare(LATE, "codfw");
    says(alone, LATE, LATE_MAIN, "deleted");
    let before = gate.gone();
    traffic.row("every watch is told 410 Gone while a service moves here", || {
        gate.age_watches();
        alone.declare(LATE, "eqiad");
        unheard += comes_to_say(alone, LATE, LATE_MAIN, "serves live traffic");
        // Of what both processes watch.
        wait_for("every kind to be told that its history is gone", SOON, || {
            let (begun, told) = (gate.aged(), gate.gone() - before);
            anyhow::ensure!(begun >= 12 && told >= 12, "{begun} kinds have begun anew, {told} were told so");
            Ok(())
        })
        .expect("410 Gone");
    });
    eprintln!("  {} watches were told 410 Gone", gate.gone() - before);
    eprintln!("  {unheard} removals met a ServicePooling that nobody had heard of yet");
    assert!(unheard > 0, "each was heard of in time: nothing of this was tried");
    for process in PROCESSES {
        operator.ready(datacenter, process).expect("it is ready");
    }
}

/// Watches end in good order; what happens then, nobody hears of: a service goes and comes again, another one moves. etcd forgets all of
/// it, and the API server starts without any history: no watch can go on from where it was.
fn coalesced(alone: &Alone, gate: &Gate, traffic: &Traffic) {
    let Alone { datacenter, .. } = alone;
    services::namespace(datacenter, AGAIN).expect("a namespace");
    let install = || services::install(datacenter, "helm3", AGAIN, AGAIN, "main").expect("the example chart");
    traffic.row("the history is gone after a service came, went and came again, and another one moved", || {
        gate.hold_watches();
        install();
        alone.declare(AGAIN, "codfw");
        for gone in
            [&["delete", "deployments,services,ingresses", "--all"] as &[&str], &["delete", "servicepooling", AGAIN]]
        {
            alone.kubectl(AGAIN, gone).success().expect("nobody guards it yet");
        }
        install();
        alone.declare(AGAIN, "eqiad");
        alone.declare(LATE, "codfw");
        services::ready(datacenter, AGAIN).expect("ready pods");
        datacenter.kill_api().expect("it dies");
        datacenter.forget_history().expect("etcd forgets");
        datacenter.start_api().expect("it starts again");
        let released = Instant::now();
        gate.release();
        says(alone, LATE, LATE_MAIN, "deleted");
        says(alone, AGAIN, AGAIN_MAIN, "serves live traffic");
        eprintln!("  current again {:.1?} after the watches went on", released.elapsed());
    });
    // None needs to be told 410 Gone: whoever waits for a watch for an eighth of the silence asks for a list instead.
}
