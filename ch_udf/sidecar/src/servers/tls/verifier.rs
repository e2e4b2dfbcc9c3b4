//! Verification of a server's certificate, with or without its name.

use std::path::Path;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_name;
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use x509_cert::Certificate;
use x509_cert::der::Decode;

use super::Roots;
use super::files::{FileError, read_certificates, read_revoked};

/// Accepts a certificate that leads to one of the roots, or that is one of them.
#[derive(Debug)]
pub(super) struct TrustedServer {
    chains: Arc<WebPkiServerVerifier>,
    /// Certificates of the file. A server that made its own certificate is trusted by it: webpki
    /// would reject its chain, which ends where it begins.
    pinned: Vec<CertificateDer<'static>>,
    checks_name: bool,
}

impl TrustedServer {
    pub(super) fn read(
        roots: &Roots,
        revoked: Option<&Path>,
        checks_name: bool,
        provider: Arc<CryptoProvider>,
    ) -> Result<Self, FileError> {
        let mut store = RootCertStore::empty();
        let pinned = match roots {
            Roots::Platform => {
                let found = rustls_native_certs::load_native_certs();
                for error in &found.errors {
                    tracing::debug!(%error, "a certificate of the operating system cannot be read");
                }
                store.add_parsable_certificates(found.certs);
                Vec::new()
            }
            Roots::File(path) => {
                let what = "root certificate";
                let certificates = read_certificates(what, path)?;
                for certificate in &certificates {
                    store.add(certificate.clone()).map_err(|error| {
                        let detail = error.to_string();
                        FileError::Invalid { what, path: path.clone(), detail }
                    })?;
                }
                certificates
            }
        };
        if store.is_empty() {
            return Err(FileError::NoPlatformRoots);
        }
        let mut builder = WebPkiServerVerifier::builder_with_provider(Arc::new(store), provider);
        if let Some(path) = revoked {
            builder = builder.with_crls(read_revoked(path)?);
        }
        let chains = builder.build().map_err(|error| FileError::Unusable {
            subject: revoked.map_or_else(|| "the roots".to_owned(), |path| path.display().to_string()),
            detail: error.to_string(),
        })?;
        Ok(Self { chains, pinned, checks_name })
    }
}

impl ServerCertVerifier for TrustedServer {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if self.pinned.iter().any(|certificate| certificate == end_entity) {
            check_times(end_entity, now)?;
            if self.checks_name {
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
            }
            return Ok(ServerCertVerified::assertion());
        }
        match self.chains.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            // The name is compared last, after the chain.
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if !self.checks_name => Ok(ServerCertVerified::assertion()),
            // A server's own authority that is not in the file. Only the error's text shows it.
            Err(Error::InvalidCertificate(CertificateError::Other(error)))
                if error.to_string().contains("CaUsedAsEndEntity") =>
            {
                Err(Error::InvalidCertificate(CertificateError::UnknownIssuer))
            }
            outcome => outcome,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chains.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chains.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chains.supported_verify_schemes()
    }
}

/// Checks that a certificate is valid now.
fn check_times(certificate: &CertificateDer<'_>, now: UnixTime) -> Result<(), Error> {
    let invalid = Error::InvalidCertificate;
    let parsed = Certificate::from_der(certificate).map_err(|_| invalid(CertificateError::BadEncoding))?;
    let validity = parsed.tbs_certificate.validity;
    let seconds = |time: x509_cert::time::Time| UnixTime::since_unix_epoch(time.to_unix_duration());
    let (not_before, not_after) = (seconds(validity.not_before), seconds(validity.not_after));
    if now < not_before {
        return Err(invalid(CertificateError::NotValidYetContext { time: now, not_before }));
    }
    if now > not_after {
        return Err(invalid(CertificateError::ExpiredContext { time: now, not_after }));
    }
    Ok(())
}

/// Accepts every certificate, and checks only that the server has its key.
#[derive(Debug)]
pub(super) struct AnyServer {
    algorithms: WebPkiSupportedAlgorithms,
}

impl AnyServer {
    pub(super) fn new(provider: &CryptoProvider) -> Self {
        Self { algorithms: provider.signature_verification_algorithms }
    }
}

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
