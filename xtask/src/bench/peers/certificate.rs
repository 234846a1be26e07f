//! The certificate of a peer, in a folder as programs of the field expect it.

use std::path::PathBuf;

use anyhow::Result;
use poolguard_harness::pki::Authority;
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
        authority.mounted(&folder, name, &[])?;
        Ok(Self { folder })
    }

    /// The certificate of the authority.
    pub fn authority(&self) -> PathBuf {
        self.folder.join("ca.crt")
    }
}
