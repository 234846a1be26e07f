//! A confd-like loop: follows conftool's discovery records in etcd, and writes gdnsd's state files.
//!
//! As where it comes from: for an active/passive record with several datacenters pooled, or with a value that cannot be read, the
//! old state stays.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use super::Record;
use super::gdnsd::{state_file, write_state};

const KEYS: &str = "/v2/keys/conftool/v1/discovery";
const PAUSE: Duration = Duration::from_millis(200);
/// A watch that hears nothing for as long is begun again.
const SILENCE: Duration = Duration::from_secs(30);

/// Follows for ever.
pub fn follow(etcd: &str, folder: &Path, records: &[Record]) {
    loop {
        if let Err(error) = round(etcd, folder, records) {
            eprintln!("confd: {error:#}");
        }
        std::thread::sleep(PAUSE);
    }
}

/// Reads everything, writes what it says, and waits for the next change.
fn round(etcd: &str, folder: &Path, records: &[Record]) -> Result<()> {
    let (index, listed) = get(etcd, &format!("{KEYS}?recursive=true&quorum=true"))?;
    let pooled = pooled(&listed["node"]);
    for (place, record) in records.iter().enumerate() {
        if let Some(names) = pooled.get(&record.name).and_then(|values| state(record, values)) {
            write_state(&state_file(folder, &record.name), place, &names)?;
        }
    }
    let _ = get(etcd, &format!("{KEYS}?wait=true&recursive=true&waitIndex={}", index + 1));
    Ok(())
}

/// The datacenters that gdnsd is told of, or nothing where the old state stays.
fn state<'a>(record: &Record, values: &'a BTreeMap<String, Option<bool>>) -> Option<Vec<&'a str>> {
    let mut names = Vec::new();
    for (name, pooled) in values {
        if (*pooled)? {
            names.push(name.as_str());
        }
    }
    (!record.active_passive || names.len() < 2).then_some(names)
}

/// `pooled` by record and datacenter; nothing where a value cannot be read.
fn pooled(node: &Value) -> BTreeMap<String, BTreeMap<String, Option<bool>>> {
    let mut all: BTreeMap<String, BTreeMap<String, Option<bool>>> = BTreeMap::new();
    for leaf in node["nodes"].as_array().into_iter().flatten().flat_map(|record| record["nodes"].as_array()).flatten() {
        let mut words = leaf["key"].as_str().unwrap_or_default().rsplit('/');
        if let (Some(datacenter), Some(record)) = (words.next(), words.next()) {
            let value: Option<Value> = leaf["value"].as_str().and_then(|text| serde_json::from_str(text).ok());
            let pooled = value.and_then(|value| value["pooled"].as_bool());
            all.entry(record.to_owned()).or_default().insert(datacenter.to_owned(), pooled);
        }
    }
    all
}

/// A GET: etcd's index and what it says.
fn get(etcd: &str, path: &str) -> Result<(u64, Value)> {
    let mut stream = TcpStream::connect(etcd).context("cannot reach etcd")?;
    stream.set_read_timeout(Some(SILENCE))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).context("no answer from etcd")?;
    let (head, body) = answer.split_once("\r\n\r\n").context("etcd's answer has no end of headers")?;
    let index = head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("x-etcd-index: ")?.parse().ok());
    Ok((index.unwrap_or_default(), serde_json::from_str(body).context("etcd's answer is not JSON")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(active_passive: bool, values: &[(&str, Option<bool>)]) -> Option<Vec<String>> {
        let values = values.iter().map(|(name, pooled)| ((*name).to_owned(), *pooled)).collect();
        let record = Record { name: "x".to_owned(), active_passive };
        state(&record, &values).map(|names| names.into_iter().map(str::to_owned).collect())
    }

    #[test]
    fn an_ambiguous_or_unreadable_record_keeps_its_old_state() {
        let both = [("codfw", Some(true)), ("eqiad", Some(true))];
        assert_eq!(told(true, &both), None);
        assert_eq!(told(false, &both), Some(vec!["codfw".to_owned(), "eqiad".to_owned()]));
        assert_eq!(told(false, &[("codfw", Some(true)), ("eqiad", None)]), None);
        assert_eq!(told(true, &[("codfw", Some(false)), ("eqiad", Some(false))]), Some(Vec::new()));
    }
}
