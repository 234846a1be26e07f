//! Two real datacenters on one machine: builds the programs of a control plane, starts and stops them, installs Poolguard and
//! the example services. Tests, the demo and `cargo xtask` share it.
//!
//! In reading order: [`command`] runs one program, [`wait`] waits for a condition, [`http`] asks one thing; [`programs`], [`conftool`] and [`debian`] bring
//! what is missing; [`run`] owns the processes and the folder of a run, [`ports`] and [`pki`] serve it; [`datacenter`] is one control
//! plane, [`fleet`] both and conftool's etcd, [`etcd`] one that can be broken, [`edge`] gdnsd and Prometheus around them; [`chart`] is what people install, [`operator`] Poolguard beside a control plane, [`image`] is it as it is shipped, [`node`] a datacenter with a real node, [`mount`] its certificate as a kubelet shows it, [`services`] the examples, [`lists`] what must be refused and what must pass, [`values`] what may be set in the chart.
//!
//! Never: a client library. Everything is done with the programs that people use, so that what works here works for them.
pub mod chart;
pub mod command;
pub mod conftool;
pub mod datacenter;
pub mod debian;
pub mod demo;
pub mod edge;
pub mod etcd;
pub mod fleet;
pub mod http;
pub mod image;
pub mod lists;
pub mod mount;
pub mod node;
pub mod objects;
pub mod operator;
pub mod pki;
pub mod place;
pub mod ports;
pub mod programs;
pub mod run;
pub mod services;
pub mod values;
pub mod wait;

use std::path::PathBuf;

/// The checkout's root.
pub fn root() -> PathBuf {
    let manifest = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    manifest.ancestors().nth(2).expect("the crate lies two folders below the root").to_path_buf()
}
