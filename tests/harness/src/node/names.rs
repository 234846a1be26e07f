//! DNS of an enclosure: gdnsd knows where conftool's etcd is, and that there is nothing in the cluster's own domain.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::enclosure::{ADDRESS, SOCKETS};
use crate::debian::Debian;

/// The name of the host of conftool's etcd.
pub const CONFTOOL: &str = "conf1001.eqiad.wmnet";

/// Writes gdnsd's configuration below `folder`, and says how to start it.
///
/// # Errors
/// If a file cannot be written.
pub fn gdnsd(folder: &Path, debian: &Debian) -> Result<Command> {
    for below in ["zones", "var"] {
        fs::create_dir_all(folder.join(below)).context("cannot make gdnsd's folders")?;
    }
    let write = |name: &str, text: String| fs::write(folder.join(name), text).context("cannot configure gdnsd");
    let (host, _) = CONFTOOL.split_once(".wmnet").context("the host is of another domain")?;
    let start = "@ SOA ns.wmnet. hostmaster.wmnet. 1 3600 600 86400 1\n@ NS ns.wmnet.\n";
    write("zones/wmnet", format!("{start}ns A {ADDRESS}\n{host} 60 A {ADDRESS}\n"))?;
    write("zones/cluster.local", start.to_owned())?;
    let options = format!(
        "options => {{\n  run_dir => {SOCKETS}\n  state_dir => {0}/var\n  listen => {{ {ADDRESS} => {{}} }}\n  udp_threads => 1\n  \
         tcp_threads => 1\n}}\n",
        folder.display()
    );
    write("config", options)?;
    let mut command = debian.command("usr/sbin/gdnsd");
    command.arg("-c").arg(folder).arg("start");
    Ok(command)
}
