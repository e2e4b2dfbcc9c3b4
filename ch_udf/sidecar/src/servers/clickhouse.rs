//! Connecting to a ClickHouse. Owns the check of the version.

use clickhouse::Client;

use super::engine::Warehouse;
use crate::error::SidecarError;

/// Oldest server that works: the `JSON` type is complete since 25.3.
const NEEDED: ((u32, u32), &str) = ((25, 3), "25.3");

/// A client of the configured database, and the server's version.
#[derive(Clone)]
pub struct Connection {
    /// Runs queries in the configured database.
    pub client: Client,
    /// The server's version.
    pub version: String,
}

/// Connects and checks that the server is new enough.
///
/// # Errors
/// [`SidecarError::Unreachable`], [`SidecarError::UnsupportedVersion`], [`SidecarError::ClickHouse`] for a refused login.
pub async fn connect(warehouse: &Warehouse) -> Result<Connection, SidecarError> {
    let address = crate::settings::ServerUrl::new(warehouse.url.clone()).to_string();
    let mut client = Client::default().with_url(&warehouse.url).with_user(&warehouse.user);
    if let Some(password) = &warehouse.password {
        client = client.with_password(password.expose());
    }
    let version: String = client.query("SELECT version()").fetch_one().await.map_err(|source| match source {
        clickhouse::error::Error::Network(_) | clickhouse::error::Error::TimedOut => {
            SidecarError::Unreachable { server: "ClickHouse", address: address.clone(), source: Box::new(source) }
        }
        _ => SidecarError::ClickHouse { doing: "check the version", source },
    })?;
    let mut numbers = version.split('.').map(|text| text.parse::<u32>().unwrap_or(0));
    if (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) < NEEDED.0 {
        return Err(SidecarError::UnsupportedVersion {
            server: "ClickHouse",
            address,
            found: version,
            needed: NEEDED.1,
        });
    }
    if is_near(&warehouse.url) {
        // on one machine compressing costs more than copying
        client = client.with_compression(clickhouse::Compression::None);
    }
    Ok(Connection { client: client.with_database(&warehouse.database), version })
}

fn is_near(url: &str) -> bool {
    ["://127.", "://localhost", "://[::1]"].iter().any(|near| url.contains(near))
}
