//! Between confctl and its etcd: passes everything on, and notes when a write went through.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result};

/// A tap.
pub struct Tap {
    /// Where confctl finds its etcd.
    pub port: u16,
    written: Arc<Mutex<Option<Instant>>>,
}

impl Tap {
    /// Listens for ever.
    ///
    /// # Errors
    /// If there is no port.
    pub fn start(etcd: &str) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").context("no port for confctl")?;
        let port = listener.local_addr().context("no port for confctl")?.port();
        let written = Arc::new(Mutex::new(None));
        let (own, etcd) = (Arc::clone(&written), etcd.to_owned());
        thread::spawn(move || {
            for confctl in listener.incoming().flatten() {
                let Ok(etcd) = TcpStream::connect(&etcd) else { continue };
                let written = Arc::clone(&own);
                if let (Ok(from), Ok(to)) = (etcd.try_clone(), confctl.try_clone()) {
                    thread::spawn(move || pass(from, to, |_| {}));
                    thread::spawn(move || {
                        pass(confctl, etcd, |chunk| {
                            if chunk.starts_with(b"PUT ") {
                                *written.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
                            }
                        });
                    });
                }
            }
        });
        Ok(Self { port, written })
    }

    /// When the last write went through; it is told once.
    pub fn written(&self) -> Option<Instant> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner).take()
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
