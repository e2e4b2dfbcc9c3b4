//! Recognising connection poolers that give a session to other clients between statements, in which
//! the sidecar would lose its locks and its settings.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use tokio_postgres::{Client, SimpleQueryMessage};

use super::route::Route;
use crate::error::{Doing, SidecarError};

/// The process of the server, and the mark that a direct connection has been given.
const BACKEND: &str = "SELECT pg_catalog.pg_backend_pid(), pg_catalog.current_setting('arx_sidecar.mark', true)";

/// Time limit for an answer while looking for a pooler. A pooler delays a client that gets no
/// connection.
const PROBE_LIMIT: Duration = Duration::from_secs(5);

/// Attempts to get the session of another client from a pooler that hands out its connections in
/// turn.
const PROBES: u32 = 3;

/// Connects by a route to a session that belongs to this connection alone.
///
/// # Errors
/// [`SidecarError::SharedSession`], and errors of [`Route::connect`].
pub(super) async fn connect_alone(route: &Route) -> Result<Client, SidecarError> {
    let (client, is_direct) = connect_marked(route).await?;
    if !is_direct && shares_sessions(&client, route).await? {
        return Err(SidecarError::SharedSession { address: route.to_string() });
    }
    Ok(client)
}

/// Connects, and returns whether the session belongs to this connection alone: a mark in the
/// startup packet arrives in it. Poolers drop the mark or reject it.
async fn connect_marked(route: &Route) -> Result<(Client, bool), SidecarError> {
    let mark = format!("{:016x}", RandomState::new().hash_one(()));
    match route.connect(Some(&format!("-c arx_sidecar.mark={mark}"))).await {
        Ok(client) => {
            let (_, found) = backend(&client).await?;
            Ok((client, found.as_deref() == Some(mark.as_str())))
        }
        Err(SidecarError::Postgres { source, .. }) if rejects_options(&source) => {
            Ok((route.connect(None).await?, false))
        }
        Err(error) => Err(error),
    }
}

/// Returns whether a startup packet with `options` was rejected. Wrong passwords, missing databases
/// and servers without resources have codes of other classes.
fn rejects_options(error: &tokio_postgres::Error) -> bool {
    error.code().is_some_and(|state| ["08", "0A", "22", "42"].iter().any(|class| state.code().starts_with(class)))
}

/// Returns whether a pooler gives the session of this client to other clients between its
/// statements (transaction or statement pooling): another client gets the same one, or this client
/// loses it while another one is in a transaction.
async fn shares_sessions(client: &Client, route: &Route) -> Result<bool, SidecarError> {
    let (own, _) = backend(client).await?;
    for _ in 0..PROBES {
        let other = route.connect(None).await?;
        let occupied = tokio::time::timeout(PROBE_LIMIT, async {
            other.batch_execute("BEGIN").await?;
            other.simple_query(BACKEND).await
        });
        match occupied.await {
            Ok(Ok(messages)) if process(&messages) == own => return Ok(true),
            // Without an answer, the clients of the pooler hold all its sessions.
            Ok(Ok(_)) | Err(_) => {}
            // Statement pooling rejects BEGIN.
            Ok(Err(error)) if rejects_options(&error) => return Ok(true),
            Ok(Err(error)) => return Err(error).doing("look for a connection pooler"),
        }
        match tokio::time::timeout(PROBE_LIMIT, backend(client)).await {
            Ok(answer) if answer.as_ref().is_ok_and(|(now, _)| *now == own) => {}
            Ok(answer) => return answer.map(|_| true),
            Err(_) => return Ok(true),
        }
    }
    Ok(false)
}

/// Returns the server's process of a session, and the mark in it. Uses no prepared statement, which
/// some poolers lose.
async fn backend(client: &Client) -> Result<(Option<String>, Option<String>), SidecarError> {
    let messages = client.simple_query(BACKEND).await.doing("look for a connection pooler")?;
    Ok((process(&messages), column(&messages, 1)))
}

fn process(messages: &[SimpleQueryMessage]) -> Option<String> {
    column(messages, 0)
}

fn column(messages: &[SimpleQueryMessage], index: usize) -> Option<String> {
    messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(index).map(str::to_owned),
        _ => None,
    })
}
