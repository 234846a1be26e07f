//! A connection over TLS that is kept: sends a review, and reads its answer.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::answer::{Answer, Judge, parse};

const BUFFER: usize = 16 << 10;

/// A request with this review.
pub fn request(path: &str, review: &str) -> Vec<u8> {
    let length = review.len();
    format!(
        "POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: application/json\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\n\r\n{review}"
    )
    .into_bytes()
}

/// A request to delete this, without doing it.
pub fn dry_run(path: &str, token: &str) -> Vec<u8> {
    format!(
        "DELETE {path}?dryRun=All HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: application/json\r\n\
         Authorization: Bearer {token}\r\nContent-Length: 0\r\n\r\n"
    )
    .into_bytes()
}

/// Where connections lead.
pub struct Server {
    address: SocketAddr,
    name: ServerName<'static>,
    connector: TlsConnector,
}

impl Server {
    pub fn new(address: SocketAddr, authority: &Path) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(authority).ok().context("cannot read the authority")? {
            roots.add(certificate.ok().context("the authority is no PEM")?).context("the authority is none")?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::from(address.ip());
        Ok(Self { address, name, connector: TlsConnector::from(Arc::new(config)) })
    }

    pub async fn connect(&self) -> Result<Connection> {
        let stream =
            TcpStream::connect(self.address).await.with_context(|| format!("cannot reach {}", self.address))?;
        stream.set_nodelay(true).context("a strange socket")?;
        let stream = self.connector.connect(self.name.clone(), stream).await.context("no TLS")?;
        Ok(Connection { stream, arrived: Vec::with_capacity(BUFFER) })
    }
}

/// One of them.
pub struct Connection {
    stream: TlsStream<TcpStream>,
    arrived: Vec<u8>,
}

impl Connection {
    pub async fn ask(&mut self, request: &[u8], judge: Judge) -> Result<Answer> {
        self.stream.write_all(request).await.context("cannot send a review")?;
        self.stream.flush().await.context("cannot send a review")?;
        loop {
            if let Some((answer, length)) = parse(&self.arrived, judge)? {
                self.arrived.drain(..length);
                return Ok(answer);
            }
            let more = self.stream.read_buf(&mut self.arrived).await.context("cannot read an answer")?;
            ensure!(more > 0, "the server closed a connection");
        }
    }
}
