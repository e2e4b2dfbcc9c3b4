//! Statements by which staged rows meet the stored ones. Rows are staged in
//! `pg_temp.arx_import_rows`; each statement gives some of them an `outcome`: imported, updated,
//! moved (updated, from another block), unchanged, less (equal as far as the row knows), nothing
//! (it moves no value) or rejected. `reason` is the kind of fault, a bar, and the message.

use crate::import::parse::target::Target;

/// Returns the statements that create the temporary tables of a target.
pub(super) fn create(target: Target) -> String {
    let own = match target {
        Target::Transactions { .. } | Target::Receipts => TRANSACTION_COLUMNS.to_owned(),
        Target::Edges { .. } => format!("{TRANSACTION_COLUMNS}, kind text"),
        Target::Legs => LEG_COLUMNS.to_owned(),
        Target::Transfers { .. } => TRANSFER_COLUMNS.to_owned(),
    };
    format!(
        "CREATE TEMPORARY TABLE arx_import_rows (\
            row_id bigint GENERATED ALWAYS AS IDENTITY, network text NOT NULL, {own}, \
            version integer NOT NULL DEFAULT 1, occurrence bigint, is_moved boolean NOT NULL DEFAULT false, \
            is_known boolean NOT NULL DEFAULT false, outcome text, reason text) ON COMMIT DELETE ROWS; \
         CREATE TEMPORARY TABLE arx_import_matches (\
            row_id bigint, former_time timestamptz, former_block bigint, is_moved boolean, is_changed boolean, \
            is_less boolean, reason text) ON COMMIT DELETE ROWS; \
         CREATE TEMPORARY TABLE arx_import_hashes (network text, tx_hash text) ON COMMIT DELETE ROWS; \
         CREATE TEMPORARY TABLE arx_import_found (\
            tx_hash text, \"timestamp\" timestamptz, block_number bigint, transaction_index integer, \
            status arx.tx_status_enum) ON COMMIT DELETE ROWS; \
         CREATE TEMPORARY TABLE arx_import_plans (tx_hash text, replaces boolean, appends boolean, reorders boolean) \
            ON COMMIT DELETE ROWS"
    )
}

const TRANSACTION_COLUMNS: &str = "tx_hash text NOT NULL, block_number bigint, transaction_index integer, \
    \"timestamp\" timestamptz, from_address text, to_address text, value numeric(38,18), gas_used bigint, \
    gas_price bigint, status arx.tx_status_enum NOT NULL, metadata jsonb, block_hash text";

const LEG_COLUMNS: &str = "tx_hash text NOT NULL, block_number bigint, transaction_index integer, \
    \"timestamp\" timestamptz, from_address text, to_address text, value numeric(38,18), kind text NOT NULL, path text, \
    failed integer";

const TRANSFER_COLUMNS: &str = "tx_hash text NOT NULL, log_index integer, block_number bigint, \
    \"timestamp\" timestamptz, token_address text NOT NULL, from_address text NOT NULL, to_address text NOT NULL, \
    amount numeric(78,0) NOT NULL, token_id numeric(78,0)";

/// Rejects the rows of transactions of which a line is rejected: `$1` the hashes in lower case,
/// `$2` the lines.
pub(super) const REJECT_BROKEN: &str = "
UPDATE pg_temp.arx_import_rows AS r
   SET outcome = 'rejected',
       reason = format('another line of the transaction|line %s of the same transaction is rejected, and a transaction is imported whole', b.line)
  FROM unnest($1::text[], $2::bigint[]) AS b (tx_hash, line)
 WHERE lower(r.tx_hash) = b.tx_hash";

/// Counts the outcomes.
pub(super) const OUTCOMES: &str = "SELECT outcome, count(*) FROM pg_temp.arx_import_rows GROUP BY outcome";

/// Lists rejected rows by their number from 0.
pub(super) const REJECTED: &str = "
SELECT row_id - (SELECT min(f.row_id) FROM pg_temp.arx_import_rows AS f), reason
  FROM pg_temp.arx_import_rows WHERE outcome = 'rejected' ORDER BY row_id";

