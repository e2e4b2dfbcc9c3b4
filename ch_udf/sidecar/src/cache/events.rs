//! The stream of events, for subscribers that may be late: each look of the follower that found
//! changes. A subscriber that names the last event it has seen gets all later ones, or learns that
//! some are gone.

use redis::AsyncCommands;
use redis::streams::{StreamRangeReply, StreamReadOptions, StreamReadReply};

use super::store::ProfileCache;
use crate::error::{Doing, SidecarError};

/// Events of one answer.
const PAGE: usize = 500;

/// An event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) id: String,
    /// JSON: `watermark`, `wallets` as `network:address`, and `raised` for a change of everything.
    pub(crate) changes: String,
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
        let events: Vec<Event> =
            entries.map(|entry| Event { changes: entry.get("changes").unwrap_or_default(), id: entry.id }).collect();
        if let Some(event) = events.last() {
            self.last.clone_from(&event.id);
        }
        Ok(events)
    }
}
