//! Poolguard: refuses to take a service away in a datacenter that still serves its live traffic.
//!
//! Modules in reading order: [`api`] is what we store and [`config`] what the operator is told; [`observe`] asks and
//! follows the sources of truth, [`cluster`] what the cluster holds; [`registration`] is what the API server is asked to send us; [`webhook`] answers the API server; [`controller`] keeps status true; [`uninstall`] opens the guard before the chart goes; [`runtime`] is
//! plumbing without domain words. What is decided lives in the crate `poolguard-policy`.

pub mod api;
pub mod cluster;
pub mod config;
pub mod controller;
pub mod generated;
pub mod observe;
pub mod registration;
pub mod runtime;
pub mod uninstall;
pub mod webhook;
