//! Events as `RowBinary`, the form in which ClickHouse takes rows of a table. Owns the columns, their order and their encoding.
//!
//! Source: ClickHouse documentation, "RowBinary": integers with the least significant byte first, strings with their length as
//! unsigned LEB128, nullable values after a byte that is 1 for NULL, arrays after their length.

use bytes::{BufMut, BytesMut};

use super::model::{Counted, Event, FurtherColumn, Transfer, Value, ValueKind};

/// Columns of `transaction_events` in the order of [`encode`], before the further ones.
pub(super) const COLUMNS: &str = "event_time, network, tx_hash, block_number, transaction_index, from_address, to_address, value, \
    value_usd, gas_used, gas_price, status, metadata, token_transfers.log_index, token_transfers.token, token_transfers.from, \
    token_transfers.to, token_transfers.amount, token_transfers.value_usd, version, is_deleted, counted, generation";

/// The type of a further column in ClickHouse.
pub(super) const fn type_of(column: &FurtherColumn) -> &'static str {
    match column.kind {
        ValueKind::Int16 => "Nullable(Int16)",
        ValueKind::Int32 => "Nullable(Int32)",
        ValueKind::Int64 => "Nullable(Int64)",
        ValueKind::Float32 => "Nullable(Float32)",
        ValueKind::Float64 => "Nullable(Float64)",
        ValueKind::Bool => "Nullable(Bool)",
        ValueKind::Text => "Nullable(String)",
    }
}

/// What is the same for all rows of a delivery.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stamp {
    pub version: u64,
    pub generation: u64,
    /// A repair counts the rows, whatever they say.
    pub repaired: bool,
}

impl Stamp {
    pub(super) const fn counted(self, event: &Event<'_>) -> Counted {
        match event.counted {
            Counted::ByView if self.repaired => Counted::ByRepair,
            counted => counted,
        }
    }
}

fn length(to: &mut BytesMut, mut length: usize) {
    loop {
        let low = (length & 0x7f) as u8;
        length >>= 7;
        if length == 0 {
            to.put_u8(low);
            return;
        }
        to.put_u8(low | 0x80);
    }
}

fn text(to: &mut BytesMut, value: &str) {
    length(to, value.len());
    to.put_slice(value.as_bytes());
}

fn maybe<T>(to: &mut BytesMut, value: Option<T>, put: impl FnOnce(&mut BytesMut, T)) {
    match value {
        None => to.put_u8(1),
        Some(value) => {
            to.put_u8(0);
            put(to, value);
        }
    }
}

fn array<'a>(to: &mut BytesMut, of: &'a [Transfer<'a>], put: impl Fn(&mut BytesMut, &'a Transfer<'a>)) {
    length(to, of.len());
    of.iter().for_each(|transfer| put(to, transfer));
}

/// Appends one row.
pub(super) fn encode(to: &mut BytesMut, event: &Event<'_>, stamp: Stamp, further: &[FurtherColumn]) {
    to.put_i64_le(event.event_time);
    text(to, event.network);
    text(to, event.tx_hash);
    to.put_u64_le(event.block_number);
    maybe(to, event.transaction_index, BufMut::put_u32_le);
    text(to, event.from_address);
    maybe(to, event.to_address, text);
    to.put_i128_le(event.value);
    maybe(to, event.value_usd, BufMut::put_i128_le);
    maybe(to, event.gas_used, BufMut::put_u64_le);
    maybe(to, event.gas_price, BufMut::put_u64_le);
    text(to, event.status);
    text(to, event.metadata.unwrap_or("{}"));
    let transfers = &event.transfers;
    array(to, transfers, |to, transfer| to.put_u32_le(transfer.log_index));
    array(to, transfers, |to, transfer| text(to, transfer.token));
    array(to, transfers, |to, transfer| text(to, transfer.from));
    array(to, transfers, |to, transfer| text(to, transfer.to));
    array(to, transfers, |to, transfer| to.put_slice(&transfer.amount.to_le_bytes()));
    array(to, transfers, |to, transfer| maybe(to, transfer.value_usd, BufMut::put_i128_le));
    to.put_u64_le(stamp.version);
    to.put_u8(u8::from(event.deleted));
    to.put_u8(match stamp.counted(event) {
        Counted::ByView => 0,
        Counted::ByRepair => 1,
        Counted::Already => 2,
    });
    to.put_u64_le(stamp.generation);
    // tombstones carry no values
    for index in 0..further.len() {
        match event.further.get(index).unwrap_or(&Value::Null) {
            Value::Null => to.put_u8(1),
            Value::Fixed(bytes, width) => {
                to.put_u8(0);
                to.put_slice(&bytes[..*width]);
            }
            Value::Text(value) => {
                to.put_u8(0);
                text(to, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_leb128() {
        for (value, bytes) in [(0, &[0][..]), (127, &[127]), (128, &[0x80, 1]), (300, &[0xac, 2])] {
            let mut to = BytesMut::new();
            length(&mut to, value);
            assert_eq!(&to[..], bytes);
        }
    }

    #[test]
    fn only_new_rows_are_left_to_the_views_and_only_if_nothing_was_cut_off() {
        let stamp = |repaired| Stamp { version: 1, generation: 0, repaired };
        let event = |counted| Event {
            event_time: 0,
            network: "",
            tx_hash: "",
            block_number: 0,
            transaction_index: None,
            from_address: "",
            to_address: None,
            value: 0,
            value_usd: None,
            gas_used: None,
            gas_price: None,
            status: "",
            metadata: None,
            transfers: Vec::new(),
            further: Vec::new(),
            counted,
            deleted: false,
        };
        assert_eq!(stamp(false).counted(&event(Counted::ByView)), Counted::ByView);
        assert_eq!(stamp(true).counted(&event(Counted::ByView)), Counted::ByRepair);
        assert_eq!(stamp(false).counted(&event(Counted::ByRepair)), Counted::ByRepair);
        assert_eq!(stamp(true).counted(&event(Counted::Already)), Counted::Already);
    }
}
