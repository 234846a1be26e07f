//! Plays the clients of the services: asks DNS where a service is, as clients in each datacenter do, and counts the requests
//! that arrive in each, as the proxies there would.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

use super::addresses::{clients, datacenter, dns_name};
use super::lookup::lookup;
use crate::fleet::NAMES;

/// How often clients look where to go.
const PAUSE: Duration = Duration::from_millis(100);
/// How many requests the clients of one datacenter make in that time.
const REQUESTS: u64 = 15;

/// Requests so far by datacenter and service.
type Counts = Arc<Mutex<BTreeMap<(&'static str, String), u64>>>;

/// Plays for ever. Proxies of the datacenters are scraped at `ports`, in the order of [`NAMES`].
///
/// # Errors
/// If a port cannot be listened on.
pub fn play(dns: SocketAddr, ports: [u16; 2], services: &[String]) -> Result<()> {
    let counts = Counts::default();
    // A counter that is not there yet and one that is lost look the same: each begins at zero.
    for service in services {
        let mut counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
        for name in NAMES {
            counts.insert((name, service.clone()), 0);
        }
    }
    for (name, port) in NAMES.into_iter().zip(ports) {
        let listener = TcpListener::bind(("127.0.0.1", port)).with_context(|| format!("cannot listen on {port}"))?;
        let counts = Arc::clone(&counts);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let _ = answer(stream, &metrics(&counts, name));
            }
        });
    }
    loop {
        for service in services {
            for name in NAMES {
                let Ok(addresses) = lookup(dns, &dns_name(service), clients(name)) else { continue };
                let Some(arrives) = addresses.first().and_then(|address| datacenter(*address)) else { continue };
                let mut counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
                *counts.entry((arrives, service.clone())).or_default() += REQUESTS;
            }
        }
        thread::sleep(PAUSE);
    }
}

fn metrics(counts: &Counts, datacenter: &str) -> String {
    let mut text = String::from("# TYPE envoy_cluster_upstream_rq_total counter\n");
    let counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
    for ((_, service), count) in counts.iter().filter(|((name, _), _)| *name == datacenter) {
        let _ = writeln!(text, "envoy_cluster_upstream_rq_total{{envoy_cluster_name=\"{service}\"}} {count}");
    }
    text
}

fn answer(mut stream: TcpStream, text: &str) -> Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    let mut request = [0; 4096];
    let _ = stream.read(&mut request)?;
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{text}",
        text.len()
    )?;
    Ok(())
}
