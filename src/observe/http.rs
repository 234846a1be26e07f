//! What HTTP sources share: no redirects, no proxies, an authority of one's own, bounded bodies, errors in words.

use std::path::Path;
use std::time::Duration;

use futures::StreamExt;
use poolguard_policy::evidence::Why;
use reqwest::{Identity, Response};

use super::{Bad, SourcesError};
use crate::runtime::{authorities, timeless};

/// A file of a source's configuration.
pub(super) fn file(source: &str, path: &Path) -> Result<Vec<u8>, SourcesError> {
    std::fs::read(path).map_err(|error| SourcesError::Credential {
        source_name: source.to_owned(),
        path: path.display().to_string(),
        error,
    })
}

/// A client.
pub(super) fn client(
    source: &str,
    connect: Duration,
    ca_file: Option<&Path>,
    identity: Option<(&Path, &Path)>,
) -> Result<reqwest::Client, SourcesError> {
    let failed = |error| SourcesError::Client { source_name: source.to_owned(), error };
    let mut builder = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(connect)
        .no_proxy()
        .user_agent(concat!("poolguard/", env!("CARGO_PKG_VERSION")));
    builder = match ca_file {
        Some(path) => {
            let roots = reqwest::Certificate::from_pem_bundle(&file(source, path)?).map_err(failed)?;
            builder.tls_certs_only(roots)
        }
        None => builder.tls_certs_merge(authorities::public().map_err(failed)?),
    };
    if let Some((certificate, key)) = identity {
        let mut pem = file(source, certificate)?;
        pem.push(b'\n');
        pem.extend(file(source, key)?);
        builder = builder.identity(Identity::from_pem(&pem).map_err(failed)?);
    }
    builder.build().map_err(failed)
}

/// The body of an answer, up to `limit` bytes.
pub(super) async fn body(of: &str, response: Response, limit: usize) -> Result<Vec<u8>, Bad> {
    let mut body = Vec::new();
    let mut stream = response.bytes_stream();
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(|error| failed(of, &error))?;
        if body.len() + chunk.len() > limit {
            return Err(Bad::new(Why::Malformed, &format!("{of}'s answer exceeds {limit} bytes")));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// The innermost cause says most: `connection refused`. It gets into a status, so it stays the same while nothing changes.
pub(super) fn failed(of: &str, error: &reqwest::Error) -> Bad {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    Bad::new(Why::Unreachable, &format!("{of} cannot be reached ({})", timeless(&cause.to_string())))
}
