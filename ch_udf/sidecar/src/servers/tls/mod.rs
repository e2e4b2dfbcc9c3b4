//! TLS of every connection of the sidecar: the only place that builds a configuration of rustls.
//! Files are read at each connection, so a certificate that was replaced takes effect without a
//! restart. Owns the rules of verification; which files are meant is for the settings.

mod files;
mod listener;
pub(crate) mod problem;
mod verifier;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, ring};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, SupportedProtocolVersion};

pub(crate) use files::{FileError, read_pem};
pub(crate) use listener::acceptor;
use verifier::{AnyServer, TrustedServer};

/// Certificates of authorities that a client trusts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Roots {
    /// The operating system's, or the files of `SSL_CERT_FILE` and `SSL_CERT_DIR`.
    Platform,
    /// The certificates in a PEM file. A server's own certificate in it is trusted, too.
    File(PathBuf),
}

/// Checks of a server's certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Check {
    /// None: the connection is encrypted, to whichever server answers.
    Nothing,
    /// A trusted authority has signed it, and it is valid now.
    Authority(Roots),
    /// In addition to [`Check::Authority`], it names the host that the client connects to.
    Host(Roots),
}

/// Files of a client's own certificate, in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
    /// True if a key that others may access is refused, as libpq does; otherwise it is reported.
    pub(crate) is_strict: bool,
}

/// The TLS of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ClientTls {
    pub(crate) check: Check,
    pub(crate) identity: Option<Identity>,
    /// File with lists of revoked certificates, in PEM.
    pub(crate) revoked: Option<PathBuf>,
    pub(crate) versions: Versions,
    /// True if the handshake names the host (SNI).
    pub(crate) names_host: bool,
}

/// Versions of TLS that may be used; older ones than 1.2 never are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Versions {
    #[default]
    Any,
    Only12,
    Only13,
}

impl ClientTls {
    /// Verifies everything, by the platform's authorities or those of a file.
    pub(crate) fn verified(roots: Option<PathBuf>, identity: Option<Identity>) -> Self {
        let roots = roots.map_or(Roots::Platform, Roots::File);
        Self { check: Check::Host(roots), identity, revoked: None, versions: Versions::Any, names_host: true }
    }

    /// Returns the file of the authorities, if they are not the platform's.
    pub(crate) fn roots_file(&self) -> Option<&Path> {
        match &self.check {
            Check::Authority(Roots::File(path)) | Check::Host(Roots::File(path)) => Some(path),
            Check::Nothing | Check::Authority(Roots::Platform) | Check::Host(Roots::Platform) => None,
        }
    }

    /// Reads the files, and returns the configuration of a connection.
    ///
    /// # Errors
    /// [`FileError`] for a file that cannot be read or used.
    pub(crate) fn config(&self) -> Result<ClientConfig, FileError> {
        let provider = provider();
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(self.versions.list())
            .map_err(|error| FileError::unusable("TLS", &error))?;
        let builder = match &self.check {
            Check::Nothing => builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyServer::new(&provider))),
            Check::Authority(roots) | Check::Host(roots) => {
                let checks_name = matches!(self.check, Check::Host(_));
                let verifier = TrustedServer::read(roots, self.revoked.as_deref(), checks_name, provider)?;
                builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier))
            }
        };
        let mut config = match &self.identity {
            None => builder.with_no_client_auth(),
            Some(identity) => {
                let (chain, key) = files::read_identity(identity)?;
                builder
                    .with_client_auth_cert(chain, key)
                    .map_err(|error| FileError::unusable(&identity.certificate.display().to_string(), &error))?
            }
        };
        config.enable_sni = self.names_host;
        Ok(config)
    }
}

impl Versions {
    fn list(self) -> &'static [&'static SupportedProtocolVersion] {
        static NEWEST_FIRST: [&SupportedProtocolVersion; 2] = [&TLS13, &TLS12];
        match self {
            Self::Any => &NEWEST_FIRST,
            Self::Only12 => &NEWEST_FIRST[1..],
            Self::Only13 => &NEWEST_FIRST[..1],
        }
    }
}

/// Returns the cryptography of this process. Libraries that ask rustls for a default get the same.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    match CryptoProvider::get_default() {
        Some(provider) => Arc::clone(provider),
        None => {
            // Another thread may have been faster, with the same provider.
            let _ = ring::default_provider().install_default();
            Arc::new(ring::default_provider())
        }
    }
}
