//! The cluster tier: real control planes, real clients, our processes under the chart's own ServiceAccounts. Scenarios run
//! side by side, each in a namespace with a record of its own, on one pair of datacenters; what breaks a datacenter for
//! everybody has a pair of its own.
//!
//! A refusal counts only if the webhook's own counter moved and the same command succeeds after the depool.

mod autoscaler;
mod bad_input;
mod certificates;
mod chart;
mod discovery;
mod doors;
mod evidence;
mod faults;
mod gitops;
mod golden;
mod install;
mod line;
mod lists;
mod messages;
mod ordinary_work;
mod outage;
mod overrides;
mod proof;
mod resilience;
mod runbook;
mod scenario;
mod status;
mod uninstall;
mod warning;
