//! etcd's answers and conftool's values, strictly typed: what is not exactly right is [`Why::Malformed`], never a guess.

use std::collections::BTreeMap;

use poolguard_policy::evidence::{Record, Why};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use super::Values;
use crate::observe::Bad;

/// conftool's default for a record without one.
const DEFAULT_TTL: u32 = 300;
/// A value is about a hundred bytes, and lists what refers to it.
const VALUE_LIMIT: usize = 64 << 10;
/// Longer than a day is a mistake, and would close the guard for as long.
const MAX_TTL: u32 = 86_400;

/// A node of etcd's tree.
#[derive(Debug, Deserialize)]
pub(super) struct Node {
    /// The whole key.
    pub(super) key: String,
    /// The value of a leaf.
    #[serde(default)]
    value: Option<String>,
    /// Present in a directory.
    #[serde(default)]
    nodes: Vec<Node>,
    /// The revision of the last change.
    #[serde(default, rename = "modifiedIndex")]
    pub(super) modified_index: u64,
}

/// etcd's answer to a read or a watch.
#[derive(Debug, Deserialize)]
pub(super) struct Told {
    /// What happened.
    pub(super) action: String,
    /// To what.
    pub(super) node: Node,
}

/// etcd's error.
#[derive(Debug, Deserialize)]
pub(super) struct Refused {
    /// 100 is a missing key, 401 a watch that starts too far back.
    #[serde(rename = "errorCode")]
    pub(super) code: u32,
    /// In words.
    #[serde(default)]
    pub(super) message: String,
    #[serde(flatten)]
    _rest: BTreeMap<String, IgnoredAny>,
}

/// The records below `prefix`, which is `<namespace>/discovery/`.
pub(super) fn records(node: &Node, prefix: &str) -> BTreeMap<String, Values> {
    let mut records = BTreeMap::new();
    leaves(node, &mut |leaf| {
        if let Some((record, datacenter)) = place(&leaf.key, prefix) {
            records.entry(record.to_owned()).or_insert_with(Values::new).insert(datacenter.to_owned(), value(leaf));
        }
    });
    records
}

/// Record and datacenter of a key.
pub(super) fn place<'a>(key: &'a str, prefix: &str) -> Option<(&'a str, &'a str)> {
    let (record, datacenter) = key.strip_prefix(prefix)?.split_once('/')?;
    (!record.is_empty() && !datacenter.is_empty() && !datacenter.contains('/')).then_some((record, datacenter))
}

fn leaves<'a>(node: &'a Node, leaf: &mut impl FnMut(&'a Node)) {
    if node.value.is_some() {
        leaf(node);
    }
    for child in &node.nodes {
        leaves(child, leaf);
    }
}

/// The value of a leaf.
pub(super) fn value(leaf: &Node) -> Result<Record, Bad> {
    let text = leaf.value.as_deref().unwrap_or_default();
    let bad = |detail: String| Bad::new(Why::Malformed, &detail);
    if text.len() > VALUE_LIMIT {
        return Err(bad(format!("value exceeds {VALUE_LIMIT} bytes")));
    }
    let parsed: Value = serde_json::from_str(text).map_err(|error| bad(format!("value is not JSON ({error})")))?;
    let object = parsed.as_object().ok_or_else(|| bad(format!("value is not an object but {parsed}")))?;
    let pooled = match object.get("pooled") {
        Some(Value::Bool(pooled)) => *pooled,
        Some(other) => return Err(bad(format!("pooled is {other}, not true or false"))),
        None => return Err(bad("value has no pooled".to_owned())),
    };
    let ttl = match object.get("ttl") {
        None => DEFAULT_TTL,
        Some(ttl) => ttl
            .as_u64()
            .and_then(|ttl| u32::try_from(ttl).ok())
            .filter(|ttl| *ttl <= MAX_TTL)
            .ok_or_else(|| bad(format!("ttl is {ttl}, not a number of seconds up to {MAX_TTL}")))?,
    };
    Ok(Record { pooled, ttl, revision: leaf.modified_index })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Record, String> {
        let leaf = Node { key: "/k".to_owned(), value: Some(text.to_owned()), nodes: Vec::new(), modified_index: 812 };
        value(&leaf).map_err(|bad| bad.detail)
    }

    #[test]
    fn a_value_of_conftool_is_read_and_its_further_fields_ignored() {
        let record = read(r#"{"pooled": false, "references": ["x"], "ttl": 10, "weight": 1}"#);
        assert_eq!(record, Ok(Record { pooled: false, ttl: 10, revision: 812 }));
        assert_eq!(read(r#"{"pooled": true}"#).map(|record| record.ttl), Ok(300));
    }

    #[test]
    fn whatever_is_not_exactly_right_is_malformed() {
        for (text, detail) in [
            (r#"{"pooled": "yes"}"#, r#"pooled is "yes", not true or false"#),
            (r#"{"pooled": 0}"#, "pooled is 0, not true or false"),
            (r#"{"pooled": null}"#, "pooled is null, not true or false"),
            (r#"{"ttl": 300}"#, "value has no pooled"),
            (r#"{"pooled": false, "ttl": -1}"#, "ttl is -1, not a number of seconds up to 86400"),
            (r#"{"pooled": false, "ttl": "5"}"#, r#"ttl is "5", not a number of seconds up to 86400"#),
            ("null", "value is not an object but null"),
            ("[]", "value is not an object but []"),
        ] {
            assert_eq!(read(text), Err(detail.to_owned()), "{text}");
        }
        assert!(read(r#"{"pooled": fal"#).is_err_and(|detail| detail.starts_with("value is not JSON")));
        assert!(read("").is_err_and(|detail| detail.starts_with("value is not JSON")));
    }

    #[test]
    fn a_tree_becomes_records_and_keys_from_elsewhere_are_left_out() {
        let tree = r#"{"key": "/conftool/v1/discovery", "dir": true, "nodes": [
            {"key": "/conftool/v1/discovery/a", "dir": true, "nodes": [
                {"key": "/conftool/v1/discovery/a/eqiad", "value": "{\"pooled\": true}", "modifiedIndex": 7},
                {"key": "/conftool/v1/discovery/a/codfw", "value": "x", "modifiedIndex": 8}]},
            {"key": "/elsewhere/b/eqiad", "value": "{\"pooled\": true}"}]}"#;
        let node: Node = serde_json::from_str(tree).expect("a tree");
        let records = records(&node, "/conftool/v1/discovery/");
        assert_eq!(records.len(), 1);
        assert_eq!(records["a"]["eqiad"], Ok(Record { pooled: true, ttl: 300, revision: 7 }));
        assert!(records["a"]["codfw"].is_err());
    }
}
