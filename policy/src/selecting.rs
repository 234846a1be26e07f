//! Things by name that select objects by labels, found by the labels of an object: one request must not cost more because there
//! are thousands of services beside the one that it concerns.
//!
//! Never decides what is selected: it only leaves out what surely does not.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Deref;

use crate::held::Held;
use crate::selector::Labels;

/// Something that selects objects.
pub trait Selects {
    /// Labels that everything selected has for sure. Without any, it may select whatever there is.
    fn wanted(&self) -> &Labels;
}

/// A map by name, to be read like one.
#[derive(Debug, Clone, Eq)]
pub struct Selecting<T> {
    all: Held<String, T>,
    /// Names by one label that is wanted, the rarest when each came; by its hash, in order: two labels that meet in one cost only
    /// a look. Those that want none have [`ANY`].
    by_label: Vec<(u64, Box<str>)>,
}

/// In place of a label's hash.
const ANY: u64 = 0;

impl<T> Default for Selecting<T> {
    fn default() -> Self {
        Self { all: Held::default(), by_label: Vec::new() }
    }
}

/// Where they lie depends on the order in which they came.
impl<T: PartialEq> PartialEq for Selecting<T> {
    fn eq(&self, other: &Self) -> bool {
        self.all == other.all
    }
}

impl<T> Deref for Selecting<T> {
    type Target = Held<String, T>;

    fn deref(&self) -> &Self::Target {
        &self.all
    }
}

impl<'a, T> IntoIterator for &'a Selecting<T> {
    type Item = (&'a String, &'a T);
    type IntoIter = <&'a Held<String, T> as IntoIterator>::IntoIter;

    fn into_iter(self) -> Self::IntoIter {
        self.all.into_iter()
    }
}

impl<T: Selects> FromIterator<(String, T)> for Selecting<T> {
    fn from_iter<I: IntoIterator<Item = (String, T)>>(things: I) -> Self {
        let mut all = Self::default();
        for (name, thing) in things {
            all.insert(name, thing);
        }
        all
    }
}

impl<T: Selects> Selecting<T> {
    /// Puts one in, in place of the one of that name.
    pub fn insert(&mut self, name: String, thing: T) -> Option<T> {
        let before = self.remove(&name);
        let label = hashes(thing.wanted()).min_by_key(|label| self.of(*label).len()).unwrap_or(ANY);
        let entry = (label, name.as_str().into());
        let at = self.by_label.binary_search(&entry).unwrap_or_else(|at| at);
        // Most namespaces have one: no room for others.
        self.by_label.reserve_exact(usize::from(self.by_label.len() < FEW));
        self.by_label.insert(at, entry);
        self.all.insert(name, thing);
        before
    }

    /// Takes one out.
    pub fn remove(&mut self, name: &str) -> Option<T> {
        let thing = self.all.remove(name)?;
        for label in hashes(thing.wanted()).chain([ANY]) {
            if let Ok(at) = self.by_label.binary_search_by(|(other, of)| (*other, &**of).cmp(&(label, name))) {
                self.by_label.remove(at);
            }
        }
        Some(thing)
    }

    /// Those that may select an object with these labels, with their names, in no order.
    pub fn candidates<'a>(&'a self, labels: &Labels) -> impl Iterator<Item = (&'a String, &'a T)> {
        let entries = hashes(labels).chain([ANY]).flat_map(move |label| self.of(label));
        entries.filter_map(move |(_, name)| self.all.get_key_value(&**name))
    }

    /// Those that may select anything.
    pub fn of_any(&self) -> impl Iterator<Item = (&String, &T)> {
        self.of(ANY).iter().filter_map(|(_, name)| self.all.get_key_value(&**name))
    }
}

impl<T> Selecting<T> {
    /// The entries of one label.
    fn of(&self, label: u64) -> &[(u64, Box<str>)] {
        let from = self.by_label.partition_point(|(other, _)| *other < label);
        let rest = &self.by_label[from..];
        &rest[..rest.partition_point(|(other, _)| *other == label)]
    }
}

/// Up to as many, memory counts more than the time to make room.
const FEW: usize = 4;

fn hashes(labels: &Labels) -> impl Iterator<Item = u64> {
    labels.iter().map(|label| {
        let mut hasher = DefaultHasher::new();
        label.hash(&mut hasher);
        hasher.finish()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Selects for Labels {
        fn wanted(&self) -> &Labels {
            self
        }
    }

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().copied().collect()
    }

    fn found(all: &Selecting<Labels>, pairs: &[(&str, &str)]) -> Vec<String> {
        let mut names: Vec<String> = all.candidates(&labels(pairs)).map(|(name, _)| name.clone()).collect();
        names.sort();
        names
    }

    #[test]
    fn an_object_finds_those_that_want_a_label_of_it_and_those_that_want_none() {
        let mut all = Selecting::default();
        all.insert("none".to_owned(), labels(&[]));
        all.insert("one".to_owned(), labels(&[("app", "one"), ("team", "same")]));
        all.insert("two".to_owned(), labels(&[("app", "two"), ("team", "same")]));
        all.insert("three".to_owned(), labels(&[("app", "three"), ("team", "same")]));
        assert_eq!(found(&all, &[("app", "one"), ("team", "same")]), ["none", "one"], "a label of all is no help");
        assert_eq!(found(&all, &[("app", "two"), ("team", "same")]), ["none", "two"]);
        assert_eq!(found(&all, &[("app", "four")]), ["none"]);
        assert_eq!(found(&all, &[("two", "app")]), ["none"], "a key is no value");
        assert_eq!(all.of_any().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["none"]);
        assert_eq!(all.keys().collect::<Vec<_>>(), ["none", "one", "three", "two"], "it reads like a map");
    }

    #[test]
    fn what_changes_or_goes_is_not_found_where_it_was() {
        let mut all = Selecting::default();
        assert_eq!(all.insert("one".to_owned(), labels(&[("app", "one")])), None);
        assert_eq!(all.insert("one".to_owned(), labels(&[("app", "two")])), Some(labels(&[("app", "one")])));
        assert!(found(&all, &[("app", "one")]).is_empty());
        assert_eq!(found(&all, &[("app", "two")]), ["one"]);
        all.insert("one".to_owned(), labels(&[]));
        assert_eq!(found(&all, &[("app", "two")]), ["one"], "once");
        assert_eq!(all.remove("one"), Some(labels(&[])));
        assert_eq!(all.remove("one"), None);
        assert_eq!(all, Selecting::default());
        assert!(all.by_label.is_empty(), "nothing is left of it");
    }

    #[test]
    fn those_that_are_gathered_are_all_there_and_differ_from_others() {
        let gathered =
            |app: &str| -> Selecting<Labels> { [("one".to_owned(), labels(&[("app", app)]))].into_iter().collect() };
        assert_eq!(found(&gathered("one"), &[("app", "one")]), ["one"]);
        assert!(gathered("one") == gathered("one") && gathered("one") != gathered("two"));
        assert_ne!(gathered("one"), Selecting::default());
    }
}
