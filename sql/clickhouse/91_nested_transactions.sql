-- Transactions with their internal transfers, one row each. A reward has no transaction: its row
-- has internal transfers alone.
CREATE OR REPLACE VIEW {database}.nested_transactions{on_cluster}
AS SELECT network, event_time, tx_hash,
          anyOrNullIf(block_number, leg = 0) AS block_number,
          anyOrNullIf(transaction_events.from_address, leg = 0) AS from_address,
          anyOrNullIf(transaction_events.to_address, leg = 0) AS to_address,
          anyOrNullIf(transaction_events.value, leg = 0) AS value,
          anyOrNullIf(transaction_events.status, leg = 0) AS status,
          CAST(arraySort(groupArrayIf((toUInt32(leg - 1), is_ordered, nullIf(transaction_events.from_address, ''),
                                       transaction_events.to_address, transaction_events.value, toString(kind),
                                       toString(transaction_events.status)), leg > 0)),
               'Array(Tuple(position UInt32, is_ordered Bool, `from` Nullable(String), `to` Nullable(String),
                            value Decimal(38, 18), kind String, status String))') AS internal_transfers
     FROM {database}.transaction_events FINAL
    GROUP BY network, event_time, tx_hash
COMMENT 'transactions with their internal transfers as nested columns';
