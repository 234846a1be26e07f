//! What tests panicked with, gathered from their output while it is copied on.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};

/// Lines of one panic that are told.
const LINES: usize = 30;
/// Panics that are told.
const PANICS: usize = 12;

/// Copies everything, and returns each different panic: where it was, and what it said.
pub fn copy(from: impl Read, mut to: impl Write) -> Vec<String> {
    let mut panics: Vec<String> = Vec::new();
    let mut current: Option<String> = None;
    let mut from = BufReader::new(from);
    let mut line = Vec::new();
    // What cannot be copied is still read: whoever writes it would wait for ever.
    while matches!(from.read_until(b'\n', &mut line), Ok(read) if read > 0) {
        let _ = to.write_all(&line).and_then(|()| to.flush());
        let text = String::from_utf8_lossy(&line).trim_end().to_owned();
        line.clear();
        if let Some((_, place)) = text.split_once("' (").and_then(|(_, rest)| rest.split_once(") panicked at ")) {
            keep(&mut panics, current.replace(place.to_owned()));
        } else if let Some(panic) = &mut current {
            let ends = text.is_empty() || text.starts_with("stack backtrace:") || text.starts_with("note: run with ");
            if ends || panic.lines().count() == LINES {
                keep(&mut panics, current.take());
            } else {
                let _ = write!(panic, "\n{text}");
            }
        }
    }
    keep(&mut panics, current);
    panics
}

/// One that says no more than that another one came before is left out.
fn keep(panics: &mut Vec<String>, panic: Option<String>) {
    let Some(panic) = panic else { return };
    let of_another = panic.contains("has previously been poisoned") || panic.contains("PoisonError");
    if !of_another && !panics.contains(&panic) {
        panics.push(panic);
    }
}

/// How an error ends that tells them.
pub fn told(panics: &[String]) -> String {
    let mut told = String::new();
    for panic in panics.iter().take(PANICS) {
        let _ = write!(told, "\n\nat {}", panic.replace('\n', "\n  "));
    }
    if let Some(more) = panics.len().checked_sub(PANICS).filter(|more| *more > 0) {
        let _ = write!(told, "\n\nand {more} more");
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "test one ... FAILED\n\n---- one stdout ----\n\nthread 'one' (7) panicked at tests/a.rs:1:2:\n\
        a world: gdnsd does not answer\n  its log\nnote: run with `RUST_BACKTRACE=1` to see more\n\n---- two stdout ----\n\n\
        thread 'two' (8) panicked at tests/b.rs:3:4:\nLazyLock instance has previously been poisoned\n\n\
        thread 'three' (9) panicked at tests/a.rs:1:2:\na world: gdnsd does not answer\n  its log\nstack backtrace:\n   0: main\n\
        thread 'four' (10) panicked at tests/c.rs:5:6:\nleft is not right";

    #[test]
    fn each_panic_is_told_once_and_everything_is_copied() {
        let mut copied = Vec::new();
        let panics = copy(OUTPUT.as_bytes(), &mut copied);
        assert_eq!(String::from_utf8_lossy(&copied), OUTPUT);
        let expected =
            ["tests/a.rs:1:2:\na world: gdnsd does not answer\n  its log", "tests/c.rs:5:6:\nleft is not right"];
        assert_eq!(panics, expected);
        assert!(told(&panics).starts_with("\n\nat tests/a.rs:1:2:\n  a world: "), "{}", told(&panics));
        assert!(told(&vec![String::new(); PANICS + 2]).ends_with("and 2 more"));
        assert_eq!(told(&[]), "");
    }
}
