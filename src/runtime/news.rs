//! What has changed since somebody last looked, gathered while he was busy.

use std::collections::HashSet;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};

use tokio::sync::watch;

/// Changes.
#[derive(Debug, Clone)]
pub struct Changes<T> {
    /// Everything may have changed.
    pub all: bool,
    /// What has.
    pub some: HashSet<T>,
}

impl<T> Default for Changes<T> {
    fn default() -> Self {
        Self { all: false, some: HashSet::new() }
    }
}

/// Where changes are gathered. Nothing is kept while nobody listens.
#[derive(Debug)]
pub struct News<T> {
    changes: Mutex<Changes<T>>,
    count: watch::Sender<u64>,
}

impl<T> Default for News<T> {
    fn default() -> Self {
        Self { changes: Mutex::default(), count: watch::Sender::new(0) }
    }
}

impl<T: Eq + Hash> News<T> {
    /// Listens from now on.
    pub fn listen(&self) -> watch::Receiver<u64> {
        self.count.subscribe()
    }

    /// Something has changed.
    pub fn about(&self, what: T) {
        self.tell(|changes| {
            changes.some.insert(what);
        });
    }

    /// Everything may have changed.
    pub fn all(&self) {
        self.tell(|changes| changes.all = true);
    }

    /// What has changed since this was last called.
    pub fn take(&self) -> Changes<T> {
        std::mem::take(&mut self.changes.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn tell(&self, change: impl FnOnce(&mut Changes<T>)) {
        if self.count.receiver_count() > 0 {
            change(&mut self.changes.lock().unwrap_or_else(PoisonError::into_inner));
            self.count.send_modify(|count| *count = count.wrapping_add(1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_gathered_until_they_are_taken_and_not_while_nobody_listens() {
        let news = News::default();
        news.about("unheard");
        let listener = news.listen();
        news.about("one");
        news.about("one");
        let taken = news.take();
        assert!(!taken.all && taken.some == HashSet::from(["one"]));
        assert!(listener.has_changed().expect("a sender"));
        news.all();
        assert!(news.take().all);
        assert!(!news.take().all);
    }
}
