//! Label selectors, as the API server evaluates them.
//!
//! An empty [`Selector`] matches everything, as it does in Kubernetes; whoever must not have that (a `ServicePooling`)
//! refuses it in its schema.
//!
//! Source: <https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#label-selectors>.

use std::fmt;
use std::sync::Arc;

/// Labels of an object, by key. Hundreds of thousands of objects have some, and many of them the same as others: a copy is the same one.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Labels(Option<Arc<[Pair]>>);

type Pair = (Box<str>, Box<str>);

impl Labels {
    /// None.
    pub const fn new() -> Self {
        Self(None)
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        let all = self.pairs();
        all.binary_search_by(|(other, _)| (**other).cmp(key)).ok().map(|at| &*all[at].1)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Keys and values, by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.pairs().iter().map(|(key, value)| (&**key, &**value))
    }

    fn pairs(&self) -> &[Pair] {
        self.0.as_deref().unwrap_or_default()
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

/// Of a key that comes twice, the last value counts, as in a map.
impl<K: Into<Box<str>>, V: Into<Box<str>>> FromIterator<(K, V)> for Labels {
    fn from_iter<T: IntoIterator<Item = (K, V)>>(pairs: T) -> Self {
        let mut all: Vec<Pair> = pairs.into_iter().map(|(key, value)| (key.into(), value.into())).collect();
        // The last of a key comes first, and stays.
        all.reverse();
        all.sort_by(|(one, _), (other, _)| one.cmp(other));
        all.dedup_by(|(one, _), (other, _)| one == other);
        Self((!all.is_empty()).then(|| all.into()))
    }
}

/// A label selector: every label and every requirement must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selector {
    /// Labels that must be there with this value.
    pub match_labels: Labels,
    /// Further requirements.
    pub match_expressions: Vec<Requirement>,
}

/// One entry of `matchExpressions`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requirement {
    /// The label's key.
    pub key: String,
    /// How its value is compared.
    pub operator: Operator,
    /// The values of `In` and `NotIn`; empty for the others.
    pub values: Vec<String>,
}

/// The operators of a label selector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    /// The label is there with one of the values.
    In,
    /// The label is absent, or has none of the values.
    NotIn,
    /// The label is there.
    Exists,
    /// The label is absent.
    DoesNotExist,
}

impl Selector {
    /// A selector of plain labels, as a Service has one.
    pub fn labels<K: Into<Box<str>>, V: Into<Box<str>>>(labels: impl IntoIterator<Item = (K, V)>) -> Self {
        Self { match_labels: labels.into_iter().collect(), match_expressions: Vec::new() }
    }

    /// Whether it selects everything.
    pub fn is_empty(&self) -> bool {
        self.match_labels.is_empty() && self.match_expressions.is_empty()
    }

    /// Whether an object with these labels is selected.
    pub fn matches(&self, labels: &Labels) -> bool {
        contains(labels, &self.match_labels)
            && self.match_expressions.iter().all(|requirement| requirement.holds(labels))
    }
}

/// Whether `labels` has all of `wanted`: how a Service selects.
pub fn contains(labels: &Labels, wanted: &Labels) -> bool {
    wanted.iter().all(|(key, value)| labels.get(key) == Some(value))
}

impl Requirement {
    fn holds(&self, labels: &Labels) -> bool {
        let value = labels.get(&self.key);
        match self.operator {
            Operator::In => value.is_some_and(|value| self.values.iter().any(|one| one == value)),
            Operator::NotIn => value.is_none_or(|value| self.values.iter().all(|one| one != value)),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().copied().collect()
    }

    fn requirement(key: &str, operator: Operator, values: &[&str]) -> Selector {
        Selector {
            match_labels: Labels::new(),
            match_expressions: vec![Requirement {
                key: key.into(),
                operator,
                values: values.iter().map(|value| (*value).to_owned()).collect(),
            }],
        }
    }

    #[test]
    fn labels_are_found_by_key_and_the_last_value_of_a_key_counts() {
        let all = labels(&[("b", "1"), ("a", "2"), ("c", "3"), ("a", "4")]);
        assert_eq!(all.iter().collect::<Vec<_>>(), [("a", "4"), ("b", "1"), ("c", "3")]);
        assert_eq!([all.get("a"), all.get("b"), all.get("d"), all.get("")], [Some("4"), Some("1"), None, None]);
        assert!(!all.is_empty() && labels(&[]).is_empty() && labels(&[]) == Labels::new());
        assert_eq!(format!("{:?}", labels(&[("a", "b")])), r#"{"a": "b"}"#);
    }

    #[test]
    fn a_selector_matches_only_when_every_label_and_requirement_holds() {
        let pod = labels(&[("app", "eventgate"), ("release", "canary")]);
        assert!(Selector::labels([("app", "eventgate")]).matches(&pod));
        assert!(!Selector::labels([("app", "eventgate"), ("release", "main")]).matches(&pod));
        assert!(requirement("release", Operator::In, &["canary", "main"]).matches(&pod));
        assert!(!requirement("release", Operator::NotIn, &["canary"]).matches(&pod));
        assert!(requirement("missing", Operator::NotIn, &["canary"]).matches(&pod));
        assert!(requirement("app", Operator::Exists, &[]).matches(&pod));
        assert!(!requirement("app", Operator::DoesNotExist, &[]).matches(&pod));
    }
}
