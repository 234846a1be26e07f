//! The certificate of a peer, in a folder as programs of the field expect it.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use poolguard_harness::pki::{Authority, Subject};
use poolguard_harness::run::Run;

/// `tls.crt`, `tls.key` and `ca.crt`.
pub struct Certificate {
    /// Where they are.
    pub folder: PathBuf,
}

impl Certificate {
    /// A certificate for 127.0.0.1, by an authority of its own.
    pub fn new(run: &Run, name: &str) -> Result<Self> {
        let folder = run.subfolder(&format!("{name}/tls"))?;
        let authority = Authority::new(run.subfolder(&format!("{name}/pki"))?, name)?;
        let (certificate, key) = authority.sign(name, Subject::Server(&[]))?;
        for (from, to) in [(certificate, "tls.crt"), (key, "tls.key"), (authority.file(), "ca.crt")] {
            fs::copy(from, folder.join(to)).with_context(|| format!("cannot write {to} of {name}"))?;
        }
        Ok(Self { folder })
    }

    /// The certificate of the authority.
    pub fn authority(&self) -> PathBuf {
        self.folder.join("ca.crt")
    }
}
