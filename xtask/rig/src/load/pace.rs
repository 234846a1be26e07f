//! When each review is due, and who sends it: at an even rate whether or not earlier ones are answered, or at once.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::sync::Notify;

use crate::clock::Clock;

/// Those that are due and not yet sent.
#[derive(Default)]
pub struct Pace {
    due: RefCell<VecDeque<Instant>>,
    waiting: Notify,
    sent: Cell<usize>,
    ended: Cell<bool>,
    /// As fast as they are answered, until then.
    unpaced_until: Option<Instant>,
}

impl Pace {
    /// Until when there is no rate, if there is none.
    pub fn new(unpaced_until: Option<Instant>) -> Self {
        Self { unpaced_until, ..Self::default() }
    }

    /// Has reviews fall due at an even rate.
    pub async fn keep(&self, rate: f64, start: Instant, end: Instant) -> Result<()> {
        let clock = Clock::new()?;
        for number in 1u32.. {
            let due = start + Duration::from_secs_f64(f64::from(number) / rate);
            if due >= end {
                break;
            }
            clock.until(due).await?;
            self.due.borrow_mut().push_back(due);
            self.waiting.notify_one();
            // Where many are due at once, nobody else would get a turn.
            if due.elapsed() > Duration::from_micros(500) {
                tokio::task::yield_now().await;
            }
        }
        Ok(())
    }

    /// The next review and when it was due; none at the end.
    pub async fn next(&self) -> Option<(usize, Instant)> {
        loop {
            let due = match self.unpaced_until {
                Some(end) => Some(Instant::now()).filter(|now| *now < end),
                None => self.due.borrow_mut().pop_front(),
            };
            if let Some(due) = due {
                let index = self.sent.get();
                self.sent.set(index + 1);
                return Some((index, due));
            }
            if self.unpaced_until.is_some() || self.ended.get() {
                return None;
            }
            self.waiting.notified().await;
        }
    }

    /// Nothing more falls due.
    pub fn end(&self) {
        self.ended.set(true);
        self.waiting.notify_waiters();
    }

    /// When those were due that were never sent.
    pub fn left(&self) -> Vec<Instant> {
        self.due.borrow().iter().copied().collect()
    }
}
