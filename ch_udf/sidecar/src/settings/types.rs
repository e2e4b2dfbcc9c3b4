//! Types of settings: secrets, which are never printed, and addresses.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A text that is never printed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Keeps a text from being printed.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// An URL or libpq connection string; printed without its password.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ServerUrl(String);

impl ServerUrl {
    /// From text; the server's client checks it.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text with its password.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
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

/// Replaces the password of `scheme://user:password@host`, of `password=…` pairs and of `?password=…`.
fn redact(text: &str) -> String {
    if let Some((scheme, rest)) = text.split_once("://") {
        let (authority, tail) = rest.find(['/', '?']).map_or((rest, ""), |at| rest.split_at(at));
        let authority = authority.rsplit_once('@').map_or_else(
            || authority.to_owned(),
            |(user, host)| {
                let user = user.split_once(':').map_or(user.to_owned(), |(name, _)| format!("{name}:***"));
                format!("{user}@{host}")
            },
        );
        let tail = tail.split_once("password=").map_or(tail.to_owned(), |(before, after)| {
            let rest = after.find('&').map_or("", |at| &after[at..]);
            format!("{before}password=***{rest}")
        });
        return format!("{scheme}://{authority}{tail}");
    }
    let Some((before, after)) = text.split_once("password=") else { return text.to_owned() };
    let end = after.strip_prefix('\'').map_or_else(
        || after.find(char::is_whitespace).unwrap_or(after.len()),
        |quoted| quoted.find('\'').map_or(after.len(), |at| at + 2),
    );
    format!("{before}password=***{}", &after[end..])
}

/// Where the daemon serves `/metrics` and `/healthz`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// Nowhere.
    Off,
    /// On this `host:port`; port 0 takes a free one.
    On(String),
}
