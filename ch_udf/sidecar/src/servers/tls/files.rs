//! Reading certificates, keys and revocation lists from PEM files.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use secrecy::{ExposeSecret, SecretSlice};

use super::Identity;

/// Size limit of a file; the bundle of an operating system has 0.2 MB.
const MAX_FILE: u64 = 16 << 20;

/// A file of TLS that cannot be used. The text names it, and never contains a part of it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    #[error("{what} {path} cannot be read")]
    Read {
        what: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{path} contains no {what} in PEM format")]
    Empty { what: &'static str, path: PathBuf },
    #[error("{path} contains a {what} that cannot be used: {detail}")]
    Invalid { what: &'static str, path: PathBuf, detail: String },
    #[error("the key in {path} is encrypted; decrypt it with `openssl pkey -in {path} -out KEY`")]
    Encrypted { path: PathBuf },
    #[error("other users of this machine may access the key in {path}; run chmod 600")]
    Exposed { path: PathBuf },
    #[error("{subject} cannot be used for TLS: {detail}")]
    Unusable { subject: String, detail: String },
    #[error("the operating system has no certificates of authorities; name a file of them")]
    NoPlatformRoots,
}

impl FileError {
    pub(super) fn unusable(subject: &str, error: &rustls::Error) -> Self {
        let detail = match error {
            rustls::Error::InconsistentKeys(_) => "the key does not belong to the certificate".to_owned(),
            error => error.to_string(),
        };
        Self::Unusable { subject: subject.to_owned(), detail }
    }
}

/// Reads a file that may contain a key.
///
/// # Errors
/// [`FileError::Read`].
pub(crate) fn read_pem(what: &'static str, path: &Path) -> Result<SecretSlice<u8>, FileError> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_FILE).read_to_end(&mut bytes))
        .map_err(|source| FileError::Read { what, path: path.to_owned(), source })?;
    Ok(bytes.into())
}

/// Reads all certificates of a file.
pub(super) fn read_certificates(what: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, FileError> {
    let text = read_pem(what, path)?;
    let certificates = CertificateDer::pem_slice_iter(text.expose_secret())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| FileError::Invalid { what, path: path.to_owned(), detail: error.to_string() })?;
    if certificates.is_empty() {
        return Err(FileError::Empty { what, path: path.to_owned() });
    }
    Ok(certificates)
}

/// Reads the lists of revoked certificates in a file.
pub(super) fn read_revoked(path: &Path) -> Result<Vec<CertificateRevocationListDer<'static>>, FileError> {
    let what = "revocation list";
    let text = read_pem(what, path)?;
    let lists = CertificateRevocationListDer::pem_slice_iter(text.expose_secret())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| FileError::Invalid { what, path: path.to_owned(), detail: error.to_string() })?;
    if lists.is_empty() {
        return Err(FileError::Empty { what, path: path.to_owned() });
    }
    Ok(lists)
}

/// Reads a certificate with its chain, and its key.
///
/// # Errors
/// [`FileError`].
pub(super) fn read_identity(
    identity: &Identity,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), FileError> {
    let chain = read_certificates("certificate", &identity.certificate)?;
    let path = &identity.key;
    if is_exposed(path) {
        if identity.is_strict {
            return Err(FileError::Exposed { path: path.clone() });
        }
        tracing::warn!(file = %path.display(), "other users of this machine may access this key; run chmod 600");
    }
    let text = read_pem("key", path)?;
    if contains(text.expose_secret(), b"ENCRYPTED") {
        return Err(FileError::Encrypted { path: path.clone() });
    }
    let key = PrivateKeyDer::from_pem_slice(text.expose_secret())
        .map_err(|_| FileError::Empty { what: "private key", path: path.clone() })?;
    Ok((chain, key))
}

fn contains(text: &[u8], word: &[u8]) -> bool {
    text.windows(word.len()).any(|window| window == word)
}

/// Returns whether others may access a key, by libpq's rule: the group may read one of root's.
fn is_exposed(path: &Path) -> bool {
    // A file that does not exist is reported when it is read.
    std::fs::metadata(path).is_ok_and(|metadata| {
        let forbidden = if metadata.uid() == 0 { 0o037 } else { 0o077 };
        metadata.permissions().mode() & forbidden != 0
    })
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;

    use super::*;

    #[test]
    fn a_key_is_exposed_where_libpq_refuses_it() {
        let key = tempfile::NamedTempFile::new().unwrap();
        let is_exposed = |mode| {
            std::fs::set_permissions(key.path(), Permissions::from_mode(mode)).unwrap();
            is_exposed(key.path())
        };
        for (mode, expected) in [(0o600, false), (0o400, false), (0o620, true), (0o604, true), (0o644, true)] {
            assert_eq!(is_exposed(mode), expected, "{mode:o}");
        }
        let is_of_root = std::fs::metadata(key.path()).unwrap().uid() == 0;
        assert_eq!(is_exposed(0o640), !is_of_root);
    }
}
