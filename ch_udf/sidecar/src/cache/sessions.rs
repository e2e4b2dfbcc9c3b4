//! Sessions of the users of `arx.users`: a token opens one, each use extends it, and it ends when
//! it is not used, when it is too old, or when it is revoked. Owns the form of tokens, of which
//! Redis holds digests alone. No process remembers a session, so one that was revoked is so
//! everywhere.

use std::time::Duration;

use redis::from_redis_value_ref;
use ring::rand::{SecureRandom, SystemRandom};
use sha2::{Digest, Sha256};
use tokio_postgres::Client;
use uuid::Uuid;

use super::follower::identity;
use super::queue::WriteQueue;
use crate::error::{Doing, SidecarError};
use crate::servers::postgres;
use crate::settings::Settings;

const OPEN: &str = include_str!("../../../../sql/redis/session_open.lua");
const USE: &str = include_str!("../../../../sql/redis/session_use.lua");

/// Sessions of one user at a time.
const MAX_SESSIONS: u32 = 50;

const BY_EMAIL: &str = "SELECT user_id::text, status::text FROM arx.users WHERE lower(email) = lower($1)";
const BY_ID: &str = "SELECT email, status::text FROM arx.users WHERE user_id = $1::text::uuid";

/// An open session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    pub user: Uuid,
    pub email: String,
    /// Time after which it ends, if it is not used.
    pub remaining: Duration,
}

/// Opens, extends and revokes sessions.
pub struct Sessions {
    postgres: Client,
    queue: WriteQueue,
    lifetime: Duration,
    longest: Duration,
}

impl Sessions {
    /// Connects with settings from a file, or with the defaults, and from the environment.
    ///
    /// # Errors
    /// Errors of settings and of connecting; [`SidecarError::EvictsWrites`].
    pub async fn from_environment(file: Option<&std::path::Path>) -> Result<Self, SidecarError> {
        use crate::settings::{Environment, Overrides};
        let environment = Environment::read(|name| std::env::var(name).ok());
        Self::connect(&Settings::load(file, &environment, &Overrides::default())?).await
    }

    /// Connects to PostgreSQL and to the Redis of the streams.
    ///
    /// # Errors
    /// Errors of connecting; [`SidecarError::EvictsWrites`].
    pub(crate) async fn connect(settings: &Settings) -> Result<Self, SidecarError> {
        let postgres = postgres::connect(settings).await?.client;
        let (identity, _) = identity(&postgres).await?;
        let queue = WriteQueue::connect(settings, identity).await?;
        let lifetime = Duration::from_secs(settings.session_ttl_seconds);
        let longest = Duration::from_secs(settings.session_max_seconds);
        Ok(Self { postgres, queue, lifetime, longest })
    }

    /// Opens a session of a user, and has the login recorded in `arx.users.last_login` a little
    /// later. Returns the token, which is not stored. The caller has checked who the user is.
    ///
    /// # Errors
    /// [`SidecarError::Input`] for an email address of no active user, those of PostgreSQL, and
    /// those of accepting a write.
    pub async fn open(&self, email: &str) -> Result<String, SidecarError> {
        let user = self.find(email, true).await?;
        let mut secret = [0; 32];
        let unavailable =
            |_| SidecarError::Protocol { detail: "the system gives no random numbers for a token".to_owned() };
        SystemRandom::new().fill(&mut secret).map_err(unavailable)?;
        let token = Token { user, text: format!("{}.{}", user.simple(), hex(&secret)) };
        let arguments = [
            token.digest(),
            user.to_string(),
            self.lifetime.as_millis().to_string(),
            self.longest.as_millis().to_string(),
            MAX_SESSIONS.to_string(),
        ];
        self.queue.login(OPEN, user, &arguments).await?;
        Ok(token.text)
    }

