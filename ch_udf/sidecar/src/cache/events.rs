//! The stream of events, for subscribers that may be late: each look of the follower that found
//! changes, and alerts, where a destination sends them here. A subscriber that names the last event
//! it has seen gets all later ones, or learns that some are gone.

use redis::AsyncCommands;
use redis::streams::{StreamId, StreamRangeReply, StreamReadOptions, StreamReadReply};

use super::keys::Identity;
use super::store::{MAX_EVENTS, POSITION_LIFETIME, ProfileCache, millis};
use crate::error::{Doing, SidecarError};
use crate::servers::redis::Link;

/// Events of one answer.
const PAGE: usize = 500;

/// An event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) id: String,
    pub(crate) news: News,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum News {
    /// JSON: `watermark`, `wallets` as `network:address`, and `raised` for a change of everything.
    Changes(String),
    /// Number of an alert about a wallet.
    Alert(i64),
}

/// Adds an alert to the events of a database. A reader gets the number alone, and recognises one
/// that is sent again by it.
///
/// # Errors
/// Errors of Redis.
pub(crate) async fn announce_alert(link: &mut Link, identity: &Identity, alert_id: i64) -> redis::RedisResult<()> {
    let key = identity.events();
    let mut commands = redis::pipe();
    commands.cmd("XADD").arg(&key).arg("MAXLEN").arg("~").arg(MAX_EVENTS).arg("*").arg("alert").arg(alert_id).ignore();
    commands.cmd("PEXPIRE").arg(&key).arg(millis(POSITION_LIFETIME)).ignore();
    commands.query_async(link).await
}

/// A subscriber of the events of a database.
pub(crate) struct Subscriber {
    cache: ProfileCache,
    last: String,
}

impl Subscriber {
    /// Begins after an event, or with the oldest one that is kept. Returns whether events may be
    /// missing: then every value that the subscriber has must be read again.
    ///
    /// # Errors
    /// [`SidecarError::Input`] for a malformed id, [`SidecarError::Redis`].
    pub(crate) async fn begin(cache: ProfileCache, after: Option<&str>) -> Result<(Self, bool), SidecarError> {
        let Some(last) = after else { return Ok((Self { cache, last: "0-0".into() }, false)) };
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if !last.split_once('-').is_some_and(|(time, sequence)| is_number(time) && is_number(sequence)) {
            return Err(SidecarError::Input {
                detail: format!("event {last:?} must be an id such as 1700000000000-0"),
            });
        }
        let key = cache.identity.events();
        let found: StreamRangeReply =
            cache.connection().xrange_count(key, last, last, 1).await.doing("look for an event")?;
        let is_missing = found.ids.is_empty();
        let last = if is_missing { "0-0".to_owned() } else { last.to_owned() };
        Ok((Self { cache, last }, is_missing))
    }

    /// Returns the next events, or none.
    ///
    /// # Errors
    /// [`SidecarError::Redis`].
    pub(crate) async fn next(&mut self) -> Result<Vec<Event>, SidecarError> {
        let key = self.cache.identity.events();
        let options = StreamReadOptions::default().count(PAGE);
        let reply: Option<StreamReadReply> =
            self.cache.connection().xread_options(&[key], &[&self.last], &options).await.doing("read events")?;
        let entries = reply.into_iter().flat_map(|reply| reply.keys).flat_map(|stream| stream.ids);
        let event = |entry: StreamId| {
            let news = match entry.get("alert") {
                Some(alert_id) => News::Alert(alert_id),
                None => News::Changes(entry.get("changes").unwrap_or_default()),
            };
            Event { id: entry.id, news }
        };
        let events: Vec<Event> = entries.map(event).collect();
        if let Some(event) = events.last() {
            self.last.clone_from(&event.id);
        }
        Ok(events)
    }
}