/// Lists the months of rows that take their time from the database.
pub(super) const MONTHS: &str = "
SELECT DISTINCT extract(year FROM \"timestamp\" AT TIME ZONE 'UTC')::int,
                extract(month FROM \"timestamp\" AT TIME ZONE 'UTC')::int
  FROM pg_temp.arx_import_rows WHERE \"timestamp\" IS NOT NULL AND outcome IS NULL";

/// Versions of a transaction within a chunk that are applied in turn; more are rejected.
pub(super) const MAX_VERSIONS: i32 = 64;

/// Numbers the versions of each transaction within the chunk. A line that equals the one before is
/// unchanged.
pub(super) const VERSIONS: &str = "
UPDATE pg_temp.arx_import_rows AS r
   SET version = v.version, outcome = CASE WHEN v.is_same THEN 'unchanged' END
  FROM (SELECT s.row_id, s.is_same,
               count(*) FILTER (WHERE NOT s.is_same) OVER (PARTITION BY s.tx_hash ORDER BY s.row_id) AS version
          FROM (SELECT d.row_id, d.tx_hash,
                       d.content IS NOT DISTINCT FROM lag(d.content) OVER (PARTITION BY d.tx_hash ORDER BY d.row_id)
                           AS is_same
                  FROM (SELECT i.row_id, i.tx_hash,
                               ROW(i.block_number, i.transaction_index, i.\"timestamp\", i.from_address, i.to_address,
                                   i.value, i.gas_used, i.gas_price, i.status, i.metadata, i.block_hash)::text AS content
                          FROM pg_temp.arx_import_rows AS i
                         WHERE i.tx_hash IN (SELECT m.tx_hash FROM pg_temp.arx_import_rows AS m
                                              GROUP BY m.tx_hash HAVING count(*) > 1)) AS d) AS s) AS v
 WHERE v.row_id = r.row_id;
UPDATE pg_temp.arx_import_rows AS r
   SET outcome = 'rejected',
       reason = format('lines of one transaction contradict each other|lines of transaction %s differ in %s; if the file lists several movements of a transaction, add --edges',
                       r.tx_hash, c.name)
  FROM (SELECT i.tx_hash, CASE WHEN count(DISTINCT i.from_address) > 1 THEN 'from_address'
                               WHEN count(DISTINCT i.value) > 1 THEN 'value' ELSE 'to_address' END AS name
          FROM pg_temp.arx_import_rows AS i GROUP BY i.tx_hash
        HAVING count(DISTINCT i.from_address) > 1 OR count(DISTINCT i.value) > 1 OR count(DISTINCT i.to_address) > 1) AS c
 WHERE c.tx_hash = r.tx_hash;
UPDATE pg_temp.arx_import_rows AS r
   SET outcome = 'rejected', reason = format('too many versions of one transaction|more than 64 versions of transaction %s', r.tx_hash)
 WHERE r.version > 64";

/// The latest version within the chunk.
pub(super) const LAST_VERSION: &str = "SELECT max(version) FROM pg_temp.arx_import_rows";

/// Compares the rows of one version (`$1`) with the stored transactions. `$2` is true for receipts,
/// `$3` if gas prices are those that were paid.
pub(super) const MATCH_TRANSACTIONS: &str = "
INSERT INTO pg_temp.arx_import_matches (row_id, former_time, former_block, is_moved, is_changed, is_less, reason)
SELECT DISTINCT ON (r.row_id) r.row_id, t.\"timestamp\", t.block_number, m.is_moved,
       t.status IN ('unknown', 'pending') AND r.status <> 'unknown'
           OR t.gas_used IS NULL AND r.gas_used IS NOT NULL
           OR t.gas_price IS NULL AND r.gas_price IS NOT NULL OR $3 AND r.gas_price <> t.gas_price
           OR t.transaction_index IS NULL AND r.transaction_index IS NOT NULL
           OR t.block_hash IS NULL AND r.block_hash IS NOT NULL
           OR t.to_address IS NULL AND r.to_address IS NOT NULL,
       t.status IN ('confirmed', 'failed') AND r.status = 'unknown'
           OR t.gas_used IS NOT NULL AND r.gas_used IS NULL
           OR t.gas_price IS NOT NULL AND r.gas_price IS DISTINCT FROM t.gas_price
           OR t.transaction_index IS NOT NULL AND r.transaction_index IS NULL
           OR t.block_hash IS NOT NULL AND r.block_hash IS NULL
           OR t.to_address IS NOT NULL AND r.to_address IS NULL,
       CASE
       WHEN t.tx_hash IS NULL AND $2 THEN
           format('transaction not imported|transaction %s is not in arx.transactions: import transactions first', r.tx_hash)
       WHEN t.tx_hash IS NULL THEN NULL
       WHEN r.from_address <> t.from_address THEN
           format('contradicts the stored row|transaction %s is stored with from_address %s', r.tx_hash, t.from_address)
       WHEN r.value <> t.value THEN
           format('contradicts the stored row|transaction %s is stored with value %s', r.tx_hash, t.value)
       WHEN r.to_address <> t.to_address THEN
           format('contradicts the stored row|transaction %s is stored with to_address %s', r.tx_hash, t.to_address)
       WHEN r.to_address IS NOT NULL AND t.to_address IS NULL
            AND r.metadata ->> 'contract_address' IS DISTINCT FROM r.to_address THEN
           format('contradicts the stored row|transaction %s is stored as the creation of a contract', r.tx_hash)
       WHEN NOT $2 AND r.to_address IS NULL AND t.metadata ->> 'contract_address' IS DISTINCT FROM t.to_address THEN
           format('contradicts the stored row|transaction %s is stored with to_address %s', r.tx_hash, t.to_address)
       WHEN $2 AND m.is_moved THEN
           format('another block|the receipt of %s is of block %s (%s), and the transaction is stored in block %s (%s)',
                  r.tx_hash, r.block_number, coalesce(r.block_hash, 'hash unknown'), t.block_number,
                  coalesce(t.block_hash, 'hash unknown'))
       WHEN m.is_moved THEN NULL
       WHEN r.transaction_index <> t.transaction_index THEN
           format('contradicts the stored row|transaction %s is stored with transaction_index %s', r.tx_hash, t.transaction_index)
       WHEN r.gas_used <> t.gas_used THEN
           format('contradicts the stored row|transaction %s is stored with gas_used %s', r.tx_hash, t.gas_used)
       WHEN r.status <> t.status AND r.status <> 'unknown' AND t.status IN ('confirmed', 'failed') THEN
           format('contradicts the stored row|transaction %s is stored with status %s', r.tx_hash, t.status)
       END
  FROM pg_temp.arx_import_rows AS r
  LEFT JOIN arx.transactions AS t ON t.network = r.network AND t.tx_hash = r.tx_hash
 CROSS JOIN LATERAL (SELECT coalesce(r.block_number <> t.block_number, false)
                            OR coalesce(r.\"timestamp\" <> t.\"timestamp\", false)
                            OR coalesce(r.block_hash <> t.block_hash, false) AS is_moved) AS m
 WHERE r.version = $1 AND r.outcome IS NULL
 ORDER BY r.row_id, t.\"timestamp\" = r.\"timestamp\" DESC, t.\"timestamp\" DESC";

/// Returns the statements that apply the compared rows.
pub(super) fn apply_transactions(effective_prices: bool) -> String {
    APPLY_TRANSACTIONS.replace("PRICES", if effective_prices { "true" } else { "false" })
}

/// Empties the temporary tables between chunks of one transaction.
pub(super) const EMPTY: &str = "
TRUNCATE pg_temp.arx_import_rows, pg_temp.arx_import_matches, pg_temp.arx_import_hashes, pg_temp.arx_import_found,
         pg_temp.arx_import_plans";

/// Returns the statement that deletes the rows that transactions (`$1`, as texts) have inserted.
/// Rows that they have updated are in the log of changes, and stay.
pub(super) fn take_back(table: &str, relation: &str, position: &str) -> String {
    format!(
        "DELETE FROM {table} AS t \
          WHERE t.ingest_xid = ANY ($1::text[]::xid8[]) \
            AND NOT EXISTS (SELECT FROM arx.transaction_changes AS c \
                             WHERE c.changed_xid = t.ingest_xid AND c.relation = '{relation}' AND c.operation = 'UPDATE' \
                               AND c.network = t.network AND c.tx_hash = t.tx_hash AND {position})"
    )
}

const APPLY_TRANSACTIONS: &str = "
ANALYZE pg_temp.arx_import_matches;
INSERT INTO arx.transactions (network, tx_hash, block_number, transaction_index, \"timestamp\", from_address, to_address, value,
                              gas_used, gas_price, status, metadata, block_hash)
SELECT r.network, r.tx_hash, r.block_number, r.transaction_index, r.\"timestamp\", r.from_address, r.to_address, r.value,
       r.gas_used, r.gas_price, r.status, r.metadata, r.block_hash
  FROM pg_temp.arx_import_rows AS r JOIN pg_temp.arx_import_matches AS m ON m.row_id = r.row_id
 WHERE m.former_time IS NULL AND m.reason IS NULL;
DELETE FROM arx.internal_transfers AS l
 USING pg_temp.arx_import_rows AS r, pg_temp.arx_import_matches AS m
 WHERE m.row_id = r.row_id AND m.is_moved AND m.reason IS NULL AND l.network = r.network AND l.tx_hash = r.tx_hash
   AND l.\"timestamp\" = m.former_time
   AND (m.former_time <> r.\"timestamp\" OR l.block_number <> r.block_number);
DELETE FROM arx.token_transfers AS l
 USING pg_temp.arx_import_rows AS r, pg_temp.arx_import_matches AS m
 WHERE m.row_id = r.row_id AND m.is_moved AND m.reason IS NULL AND l.network = r.network AND l.tx_hash = r.tx_hash
   AND l.\"timestamp\" = m.former_time
   AND (m.former_time <> r.\"timestamp\" OR l.block_number <> r.block_number);
UPDATE arx.transactions AS t
   SET block_number = r.block_number, \"timestamp\" = r.\"timestamp\", transaction_index = r.transaction_index,
       gas_used = r.gas_used, gas_price = r.gas_price, status = r.status, block_hash = r.block_hash,
       to_address = coalesce(r.to_address, t.to_address), metadata = coalesce(t.metadata || r.metadata, r.metadata, t.metadata)
  FROM pg_temp.arx_import_rows AS r, pg_temp.arx_import_matches AS m
 WHERE m.row_id = r.row_id AND m.is_moved AND m.reason IS NULL
   AND t.network = r.network AND t.tx_hash = r.tx_hash AND t.\"timestamp\" = m.former_time;
UPDATE arx.transactions AS t
   SET transaction_index = coalesce(t.transaction_index, r.transaction_index),
       gas_used = coalesce(t.gas_used, r.gas_used),
       gas_price = CASE WHEN PRICES THEN coalesce(r.gas_price, t.gas_price) ELSE coalesce(t.gas_price, r.gas_price) END,
       status = CASE WHEN r.status = 'unknown' THEN t.status ELSE r.status END,
       block_hash = coalesce(t.block_hash, r.block_hash), to_address = coalesce(t.to_address, r.to_address),
       metadata = coalesce(t.metadata || r.metadata, r.metadata, t.metadata)
  FROM pg_temp.arx_import_rows AS r, pg_temp.arx_import_matches AS m
 WHERE m.row_id = r.row_id AND m.is_changed AND NOT m.is_moved AND m.reason IS NULL
   AND t.network = r.network AND t.tx_hash = r.tx_hash AND t.\"timestamp\" = m.former_time;
UPDATE arx.internal_transfers AS l
   SET succeeded = r.status = 'confirmed'
  FROM pg_temp.arx_import_rows AS r, pg_temp.arx_import_matches AS m
 WHERE m.row_id = r.row_id AND m.reason IS NULL AND l.network = r.network AND l.tx_hash = r.tx_hash
   AND (r.status = 'failed' AND l.succeeded IS DISTINCT FROM false
        OR r.status = 'confirmed' AND l.succeeded IS NULL AND (m.is_changed OR m.former_time IS NULL));
UPDATE pg_temp.arx_import_rows AS r
   SET outcome = CASE WHEN m.reason IS NOT NULL THEN 'rejected' WHEN m.former_time IS NULL THEN 'imported'
                      WHEN m.is_moved THEN 'moved' WHEN m.is_changed THEN 'updated'
                      WHEN m.is_less THEN 'less' ELSE 'unchanged' END,
       reason = m.reason
  FROM pg_temp.arx_import_matches AS m WHERE m.row_id = r.row_id;
DELETE FROM pg_temp.arx_import_matches";

/// A repeated line shares the fate of the line that it repeats.
pub(super) const REJECT_REPEATED: &str = "
UPDATE pg_temp.arx_import_rows AS r SET outcome = 'rejected', reason = f.reason
  FROM pg_temp.arx_import_rows AS f
 WHERE r.outcome = 'unchanged' AND f.outcome = 'rejected' AND f.tx_hash = r.tx_hash AND f.version = r.version";

/// Removes the stored transactions of blocks that came again with another hash, with all that
/// belongs to them. Transactions that are in the new block are moved instead.
pub(super) const REPLACE_BLOCKS: &str = "
WITH blocks AS (
    SELECT DISTINCT r.network, r.block_number, r.block_hash, r.\"timestamp\"
      FROM pg_temp.arx_import_rows AS r WHERE r.outcome IS NULL AND r.block_hash IS NOT NULL
), gone AS (
    DELETE FROM arx.transactions AS t USING blocks AS b
     WHERE t.network = b.network AND t.block_number = b.block_number
       AND (t.block_hash <> b.block_hash OR t.block_hash IS NULL AND t.\"timestamp\" <> b.\"timestamp\")
       AND NOT EXISTS (SELECT FROM pg_temp.arx_import_rows AS r WHERE r.tx_hash = t.tx_hash)
    RETURNING t.network, t.tx_hash, t.\"timestamp\"
), legs AS (
    DELETE FROM arx.internal_transfers AS l USING gone AS g
     WHERE l.network = g.network AND l.tx_hash = g.tx_hash AND l.\"timestamp\" = g.\"timestamp\"
), tokens AS (
    DELETE FROM arx.token_transfers AS l USING gone AS g
     WHERE l.network = g.network AND l.tx_hash = g.tx_hash AND l.\"timestamp\" = g.\"timestamp\"
)
SELECT count(*) FROM gone";

/// Lists the transactions of the chunk.
pub(super) const HASHES: &str = "
INSERT INTO pg_temp.arx_import_hashes
SELECT DISTINCT r.network, r.tx_hash FROM pg_temp.arx_import_rows AS r WHERE r.outcome IS NULL;
ANALYZE pg_temp.arx_import_hashes";

/// Finds the stored transactions of the chunk.
pub(super) const FOUND: &str = "
INSERT INTO pg_temp.arx_import_found
SELECT DISTINCT ON (t.tx_hash) t.tx_hash, t.\"timestamp\", t.block_number, t.transaction_index, t.status
  FROM pg_temp.arx_import_hashes AS h
  JOIN arx.transactions AS t ON t.network = h.network AND t.tx_hash = h.tx_hash
 ORDER BY t.tx_hash, t.\"timestamp\" DESC;
ANALYZE pg_temp.arx_import_found";

/// Numbers equal movements within consecutive lines of a transaction: they are different legs,
/// while a movement that comes again elsewhere is the same.
const OCCURRENCES: &str = "
UPDATE pg_temp.arx_import_rows AS r
   SET occurrence = o.occurrence, outcome = CASE WHEN o.repetition > 1 THEN 'unchanged' END
  FROM (SELECT n.row_id, n.occurrence,
               row_number() OVER (PARTITION BY n.tx_hash, n.from_address, n.to_address, n.value, n.occurrence
                                      ORDER BY n.row_id) AS repetition
          FROM (SELECT s.row_id, s.tx_hash, s.from_address, s.to_address, s.value,
                       row_number() OVER (PARTITION BY s.tx_hash, s.run, s.from_address, s.to_address, s.value
                                              ORDER BY s.row_id) AS occurrence
                  FROM (SELECT i.*, i.row_id - row_number() OVER (PARTITION BY i.tx_hash ORDER BY i.row_id) AS run
                          FROM pg_temp.arx_import_rows AS i WHERE i.outcome IS NULL) AS s) AS n) AS o
 WHERE o.row_id = r.row_id";

/// Rejects transactions whose lines disagree, and takes back rows of another block.
const EDGES_BLOCKS: &str = "
UPDATE pg_temp.arx_import_rows AS r
   SET outcome = 'rejected',
       reason = format('lines of one transaction contradict each other|lines of transaction %s differ in block, time or status', r.tx_hash)
  FROM (SELECT i.tx_hash FROM pg_temp.arx_import_rows AS i WHERE i.outcome IS NULL GROUP BY i.tx_hash
        HAVING count(DISTINCT i.block_number) > 1 OR count(DISTINCT i.\"timestamp\") > 1
            OR count(DISTINCT i.status) > 1 OR count(DISTINCT i.block_hash) > 1) AS c
 WHERE c.tx_hash = r.tx_hash;
UPDATE pg_temp.arx_import_rows AS r
   SET outcome = 'rejected',
       reason = format('contradicts the stored row|transaction %s is stored with status %s', r.tx_hash, t.status)
  FROM arx.transactions AS t
 WHERE r.outcome IS NULL AND t.network = r.network AND t.tx_hash = r.tx_hash AND t.\"timestamp\" = r.\"timestamp\"
   AND t.status IN ('confirmed', 'failed') AND r.status <> 'unknown' AND r.status <> t.status;
WITH blocks AS (
    SELECT DISTINCT ON (r.tx_hash) r.network, r.tx_hash, r.block_number, r.\"timestamp\", r.block_hash
      FROM pg_temp.arx_import_rows AS r WHERE r.outcome IS NULL ORDER BY r.tx_hash, r.row_id
), gone AS (
    DELETE FROM arx.transactions AS t USING blocks AS b
     WHERE t.network = b.network AND t.tx_hash = b.tx_hash
       AND (t.block_number <> b.block_number OR t.\"timestamp\" <> b.\"timestamp\" OR t.block_hash <> b.block_hash)
    RETURNING t.tx_hash
), legs AS (
    DELETE FROM arx.internal_transfers AS l USING blocks AS b
     WHERE l.network = b.network AND l.tx_hash = b.tx_hash
       AND (l.block_number <> b.block_number OR l.\"timestamp\" <> b.\"timestamp\")
    RETURNING l.tx_hash
)
UPDATE pg_temp.arx_import_rows AS r SET is_moved = true
 WHERE r.tx_hash IN (SELECT g.tx_hash FROM gone AS g UNION ALL SELECT l.tx_hash FROM legs AS l)";

/// Marks the movements that are stored, among all legs of their transactions.
const EDGES_KNOWN: &str = "
UPDATE pg_temp.arx_import_rows AS r SET is_known = true
  FROM (SELECT s.tx_hash, s.from_address, s.to_address, s.value,
               row_number() OVER (PARTITION BY s.tx_hash, s.from_address, s.to_address, s.value ORDER BY s.position)
                   AS occurrence
          FROM (SELECT t.tx_hash, t.from_address, t.to_address, t.value, -1 AS position
                  FROM pg_temp.arx_import_hashes AS h
                  JOIN arx.transactions AS t ON t.network = h.network AND t.tx_hash = h.tx_hash
                 UNION ALL
                SELECT l.tx_hash, l.from_address, l.to_address, l.value, l.position
                  FROM pg_temp.arx_import_hashes AS h
                  JOIN arx.internal_transfers AS l ON l.network = h.network AND l.tx_hash = h.tx_hash) AS s) AS k
 WHERE r.outcome IS NULL AND k.tx_hash = r.tx_hash AND k.occurrence = r.occurrence AND k.value = r.value
   AND k.from_address IS NOT DISTINCT FROM r.from_address AND k.to_address IS NOT DISTINCT FROM r.to_address";

/// Replaces the legs of a transaction that a line holds whole.
const EDGES_WHOLE: &str = "
WITH stored AS (
    SELECT s.tx_hash, count(*) AS legs
      FROM (SELECT t.tx_hash FROM pg_temp.arx_import_hashes AS h
              JOIN arx.transactions AS t ON t.network = h.network AND t.tx_hash = h.tx_hash
             UNION ALL
            SELECT l.tx_hash FROM pg_temp.arx_import_hashes AS h
              JOIN arx.internal_transfers AS l ON l.network = h.network AND l.tx_hash = h.tx_hash) AS s
     GROUP BY s.tx_hash
), other AS (
    SELECT r.network, r.tx_hash
      FROM pg_temp.arx_import_rows AS r JOIN stored AS s ON s.tx_hash = r.tx_hash
     WHERE r.outcome IS NULL
     GROUP BY r.network, r.tx_hash, s.legs
    HAVING count(*) <> s.legs OR NOT bool_and(r.is_known)
), gone AS (
    DELETE FROM arx.transactions AS t USING other AS o WHERE t.network = o.network AND t.tx_hash = o.tx_hash
), legs AS (
    DELETE FROM arx.internal_transfers AS l USING other AS o WHERE l.network = o.network AND l.tx_hash = o.tx_hash
)
UPDATE pg_temp.arx_import_rows AS r SET is_moved = true, is_known = false
 WHERE r.tx_hash IN (SELECT o.tx_hash FROM other AS o)";

/// A transaction that is stored with its inputs and outputs takes no further lines.
const EDGES_COMPLETE: &str = "
UPDATE pg_temp.arx_import_rows AS r
   SET outcome = 'rejected',
       reason = format('contradicts the stored row|transaction %s is stored with all its inputs and outputs', r.tx_hash)
 WHERE r.outcome IS NULL AND NOT r.is_known
   AND EXISTS (SELECT FROM arx.internal_transfers AS l
                WHERE l.network = r.network AND l.tx_hash = r.tx_hash AND l.kind IN ('utxo', 'fee', 'coinbase'))";

/// Inserts new movements: the first of a transaction with both ends is its row, the others are
/// legs.
const EDGES_INSERT: &str = "
UPDATE pg_temp.arx_import_rows SET outcome = 'unchanged' WHERE outcome IS NULL AND is_known;
WITH firsts AS (
    SELECT DISTINCT ON (r.tx_hash) r.*
      FROM pg_temp.arx_import_rows AS r
     WHERE r.outcome IS NULL AND r.from_address IS NOT NULL AND r.to_address IS NOT NULL
       AND NOT EXISTS (SELECT FROM arx.transactions AS t WHERE t.network = r.network AND t.tx_hash = r.tx_hash)
     ORDER BY r.tx_hash, r.row_id
), inserted AS (
    INSERT INTO arx.transactions (network, tx_hash, block_number, transaction_index, \"timestamp\", from_address, to_address,
                                  value, gas_used, gas_price, status, metadata, block_hash)
    SELECT f.network, f.tx_hash, f.block_number, f.transaction_index, f.\"timestamp\", f.from_address, f.to_address,
           f.value, f.gas_used, f.gas_price, f.status, f.metadata, f.block_hash
      FROM firsts AS f
)
UPDATE pg_temp.arx_import_rows AS r SET outcome = CASE WHEN r.is_moved THEN 'moved' ELSE 'imported' END
 WHERE r.row_id IN (SELECT f.row_id FROM firsts AS f);
INSERT INTO arx.internal_transfers (network, tx_hash, position, is_ordered, block_number, transaction_index, \"timestamp\",
                                    from_address, to_address, value, kind, succeeded)
SELECT r.network, r.tx_hash, coalesce(p.last, -1) + row_number() OVER (PARTITION BY r.tx_hash ORDER BY r.row_id), false,
       r.block_number, r.transaction_index, r.\"timestamp\", r.from_address, r.to_address, r.value, r.kind,
       CASE r.status WHEN 'confirmed' THEN true WHEN 'failed' THEN false END
  FROM pg_temp.arx_import_rows AS r
  LEFT JOIN (SELECT l.tx_hash, max(l.position) AS last
               FROM pg_temp.arx_import_hashes AS h
               JOIN arx.internal_transfers AS l ON l.network = h.network AND l.tx_hash = h.tx_hash
              GROUP BY l.tx_hash) AS p ON p.tx_hash = r.tx_hash
 WHERE r.outcome IS NULL;
UPDATE pg_temp.arx_import_rows SET outcome = CASE WHEN is_moved THEN 'moved' ELSE 'imported' END WHERE outcome IS NULL;
WITH firsts AS (
    SELECT DISTINCT ON (r.tx_hash) r.* FROM pg_temp.arx_import_rows AS r
     WHERE r.outcome = 'unchanged' ORDER BY r.tx_hash, r.row_id
), updated AS (
    UPDATE arx.transactions AS t
       SET status = CASE WHEN f.status = 'unknown' THEN t.status ELSE f.status END,
           transaction_index = coalesce(t.transaction_index, f.transaction_index),
           gas_used = coalesce(t.gas_used, f.gas_used), gas_price = coalesce(t.gas_price, f.gas_price),
           block_hash = coalesce(t.block_hash, f.block_hash)
      FROM firsts AS f
     WHERE t.network = f.network AND t.tx_hash = f.tx_hash
       AND (t.status IN ('unknown', 'pending') AND f.status <> 'unknown'
            OR t.transaction_index IS NULL AND f.transaction_index IS NOT NULL
            OR t.gas_used IS NULL AND f.gas_used IS NOT NULL OR t.gas_price IS NULL AND f.gas_price IS NOT NULL
            OR t.block_hash IS NULL AND f.block_hash IS NOT NULL)
    RETURNING t.network, t.tx_hash, t.status, t.transaction_index
), legs AS (
    UPDATE arx.internal_transfers AS l
       SET succeeded = CASE u.status WHEN 'confirmed' THEN true WHEN 'failed' THEN false ELSE l.succeeded END,
           transaction_index = coalesce(l.transaction_index, u.transaction_index)
      FROM updated AS u WHERE l.network = u.network AND l.tx_hash = u.tx_hash
)
UPDATE pg_temp.arx_import_rows AS r SET outcome = 'updated'
 WHERE r.outcome = 'unchanged' AND r.tx_hash IN (SELECT u.tx_hash FROM updated AS u)";

/// Returns the statements that load lists of movements.
pub(super) fn edges(whole: bool) -> Vec<&'static str> {
    let rule = if whole { EDGES_WHOLE } else { EDGES_COMPLETE };
    vec![EDGES_BLOCKS, HASHES, OCCURRENCES, EDGES_KNOWN, rule, EDGES_INSERT]
}

/// Passes over the calls that are transactions themselves, if those are stored; otherwise their value
/// would be lost.
pub(super) const LEGS_ROOTS: &str = "
UPDATE pg_temp.arx_import_rows AS r SET outcome = 'nothing'
  FROM pg_temp.arx_import_found AS f
 WHERE r.outcome IS NULL AND r.path = '' AND r.kind IN ('call', 'create') AND r.failed IS DISTINCT FROM 1
   AND f.tx_hash = r.tx_hash;
UPDATE pg_temp.arx_import_rows AS r
   SET outcome = 'rejected',
       reason = format('transaction not imported|transaction %s is not in arx.transactions, which has the value of this call: import transactions first', r.tx_hash)
 WHERE r.outcome IS NULL AND r.path = '' AND r.kind IN ('call', 'create') AND r.failed IS DISTINCT FROM 1";

/// Finds failed calls and those within them, and gives legs the time and place of their
/// transactions.
pub(super) const LEGS_DATES: &str = "
UPDATE pg_temp.arx_import_rows AS r SET outcome = 'nothing'
 WHERE r.outcome IS NULL
   AND (r.failed = 1
        OR EXISTS (SELECT FROM pg_temp.arx_import_rows AS f
                    WHERE f.failed = 1 AND f.tx_hash = r.tx_hash AND f.path <> r.path
                      AND (f.path = '' OR starts_with(r.path, f.path || ','))));
UPDATE pg_temp.arx_import_rows SET outcome = 'nothing' WHERE outcome IS NULL AND value = 0;
UPDATE pg_temp.arx_import_rows AS r
   SET outcome = 'rejected',
       reason = format('another block|the line of %s is of block %s, and the transaction is stored in block %s',
                       r.tx_hash, r.block_number, f.block_number)
  FROM pg_temp.arx_import_found AS f
 WHERE r.outcome IS NULL AND f.tx_hash = r.tx_hash
   AND (r.block_number <> f.block_number OR r.\"timestamp\" <> f.\"timestamp\");
UPDATE pg_temp.arx_import_rows AS r
   SET \"timestamp\" = f.\"timestamp\", block_number = f.block_number,
       transaction_index = coalesce(f.transaction_index, r.transaction_index)
  FROM pg_temp.arx_import_found AS f
 WHERE r.outcome IS NULL AND f.tx_hash = r.tx_hash;
UPDATE pg_temp.arx_import_rows AS r SET \"timestamp\" = b.\"timestamp\"
  FROM (SELECT f.block_number, min(f.\"timestamp\") AS \"timestamp\" FROM pg_temp.arx_import_found AS f GROUP BY f.block_number) AS b
 WHERE r.outcome IS NULL AND r.\"timestamp\" IS NULL AND r.kind = 'reward' AND b.block_number = r.block_number;
UPDATE pg_temp.arx_import_rows AS r SET \"timestamp\" = b.\"timestamp\"
  FROM (SELECT t.network, t.block_number, min(t.\"timestamp\") AS \"timestamp\"
          FROM arx.transactions AS t
          JOIN (SELECT DISTINCT i.network, i.block_number FROM pg_temp.arx_import_rows AS i
                 WHERE i.outcome IS NULL AND i.\"timestamp\" IS NULL AND i.kind = 'reward') AS i
            ON i.network = t.network AND i.block_number = t.block_number
         GROUP BY t.network, t.block_number) AS b
 WHERE r.outcome IS NULL AND r.\"timestamp\" IS NULL AND r.kind = 'reward'
   AND b.network = r.network AND b.block_number = r.block_number;
UPDATE pg_temp.arx_import_rows AS r
   SET outcome = 'rejected',
       reason = CASE WHEN r.kind = 'reward' THEN
                         format('time unknown|no transaction of block %s is in arx.transactions, and the line has no block_timestamp', r.block_number)
                     ELSE format('transaction not imported|transaction %s is not in arx.transactions, and the line has no time: import transactions first', r.tx_hash) END
 WHERE r.outcome IS NULL AND r.\"timestamp\" IS NULL";

/// Loads legs. A file that has all stored legs of a transaction replaces them, because it knows
/// their order; one that has only some adds the others, in unknown order.
const LEGS_APPLY: &str = "
DELETE FROM arx.internal_transfers AS l USING pg_temp.arx_import_found AS f, pg_temp.arx_import_hashes AS h
 WHERE h.tx_hash = f.tx_hash AND l.network = h.network AND l.tx_hash = h.tx_hash
   AND (l.\"timestamp\" <> f.\"timestamp\" OR l.block_number <> f.block_number);
UPDATE pg_temp.arx_import_rows AS r SET is_known = true
  FROM (SELECT l.tx_hash, l.from_address, l.to_address, l.value,
               row_number() OVER (PARTITION BY l.tx_hash, l.from_address, l.to_address, l.value ORDER BY l.position)
                   AS occurrence
          FROM pg_temp.arx_import_hashes AS h
          JOIN arx.internal_transfers AS l ON l.network = h.network AND l.tx_hash = h.tx_hash) AS k
 WHERE r.outcome IS NULL AND k.tx_hash = r.tx_hash AND k.occurrence = r.occurrence AND k.value = r.value
   AND k.from_address IS NOT DISTINCT FROM r.from_address AND k.to_address IS NOT DISTINCT FROM r.to_address;
INSERT INTO pg_temp.arx_import_plans
SELECT r.tx_hash,
       s.legs IS NULL OR s.legs = count(*) FILTER (WHERE r.is_known)
           AND (count(*) > s.legs OR s.has_unordered AND bool_and(r.path IS NOT NULL)),
       s.legs > count(*) FILTER (WHERE r.is_known),
       coalesce(s.has_unordered, false)
  FROM pg_temp.arx_import_rows AS r
  LEFT JOIN (SELECT l.tx_hash, count(*) AS legs, bool_or(NOT l.is_ordered) AS has_unordered
               FROM pg_temp.arx_import_hashes AS h
               JOIN arx.internal_transfers AS l ON l.network = h.network AND l.tx_hash = h.tx_hash
              GROUP BY l.tx_hash) AS s ON s.tx_hash = r.tx_hash
 WHERE r.outcome IS NULL
 GROUP BY r.tx_hash, s.legs, s.has_unordered;
DELETE FROM arx.internal_transfers AS l USING pg_temp.arx_import_plans AS p, pg_temp.arx_import_hashes AS h
 WHERE p.replaces AND h.tx_hash = p.tx_hash AND l.network = h.network AND l.tx_hash = h.tx_hash;
INSERT INTO arx.internal_transfers (network, tx_hash, position, is_ordered, block_number, transaction_index, \"timestamp\",
                                    from_address, to_address, value, kind, succeeded)
SELECT r.network, r.tx_hash,
       coalesce(s.last, -1) + row_number() OVER (
           PARTITION BY r.tx_hash ORDER BY string_to_array(r.path, ',')::integer[] NULLS LAST, r.row_id),
       r.path IS NOT NULL AND p.replaces, r.block_number, r.transaction_index, r.\"timestamp\", r.from_address, r.to_address,
       r.value, r.kind, CASE WHEN f.status = 'failed' THEN false WHEN r.failed = 0 THEN true
                             WHEN f.status = 'confirmed' THEN true END
  FROM pg_temp.arx_import_rows AS r
  JOIN pg_temp.arx_import_plans AS p ON p.tx_hash = r.tx_hash
  LEFT JOIN pg_temp.arx_import_found AS f ON f.tx_hash = r.tx_hash
  LEFT JOIN (SELECT l.tx_hash, max(l.position) AS last
               FROM pg_temp.arx_import_hashes AS h
               JOIN arx.internal_transfers AS l ON l.network = h.network AND l.tx_hash = h.tx_hash
              GROUP BY l.tx_hash) AS s ON s.tx_hash = r.tx_hash
 WHERE r.outcome IS NULL AND (p.replaces OR p.appends AND NOT r.is_known);
UPDATE pg_temp.arx_import_rows AS r
   SET outcome = CASE WHEN NOT r.is_known THEN 'imported' WHEN p.replaces AND p.reorders THEN 'updated' ELSE 'unchanged' END
  FROM pg_temp.arx_import_plans AS p
 WHERE r.outcome IS NULL AND p.tx_hash = r.tx_hash";

/// Returns the statements that load legs, after [`HASHES`], [`FOUND`] and [`LEGS_DATES`].
pub(super) fn legs() -> Vec<&'static str> {
    vec![OCCURRENCES, LEGS_APPLY]
}

/// Gives token transfers the time and block of their transactions, and keeps the last block of
/// transactions that the chunk has in several.
pub(super) const TRANSFERS_DATES: &str = "
UPDATE pg_temp.arx_import_rows AS r
   SET outcome = 'rejected',
       reason = format('another block|the transfer of %s is of block %s, and the transaction is stored in block %s',
                       r.tx_hash, r.block_number, f.block_number)
  FROM pg_temp.arx_import_found AS f
 WHERE r.outcome IS NULL AND f.tx_hash = r.tx_hash AND r.\"timestamp\" IS NULL AND r.block_number <> f.block_number;
UPDATE pg_temp.arx_import_rows AS r
   SET \"timestamp\" = coalesce(r.\"timestamp\", f.\"timestamp\"), block_number = coalesce(r.block_number, f.block_number)
  FROM pg_temp.arx_import_found AS f
 WHERE r.outcome IS NULL AND f.tx_hash = r.tx_hash AND (r.\"timestamp\" IS NULL OR r.block_number IS NULL);
UPDATE pg_temp.arx_import_rows AS r
   SET outcome = 'rejected',
       reason = format('transaction not imported|transaction %s is not in arx.transactions: import transactions first', r.tx_hash)
 WHERE r.outcome IS NULL AND (r.\"timestamp\" IS NULL OR r.block_number IS NULL);
UPDATE pg_temp.arx_import_rows AS r SET outcome = 'moved'
  FROM (SELECT DISTINCT ON (i.tx_hash) i.tx_hash, i.block_number, i.\"timestamp\"
          FROM pg_temp.arx_import_rows AS i WHERE i.outcome IS NULL ORDER BY i.tx_hash, i.row_id DESC) AS l
 WHERE r.outcome IS NULL AND l.tx_hash = r.tx_hash AND (l.block_number <> r.block_number OR l.\"timestamp\" <> r.\"timestamp\")";

/// Removes repetitions within the chunk and rows of other blocks, and adds ids to stored rows.
const TRANSFERS_APPLY: &str = "
UPDATE pg_temp.arx_import_rows AS r
   SET outcome = CASE WHEN d.contents > 1 THEN 'rejected' ELSE 'unchanged' END,
       reason = CASE WHEN d.contents > 1 THEN
           format('lines of one transfer contradict each other|lines of transfer %s of transaction %s differ', r.log_index, r.tx_hash) END
  FROM (SELECT i.tx_hash, i.log_index, min(i.row_id) AS first,
               count(DISTINCT ROW(i.token_address, i.from_address, i.to_address, i.amount, i.token_id)::text) AS contents
          FROM pg_temp.arx_import_rows AS i WHERE i.outcome IS NULL AND i.log_index IS NOT NULL
         GROUP BY i.tx_hash, i.log_index HAVING count(*) > 1) AS d
 WHERE r.outcome IS NULL AND d.tx_hash = r.tx_hash AND d.log_index = r.log_index AND (d.contents > 1 OR r.row_id <> d.first);
WITH blocks AS (
    SELECT DISTINCT ON (r.tx_hash) r.network, r.tx_hash, r.block_number, r.\"timestamp\"
      FROM pg_temp.arx_import_rows AS r WHERE r.outcome IS NULL ORDER BY r.tx_hash, r.row_id DESC
), gone AS (
    DELETE FROM arx.token_transfers AS t USING blocks AS b
     WHERE t.network = b.network AND t.tx_hash = b.tx_hash
       AND (t.block_number <> b.block_number OR t.\"timestamp\" <> b.\"timestamp\")
    RETURNING t.tx_hash
)
UPDATE pg_temp.arx_import_rows AS r SET is_moved = true WHERE r.tx_hash IN (SELECT g.tx_hash FROM gone AS g);
WITH updated AS (
    UPDATE arx.token_transfers AS t SET amount = r.amount, token_id = r.token_id
      FROM pg_temp.arx_import_rows AS r
     WHERE r.outcome IS NULL AND t.network = r.network AND t.tx_hash = r.tx_hash AND t.log_index = r.log_index
       AND t.\"timestamp\" = r.\"timestamp\" AND t.token_address = r.token_address AND t.from_address = r.from_address
       AND t.to_address = r.to_address AND t.token_id IS NULL
       AND (t.amount = r.amount OR t.amount = r.token_id) AND r.token_id IS NOT NULL
    RETURNING r.row_id
)
UPDATE pg_temp.arx_import_rows AS r SET outcome = 'updated' WHERE r.row_id IN (SELECT u.row_id FROM updated AS u)";

/// Compares transfers with the stored ones and inserts the others. Transfers without a log index
/// are numbered from 1,000,000,000, which no block reaches; a file that knows the index replaces
/// them.
const TRANSFERS_COMPARE: &str = "
WITH compared AS (
    SELECT r.row_id, t.log_index, t.tx_hash, t.amount, t.token_address, t.from_address, t.to_address, t.token_id,
           t.token_address = r.token_address AND t.from_address = r.from_address AND t.to_address = r.to_address
               AND (t.amount = r.amount AND (t.token_id IS NOT DISTINCT FROM r.token_id OR r.token_id IS NULL)
                    OR r.token_id IS NULL AND t.token_id = r.amount) AS is_equal,
           r.token_id IS NULL AND t.token_id IS NOT NULL AS is_less
      FROM pg_temp.arx_import_rows AS r
      JOIN arx.token_transfers AS t ON t.network = r.network AND t.tx_hash = r.tx_hash AND t.log_index = r.log_index
     WHERE r.outcome IS NULL
)
UPDATE pg_temp.arx_import_rows AS r
   SET outcome = CASE WHEN NOT c.is_equal THEN 'rejected' WHEN c.is_less THEN 'less' ELSE 'unchanged' END,
       reason = CASE WHEN NOT c.is_equal THEN
           format('contradicts the stored row|transfer %s of transaction %s is stored as %s of %s from %s to %s', c.log_index,
                  c.tx_hash, c.amount, c.token_address, c.from_address, c.to_address) END
  FROM compared AS c WHERE c.row_id = r.row_id;
UPDATE pg_temp.arx_import_rows AS r
   SET occurrence = o.occurrence
  FROM (SELECT i.row_id,
               row_number() OVER (PARTITION BY i.tx_hash, i.token_address, i.from_address, i.to_address, i.amount, i.token_id,
                                               i.log_index IS NULL
                                      ORDER BY coalesce(i.log_index, 0), i.row_id) AS occurrence
          FROM pg_temp.arx_import_rows AS i WHERE i.outcome IS NULL) AS o
 WHERE o.row_id = r.row_id;
UPDATE pg_temp.arx_import_rows AS r SET outcome = 'unchanged'
  FROM (SELECT t.tx_hash, t.token_address, t.from_address, t.to_address, t.amount, t.token_id,
               row_number() OVER (PARTITION BY t.tx_hash, t.token_address, t.from_address, t.to_address, t.amount, t.token_id
                                      ORDER BY t.log_index) AS occurrence
          FROM pg_temp.arx_import_hashes AS h
          JOIN arx.token_transfers AS t ON t.network = h.network AND t.tx_hash = h.tx_hash) AS k
 WHERE r.outcome IS NULL AND r.log_index IS NULL AND k.tx_hash = r.tx_hash AND k.token_address = r.token_address
   AND k.from_address = r.from_address AND k.to_address = r.to_address AND k.amount = r.amount
   AND k.token_id IS NOT DISTINCT FROM r.token_id AND k.occurrence = r.occurrence;
WITH placed AS (
    SELECT t.network, t.tx_hash, t.log_index, t.\"timestamp\", t.token_address, t.from_address, t.to_address, t.amount,
           t.token_id,
           row_number() OVER (PARTITION BY t.tx_hash, t.token_address, t.from_address, t.to_address, t.amount, t.token_id
                                  ORDER BY t.log_index) AS occurrence
      FROM pg_temp.arx_import_hashes AS h
      JOIN arx.token_transfers AS t ON t.network = h.network AND t.tx_hash = h.tx_hash
     WHERE t.log_index >= 1000000000
), gone AS (
    DELETE FROM arx.token_transfers AS t USING placed AS p, pg_temp.arx_import_rows AS r
     WHERE r.outcome IS NULL AND r.log_index IS NOT NULL AND p.tx_hash = r.tx_hash AND p.token_address = r.token_address
       AND p.from_address = r.from_address AND p.to_address = r.to_address AND p.amount = r.amount
       AND p.token_id IS NOT DISTINCT FROM r.token_id AND p.occurrence = r.occurrence
       AND t.network = p.network AND t.tx_hash = p.tx_hash AND t.log_index = p.log_index AND t.\"timestamp\" = p.\"timestamp\"
    RETURNING r.row_id
)
UPDATE pg_temp.arx_import_rows AS r SET is_known = true WHERE r.row_id IN (SELECT g.row_id FROM gone AS g);
UPDATE pg_temp.arx_import_rows AS r SET log_index = n.log_index
  FROM (SELECT i.row_id,
               (coalesce(s.last, 999999999) + row_number() OVER (PARTITION BY i.tx_hash ORDER BY i.row_id))::integer AS log_index
          FROM pg_temp.arx_import_rows AS i
          LEFT JOIN (SELECT t.tx_hash, max(t.log_index) AS last
                       FROM pg_temp.arx_import_hashes AS h
                       JOIN arx.token_transfers AS t ON t.network = h.network AND t.tx_hash = h.tx_hash
                      WHERE t.log_index >= 1000000000 GROUP BY t.tx_hash) AS s ON s.tx_hash = i.tx_hash
         WHERE i.outcome IS NULL AND i.log_index IS NULL) AS n
 WHERE n.row_id = r.row_id;
INSERT INTO arx.token_transfers (network, tx_hash, log_index, block_number, \"timestamp\", token_address, from_address,
                                 to_address, amount, token_id)
SELECT r.network, r.tx_hash, r.log_index, r.block_number, r.\"timestamp\", r.token_address, r.from_address, r.to_address,
       r.amount, r.token_id
  FROM pg_temp.arx_import_rows AS r WHERE r.outcome IS NULL;
UPDATE pg_temp.arx_import_rows
   SET outcome = CASE WHEN is_known THEN 'updated' WHEN is_moved THEN 'moved' ELSE 'imported' END
 WHERE outcome IS NULL";

/// Returns the statements that load token transfers, after [`HASHES`], [`FOUND`] and
/// [`TRANSFERS_DATES`].
pub(super) fn transfers() -> Vec<&'static str> {
    vec![TRANSFERS_APPLY, TRANSFERS_COMPARE]
}
