//! The chart's values: their schema, whose descriptions and definitions are written from elsewhere, and their page in the
//! documentation. Both are generated; `values.yaml` and the constraints in `values.schema.json` are written by hand.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Map, Value, json};

/// Where the schema is, below the root.
pub const SCHEMA: &str = "charts/poolguard/values.schema.json";
/// Where the page is, below the root.
pub const PAGE: &str = "docs/values.md";

const VALUES: &str = "charts/poolguard/values.yaml";

/// What the configuration file has in common with the values.
const SHARED: [&str; 4] = ["Source", "Network", "TrustedIdentity", "CustomWorkload"];

fn read(path: &str) -> Result<String> {
    fs::read_to_string(crate::root().join(path)).with_context(|| format!("cannot read {path}"))
}

/// The schema, with descriptions from the comments of `values.yaml`, and what it shares with the configuration from that one's
/// schema.
///
/// # Errors
/// If a value has no comment or no constraint, or a constraint no value.
pub fn schema(configuration: &Value) -> Result<String> {
    let text = read(VALUES)?;
    let (values, comments) = (serde_yaml_ng::from_str(&text).context(VALUES)?, comments(&text));
    let mut schema: Value = serde_json::from_str(&read(SCHEMA)?).context(SCHEMA)?;
    describe(&mut schema, &values, &comments, "")?;
    let definitions = schema["definitions"].as_object_mut().context("the schema has no definitions")?;
    definitions.retain(|name, _| !name.starts_with(|c: char| c.is_ascii_uppercase()));
    SHARED.iter().try_for_each(|name| share(name, configuration, definitions))?;
    Ok(format!("{schema:#}\n"))
}

/// Describes each value of a group, and the groups below it.
fn describe(group: &mut Value, values: &Value, comments: &BTreeMap<String, String>, path: &str) -> Result<()> {
    let properties = group["properties"].as_object_mut().context("a group without properties")?;
    for name in values.as_object().into_iter().flat_map(Map::keys) {
        ensure!(properties.contains_key(name), "{SCHEMA} lacks {path}{name}");
    }
    for (name, schema) in properties {
        let path = format!("{path}{name}");
        // Helm's own.
        if path == "global" {
            continue;
        }
        let value = values.get(name).with_context(|| format!("{VALUES} lacks {path}"))?;
        match comments.get(&path) {
            Some(comment) => schema["description"] = json!(comment),
            None if schema.get("properties").is_some() => {}
            None => bail!("{VALUES}: nothing is said about {path} in the line above it"),
        }
        if schema.get("properties").is_some() {
            describe(schema, value, comments, &format!("{path}."))?;
        }
    }
    Ok(())
}

/// Copies a definition of the configuration's schema, and those that it refers to, as draft 7 writes them.
fn share(name: &str, configuration: &Value, definitions: &mut Map<String, Value>) -> Result<()> {
    if definitions.contains_key(name) {
        return Ok(());
    }
    let found = configuration["$defs"].get(name).with_context(|| format!("the configuration has no {name}"))?;
    let text = found.to_string().replace("#/$defs/", "#/definitions/");
    let mut found: Value = serde_json::from_str(&text)?;
    undefaulted(&mut found);
    definitions.insert(name.to_owned(), found);
    text.split("#/definitions/")
        .skip(1)
        .try_for_each(|rest| share(rest.split('"').next().unwrap_or_default(), configuration, definitions))
}

/// Takes defaults off: they are written as the code holds them, not as people write them.
fn undefaulted(schema: &mut Value) {
    match schema {
        Value::Object(object) => {
            if object.contains_key("type") || object.contains_key("$ref") || object.contains_key("anyOf") {
                object.remove("default");
            }
            object.values_mut().for_each(undefaulted);
        }
        Value::Array(all) => all.iter_mut().for_each(undefaulted),
        _ => {}
    }
}

/// What stands directly above each key, by the key's path.
fn comments(text: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let (mut above, mut keys): (Vec<&str>, Vec<(usize, &str)>) = (Vec::new(), Vec::new());
    for line in text.lines() {
        let (indent, trimmed) = (line.len() - line.trim_start().len(), line.trim());
        if let Some(comment) = trimmed.strip_prefix('#') {
            above.push(comment.trim());
            continue;
        }
        if let Some((key, _)) = trimmed.split_once(':').filter(|_| !trimmed.starts_with("- ")) {
            keys.retain(|(of, _)| *of < indent);
            keys.push((indent, key));
            if !above.is_empty() {
                let path: Vec<&str> = keys.iter().map(|(_, key)| *key).collect();
                found.insert(path.join("."), above.join(" "));
            }
        }
        above.clear();
    }
    found
}

