//! Tokens that requests need. Only their digests are kept.

use std::collections::HashSet;
use std::path::Path;

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use secrecy::ExposeSecret;
use sha2::{Digest, Sha256};

use crate::error::SidecarError;
use crate::settings::read_secret;

/// Shortest token: 16 characters of base 64 are 96 bits.
const MIN_LENGTH: usize = 16;

/// The tokens that are valid now.
#[derive(Debug)]
pub(super) struct Tokens(HashSet<[u8; 32]>);

impl Tokens {
    /// Reads a file with a token on each line.
    ///
    /// # Errors
    /// [`SidecarError::Configuration`] for a file without tokens or with a short one.
    pub(super) fn read(path: &Path) -> Result<Self, SidecarError> {
        let text = read_secret(path)?;
        let lines = text.expose_secret().lines().map(str::trim).filter(|line| !line.is_empty());
        let mut digests = HashSet::new();
        for token in lines {
            if token.len() < MIN_LENGTH || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
                let path = path.display();
                return Err(SidecarError::Configuration {
                    detail: format!(
                        "listen_token_file {path} must contain tokens of at least {MIN_LENGTH} ASCII characters \
                         without spaces, one a line"
                    ),
                });
            }
            digests.insert(digest(token));
        }
        if digests.is_empty() {
            let path = path.display();
            return Err(SidecarError::Configuration { detail: format!("listen_token_file {path} contains no token") });
        }
        Ok(Self(digests))
    }

    /// Returns whether a request has a valid token. The time of the comparison depends on digests
    /// alone, which a client cannot choose.
    pub(super) fn admit(&self, headers: &HeaderMap) -> bool {
        let text = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let Some((scheme, token)) = text.and_then(|text| text.split_once(' ')) else { return false };
        scheme.eq_ignore_ascii_case("bearer") && self.0.contains(&digest(token.trim()))
    }
}

fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Tokens, SidecarError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        Tokens::read(file.path())
    }

    #[test]
    fn a_request_needs_one_of_the_tokens() {
        let tokens = read("first-token-of-two\n\n second-token-of-two\n").unwrap();
        let admits = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, value.parse().unwrap());
            tokens.admit(&headers)
        };
        assert!(admits("Bearer first-token-of-two"));
        assert!(admits("bearer second-token-of-two"));
        for value in ["first-token-of-two", "Basic first-token-of-two", "Bearer first-token", "Bearer ", ""] {
            assert!(!admits(value), "{value}");
        }
        assert!(!tokens.admit(&HeaderMap::new()));
    }

    #[test]
    fn a_file_that_would_admit_everyone_is_an_error_without_its_text() {
        for text in ["", "\n \n", "short\n", "a token with some spaces\n"] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains("listen_token_file"), "{error}");
            assert!(!error.contains("short") && !error.contains("some"), "{error}");
        }
    }
}
