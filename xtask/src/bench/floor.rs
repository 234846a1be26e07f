//! The floor: what network, TLS and JSON alone cost.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;
use poolguard_harness::pki::{Authority, Subject};
use poolguard_harness::ports::Ports;
use poolguard_rig::Verdict;

use super::contestant::{Contestant, Running, Setting};

/// It.
pub struct Floor {
    /// Its program.
    pub program: PathBuf,
}

impl Contestant for Floor {
    fn name(&self) -> &'static str {
        "floor"
    }

    fn build(&mut self) -> Result<()> {
        Ok(())
    }

    /// It decides nothing.
    fn answers(&self, _: Verdict) -> Verdict {
        Verdict::Allowed
    }

    fn start(&self, setting: &Setting<'_>) -> Result<Running> {
        let authority = Authority::new(setting.run().subfolder("floor")?, "floor")?;
        let (certificate, key) = authority.sign("floor", Subject::Server(&[]))?;
        let mut ports = Ports::new();
        let address = SocketAddr::from(([127, 0, 0, 1], ports.take()?));
        let mut command = Command::new(&self.program);
        let pid = setting.run().start("floor", command.arg(address.to_string()).arg(certificate).arg(key))?;
        let authority = authority.file();
        Ok(Running { address, path: "/validate".to_owned(), authority, pids: vec![pid], held: vec![Box::new(ports)] })
    }
}
