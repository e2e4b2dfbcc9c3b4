//! Types of single settings. Owns the rule that no password is ever printed.

use std::fmt;

use serde::{Deserialize, Serialize};
use url::Url;

/// Shown instead of a password.
const REDACTED: &str = "***";

/// A URL or a libpq connection string; printed without its password.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct ServerUrl(String);

impl ServerUrl {
    /// Takes any text; the server's client validates it.
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Returns the text with its password.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for ServerUrl {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&redact(&self.0))
    }
}

impl fmt::Debug for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", redact(&self.0))
    }
}

/// Replaces the password of `scheme://user:password@host`, of `?password=…` and of `password=…`
/// pairs.
fn redact(text: &str) -> String {
    match text.split_once("://") {
        Some((scheme, rest)) => {
            Url::parse(text).map_or_else(|_| redact_unparsed(scheme, rest), |url| redact_url(text, url))
        }
        None => redact_pairs(text),
    }
}

fn redact_url(text: &str, mut url: Url) -> String {
    let in_query = |(name, _): (std::borrow::Cow<'_, str>, _)| name == "password";
    let has_query_password = url.query_pairs().any(in_query);
    if url.password().is_none() && !has_query_password {
        // Printing the parsed URL would normalise it.
        return text.to_owned();
    }
    if url.password().is_some() && url.set_password(Some(REDACTED)).is_err() {
        return format!("{}://{REDACTED}", url.scheme());
    }
    if has_query_password {
        let pairs: Vec<(String, String)> = url.query_pairs().into_owned().collect();
        let mut query = url.query_pairs_mut();
        query.clear();
        for (name, value) in &pairs {
            query.append_pair(name, if name == "password" { REDACTED } else { value });
        }
        drop(query);
    }
    url.to_string()
}

/// Redacts what is a URL for libpq alone, such as one with several hosts.
fn redact_unparsed(scheme: &str, rest: &str) -> String {
    let rest = rest.split_once("password=").map_or(rest, |(before, _)| before);
    match rest.rsplit_once('@') {
        Some((_, host)) => format!("{scheme}://{REDACTED}@{host}"),
        None => format!("{scheme}://{rest}"),
    }
}

fn redact_pairs(text: &str) -> String {
    let Some((before, after)) = text.split_once("password=") else { return text.to_owned() };
    let end = after.strip_prefix('\'').map_or_else(
        || after.find(char::is_whitespace).unwrap_or(after.len()),
        |quoted| quoted.find('\'').map_or(after.len(), |index| index + 2),
    );
    format!("{before}password={REDACTED}{}", &after[end..])
}

/// Address of `/metrics` and `/healthz`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Listen {
    Off,
    /// `host:port`; port 0 takes a free one.
    On(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_and_connection_strings_are_printed_without_their_password() {
        let shown = |text: &str| ServerUrl::new(text).to_string();
        assert_eq!(shown("postgresql://ann:s3c@ret@db/x"), "postgresql://ann:***@db/x");
        assert_eq!(shown("redis://:pw@h:1/0"), "redis://:***@h:1/0");
        assert_eq!(shown("http://h/?password=x&a=b"), "http://h/?password=***&a=b");
        assert_eq!(shown("postgresql://ann:s3cret@a:1,b:2/x"), "postgresql://***@a:1,b:2/x");
        assert_eq!(shown("postgresql://a:1,b:2/x?password=s3cret"), "postgresql://a:1,b:2/x?");
        assert_eq!(shown("host=/tmp password='a b' user=u"), "host=/tmp password=*** user=u");
        assert_eq!(shown("host=/tmp password=ab"), "host=/tmp password=***");
        assert_eq!(format!("{:?}", ServerUrl::new("redis://:pw@h")), "\"redis://:***@h\"");
    }

    #[test]
    fn a_url_without_a_password_is_printed_as_it_is() {
        for text in ["host=/tmp", "http://localhost:8123", "postgresql://ann@db/x"] {
            assert_eq!(ServerUrl::new(text).to_string(), text);
        }
    }
}
