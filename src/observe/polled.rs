//! Questions that are asked again and again, for sources that cannot tell of a change by themselves. Feeds status and memory,
//! never a verdict.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::stream;
use tokio::sync::Notify;

use super::lock;

/// How many questions are under way at once.
const AT_ONCE: usize = 32;
/// A question that nobody wants any more is forgotten after as many intervals, and after a minute at the least.
const FORGET: u32 = 10;
const FORGET_AT_LEAST: Duration = Duration::from_secs(60);
/// An answer that is older than as many intervals, and than some seconds, is no answer.
const OLD: u32 = 4;
const OLD_AT_LEAST: Duration = Duration::from_secs(10);

/// The questions of one source with their last answers.
#[derive(Debug)]
pub(super) struct Polled<Q, A> {
    interval: Duration,
    entries: Mutex<HashMap<Q, Entry<A>>>,
    added: Notify,
}

#[derive(Debug)]
struct Entry<A> {
    wanted: Instant,
    asked: Option<Instant>,
    last: Option<(Instant, A)>,
}

impl<Q: Clone + Eq + Hash, A: Clone> Polled<Q, A> {
    pub(super) fn new(interval: Duration) -> Self {
        Self { interval, entries: Mutex::default(), added: Notify::new() }
    }

    /// The last answer, unless it is too old. From now on the question is asked again and again.
    pub(super) fn want(&self, question: &Q) -> Option<A> {
        let mut entries = self.lock();
        if let Some(entry) = entries.get_mut(question) {
            entry.wanted = Instant::now();
            let old = (self.interval * OLD).max(OLD_AT_LEAST);
            return entry.last.as_ref().filter(|(at, _)| at.elapsed() < old).map(|(_, answer)| answer.clone());
        }
        entries.insert(question.clone(), Entry { wanted: Instant::now(), asked: None, last: None });
        drop(entries);
        self.added.notify_one();
        None
    }

    /// Asks for ever. `told` hears of every round with at least one question, and of none where nobody wants anything.
    pub(super) async fn follow<F: Future<Output = A>>(&self, ask: impl Fn(Q) -> F, told: impl Fn(&[(Q, A)])) {
        loop {
            let due = self.due();
            if due.is_empty() && self.lock().is_empty() {
                told(&[]);
            }
            if !due.is_empty() {
                let answers: Vec<(Q, A)> = stream::iter(due)
                    .map(|question| {
                        let asked = ask(question.clone());
                        async move {
                            let answer = asked.await;
                            if let Some(entry) = self.lock().get_mut(&question) {
                                entry.last = Some((Instant::now(), answer.clone()));
                            }
                            (question, answer)
                        }
                    })
                    .buffer_unordered(AT_ONCE)
                    .collect()
                    .await;
                told(&answers);
            }
            tokio::select! {
                () = tokio::time::sleep(self.pause()) => {}
                () = self.added.notified() => {}
            }
        }
    }

    /// What must be asked now; forgets what nobody wants.
    fn due(&self) -> Vec<Q> {
        let now = Instant::now();
        let forget = (self.interval * FORGET).max(FORGET_AT_LEAST);
        let mut entries = self.lock();
        entries.retain(|_, entry| now.duration_since(entry.wanted) < forget);
        let due = entries.iter_mut().filter(|(_, entry)| entry.asked.is_none_or(|asked| asked + self.interval <= now));
        due.map(|(question, entry)| {
            entry.asked = Some(now);
            question.clone()
        })
        .collect()
    }

    /// Until the next question is due.
    fn pause(&self) -> Duration {
        let now = Instant::now();
        let next = self.lock().values().filter_map(|entry| entry.asked).map(|asked| asked + self.interval).min();
        next.map_or(self.interval, |next| next.saturating_duration_since(now))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Q, Entry<A>>> {
        lock(&self.entries)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn a_question_is_asked_at_once_and_its_answer_kept() {
        let polled = Polled::<&str, usize>::new(Duration::from_secs(3600));
        let asked = AtomicUsize::new(0);
        assert_eq!(polled.want(&"a"), None);
        let heard = Notify::new();
        let follow = polled.follow(|_| async { asked.fetch_add(1, Ordering::SeqCst) }, |_| heard.notify_one());
        tokio::select! { () = follow => {}, () = heard.notified() => {} }
        assert_eq!(polled.want(&"a"), Some(0));
        assert_eq!(asked.load(Ordering::SeqCst), 1);
    }
}
