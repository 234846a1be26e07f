//! Certificates of a run: an authority, what it signs, and kubeconfigs with them. Valid on loopback only, gone with the run.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

/// A certificate authority in a folder: `ca.crt`.
pub struct Authority {
    folder: PathBuf,
    issuer: Issuer<'static, KeyPair>,
    /// Its certificate, PEM.
    pub pem: String,
}

/// Who a certificate is for.
#[derive(Debug, Clone, Copy)]
pub enum Subject<'a> {
    /// A server on loopback, also under these DNS names.
    Server(&'a [&'a str]),
    /// A user of the API server, in these groups.
    User(&'a str, &'a [&'a str]),
}

impl Authority {
    /// A new authority.
    ///
    /// # Errors
    /// If its files cannot be written.
    pub fn new(folder: PathBuf, name: &str) -> Result<Self> {
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name = names(name, &[]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let pem = params.self_signed(&key)?.pem();
        fs::write(folder.join("ca.crt"), &pem).context("cannot write ca.crt")?;
        Ok(Self { folder, issuer: Issuer::new(params, key), pem })
    }

    /// Writes `<name>.crt` and `<name>.key` and returns their paths.
    ///
    /// # Errors
    /// If they cannot be written.
    pub fn sign(&self, name: &str, subject: Subject<'_>) -> Result<(PathBuf, PathBuf)> {
        let key = KeyPair::generate()?;
        let mut params = match subject {
            Subject::Server(hosts) => {
                let hosts = hosts.iter().map(|host| (*host).to_owned());
                let mut params =
                    CertificateParams::new(hosts.chain(["localhost".into(), "127.0.0.1".into()]).collect::<Vec<_>>())?;
                params.distinguished_name = names(name, &[]);
                params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
                params
            }
            Subject::User(user, groups) => {
                let mut params = CertificateParams::new(Vec::new())?;
                params.distinguished_name = names(user, groups);
                params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
                params
            }
        };
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &self.issuer)?;
        let paths = (self.folder.join(format!("{name}.crt")), self.folder.join(format!("{name}.key")));
        fs::write(&paths.0, certificate.pem()).context("cannot write a certificate")?;
        fs::write(&paths.1, key.serialize_pem()).context("cannot write a key")?;
        Ok(paths)
    }

    /// The same for a server, laid out as a Secret is mounted: `tls.crt`, `tls.key` and `ca.crt` in this folder.
    ///
    /// # Errors
    /// If they cannot be written.
    pub fn mounted(&self, folder: &Path, name: &str, hosts: &[&str]) -> Result<()> {
        let (certificate, key) = self.sign(name, Subject::Server(hosts))?;
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        for (from, to) in [(certificate, "tls.crt"), (key, "tls.key"), (self.file(), "ca.crt")] {
            fs::copy(from, folder.join(to)).with_context(|| format!("cannot write {to} of {name}"))?;
        }
        Ok(())
    }

    /// The authority's certificate.
    pub fn file(&self) -> PathBuf {
        self.folder.join("ca.crt")
    }
}

fn names(common: &str, groups: &[&str]) -> DistinguishedName {
    let mut names = DistinguishedName::new();
    names.push(DnType::CommonName, common);
    for group in groups {
        names.push(DnType::OrganizationName, *group);
    }
    names
}

/// A key pair for service account tokens: paths of the private and of the public key.
///
/// # Errors
/// If they cannot be written.
pub fn token_keys(folder: &Path) -> Result<(PathBuf, PathBuf)> {
    let key = KeyPair::generate()?;
    let paths = (folder.join("tokens.key"), folder.join("tokens.pub"));
    fs::write(&paths.0, key.serialize_pem()).context("cannot write a key")?;
    fs::write(&paths.1, key.public_key_pem()).context("cannot write a key")?;
    Ok(paths)
}

/// How a kubeconfig proves who one is.
#[derive(Debug, Clone)]
pub enum Credential {
    /// A client certificate and its key.
    Certificate(PathBuf, PathBuf),
    /// A bearer token.
    Token(String),
}

/// Writes a kubeconfig. JSON is YAML.
///
/// # Errors
/// If it cannot be written.
pub fn kubeconfig(path: &Path, server: &str, authority: &Path, credential: &Credential) -> Result<()> {
    let user = match credential {
        Credential::Certificate(certificate, key) => {
            serde_json::json!({"client-certificate": certificate, "client-key": key})
        }
        Credential::Token(token) => serde_json::json!({"token": token}),
    };
    let config = serde_json::json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "this",
        "clusters": [{"name": "this", "cluster": {"server": server, "certificate-authority": authority}}],
        "users": [{"name": "this", "user": user}],
        "contexts": [{"name": "this", "context": {"cluster": "this", "user": "this"}}],
    });
    fs::write(path, format!("{config:#}\n")).with_context(|| format!("cannot write {}", path.display()))
}
