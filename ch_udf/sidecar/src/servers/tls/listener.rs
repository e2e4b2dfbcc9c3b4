//! TLS of the sidecar's own listener.

use std::sync::Arc;

use rustls::ServerConfig;
use tokio_rustls::TlsAcceptor;

use super::files::{FileError, read_identity};
use super::{Identity, provider};

/// Reads certificate and key, and returns the acceptor of a listener for HTTP/1.1.
///
/// # Errors
/// [`FileError`].
pub(crate) fn acceptor(identity: &Identity) -> Result<TlsAcceptor, FileError> {
    let (chain, key) = read_identity(identity)?;
    let unusable = |error| FileError::unusable(&identity.certificate.display().to_string(), &error);
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(unusable)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(unusable)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}