/// The page of the documentation, from `values.yaml` and a schema that describes it.
///
/// # Errors
/// If one of them cannot be read.
pub fn page(schema: &str) -> Result<String> {
    // YAML keeps the order in which people wrote the values.
    let values: serde_yaml_ng::Value = serde_yaml_ng::from_str(&read(VALUES)?).context(VALUES)?;
    let schema: Value = serde_json::from_str(schema).context(SCHEMA)?;
    let mut page = String::from(
        "# Values of the chart\n\n<!-- Generated by `cargo xtask generate` from charts/poolguard/values.yaml and values.schema.json. -->\n\n\
         `datacenter` is required, and `sources`, unless `declaredOnly` is set: without them nothing is installed. A key that is not \
         listed here is refused, also below `sources`, `networks` and the like, whose keys [sources.md](sources.md) and the \
         [configuration's schema](config.schema.json) describe.\n\nAn upgrade to another version of the chart takes the values of before with \
         `--reset-then-reuse-values`: with `--reuse-values` alone, values that are new would be missing.\n",
    );
    let (groups, single): (Vec<_>, Vec<_>) = rows(&values)
        .into_iter()
        .map(|(name, value)| (name, value, &schema["properties"][name]))
        .partition(|(_, _, schema)| schema.get("properties").is_some());
    table(&mut page, "", single)?;
    for (name, value, schema) in groups {
        write!(page, "\n## {name}\n")?;
        if let Some(about) = schema["description"].as_str() {
            write!(page, "\n{about}\n")?;
        }
        let below = rows(value).into_iter().map(|(name, value)| (name, value, &schema["properties"][name]));
        table(&mut page, &format!("{name}."), below.collect())?;
    }
    Ok(page)
}

fn rows(group: &serde_yaml_ng::Value) -> Vec<(&str, &serde_yaml_ng::Value)> {
    let entries = group.as_mapping().into_iter().flatten();
    entries.filter_map(|(name, value)| Some((name.as_str()?, value))).collect()
}

fn table(page: &mut String, path: &str, rows: Vec<(&str, &serde_yaml_ng::Value, &Value)>) -> Result<()> {
    page.push_str("\n| value | what it is | default | |\n| --- | --- | --- | --- |\n");
    rows.into_iter().try_for_each(|(name, value, schema)| row(page, &format!("{path}{name}"), value, schema))
}

/// A value, or each that a group within a group holds.
fn row(page: &mut String, path: &str, value: &serde_yaml_ng::Value, schema: &Value) -> Result<()> {
    if schema.get("properties").is_some() {
        return rows(value)
            .into_iter()
            .try_for_each(|(name, value)| row(page, &format!("{path}.{name}"), value, &schema["properties"][name]));
    }
    let default = match serde_json::to_value(value)? {
        Value::String(text) if text.is_empty() => "empty".to_owned(),
        Value::String(text) => format!("`{text}`"),
        other => format!("`{other}`"),
    };
    let about = schema["description"].as_str().unwrap_or_default().replace('|', "\\|");
    writeln!(page, "| `{path}` | {} | {default} | {about} |", kind(schema))?;
    Ok(())
}

/// What may be written there, in few words.
fn kind(schema: &Value) -> String {
    if let Some(choices) = schema["enum"].as_array() {
        let choices: Vec<String> =
            choices.iter().filter_map(|choice| Some(format!("`{}`", choice.as_str()?))).collect();
        return choices.join(" or ");
    }
    let of = match schema["$ref"].as_str().and_then(|path| path.rsplit('/').next()) {
        Some("resources" | "affinity") => return "as of a pod".to_owned(),
        Some("tolerations" | "topologySpreadConstraints") => return "list, as of a pod".to_owned(),
        Some("labels") => return "labels".to_owned(),
        Some("issuer") => return "`name`, `kind`, `group`".to_owned(),
        _ => schema["type"].as_str().unwrap_or("value"),
    };
    match (of, schema["minimum"].as_i64(), schema["maximum"].as_i64()) {
        ("array", ..) => "list".to_owned(),
        (of, Some(least), Some(most)) => format!("{of}, {least} to {most}"),
        (of, Some(least), None) => format!("{of}, at least {least}"),
        (of, ..) => of.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comment_belongs_to_the_key_below_it_and_examples_to_none() {
        let found =
            comments("# one\n# and more\na: []\n# - example\n\nb:\n  # two\n  c: 1\n\n  d:\n  - {e: 1}\n  f: 2\n");
        let expected = [("a", "one and more"), ("b.c", "two")];
        assert_eq!(found, expected.map(|(path, text)| (path.to_owned(), text.to_owned())).into());
    }

    #[test]
    fn a_value_without_a_constraint_or_a_comment_fails() {
        let group = || json!({"properties": {"a": {"type": "string"}}});
        let commented = BTreeMap::from([("a".to_owned(), "what it is".to_owned())]);
        let error = |values: Value, comments: &BTreeMap<String, String>| {
            describe(&mut group(), &values, comments, "").expect_err("it fails").to_string()
        };
        assert!(error(json!({"a": 1, "b": 2}), &commented).contains("lacks b"));
        assert!(error(json!({}), &commented).contains("lacks a"));
        assert!(error(json!({"a": 1}), &BTreeMap::new()).contains("nothing is said about a"));
        describe(&mut group(), &json!({"a": 1}), &commented, "").expect("a description");
    }
}
