//! Clients of HTTP for servers that users name by a URL.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use url::Url;

use super::tls::ClientTls;
use crate::error::SidecarError;

pub(crate) type HttpClient = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// Returns a URL of http or https and a client for it, which checks certificates by the roots of
/// the platform. `owner` names the URL in errors, and `server` the server.
///
/// # Errors
/// [`SidecarError::Configuration`] for another URL, and for one with a password, which is not
/// shown; [`SidecarError::TlsFile`].
pub(crate) fn client_of(
    url: &str,
    owner: &str,
    server: &'static str,
    connect_timeout: Duration,
) -> Result<(Url, HttpClient), SidecarError> {
    let wrong = |detail: String| SidecarError::Configuration { detail };
    let url = Url::parse(url).map_err(|error| wrong(format!("the URL of {owner} is wrong: {error}")))?;
    if !matches!(url.scheme(), "http" | "https") || !url.username().is_empty() || url.password().is_some() {
        return Err(wrong(format!("the URL of {owner} must begin with http or https, and hold no password")));
    }
    let config = ClientTls::verified(None, None).config().map_err(|source| SidecarError::TlsFile {
        server,
        address: url.host_str().unwrap_or_default().to_owned(),
        source: Box::new(source),
    })?;
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_connect_timeout(Some(connect_timeout));
    let connector =
        HttpsConnectorBuilder::new().with_tls_config(config).https_or_http().enable_http1().wrap_connector(connector);
    Ok((url, Client::builder(TokioExecutor::new()).build(connector)))
}
