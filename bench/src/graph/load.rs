//! Loads generated transfers into a table by COPY.

use std::pin::pin;

use anyhow::{Context, Result, ensure};
use arx_stack::Database;
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use tokio_postgres::Client;

use super::dense::{COLUMNS, DenseTransfer, FIRST_TIME, SECONDS, write_row};

/// Bytes per message.
const CHUNK: usize = 1 << 20;

/// Creates the months of a dense graph, and two more for later rows.
///
/// # Errors
/// When a partition cannot be created.
pub fn ensure_months(database: &Database<'_>) -> Result<()> {
    let (first, last) = (FIRST_TIME, FIRST_TIME + SECONDS + 60 * 86_400);
    let sql = format!("SELECT arx.ensure_partitions('arx.transactions', to_timestamp({first}), to_timestamp({last}))");
    database.query(&sql).map(drop)
}

/// Returns rows in the text format of `COPY`, as one buffer.
#[must_use]
pub fn text(transfers: impl Iterator<Item = DenseTransfer>, whole: u64) -> Bytes {
    let mut text = String::new();
    for transfer in transfers {
        write_row(&mut text, &transfer, whole);
    }
    text.into()
}

/// Copies transfers into a table with the columns of `arx.transactions`, in one transaction.
///
/// # Errors
/// When the server rejects a row.
pub async fn copy(
    client: &Client,
    table: &str,
    transfers: impl Iterator<Item = DenseTransfer>,
    whole: u64,
) -> Result<u64> {
    let mut text = String::new();
    let pieces = transfers.map(Some).chain([None]).filter_map(move |transfer| {
        if let Some(transfer) = &transfer {
            write_row(&mut text, transfer, whole);
            if text.len() < CHUNK {
                return None;
            }
        }
        Some(Bytes::from(std::mem::take(&mut text)))
    });
    copy_text(client, &format!("{table} ({COLUMNS})"), pieces).await
}

/// Copies buffers in the text format of `COPY` into a table, in one transaction. Returns the number
/// of rows.
///
/// # Errors
/// When the server rejects a row.
pub async fn copy_text(client: &Client, table: &str, pieces: impl Iterator<Item = Bytes>) -> Result<u64> {
    let sink =
        client.copy_in(&format!("COPY {table} FROM STDIN")).await.with_context(|| format!("copy into {table}"))?;
    let mut sink = pin!(sink);
    for piece in pieces {
        sink.send(piece).await.with_context(|| format!("copy into {table}"))?;
    }
    sink.finish().await.with_context(|| format!("copy into {table}"))
}

/// Reads the output of a `COPY … TO STDOUT` and discards it. Returns its size in bytes.
///
/// # Errors
/// When the server fails.
pub async fn copy_out(client: &Client, sql: &str) -> Result<u64> {
    let mut stream = pin!(client.copy_out(sql).await.with_context(|| format!("run {sql}"))?);
    let mut bytes = 0;
    while let Some(piece) = stream.next().await {
        bytes += piece.context("read the copy")?.len() as u64;
    }
    ensure!(bytes > 0, "{sql} sent nothing");
    Ok(bytes)
}
