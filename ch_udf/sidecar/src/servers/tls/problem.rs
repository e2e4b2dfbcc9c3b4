//! The check that a handshake failed, found among the causes of an error of any client library,
//! with advice.

use std::error::Error;
use std::fmt;
use std::io::ErrorKind;
use std::sync::Arc;

use rustls::pki_types::UnixTime;
use rustls::{AlertDescription, CertificateError};

/// Names of a certificate that an error lists.
const MAX_NAMES: usize = 8;

/// Names of the settings that advice refers to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SettingNames {
    /// Setting of the authorities' file.
    pub(crate) roots: &'static str,
    /// Setting of the client's own certificate.
    pub(crate) certificate: &'static str,
}

/// Reason why there is no TLS with a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TlsProblem {
    /// The server answers without TLS.
    Plain,
    /// PostgreSQL ends the connection at a handshake that it was not asked for.
    NotDirect,
    /// The server accepts a connection, and does not answer the handshake.
    Silent,
    UnknownAuthority,
    /// The server's certificate is one of an authority, as a self-signed one is, and the client
    /// library accepts only one that an authority has signed.
    SelfSigned,
    /// With the end of its validity.
    Expired(Option<String>),
    NotYetValid(Option<String>),
    /// With the name of the host, and those in the certificate.
    WrongName {
        host: String,
        names: Vec<String>,
    },
    Revoked,
    UnknownRevocation,
    /// Another fault of the server's certificate.
    Certificate(String),
    ClientCertificateMissing,
    /// The server's reason.
    ClientCertificateRefused(&'static str),
    /// No common version or algorithm.
    NothingInCommon,
    Other(String),
}

