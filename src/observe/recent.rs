//! What is remembered of questions, for as long as somebody asks them.
//!
//! Never the only ground for "not serving": what is forgotten makes its source say less, not more.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

/// Every question that is still wanted is asked far more often than this.
const FORGET: Duration = Duration::from_secs(600);
/// Looking through everything takes time, so it is not done at each question.
const SWEEP: Duration = Duration::from_secs(60);

/// A map that forgets what nobody has used for a while.
#[derive(Debug)]
pub(super) struct Recent<K, V> {
    entries: HashMap<K, (Instant, V)>,
    swept: Instant,
}

impl<K, V> Default for Recent<K, V> {
    fn default() -> Self {
        Self { entries: HashMap::new(), swept: Instant::now() }
    }
}

impl<K: Eq + Hash, V> Recent<K, V> {
    /// What is remembered. This is no use of it.
    pub(super) fn get(&self, key: &K) -> Option<&V> {
        self.entries.get(key).map(|(_, value)| value)
    }

    /// Remembers.
    pub(super) fn insert(&mut self, key: K, value: V) {
        self.insert_at(key, value, Instant::now());
    }

    /// Forgets one.
    pub(super) fn remove(&mut self, key: &K) {
        self.entries.remove(key);
    }

    fn insert_at(&mut self, key: K, value: V, now: Instant) {
        if now.duration_since(self.swept) >= SWEEP {
            self.swept = now;
            self.entries.retain(|_, (used, _)| now.duration_since(*used) < FORGET);
        }
        self.entries.insert(key, (now, value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_uses_is_forgotten_and_what_somebody_uses_is_kept() {
        let mut recent = Recent::default();
        let start = Instant::now();
        recent.insert_at("unused", 1, start);
        for minute in 0..=11 {
            recent.insert_at("used", minute, start + SWEEP * minute);
        }
        assert_eq!(recent.get(&"used"), Some(&11));
        assert_eq!(recent.get(&"unused"), None);
        assert_eq!(recent.entries.len(), 1);
    }
}
