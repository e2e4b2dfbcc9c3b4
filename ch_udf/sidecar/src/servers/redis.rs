//! Connecting to Redis. Owns the check of the server's version.

use std::time::Duration;

use redis::aio::{ConnectionManager, ConnectionManagerConfig};

use crate::error::{Doing, SidecarError};
use crate::settings::RedisUrl;

/// The oldest supported server: XAUTOCLAIM came with 6.2.
const NEEDED: ((u32, u32), &str) = ((6, 2), "6.2");

/// A connection to Redis, with the server's version.
#[derive(Clone)]
pub(crate) struct Connection {
    pub(crate) manager: ConnectionManager,
    pub(crate) version: String,
}

/// Connects, and checks that the server is new enough.
///
/// # Errors
/// [`SidecarError::Configuration`] for a malformed URL, [`SidecarError::Unreachable`],
/// [`SidecarError::UnsupportedVersion`].
pub(crate) async fn connect(url: &RedisUrl) -> Result<Connection, SidecarError> {
    let client = redis::Client::open(url.parsed()?).doing("prepare the connection")?;
    let config = ConnectionManagerConfig::new()
        .set_number_of_retries(1)
        .set_connection_timeout(Some(Duration::from_secs(2)))
        .set_response_timeout(Some(Duration::from_secs(10)));
    let mut manager = ConnectionManager::new_with_config(client, config).await.map_err(|source| {
        if source.is_io_error() || source.is_timeout() {
            SidecarError::Unreachable { server: "Redis", address: url.to_string(), source: Box::new(source) }
        } else {
            SidecarError::Redis { doing: "connect", source }
        }
    })?;
    let information: String =
        redis::cmd("INFO").arg("server").query_async(&mut manager).await.doing("check the version")?;
    let version = information
        .lines()
        .find_map(|line| line.strip_prefix("redis_version:"))
        .map_or("unknown", str::trim)
        .to_owned();
    if super::major_and_minor(&version) < NEEDED.0 {
        return Err(SidecarError::UnsupportedVersion {
            server: "Redis",
            address: url.to_string(),
            found: version,
            needed: NEEDED.1,
        });
    }
    Ok(Connection { manager, version })
}