impl TlsProblem {
    /// Returns the problem that an error or one of its causes states, if that is one of TLS.
    pub(crate) fn of(error: &(dyn Error + 'static)) -> Option<Self> {
        causes(error).find_map(|error| error.downcast_ref::<rustls::Error>().map(Self::from_rustls))
    }

    /// Does the same for an error of connecting: a server that ends the connection instead of
    /// answering has no TLS.
    pub(crate) fn of_handshake(error: &(dyn Error + 'static)) -> Option<Self> {
        Self::of(error).or_else(|| Self::is_end(error).then_some(Self::Plain))
    }

    /// Returns whether the server ended the connection.
    pub(crate) fn is_end(error: &(dyn Error + 'static)) -> bool {
        causes(error)
            .filter_map(|error| error.downcast_ref::<std::io::Error>())
            .any(|error| matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset))
    }

    /// Returns whether an error of connecting without TLS is one that servers with TLS cause: they
    /// end the connection, or answer with bytes of the handshake.
    pub(crate) fn is_expected_by(error: &(dyn Error + 'static)) -> bool {
        let is_of_http = |text: String| {
            text.contains("invalid HTTP version") || text.contains("connection closed before message completed")
        };
        Self::is_end(error) || causes(error).any(|cause| is_of_http(cause.to_string()))
    }

    fn from_rustls(error: &rustls::Error) -> Self {
        match error {
            rustls::Error::InvalidCertificate(error) => Self::from_certificate(error),
            rustls::Error::NoCertificatesPresented => Self::Certificate("the server has none".into()),
            rustls::Error::AlertReceived(alert) => Self::from_alert(*alert),
            // Bytes of another protocol.
            rustls::Error::InvalidMessage(_) => Self::Plain,
            rustls::Error::PeerIncompatible(_) => Self::NothingInCommon,
            error => Self::Other(error.to_string()),
        }
    }

    fn from_certificate(error: &CertificateError) -> Self {
        match error {
            CertificateError::UnknownIssuer | CertificateError::BadSignature => Self::UnknownAuthority,
            CertificateError::Expired => Self::Expired(None),
            CertificateError::ExpiredContext { not_after, .. } => Self::Expired(date(*not_after)),
            CertificateError::NotValidYet => Self::NotYetValid(None),
            CertificateError::NotValidYetContext { not_before, .. } => Self::NotYetValid(date(*not_before)),
            CertificateError::NotValidForName => Self::WrongName { host: String::new(), names: Vec::new() },
            CertificateError::NotValidForNameContext { expected, presented } => {
                let names = presented.iter().filter_map(|name| plain_name(name)).take(MAX_NAMES).collect();
                Self::WrongName { host: expected.to_str().into_owned(), names }
            }
            CertificateError::Revoked => Self::Revoked,
            CertificateError::UnknownRevocationStatus
            | CertificateError::ExpiredRevocationList
            | CertificateError::ExpiredRevocationListContext { .. } => Self::UnknownRevocation,
            // The library that checks certificates has no name of rustls for it.
            CertificateError::Other(cause) if cause.to_string().contains("CaUsedAsEndEntity") => Self::SelfSigned,
            error => Self::Certificate(error.to_string()),
        }
    }

    fn from_alert(alert: AlertDescription) -> Self {
        let refused = Self::ClientCertificateRefused;
        match alert {
            AlertDescription::CertificateRequired | AlertDescription::NoCertificate => Self::ClientCertificateMissing,
            AlertDescription::UnknownCA => refused("its authority is unknown to the server"),
            AlertDescription::CertificateExpired => refused("it has expired"),
            AlertDescription::CertificateRevoked => refused("it was revoked"),
            AlertDescription::UnsupportedCertificate => refused("its kind or purpose is not accepted"),
            AlertDescription::BadCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::AccessDenied
            | AlertDescription::DecryptError => refused("see the log of the server"),
            AlertDescription::HandshakeFailure
            | AlertDescription::ProtocolVersion
            | AlertDescription::InsufficientSecurity => Self::NothingInCommon,
            alert => Self::Other(format!("the server ended the handshake with the alert {alert:?}")),
        }
    }

    /// Returns the problem, and what to do about it.
    pub(crate) fn explain(&self, settings: SettingNames) -> String {
        format!("{self}; {}", self.advice(settings))
    }

    fn advice(&self, settings: SettingNames) -> String {
        let SettingNames { roots, certificate } = settings;
        match self {
            Self::Plain | Self::Silent => {
                "switch TLS on in the server, or connect to the port that has it; the sidecar does not \
                            connect without it"
                    .into()
            }
            Self::NotDirect => "use sslnegotiation=postgres for a server before version 17".into(),
            Self::UnknownAuthority => format!("name the certificate of its authority with {roots}"),
            Self::SelfSigned => format!("sign the server's certificate by an authority, and name that with {roots}"),
            Self::Expired(_) => "renew the server's certificate".into(),
            Self::NotYetValid(_) => "compare the clocks of both machines".into(),
            Self::WrongName { .. } => {
                "connect by one of its names, or issue a certificate with the host as subjectAltName".into()
            }
            Self::Revoked => "the server must get another certificate".into(),
            Self::UnknownRevocation => "the revocation list must be current, and cover every authority".into(),
            Self::Certificate(_) => "the server must get another certificate".into(),
            Self::ClientCertificateMissing => format!("name a certificate with {certificate}"),
            Self::ClientCertificateRefused(_) => format!("check the certificate of {certificate}"),
            Self::NothingInCommon => "the server must offer TLS 1.2 or 1.3".into(),
            Self::Other(_) => "check that the server speaks TLS on this port".into(),
        }
    }
}

impl fmt::Display for TlsProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let since = |date: &Option<String>| date.as_ref().map_or_else(String::new, |date| format!(" (at {date})"));
        match self {
            Self::Plain => f.write_str("the server has no TLS"),
            Self::NotDirect => f.write_str("the server ends the connection instead of a direct handshake"),
            Self::Silent => f.write_str("the server does not answer the handshake, as one that has no TLS"),
            Self::UnknownAuthority => f.write_str("the server's certificate was signed by an unknown authority"),
            Self::SelfSigned => f.write_str("the server's certificate is self-signed, or one of an authority"),
            Self::Expired(date) => write!(f, "the server's certificate has expired{}", since(date)),
            Self::NotYetValid(date) => write!(f, "the server's certificate is not valid yet{}", since(date)),
            Self::WrongName { host, names } if names.is_empty() => {
                write!(f, "the server's certificate has the wrong name: it names no host, not even {host}")
            }
            Self::WrongName { host, names } => {
                write!(f, "the server's certificate has the wrong name: it is for {}, not for {host}", names.join(", "))
            }
            Self::Revoked => f.write_str("the server's certificate was revoked"),
            Self::UnknownRevocation => f.write_str("the server's certificate may have been revoked"),
            Self::Certificate(detail) => write!(f, "the server's certificate is not valid: {detail}"),
            Self::ClientCertificateMissing => f.write_str("the server requires a client certificate"),
            Self::ClientCertificateRefused(reason) => {
                write!(f, "the server refused the client certificate: {reason}")
            }
            Self::NothingInCommon => f.write_str("client and server have no version or algorithm of TLS in common"),
            Self::Other(detail) => write!(f, "the handshake failed: {detail}"),
        }
    }
}

/// Returns the name in `DnsName("db.test")` or `IpAddress(192.0.2.7)`, as rustls lists the names of
/// a certificate.
fn plain_name(listed: &str) -> Option<String> {
    let inner = ["DnsName(", "IpAddress("].iter().find_map(|kind| listed.strip_prefix(kind))?;
    let name = inner.strip_suffix(')')?.trim_matches('"');
    // The server wrote it.
    Some(name.chars().map(|letter| if letter.is_ascii_graphic() { letter } else { '?' }).collect())
}

/// Returns an error and its causes, also those that `source()` skips: an I/O error begins with the
/// cause of the error that it wraps, and Redis' client shares its errors.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| {
        if let Some(wrapped) = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
            return Some(wrapped as &(dyn Error + 'static));
        }
        if let Some(shared) = error.downcast_ref::<Arc<dyn Error + Send + Sync>>() {
            return Some(&**shared as &(dyn Error + 'static));
        }
        error.source()
    })
}

fn date(time: UnixTime) -> Option<String> {
    let seconds = i64::try_from(time.as_secs()).ok()?;
    Some(chrono::DateTime::from_timestamp(seconds, 0)?.format("%Y-%m-%d %H:%M:%S UTC").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: SettingNames = SettingNames { roots: "root_file", certificate: "certificate_file" };

    fn wrapped(error: rustls::Error) -> std::io::Error {
        // Libraries wrap an error of rustls more than once, or share it.
        let shared: Arc<dyn Error + Send + Sync> = Arc::new(std::io::Error::new(ErrorKind::InvalidData, error));
        std::io::Error::other(shared)
    }

    #[test]
    fn the_failed_check_is_found_below_other_errors() {
        let of = |error| TlsProblem::of(&wrapped(error)).map(|problem| problem.explain(NAMES)).unwrap_or_default();
        let certificate = |error| of(rustls::Error::InvalidCertificate(error));
        assert!(
            certificate(CertificateError::UnknownIssuer)
                .contains("unknown authority; name the certificate of its authority with root_file")
        );
        let expired = CertificateError::ExpiredContext {
            time: UnixTime::since_unix_epoch(std::time::Duration::from_secs(1_700_000_000)),
            not_after: UnixTime::since_unix_epoch(std::time::Duration::from_secs(1_600_000_000)),
        };
        assert!(certificate(expired).contains("has expired (at 2020-09-13 12:26:40 UTC)"));
        let alert = |alert| of(rustls::Error::AlertReceived(alert));
        assert!(alert(AlertDescription::CertificateRequired).contains("name a certificate with certificate_file"));
        assert!(alert(AlertDescription::CertificateRevoked).contains("it was revoked"));
        assert!(of(rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType)).contains("has no TLS"));
        assert_eq!(TlsProblem::of(&std::io::Error::other("something else")), None);
    }

    #[test]
    fn a_connection_that_ends_in_the_handshake_is_one_without_tls() {
        let end = std::io::Error::from(ErrorKind::UnexpectedEof);
        assert_eq!(TlsProblem::of(&end), None);
        assert_eq!(TlsProblem::of_handshake(&end), Some(TlsProblem::Plain));
        assert_eq!(TlsProblem::of_handshake(&std::io::Error::from(ErrorKind::ConnectionRefused)), None);
    }

    #[test]
    fn names_of_a_certificate_are_shown_plainly() {
        assert_eq!(plain_name("DnsName(\"db.test\")").as_deref(), Some("db.test"));
        assert_eq!(plain_name("IpAddress(192.0.2.7)").as_deref(), Some("192.0.2.7"));
        assert_eq!(plain_name("DnsName(\"a\u{1b}[2Jb\")").as_deref(), Some("a?[2Jb"));
        assert_eq!(plain_name("DirectoryName"), None);
    }
}
