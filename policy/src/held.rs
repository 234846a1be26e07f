//! A map for many places that hold little each: a map keeps room for eleven entries, and ten thousand namespaces hold one service.

use std::borrow::Borrow;
use std::collections::BTreeMap;

/// A map by name whose values lie elsewhere, so that the room for entries that are not there is small.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held<K, T>(BTreeMap<K, Box<T>>);

impl<K, T> Default for Held<K, T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<K: Ord, T> Held<K, T> {
    /// Puts one in, in place of the one of that name.
    pub fn insert(&mut self, key: K, value: T) -> Option<T> {
        self.0.insert(key, Box::new(value)).map(|before| *before)
    }

    /// Takes one out.
    pub fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<T>
    where
        K: Borrow<Q>,
    {
        self.0.remove(key).map(|value| *value)
    }

    /// The one of this name.
    pub fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&T>
    where
        K: Borrow<Q>,
    {
        self.0.get(key).map(|value| &**value)
    }

    /// The same, with its name as it is kept.
    pub fn get_key_value<Q: Ord + ?Sized>(&self, key: &Q) -> Option<(&K, &T)>
    where
        K: Borrow<Q>,
    {
        self.0.get_key_value(key).map(|(key, value)| (key, &**value))
    }

    /// Whether there is one of this name.
    pub fn contains_key<Q: Ord + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.0.contains_key(key)
    }

    /// Those whose names come right before and right after this one.
    pub fn neighbours(&self, key: &K) -> impl Iterator<Item = &T> {
        let (before, after) =
            (self.0.range::<K, _>(..key).next_back(), self.0.range::<K, _>(key..).find(|(other, _)| *other != key));
        before.into_iter().chain(after).map(|(_, value)| &**value)
    }
}

impl<K, T> Held<K, T> {
    /// Names and values, by name.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&K, &T)> {
        self.0.iter().map(|(key, value)| (key, &**value))
    }

    /// Names, in order.
    pub fn keys(&self) -> impl DoubleEndedIterator<Item = &K> {
        self.0.keys()
    }

    /// Values, by name.
    pub fn values(&self) -> impl DoubleEndedIterator<Item = &T> {
        self.0.values().map(|value| &**value)
    }

    /// Values, to be changed.
    pub fn values_mut(&mut self) -> impl DoubleEndedIterator<Item = &mut T> {
        self.0.values_mut().map(|value| &mut **value)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes all out.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}

impl<K: Ord, T> FromIterator<(K, T)> for Held<K, T> {
    fn from_iter<I: IntoIterator<Item = (K, T)>>(entries: I) -> Self {
        Self(entries.into_iter().map(|(key, value)| (key, Box::new(value))).collect())
    }
}

impl<'a, K, T> IntoIterator for &'a Held<K, T> {
    type Item = (&'a K, &'a T);
    type IntoIter = Box<dyn DoubleEndedIterator<Item = (&'a K, &'a T)> + 'a>;

    fn into_iter(self) -> Self::IntoIter {
        Box::new(self.iter())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_those_right_beside_a_name_whether_it_is_there_or_not() {
        let held: Held<i32, &str> = [(1, "one"), (3, "three"), (5, "five"), (7, "seven")].into_iter().collect();
        let beside = |key| held.neighbours(&key).copied().collect::<Vec<_>>();
        assert_eq!(beside(5), ["three", "seven"]);
        assert_eq!(beside(4), ["three", "five"]);
        assert_eq!(beside(0), ["one"]);
        assert_eq!(beside(7), ["five"]);
    }

    #[test]
    fn nothing_is_there_before_and_after_something_was() {
        let mut held = Held::default();
        assert!(held.is_empty());
        held.insert(1, "one");
        assert!(!held.is_empty());
        held.clear();
        assert!(held.is_empty() && held.keys().next().is_none());
    }
}
