//! Clocks that are an hour off, each way, under the real processes: certificates are made, registered and served by them without a
//! failed call, and a Lease that says it lasts for another hour is not waited for.

use std::process::Command;
use std::time::{Duration, Instant};

use k8s_openapi::ByteString;
use poolguard_harness::datacenter::{Controllers, Datacenter};
use poolguard_harness::debian::{self, Debian};
use poolguard_harness::operator::{NAMESPACE, PROCESSES, Truth};
use poolguard_harness::wait::wait_for;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::json;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::leader::leads;
use crate::certificates::Load;
use crate::scenario::{Alone, SOON};

const NAME: &str = "clocks";
const HOUR: i64 = 3600;
/// How long before it was made a certificate is valid.
const BACKDATED: i64 = 2 * HOUR;
/// Seconds that making, mounting and looking may take.
const LATE: i64 = 120;

/// When the certificate that is to be served was made, by the clock of its maker, as seconds from now.
fn made(datacenter: &Datacenter) -> i64 {
    let secret = datacenter.get(&["-n", NAMESPACE, "secret", "poolguard-webhook-tls"]).expect("the Secret");
    let pem: ByteString = serde_json::from_value(secret["data"]["tls.crt"].clone()).expect("a certificate");
    let der = CertificateDer::from_pem_slice(&pem.0).expect("PEM");
    let (_, certificate) = X509Certificate::from_der(&der).expect("a certificate");
    certificate.validity().not_before.timestamp() + BACKDATED - jiff::Timestamp::now().as_second()
}

/// Starts a process whose clock is off.
fn start(alone: &Alone, debian: &Debian, process: &'static str, offset: &str) {
    let mut command = Command::new(alone.operator.binary());
    command.envs(debian.clock(offset));
    alone.operator.start_by(&alone.datacenter, process, command).expect("it starts");
    alone.operator.ready(&alone.datacenter, process).expect("it is ready");
}

#[test]
fn no_call_fails_while_clocks_are_an_hour_off() {
    let debian = debian::unpack(&|line| eprintln!("  {line}")).expect("Debian's packages");
    let truth = Truth { certificates: Some(json!({})), ..Truth::nothing() };
    let alone = Alone::with(Controllers::Apart, &truth);
    let Alone { datacenter, operator, .. } = &alone;
    alone.guarded(NAME);
    for (controller, off, webhook) in [("-1h", -HOUR, "+1h"), ("+1h", HOUR, "-1h")] {
        for process in PROCESSES {
            operator.stop(datacenter, process, false).expect("it ends");
        }
        start(&alone, &debian, "webhook", webhook);
        let load = Load::start(datacenter, operator, NAME);
        start(&alone, &debian, "controller", controller);
        leads(operator, "controller", true);
        // The authority is lost, so that everything is made anew, by that clock.
        let reloads =
            || operator.metric("webhook", "poolguard_tls_reloads_total", &["result=\"ok\""]).unwrap_or_default();
        let (start, before) = (Instant::now(), reloads());
        let lost = ["-n", NAMESPACE, "delete", "secret", "poolguard-webhook-ca"];
        datacenter.kubectl(&lost).and_then(|output| output.success()).expect("the Secret goes");
        wait_for("a certificate by that clock to be served", SOON, || {
            let made = made(datacenter);
            anyhow::ensure!((off - LATE..off + LATE).contains(&made), "one that was made in {made} s is kept");
            anyhow::ensure!(reloads() > before + 0.5, "the webhook has not loaded it");
            Ok(())
        })
        .expect("a certificate");
        let took = start.elapsed();
        let answered = load.check("a rotation by a wrong clock");
        wait_for("further reviews over new connections", SOON, || {
            let further = load.check("the time after it") - answered;
            anyhow::ensure!(further > 200, "only {further}");
            Ok(())
        })
        .expect("reviews");
        let usable = operator.metric("webhook", "poolguard_tls_pair_usable", &[]).expect("the metric");
        assert!(usable > 0.5, "by its own clock, the webhook has no pair");
        eprintln!(
            "  controller {controller}, webhook {webhook}: all made anew and served after {took:.1?}, none of {} reviews failed",
            load.check("all of it")
        );
    }

    // The one whose clock is an hour ahead dies, and its Lease says that it lasts for another hour.
    operator.start(datacenter, "standby").expect("a second controller");
    operator.ready(datacenter, "standby").expect("it is ready");
    let dead = Instant::now();
    operator.stop(datacenter, "controller", true).expect("it dies");
    leads(operator, "standby", true);
    let took = dead.elapsed();
    eprintln!("  after the death of a leader whose clock was an hour ahead, another one acts after {took:.1?}");
    assert!(took < Duration::from_secs(45), "it waited for {took:?}");
}