    /// Returns the session of a token, and extends it; `None` if it does not exist, or if the
    /// user is not active any more.
    ///
    /// # Errors
    /// Errors of Redis and of PostgreSQL: then the token must not be trusted.
    pub async fn check(&self, token: &str) -> Result<Option<Session>, SidecarError> {
        let Some(token) = Token::parse(token) else { return Ok(None) };
        let doing = "check a session";
        let arguments = [token.digest(), self.lifetime.as_millis().to_string(), self.longest.as_millis().to_string()];
        let reply = self.queue.call_sessions(USE, token.user, &arguments, doing).await?;
        let remaining: u64 = from_redis_value_ref(&reply).unwrap_or_default();
        if remaining == 0 {
            return Ok(None);
        }
        let row = self.postgres.query_opt(BY_ID, &[&token.user.to_string()]).await.doing(doing)?;
        match row.map(|row| (row.get::<_, String>(0), row.get::<_, String>(1))) {
            Some((email, status)) if status == "active" => {
                Ok(Some(Session { user: token.user, email, remaining: Duration::from_millis(remaining) }))
            }
            _ => {
                self.queue.remove_sessions(token.user, None).await?;
                Ok(None)
            }
        }
    }

    /// Ends the session of a token. Returns whether there was one.
    ///
    /// # Errors
    /// [`SidecarError::Redis`], and [`SidecarError::NotReplicated`]: then a replica that takes over
    /// may still have it.
    pub async fn revoke(&self, token: &str) -> Result<bool, SidecarError> {
        match Token::parse(token) {
            Some(token) => self.queue.remove_sessions(token.user, Some(&token.digest())).await,
            None => Ok(false),
        }
    }

    /// Ends all sessions of a user. Returns whether there were any.
    ///
    /// # Errors
    /// [`SidecarError::Input`] for an email address of no user, and those of [`Self::revoke`].
    pub async fn revoke_all(&self, email: &str) -> Result<bool, SidecarError> {
        let user = self.find(email, false).await?;
        self.queue.remove_sessions(user, None).await
    }

    async fn find(&self, email: &str, must_be_active: bool) -> Result<Uuid, SidecarError> {
        let row = self.postgres.query_opt(BY_EMAIL, &[&email]).await.doing("look for a user")?;
        let refused = |detail: String| Err(SidecarError::Input { detail });
        let Some(row) = row else { return refused(format!("no user of arx.users has the email address {email:?}")) };
        let (user, status): (String, String) = (row.get(0), row.get(1));
        if must_be_active && status != "active" {
            return refused(format!("the user with the email address {email:?} is {status}"));
        }
        user.parse().map_err(|_| SidecarError::Protocol { detail: "PostgreSQL returns a malformed uuid".into() })
    }
}

/// A token: the user, by whom Redis finds the session, and 256 random bits.
struct Token {
    user: Uuid,
    text: String,
}

impl Token {
    /// Parses a token; anything else opens nothing.
    fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let (user, secret) = text.split_once('.')?;
        let is_hex = |text: &str| text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if user.len() != 32 || secret.len() != 64 || !is_hex(user) || !is_hex(secret) {
            return None;
        }
        Some(Self { user: Uuid::try_parse(user).ok()?, text: text.to_owned() })
    }

    /// Returns the digest that Redis holds.
    fn digest(&self) -> String {
        hex(&Sha256::digest(self.text.as_bytes()))
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        use std::fmt::Write;
        // Writing to a text does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_tokens_name_a_session() {
        let token = format!("{}.{}", Uuid::from_u128(7).simple(), hex(&[0xab; 32]));
        let parsed = Token::parse(&format!("{token}\n")).unwrap();
        assert_eq!((parsed.user, parsed.digest().len()), (Uuid::from_u128(7), 64));
        assert!(!parsed.digest().contains("abab"), "a digest is not the token");
        let upper = token.to_uppercase();
        for wrong in ["", ".", "x", &token[1..], &token[..token.len() - 1], &upper, &token.replace('.', "")] {
            assert!(Token::parse(wrong).is_none(), "{wrong}");
        }
    }
}
