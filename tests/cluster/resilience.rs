//! What somebody does to the webhook's port from inside the cluster: thousands of connections that say nothing, or hardly anything.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Instant;

use k8s_openapi::ByteString;
use poolguard_harness::datacenter::{Controllers, Datacenter};
use poolguard_harness::wait::wait_for;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::scenario::{Alone, SOON};

const NAME: &str = "crowded";
const SILENT: usize = 10_000;
/// Of those that begin a request and never end it, in each of these ways.
const SLOW: usize = 50;
const BEGUN: [&str; 3] = [
    "",
    "POST /validate HTTP/1.1\r\nHost: poolguard\r\nX-Slow: ",
    "POST /validate HTTP/1.1\r\nHost: poolguard\r\nContent-Length: 4096\r\n\r\n{",
];

/// A connection that has said so much.
fn half_a_request(
    port: u16,
    trust: &Arc<ClientConfig>,
    said: &str,
) -> anyhow::Result<StreamOwned<ClientConnection, TcpStream>> {
    let socket = TcpStream::connect(("127.0.0.1", port))?;
    let connection = ClientConnection::new(Arc::clone(trust), ServerName::try_from("127.0.0.1")?)?;
    let mut stream = StreamOwned::new(connection, socket);
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock)?;
    }
    stream.write_all(said.as_bytes())?;
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
    let alone = Alone::start(Controllers::Apart);
    alone.guarded(NAME);
    let (operator, deployer) = (&alone.operator, |arguments: &[&str]| alone.kubectl(NAME, arguments));

    let port = operator.webhook_port();
    let trust = trust(&alone.datacenter);
    let opened = Instant::now();
    let begun = BEGUN.iter().flat_map(|said| std::iter::repeat_n(said, SLOW));
    let slow: Vec<_> = begun.map(|said| half_a_request(port, &trust, said).expect("half a request")).collect();
    let mut silent: Vec<TcpStream> =
        (0..SILENT).map(|_| TcpStream::connect(("127.0.0.1", port)).expect("a connection")).collect();
    eprintln!("  {SILENT} silent and {} slow connections after {:.1?}", slow.len(), opened.elapsed());
    let open = silent.iter_mut().map(closed).filter(|closed| !closed).count();
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

    let forget_closed = |all: &mut Vec<TcpStream>| all.retain_mut(|socket| !closed(socket));
    let mut sockets: Vec<TcpStream> = slow.iter().map(|stream| stream.sock.try_clone().expect("a socket")).collect();
    wait_for("all of them to be closed", SOON, || {
        forget_closed(&mut silent);
        forget_closed(&mut sockets);
        anyhow::ensure!(silent.is_empty() && sockets.is_empty(), "{} and {} are open", silent.len(), sockets.len());
        Ok(())
    })
    .expect("the server closes them");
    eprintln!("  all closed {:.1?} after they were opened", opened.elapsed());
    drop(slow);
}
