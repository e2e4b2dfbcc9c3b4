//! Entry of the fuzz target `copy_rows`.

use std::sync::Arc;

use bytes::Bytes;

use super::rows::{Layout, PostgresRows};
use crate::feed::model::{ExtraColumn, Rows, ValueKind};

/// Reads messages of a COPY stream as the feed does. The first byte selects the layout; a length of
/// two bytes precedes each message.
pub fn copy_rows(data: &[u8]) {
    let Some((flags, mut stream)) = data.split_first() else { return };
    let column = |name: &str, kind| ExtraColumn { name: name.to_owned(), kind };
    let extra_columns = if flags & 8 == 0 {
        Vec::new()
    } else {
        vec![column("note", ValueKind::Text), column("chain_id", ValueKind::Int32)]
    };
    let layout = Layout {
        tombstones: flags & 1 != 0,
        uncounted: flags & 2 != 0,
        transfers: flags & 4 != 0,
        legs: flags & 16 != 0,
        extra_columns,
    };
    let mut rows = PostgresRows::new(Arc::new(layout), 0);
    while let Some((length, rest)) = stream.split_first_chunk() {
        let (message, rest) = rest.split_at(rest.len().min(u16::from_be_bytes(*length).into()));
        rows.push(Bytes::copy_from_slice(message));
        stream = rest;
    }
    rows.sort();
    let mut events = 0;
    let outcome = rows.for_each(&mut |_| {
        events += 1;
        Ok(())
    });
    if let Ok(rejected) = outcome {
        let whole_rows = rejected.iter().filter(|rejected| rejected.part.position().is_none()).count();
        assert!(events + whole_rows == rows.len() || flags & 1 != 0);
    }
}
