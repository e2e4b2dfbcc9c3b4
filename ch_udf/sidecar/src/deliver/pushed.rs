//! Redis as a receiver: the id of an alert, published, added to a stream, or among the events of
//! the cache. What the alert says is read from PostgreSQL, with the rights of the reader.

use super::{Message, Outcome};
use crate::cache::{Identity, announce_alert, identity};
use crate::error::{Chain, SidecarError};
use crate::servers::postgres;
use crate::servers::redis::{Endpoint, Link, connect};
use crate::settings::Settings;

/// Entries of a stream that are kept, about.
const KEPT: usize = 100_000;

/// A place in the Redis of the settings.
pub(super) struct Pushed {
    link: Link,
    place: Place,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    Channel(String),
    Stream(String),
    /// The events of the cache, of a database.
    Events(Identity),
}

impl Place {
    /// Reads `channel:NAME` or `stream:KEY`; `None` for `events`, which need the database.
    fn parse(target: &str) -> Result<Option<Self>, SidecarError> {
        if target == "events" {
            return Ok(None);
        }
        let (kind, name) = target.split_once(':').unwrap_or((target, ""));
        match (kind, name) {
            (_, "") => {}
            ("channel", name) => return Ok(Some(Self::Channel(name.to_owned()))),
            ("stream", key) => return Ok(Some(Self::Stream(key.to_owned()))),
            _ => {}
        }
        let detail = "the target of a destination in Redis must be channel:NAME, stream:KEY or events".to_owned();
        Err(SidecarError::Configuration { detail })
    }
}

impl Pushed {
    pub(super) async fn open(target: &str, settings: &Settings) -> Result<Self, SidecarError> {
        let place = match Place::parse(target)? {
            Some(place) => place,
            None => Place::Events(identity(&postgres::connect(settings).await?.client).await?.0),
        };
        Ok(Self { link: connect(settings, Endpoint::Cache).await?.link, place })
    }

    /// Pushes the id. A channel that no one listens to has not got it.
    pub(super) async fn send(&self, message: &Message) -> Outcome {
        let mut link = self.link.clone();
        let pushed = match &self.place {
            Place::Channel(name) => {
                let receivers: redis::RedisResult<i64> =
                    redis::cmd("PUBLISH").arg(name).arg(message.alert_id).query_async(&mut link).await;
                match receivers {
                    // In a cluster, the listeners of the other nodes are not counted.
                    Ok(0) if !link.is_cluster() => return Outcome::failed("no one listens to the channel".into()),
                    outcome => outcome.map(drop),
                }
            }
            Place::Stream(key) => {
                let mut command = redis::cmd("XADD");
                command.arg(key).arg("MAXLEN").arg("~").arg(KEPT).arg("*");
                command.arg("alert_id").arg(message.alert_id).arg("message_id").arg(&message.message_id);
                command.query_async::<String>(&mut link).await.map(drop)
            }
            Place::Events(identity) => announce_alert(&mut link, identity, message.alert_id).await,
        };
        match pushed {
            Ok(()) => Outcome::delivered(),
            Err(error) => Outcome::failed(Chain(&error).to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_channel_a_stream_or_the_events() {
        assert_eq!(Place::parse("events").unwrap(), None);
        assert_eq!(Place::parse("channel:a:b").unwrap(), Some(Place::Channel("a:b".into())));
        assert_eq!(Place::parse("stream:alerts").unwrap(), Some(Place::Stream("alerts".into())));
        for wrong in ["alerts", "channel:", "list:a", "", "events:a"] {
            assert!(Place::parse(wrong).is_err(), "{wrong}");
        }
    }
}
