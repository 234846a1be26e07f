//! What is still to be looked at because everything is: in order, each once, and nothing is forgotten where everything is wanted
//! again meanwhile.

use std::collections::{HashSet, VecDeque};

use poolguard_policy::pooling::Key;

/// Services that wait for their turn.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    order: VecDeque<Key>,
    waiting: HashSet<Key>,
    done: bool,
}

impl Backlog {
    /// All of these, behind what waits already.
    pub(super) fn extend<'a>(&mut self, keys: impl Iterator<Item = &'a Key>) {
        for key in keys {
            if self.waiting.insert(key.clone()) {
                self.order.push_back(key.clone());
            }
        }
        self.done = true;
    }

    /// The next one.
    pub(super) fn next(&mut self) -> Option<Key> {
        let key = self.order.pop_front()?;
        self.waiting.remove(&key);
        Some(key)
    }

    /// Nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// Whether the last one had its turn since this was last asked.
    pub(super) fn just_done(&mut self) -> bool {
        self.is_empty() && std::mem::take(&mut self.done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Key {
        Key { namespace: "space".to_owned(), name: name.to_owned() }
    }

    #[test]
    fn each_has_its_turn_although_everything_is_wanted_again_and_again() {
        let all = ["a", "b", "c"].map(key);
        let mut backlog = Backlog::default();
        let mut seen = Vec::new();
        for _ in 0..3 {
            backlog.extend(all.iter());
            assert!(!backlog.just_done());
            seen.extend(backlog.next());
        }
        assert_eq!(seen, all);
        while backlog.next().is_some() {}
        assert!(backlog.just_done() && !backlog.just_done());
    }
}
