//! An answer over HTTP/1.1: read from what has arrived, as far as its verdict.

use anyhow::{Context, Result, ensure};
use poolguard_rig::Verdict;

const HEADERS: usize = 32;
const TOLD: usize = 400;

/// What was answered.
pub struct Answer {
    /// Its verdict, if it has one.
    pub verdict: Option<Verdict>,
    status: u16,
    body: Vec<u8>,
}

impl Answer {
    /// Its beginning, for a complaint.
    pub fn told(&self) -> String {
        format!("{} {}", self.status, String::from_utf8_lossy(&self.body[..self.body.len().min(TOLD)]))
    }
}

/// How status and body are read.
pub type Judge = fn(u16, &[u8]) -> Option<Verdict>;

/// The whole answer in what has arrived, and its length; none while some of it is missing.
pub fn parse(arrived: &[u8], judge: Judge) -> Result<Option<(Answer, usize)>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut head = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(start) = head.parse(arrived).context("no HTTP")? else { return Ok(None) };
    let status = head.code.unwrap_or_default();
    let field = |name: &str| head.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
    let chunked = field("transfer-encoding").is_some();
    let (body, length) = if chunked {
        let Some((body, length)) = chunks(&arrived[start..])? else { return Ok(None) };
        (body, start + length)
    } else {
        let length = field("content-length").context("an answer without length")?;
        let length: usize = std::str::from_utf8(length.value)?.trim().parse().context("a strange length")?;
        let Some(body) = arrived.get(start..start + length) else { return Ok(None) };
        (body.to_vec(), start + length)
    };
    let verdict = judge(status, &body);
    Ok(Some((Answer { verdict, status, body }, length)))
}

/// Bodies in chunks, as Go's servers send those that are longer than a buffer.
fn chunks(mut rest: &[u8]) -> Result<Option<(Vec<u8>, usize)>> {
    let (mut body, mut length) = (Vec::new(), 0);
    loop {
        let size = httparse::parse_chunk_size(rest).ok().context("a strange chunk")?;
        let httparse::Status::Complete((start, size)) = size else { return Ok(None) };
        let size = usize::try_from(size)?;
        let Some(chunk) = rest.get(start..start + size + 2) else { return Ok(None) };
        ensure!(chunk.ends_with(b"\r\n"), "a strange chunk");
        body.extend_from_slice(&chunk[..size]);
        length += start + size + 2;
        if size == 0 {
            return Ok(Some((body, length)));
        }
        rest = &rest[start + size + 2..];
    }
}

/// A webhook's verdict: what stands after the first `"allowed":`.
pub fn of_review(status: u16, body: &[u8]) -> Option<Verdict> {
    const KEY: &[u8] = b"\"allowed\":";
    if status != 200 {
        return None;
    }
    let at = body.windows(KEY.len()).position(|window| window == KEY)?;
    let value = body[at + KEY.len()..].trim_ascii_start();
    if value.starts_with(b"true") {
        Some(Verdict::Allowed)
    } else if value.starts_with(b"false") {
        Some(Verdict::Refused)
    } else {
        None
    }
}

/// The API server's: what it would have done. A webhook's refusal that has no code becomes a 400.
pub fn of_dry_run(status: u16, _: &[u8]) -> Option<Verdict> {
    match status {
        200 => Some(Verdict::Allowed),
        400 | 403 => Some(Verdict::Refused),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_once_it_is_whole() {
        let whole = b"HTTP/1.1 200 OK\r\nContent-Length: 19\r\n\r\n{\"allowed\": false}\nHTTP/1.1";
        for end in 0..whole.len() - 8 {
            assert!(parse(&whole[..end], of_review).expect("the beginning of an answer").is_none());
        }
        let (answer, length) = parse(whole, of_review).expect("an answer").expect("a whole one");
        assert_eq!((answer.verdict, length), (Some(Verdict::Refused), whole.len() - 8));
    }

    #[test]
    fn chunks_are_one_body() {
        let whole =
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\n{\"allowed\r\n7\r\n\":true}\r\n0\r\n\r\n";
        assert!(parse(&whole[..whole.len() - 1], of_review).expect("the beginning of an answer").is_none());
        let (answer, length) = parse(whole, of_review).expect("an answer").expect("a whole one");
        assert_eq!((answer.verdict, length), (Some(Verdict::Allowed), whole.len()));
    }

    #[test]
    fn a_fault_is_no_verdict() {
        let fault = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 16\r\n\r\n{\"allowed\":true}";
        let (answer, _) = parse(fault, of_review).expect("an answer").expect("a whole one");
        assert_eq!(answer.verdict, None);
        assert!(answer.told().starts_with("500 "));
    }
}
