//! One request over plain HTTP on loopback, and what is read from an exposition of metrics.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// An answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// Status line and headers.
    pub head: String,
    /// The body.
    pub body: String,
}

/// A request with these header lines.
///
/// # Errors
/// If nobody answers.
pub fn request(address: &str, method: &str, path: &str, headers: &[&str], body: &str) -> Result<Answer> {
    request_within(PATIENCE, address, method, path, headers, body)
}

/// The same, with a patience of one's own: a watch answers when something happens.
///
/// # Errors
/// If nobody answers.
pub fn request_within(
    patience: Duration,
    address: &str,
    method: &str,
    path: &str,
    headers: &[&str],
    body: &str,
) -> Result<Answer> {
    let mut stream = TcpStream::connect(address).with_context(|| format!("cannot reach {address}"))?;
    stream.set_read_timeout(Some(patience))?;
    let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
    write!(
        stream,
        "{method} {path} HTTP/1.0\r\nHost: localhost\r\n{headers}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut text = String::new();
    stream.read_to_string(&mut text).with_context(|| format!("no answer from {address}"))?;
    let (head, body) = text.split_once("\r\n\r\n").with_context(|| format!("no answer from {address}"))?;
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or_default();
    Ok(Answer { status, head: head.to_owned(), body: body.to_owned() })
}

/// A GET.
///
/// # Errors
/// If nobody answers.
pub fn get(port: u16, path: &str) -> Result<Answer> {
    request(&format!("127.0.0.1:{port}"), "GET", path, &[], "")
}

/// That a GET is answered with 200; otherwise the answer is the error.
///
/// # Errors
/// If nobody answers, or with another status.
pub fn healthy(port: u16, path: &str) -> Result<()> {
    let answer = get(port, path)?;
    ensure!(answer.status == 200, "{}", answer.body);
    Ok(())
}

/// The sum of a metric's samples, in an exposition, whose labels contain all of `labels`.
pub fn sum(exposition: &str, name: &str, labels: &[&str]) -> f64 {
    let ours = exposition.lines().filter(|line| {
        line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']))
            && labels.iter().all(|label| line.contains(label))
    });
    ours.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
}
