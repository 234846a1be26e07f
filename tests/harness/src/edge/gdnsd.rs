//! gdnsd's configuration: for each record a resource that answers by the client's network, and a state file that says where it
//! is pooled.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::Record;
use super::addresses::{CLIENTS, FAILOID, service};
use crate::fleet::NAMES;

/// Seconds that clients may hold an answer.
pub const TTL: u32 = 2;

/// Writes configuration, zone and first states below `folder`. Its control socket goes to `sockets`.
///
/// # Errors
/// If a file cannot be written.
pub fn configure(folder: &Path, sockets: &Path, port: u16, records: &[Record]) -> Result<()> {
    let own = folder.join("gdnsd");
    for below in ["gdnsd/zones", "gdnsd/var", "state"] {
        fs::create_dir_all(folder.join(below)).context("cannot make gdnsd's folders")?;
    }
    let mut zone =
        String::from("@ SOA ns.wmnet. hostmaster.wmnet. 1 3600 600 86400 1\n@ NS ns.wmnet.\nns A 127.0.0.1\n");
    let (mut types, mut resources) = (String::new(), String::new());
    for (index, record) in records.iter().enumerate() {
        let name = &record.name;
        let state = state_file(&folder.join("state"), name);
        writeln!(zone, "{name}.discovery {TTL} DYNA geoip!disc-{name}")?;
        writeln!(
            types,
            "  disc-{name} => {{ plugin => extfile, direct => true, interval => 2, file => {} }}",
            state.display()
        )?;
        writeln!(
            resources,
            "      disc-{name} => {{ map => clients, service_types => disc-{name}, \
             dcmap => {{ eqiad => {}, codfw => {}, failoid => {FAILOID} }} }}",
            service("eqiad", index),
            service("codfw", index)
        )?;
        write_state(&state, index, &[])?;
    }
    let nets: Vec<String> = CLIENTS
        .iter()
        .map(|(own, network)| {
            let other = NAMES.iter().find(|name| *name != own).unwrap_or(own);
            format!("{network} => [{own}, {other}, failoid]")
        })
        .collect();
    let config = format!(
        "options => {{\n  run_dir => {2}\n  state_dir => {0}/var\n  listen => {{ 127.0.0.1 => {{}} }}\n  dns_port => {port}\n  \
         min_ttl => 1\n  udp_threads => 1\n  tcp_threads => 1\n}}\nservice_types => {{\n{types}}}\nplugins => {{\n  \
         extfile => {{}}\n  geoip => {{\n    maps => {{ clients => {{ datacenters => [eqiad, codfw, failoid], nets => {{ {1} }} }} }}\n    \
         resources => {{\n{resources}    }}\n  }}\n}}\n",
        own.display(),
        nets.join(", "),
        sockets.display()
    );
    fs::write(own.join("config"), config).context("cannot configure gdnsd")?;
    fs::write(own.join("zones/wmnet"), zone).context("cannot write gdnsd's zone")
}

/// The state file of a record.
pub fn state_file(folder: &Path, record: &str) -> PathBuf {
    folder.join(format!("disc-{record}"))
}

/// Says where a record is pooled. Nobody reads half a file.
///
/// # Errors
/// If the file cannot be written.
pub fn write_state(path: &Path, index: usize, pooled_in: &[&str]) -> Result<()> {
    let mut text = format!("{FAILOID} => UP\n");
    for name in NAMES {
        let state = if pooled_in.contains(&name) { "UP" } else { "DOWN" };
        writeln!(text, "{} => {state}", service(name, index))?;
    }
    let young = path.with_extension("new");
    fs::write(&young, text).context("cannot write a state of gdnsd")?;
    fs::rename(&young, path).context("cannot put a state of gdnsd in its place")
}
