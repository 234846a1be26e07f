//! Keeps status true.
use std::sync::Arc;
use crate::config::Config;
use crate::observe::Sources;
use crate::runtime::Environment;
/// x
#[derive(Debug, thiserror::Error)]
pub enum Error {}
/// x
pub async fn run(_env: Environment, _config: Arc<Config>, _sources: Arc<Sources>) -> Result<(), Error> { _env.shutdown.requested().await; Ok(()) }
