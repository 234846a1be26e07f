//! What somebody does to the webhook's port from inside the cluster: thousands of connections that say nothing, or hardly anything.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Instant;

use k8s_openapi::ByteString;
use poolguard_harness::datacenter::{Controllers, Datacenter, Who};
use poolguard_harness::services;
use poolguard_harness::wait::wait_for;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::scenario::{Alone, SOON, with_spec};

const NAME: &str = "crowded";
const SILENT: usize = 10_000;
/// Of those that begin a request and never end it.
const SLOW: usize = 200;

/// A connection that has said half of its headers.
fn half_a_request(port: u16, trust: &Arc<ClientConfig>) -> anyhow::Result<StreamOwned<ClientConnection, TcpStream>> {
    let socket = TcpStream::connect(("127.0.0.1", port))?;
    let connection = ClientConnection::new(Arc::clone(trust), ServerName::try_from("127.0.0.1")?)?;
    let mut stream = StreamOwned::new(connection, socket);
    stream.write_all(b"POST /validate HTTP/1.1\r\nHost: poolguard\r\nX-Slow: ")?;
    Ok(stream)
}

/// What the API server trusts.
fn trust(datacenter: &Datacenter) -> Arc<ClientConfig> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let live = datacenter.get(&["validatingwebhookconfiguration", "poolguard"]).expect("the registration");
    let bundle: ByteString =
        serde_json::from_value(live["webhooks"][0]["clientConfig"]["caBundle"].clone()).expect("an authority");
    let mut roots = RootCertStore::empty();
    for authority in CertificateDer::pem_slice_iter(&bundle.0) {
        roots.add(authority.expect("PEM")).expect("an authority");
    }
    Arc::new(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth())
}

/// Whether the other side has ended it.
fn closed(socket: &mut TcpStream) -> bool {
    socket.set_nonblocking(true).expect("a socket");
    let mut byte = [0];
    match socket.read(&mut byte) {
        Ok(0) => true,
        Ok(_) => false,
        Err(error) => error.kind() != ErrorKind::WouldBlock,
    }
}

#[test]
fn ten_thousand_connections_that_say_nothing_keep_nobody_out() {
    let Alone { datacenter, operator, .. } = &Alone::start(Controllers::Apart);
    services::namespace(datacenter, NAME).expect("a namespace");
    services::install(datacenter, "helm3", NAME, NAME, "main").expect("the example chart");
    let lines = format!(
        "selector: {{matchLabels: {{app: {NAME}, routed_via: production}}}}\n  evidence: [{{name: switch, declared: {{pooledIn: [eqiad]}}}}]"
    );
    datacenter.apply(&with_spec(NAME, &lines)).expect("a ServicePooling");
    services::ready(datacenter, NAME).expect("ready pods");
    let deployer = |arguments: &[&str]| {
        datacenter.call(Who::Deployer, "kubectl", &[&["-n", NAME], arguments].concat()).expect("kubectl starts")
    };
    deployer(&["wait", "servicepooling", NAME, "--for=condition=Guarded", "--timeout=60s"]).success().expect("guarded");

    let port = operator.webhook_port();
    let trust = trust(datacenter);
    let opened = Instant::now();
    let mut silent: Vec<TcpStream> =
        (0..SILENT).map(|_| TcpStream::connect(("127.0.0.1", port)).expect("a connection")).collect();
    let slow: Vec<_> = (0..SLOW).map(|_| half_a_request(port, &trust).expect("half a request")).collect();
    eprintln!("  {SILENT} silent and {SLOW} slow connections after {:.1?}", opened.elapsed());
    let open = silent.iter_mut().filter_map(|socket| (!closed(socket)).then_some(())).count();
    assert!(open > SILENT / 2, "only {open} are still open: nothing is tried");

    let refused = operator.refused_in(NAME).expect("the metric");
    let main = format!("{NAME}-main");
    let asked = Instant::now();
    for _ in 0..10 {
        let output = deployer(&["delete", "deployment", &main]);
        assert!(!output.ok() && output.text().contains("serves live traffic in eqiad"), "{}", output.text());
    }
    eprintln!("  ten refusals meanwhile in {:.1?}", asked.elapsed());
    assert!(operator.refused_in(NAME).expect("the metric") > refused + 9.5, "the webhook did not count them");
    deployer(&["scale", "deployment", &main, "--replicas=3"]).success().expect("ordinary work goes on");

    let recovered = |all: &mut Vec<TcpStream>| all.retain_mut(|socket| !closed(socket));
    let mut sockets: Vec<TcpStream> = slow.iter().map(|stream| stream.sock.try_clone().expect("a socket")).collect();
    wait_for("all of them to be closed", SOON, || {
        recovered(&mut silent);
        recovered(&mut sockets);
        anyhow::ensure!(silent.is_empty() && sockets.is_empty(), "{} and {} are open", silent.len(), sockets.len());
        Ok(())
    })
    .expect("the server closes them");
    eprintln!("  all closed {:.1?} after they were opened", opened.elapsed());
    drop(slow);
}
