//! What runs in pods of a real node: a service that answers every request with the name of its pod, or, told `idle`, the pause of
//! a pod. Static and small, with nothing but the standard library.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};

/// Where it serves.
const LISTEN: &str = "0.0.0.0:8080";

fn main() -> std::io::Result<()> {
    if std::env::args().nth(1).as_deref() == Some("idle") {
        loop {
            std::thread::park();
        }
    }
    let name = std::env::var("HOSTNAME").unwrap_or_default();
    for connection in TcpListener::bind(LISTEN)?.incoming() {
        // One client that goes away is no reason to stop.
        if let Err(error) = connection.and_then(|stream| answer(stream, &name)) {
            eprintln!("{error}");
        }
    }
    Ok(())
}

/// Reads the head of a request, whatever it wants, and answers it.
fn answer(mut stream: TcpStream, name: &str) -> std::io::Result<()> {
    stream.set_read_timeout(Some(std::time::Duration::from_secs(5)))?;
    for line in BufReader::new(&stream).lines() {
        if line?.is_empty() {
            break;
        }
    }
    write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{name}", name.len())
}
