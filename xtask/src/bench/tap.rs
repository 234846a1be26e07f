//! Between somebody and conftool's etcd: passes everything on, and notes what is asked and when.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result};

/// A request that went through.
#[derive(Debug, Clone)]
pub struct Asked {
    /// When.
    pub at: Instant,
    /// Its method and target: `GET /v2/keys/…`.
    pub line: String,
}

type Requests = Arc<Mutex<Vec<Asked>>>;

/// A tap.
pub struct Tap {
    /// Where etcd is found.
    pub port: u16,
    requests: Requests,
}

impl Tap {
    /// Listens for ever.
    ///
    /// # Errors
    /// If there is no port.
    pub fn start(etcd: &str) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").context("no port for a tap")?;
        let port = listener.local_addr().context("no port for a tap")?.port();
        let requests = Requests::default();
        let (own, etcd) = (Arc::clone(&requests), etcd.to_owned());
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(etcd) = TcpStream::connect(&etcd) else { continue };
                // Who waits for an answer before the next question must not wait for ours.
                let _ = etcd.set_nodelay(true).and_then(|()| client.set_nodelay(true));
                let requests = Arc::clone(&own);
                if let (Ok(from), Ok(to)) = (etcd.try_clone(), client.try_clone()) {
                    thread::spawn(move || pass(from, to, |_| {}));
                    thread::spawn(move || pass(client, etcd, |chunk| note(&requests, chunk)));
                }
            }
        });
        Ok(Self { port, requests })
    }

    /// What went through; each is told once.
    pub fn requests(&self) -> Vec<Asked> {
        std::mem::take(&mut self.requests.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// When the last write went through; what went through before is told no more.
    pub fn written(&self) -> Option<Instant> {
        self.requests().into_iter().rev().find(|asked| asked.line.starts_with("PUT ")).map(|asked| asked.at)
    }
}

/// Nobody sends a question before the last one is answered: each begins a chunk.
fn note(requests: &Requests, chunk: &[u8]) {
    let end = chunk.windows(6).position(|window| window == b" HTTP/");
    if let Some(line) = end.and_then(|end| std::str::from_utf8(&chunk[..end]).ok()) {
        let asked = Asked { at: Instant::now(), line: line.to_owned() };
        requests.lock().unwrap_or_else(PoisonError::into_inner).push(asked);
    }
}

/// Passes on what one side says, and tells of each chunk before it goes.
fn pass(mut from: TcpStream, mut to: TcpStream, told: impl Fn(&[u8])) {
    let mut buffer = [0; 4096];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        told(&buffer[..length]);
        if to.write_all(&buffer[..length]).is_err() {
            return;
        }
    }
    // Whoever has nothing more to say may still listen.
    let _ = to.shutdown(std::net::Shutdown::Write);
}
