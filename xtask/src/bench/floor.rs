//! The floor: what network, TLS and JSON alone cost.

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
        let port = ports.take()?;
        let mut command = Command::new(&self.program);
        let pid = setting.run().start("floor", command.arg(format!("127.0.0.1:{port}")).arg(certificate).arg(key))?;
        Ok(Running::new(port, "/validate", authority.file(), pid, ports))
    }
}
