//! The smallest webhook over axum and rustls: decodes the uid, and allows. What it costs, network, TLS and JSON cost alone.

use std::error::Error;
use std::net::SocketAddr;

use axum::Router;
use axum::body::Bytes;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum_server::tls_rustls::RustlsConfig;
use serde::Deserialize;

#[derive(Deserialize)]
struct Review<'a> {
    #[serde(borrow)]
    request: Asked<'a>,
}

#[derive(Deserialize)]
struct Asked<'a> {
    uid: &'a str,
}

/// `floor ADDRESS:PORT CERTIFICATE KEY`
fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(listen), Some(certificate), Some(key)) = (arguments.next(), arguments.next(), arguments.next()) else {
        return Err("floor ADDRESS:PORT CERTIFICATE KEY".into());
    };
    let listen: SocketAddr = listen.parse()?;
    rustls::crypto::ring::default_provider().install_default().map_err(|_| "there is a provider already")?;
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
        let tls = RustlsConfig::from_pem_file(certificate, key).await?;
        let router = Router::new().route("/validate", post(validate));
        axum_server::bind_rustls(listen, tls).serve(router.into_make_service()).await?;
        Ok(())
    })
}

async fn validate(body: Bytes) -> Response {
    let Ok(Review { request: Asked { uid } }) = serde_json::from_slice(&body) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let answer = format!(
        r#"{{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","response":{{"uid":"{uid}","allowed":true}}}}"#
    );
    ([(header::CONTENT_TYPE, "application/json")], answer).into_response()
}
