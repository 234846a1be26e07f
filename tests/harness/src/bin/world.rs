//! What goes on around the datacenters, as processes that outlive whoever started them: `world confd` follows conftool into
//! gdnsd's state files, `world traffic` plays the services' clients. Both run until they are ended.

use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;

use poolguard_harness::edge::{Record, confd, traffic};

const USAGE: &str =
    "usage: world confd ETCD FOLDER RECORD:active|RECORD:passive ...\n       world traffic DNS PORT PORT SERVICE ...";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["confd", etcd, folder, records @ ..] => {
            let records: Vec<Record> = records
                .iter()
                .filter_map(|record| record.split_once(':'))
                .map(|(name, mode)| Record { name: name.to_owned(), active_passive: mode == "passive" })
                .collect();
            confd::follow(etcd, Path::new(folder), &records);
            ExitCode::FAILURE
        }
        ["traffic", dns, first, second, services @ ..] => {
            let (Ok(dns), Ok(first), Ok(second)) = (dns.parse::<SocketAddr>(), first.parse(), second.parse()) else {
                eprintln!("{USAGE}");
                return ExitCode::from(2);
            };
            let services: Vec<String> = services.iter().map(|service| (*service).to_owned()).collect();
            if let Err(error) = traffic::play(dns, [first, second], &services) {
                eprintln!("world: {error:#}");
            }
            ExitCode::FAILURE
        }
        _ => {
            eprintln!("{USAGE}");
            ExitCode::from(2)
        }
    }
}
