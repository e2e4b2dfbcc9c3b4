//! `arx-sidecar tune`: settings of PostgreSQL for its machine.

mod advice;
mod machine;

use std::collections::BTreeMap;

use crate::error::{Doing, SidecarError};
use crate::servers::postgres::{self, Source};
use crate::settings::Settings;

pub(crate) use advice::{Advice, Disk, Machine};
use advice::{Current, advise, pgbouncer};

/// Statements of the user about the machine.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Stated {
    pub(crate) memory: Option<u64>,
    pub(crate) processors: Option<u32>,
    pub(crate) disk: Option<Disk>,
    pub(crate) connections: Option<u32>,
}

#[derive(Debug)]
pub(crate) struct Tuning {
    pub(crate) machine: Machine,
    pub(crate) settings: Vec<Advice>,
    /// Names, values and reasons.
    pub(crate) pgbouncer: Vec<(&'static str, String, String)>,
}

/// Returns whether the server is on this machine, and its data directory, if this role may know it.
const PLACE: &str = "
    SELECT inet_server_addr() IS NULL OR inet_server_addr() = inet_client_addr(),
           (SELECT setting FROM pg_settings WHERE name = 'data_directory')";

const SETTINGS: &str = "
    SELECT name, coalesce(current_setting(name, true), setting), coalesce(setting, ''), unit, context = 'postmaster',
           coalesce(enumvals, '{}')
      FROM pg_settings";

/// Computes the settings, and sets those that differ if `is_applied`.
///
/// # Errors
/// [`SidecarError::Input`] where the machine is another one and is not stated; those of PostgreSQL.
pub(crate) async fn run(stated: Stated, is_applied: bool, settings: &Settings) -> Result<Tuning, SidecarError> {
    let client = postgres::connect_to_extension(&Source::any(settings)).await?.client;
    let place = client.query_one(PLACE, &[]).await.doing("find the machine of the server")?;
    let is_here: bool = place.get(0);
    let data: Option<String> = place.get(1);
    let machine = machine::describe(stated, is_here, data.as_deref())?;
    // Settings of a library exist once it is loaded, which the first call of its functions does.
    client.query_one("SELECT arx.normalize_network('ethereum')", &[]).await.doing("load the extension")?;
    let rows = client.query(SETTINGS, &[]).await.doing("read the settings")?;
    let current: BTreeMap<String, Current> = rows
        .iter()
        .map(|row| {
            let setting = Current {
                shown: row.get(1),
                value: row.get(2),
                unit: row.get(3),
                needs_restart: row.get(4),
                allowed: row.get(5),
            };
            (row.get(0), setting)
        })
        .collect();
    let settings = advise(&machine, &current);
    if is_applied {
        for advice in settings.iter().filter(|advice| advice.is_changed) {
            client.batch_execute(&advice.statement()).await.doing("set a setting")?;
        }
        client.batch_execute("SELECT pg_reload_conf()").await.doing("reload the settings")?;
    }
    let pgbouncer = pgbouncer(&machine);
    Ok(Tuning { machine, settings, pgbouncer })
}
