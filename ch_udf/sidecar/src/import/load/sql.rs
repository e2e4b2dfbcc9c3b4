//! Statements by which staged rows meet the stored ones. Rows are staged in
//! `pg_temp.arx_import_rows`; each statement gives some of them an `outcome`: imported, updated,
//! moved (updated, from another block), unchanged, less (equal as far as the row knows), other
//! price (equal but for the price that was offered), nothing (it moves no value) or rejected.
//! `reason` is the kind of fault, a bar, and the message.

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
            row_id bigint GENERATED ALWAYS AS IDENTITY, network text NOT NULL, {own}, line bigint, \
            version integer NOT NULL DEFAULT 1, occurrence bigint, is_moved boolean NOT NULL DEFAULT false, \
            is_known boolean NOT NULL DEFAULT false, outcome text, reason text) ON COMMIT DELETE ROWS; \
         CREATE TEMPORARY TABLE arx_import_matches (\
            row_id bigint, former_time timestamptz, former_block bigint, is_moved boolean, is_changed boolean, \
            is_less boolean, has_other_price boolean, reason text) ON COMMIT DELETE ROWS; \
         CREATE TEMPORARY TABLE arx_import_hashes (network text, tx_hash text) ON COMMIT DELETE ROWS; \
         CREATE TEMPORARY TABLE arx_import_found (\
            tx_hash text, \"timestamp\" timestamptz, block_number bigint, transaction_index integer, \
            status arx.tx_status_enum, block_hash text) ON COMMIT DELETE ROWS; \
         CREATE TEMPORARY TABLE arx_import_stored (\
            stored_id bigint GENERATED ALWAYS AS IDENTITY, network text, tx_hash text, \"timestamp\" timestamptz, \
            position integer, from_address text, to_address text, value numeric(38,18), kind text, trace_path text, \
            is_ordered boolean, succeeded boolean, block_number bigint, transaction_index integer, block_hash text, \
            row_id bigint, is_changed boolean NOT NULL DEFAULT false) ON COMMIT DELETE ROWS; \
         CREATE TEMPORARY TABLE arx_import_broken (tx_hash text PRIMARY KEY, line bigint); \
         CREATE TEMPORARY TABLE arx_import_failed (tx_hash text, path text, PRIMARY KEY (tx_hash, path)); \
         CREATE TEMPORARY TABLE arx_import_places (\
            stored_id bigint, row_id bigint, position integer, is_ordered boolean) ON COMMIT DELETE ROWS"
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

/// Notes transactions of which a line is rejected, for this chunk and the next ones: `$1` the
/// hashes in lower case, `$2` the lines.
pub(super) const NOTE_BROKEN: &str = "
INSERT INTO pg_temp.arx_import_broken
SELECT b.tx_hash, b.line FROM unnest($1::text[], $2::bigint[]) AS b (tx_hash, line)
    ON CONFLICT (tx_hash) DO NOTHING";

/// Kind of a row whose transaction has a rejected line.
pub(super) const BROKEN: &str = "another line of the transaction";

/// Rejects the rows of transactions of which a line is rejected, in this chunk or an earlier one.
pub(super) const REJECT_BROKEN: &str = "
UPDATE pg_temp.arx_import_rows AS r
   SET outcome = 'rejected',
       reason = format('another line of the transaction|line %s of the same transaction is rejected, and a transaction is imported whole', b.line)
  FROM pg_temp.arx_import_broken AS b
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
/// `$3` if gas prices are those that were paid. Without a receipt the stored price is the one that
/// was offered, and another one contradicts it; with one it may be the price that was paid.
pub(super) const MATCH_TRANSACTIONS: &str = "
INSERT INTO pg_temp.arx_import_matches (row_id, former_time, former_block, is_moved, is_changed, is_less, has_other_price,
                                        reason)
SELECT DISTINCT ON (r.row_id) r.row_id, t.\"timestamp\", t.block_number, m.is_moved,
       t.status IN ('unknown', 'pending') AND r.status <> 'unknown'
           OR t.gas_used IS NULL AND r.gas_used IS NOT NULL
           OR t.gas_price IS NULL AND r.gas_price IS NOT NULL OR $3 AND r.gas_price <> t.gas_price
           OR t.transaction_index IS NULL AND r.transaction_index IS NOT NULL
           OR t.block_hash IS NULL AND r.block_hash IS NOT NULL
           OR t.to_address IS NULL AND r.to_address IS NOT NULL,
       t.status IN ('confirmed', 'failed') AND r.status = 'unknown'
           OR t.gas_used IS NOT NULL AND r.gas_used IS NULL
           OR t.gas_price IS NOT NULL AND r.gas_price IS NULL
           OR t.transaction_index IS NOT NULL AND r.transaction_index IS NULL
           OR t.block_hash IS NOT NULL AND r.block_hash IS NULL
           OR t.to_address IS NOT NULL AND r.to_address IS NULL,
       NOT $3 AND r.gas_price <> t.gas_price,
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
       WHEN NOT $3 AND t.gas_used IS NULL AND r.gas_price <> t.gas_price THEN
           format('contradicts the stored row|transaction %s is stored with gas_price %s', r.tx_hash, t.gas_price)
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
         pg_temp.arx_import_stored, pg_temp.arx_import_places";

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
                      WHEN m.has_other_price THEN 'other price' WHEN m.is_less THEN 'less' ELSE 'unchanged' END,
       reason = m.reason
  FROM pg_temp.arx_import_matches AS m WHERE m.row_id = r.row_id;
DELETE FROM pg_temp.arx_import_matches";

/// A repeated line shares the fate of the line that it repeats. Without the numbers of outcomes,
/// the plan would compare each unchanged line with each rejected one.
pub(super) const REJECT_REPEATED: &str = "
ANALYZE pg_temp.arx_import_rows;
UPDATE pg_temp.arx_import_rows AS r SET outcome = 'rejected', reason = f.reason
  FROM pg_temp.arx_import_rows AS f
 WHERE r.outcome = 'unchanged' AND f.outcome = 'rejected' AND f.tx_hash = r.tx_hash AND f.version = r.version";

/// Removes the stored transactions of blocks that came again with another hash, with all that
/// belongs to them, and legs without a transaction, such as rewards. It runs after the rows are
/// applied: a transaction that is in the new block has its hash by then. Of several hashes of a
/// block within the chunk, the last one counts.
pub(super) const REPLACE_BLOCKS: &str = "
WITH blocks AS (
    SELECT DISTINCT ON (r.network, r.block_number) r.network, r.block_number, r.block_hash, r.\"timestamp\"
      FROM pg_temp.arx_import_rows AS r
     WHERE r.outcome IS DISTINCT FROM 'rejected' AND r.block_hash IS NOT NULL
     ORDER BY r.network, r.block_number, r.row_id DESC
), kept AS (
    SELECT DISTINCT r.tx_hash FROM pg_temp.arx_import_rows AS r WHERE r.outcome = 'rejected' OR r.block_hash IS NULL
), gone AS (
    DELETE FROM arx.transactions AS t USING blocks AS b
     WHERE t.network = b.network AND t.block_number = b.block_number
       AND (t.block_hash <> b.block_hash OR t.block_hash IS NULL AND t.\"timestamp\" <> b.\"timestamp\")
       AND NOT EXISTS (SELECT FROM kept AS k WHERE k.tx_hash = t.tx_hash)
    RETURNING t.network, t.tx_hash, t.\"timestamp\"
), legs AS (
    DELETE FROM arx.internal_transfers AS l USING gone AS g
     WHERE l.network = g.network AND l.tx_hash = g.tx_hash AND l.\"timestamp\" = g.\"timestamp\"
), alone AS (
    DELETE FROM arx.internal_transfers AS l USING blocks AS b
     WHERE (l.from_address IS NULL OR l.to_address IS NULL) AND l.network = b.network AND l.block_number = b.block_number
       AND (l.block_hash <> b.block_hash OR l.block_hash IS NULL AND l.\"timestamp\" <> b.\"timestamp\")
       AND NOT EXISTS (SELECT FROM kept AS k WHERE k.tx_hash = l.tx_hash)
       AND NOT EXISTS (SELECT FROM arx.transactions AS t WHERE t.network = l.network AND t.tx_hash = l.tx_hash)
    RETURNING l.network, l.tx_hash
), tokens AS (
    DELETE FROM arx.token_transfers AS l USING gone AS g
     WHERE l.network = g.network AND l.tx_hash = g.tx_hash AND l.\"timestamp\" = g.\"timestamp\"
)
SELECT (SELECT count(*) FROM gone) + (SELECT count(DISTINCT a.tx_hash) FROM alone AS a)";

/// Lists the transactions of the chunk.
pub(super) const HASHES: &str = "
INSERT INTO pg_temp.arx_import_hashes
SELECT DISTINCT r.network, r.tx_hash FROM pg_temp.arx_import_rows AS r WHERE r.outcome IS NULL;
ANALYZE pg_temp.arx_import_hashes";

/// Finds the stored transactions of the chunk.
pub(super) const FOUND: &str = "
INSERT INTO pg_temp.arx_import_found
SELECT DISTINCT ON (t.tx_hash) t.tx_hash, t.\"timestamp\", t.block_number, t.transaction_index, t.status, t.block_hash
  FROM pg_temp.arx_import_hashes AS h
  JOIN arx.transactions AS t ON t.network = h.network AND t.tx_hash = h.tx_hash
 ORDER BY t.tx_hash, t.\"timestamp\" DESC;
ANALYZE pg_temp.arx_import_found";

/// Numbers equal movements within consecutive lines of a transaction: they are different legs,
/// while a movement that comes again elsewhere is the same. `CONTENT` are the columns that make
/// two movements equal, `FILTER` chooses the rows.
const OCCURRENCES: &str = "
UPDATE pg_temp.arx_import_rows AS r
   SET occurrence = o.occurrence, outcome = CASE WHEN o.repetition > 1 THEN 'unchanged' END
  FROM (SELECT n.row_id, n.occurrence,
               row_number() OVER (PARTITION BY n.tx_hash, n.content, n.occurrence ORDER BY n.row_id) AS repetition
          FROM (SELECT s.row_id, s.tx_hash, s.content,
                       row_number() OVER (PARTITION BY s.tx_hash, s.run, s.content ORDER BY s.row_id) AS occurrence
                  FROM (SELECT i.row_id, i.tx_hash, ROW(CONTENT)::text AS content, i.outcome IS NULL AND FILTER AS is_chosen,
                               i.row_id - row_number() OVER (PARTITION BY i.tx_hash ORDER BY i.row_id) AS run
                          FROM pg_temp.arx_import_rows AS i) AS s
                 WHERE s.is_chosen) AS n) AS o
 WHERE o.row_id = r.row_id";

/// Returns [`OCCURRENCES`] for columns and a condition.
fn occurrences(content: &str, filter: &str) -> String {
    OCCURRENCES.replace("CONTENT", content).replace("FILTER", filter)
}

const MOVEMENT: &str = "i.from_address, i.to_address, i.value";

/// Numbers the lines of rows: `$1` the line of each row in turn.
pub(super) const NUMBER_LINES: &str = "
UPDATE pg_temp.arx_import_rows AS r SET line = n.line
  FROM unnest($1::bigint[]) WITH ORDINALITY AS n (line, number),
       (SELECT min(i.row_id) AS first FROM pg_temp.arx_import_rows AS i) AS f
 WHERE r.row_id = f.first + n.number - 1";

/// Keeps one line of each transaction, where a line holds all legs of its transaction: the first of
/// its last block. Lines of one block that differ are rejected.
pub(super) const WHOLE_LINES: &str = "
UPDATE pg_temp.arx_import_rows AS r SET outcome = 'moved'
  FROM (SELECT DISTINCT ON (i.tx_hash) i.tx_hash, i.block_number, i.\"timestamp\", i.block_hash
          FROM pg_temp.arx_import_rows AS i WHERE i.outcome IS NULL ORDER BY i.tx_hash, i.row_id DESC) AS l
 WHERE r.outcome IS NULL AND l.tx_hash = r.tx_hash
   AND (l.block_number <> r.block_number OR l.\"timestamp\" <> r.\"timestamp\" OR l.block_hash <> r.block_hash);
WITH lines AS (
    SELECT i.tx_hash, i.line,
           string_agg(ROW(i.from_address, i.to_address, i.value, i.kind)::text, ' ' ORDER BY i.row_id) AS content
      FROM pg_temp.arx_import_rows AS i
     WHERE i.outcome IS NULL
       AND i.tx_hash IN (SELECT m.tx_hash FROM pg_temp.arx_import_rows AS m WHERE m.outcome IS NULL
                          GROUP BY m.tx_hash HAVING count(DISTINCT m.line) > 1)
     GROUP BY i.tx_hash, i.line
), repeated AS (
    SELECT l.tx_hash, min(l.line) AS first, count(DISTINCT l.content) AS contents FROM lines AS l GROUP BY l.tx_hash
)
UPDATE pg_temp.arx_import_rows AS r
   SET outcome = CASE WHEN d.contents > 1 THEN 'rejected' ELSE 'unchanged' END,
       reason = CASE WHEN d.contents > 1 THEN
           format('lines of one transaction contradict each other|lines of transaction %s differ in inputs or outputs', r.tx_hash) END
  FROM repeated AS d
 WHERE r.outcome IS NULL AND d.tx_hash = r.tx_hash AND (d.contents > 1 OR r.line <> d.first)";

/// Rejects transactions whose lines disagree, and takes back rows of another block.
const EDGES_BLOCKS: &str = "
UPDATE pg_temp.arx_import_rows AS r
   SET outcome = 'rejected',
       reason = format('lines of one transaction contradict each other|lines of transaction %s differ in block, time, status, index or gas', r.tx_hash)
  FROM (SELECT i.tx_hash FROM pg_temp.arx_import_rows AS i WHERE i.outcome IS NULL GROUP BY i.tx_hash
        HAVING count(DISTINCT i.block_number) > 1 OR count(DISTINCT i.\"timestamp\") > 1
            OR count(DISTINCT i.status) FILTER (WHERE i.status <> 'unknown') > 1 OR count(DISTINCT i.block_hash) > 1
            OR count(DISTINCT i.transaction_index) > 1 OR count(DISTINCT i.gas_used) > 1
            OR count(DISTINCT i.gas_price) > 1) AS c
 WHERE c.tx_hash = r.tx_hash;
UPDATE pg_temp.arx_import_rows AS r
   SET outcome = 'rejected',
       reason = CASE
           WHEN r.gas_used <> t.gas_used THEN
               format('contradicts the stored row|transaction %s is stored with gas_used %s', r.tx_hash, t.gas_used)
           WHEN r.transaction_index <> t.transaction_index THEN
               format('contradicts the stored row|transaction %s is stored with transaction_index %s', r.tx_hash, t.transaction_index)
           WHEN t.status IN ('confirmed', 'failed') AND r.status <> 'unknown' AND r.status <> t.status THEN
               format('contradicts the stored row|transaction %s is stored with status %s', r.tx_hash, t.status)
           ELSE format('contradicts the stored row|transaction %s is stored with gas_price %s', r.tx_hash, t.gas_price) END
  FROM arx.transactions AS t
 WHERE r.outcome IS NULL AND t.network = r.network AND t.tx_hash = r.tx_hash AND t.\"timestamp\" = r.\"timestamp\"
   AND t.block_number = r.block_number AND (r.block_hash <> t.block_hash) IS NOT TRUE
   AND (r.gas_used <> t.gas_used OR r.transaction_index <> t.transaction_index
        OR t.gas_used IS NULL AND r.gas_price <> t.gas_price
        OR t.status IN ('confirmed', 'failed') AND r.status <> 'unknown' AND r.status <> t.status);
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
       AND (l.block_number <> b.block_number OR l.\"timestamp\" <> b.\"timestamp\" OR l.block_hash <> b.block_hash)
    RETURNING l.tx_hash
)
UPDATE pg_temp.arx_import_rows AS r SET is_moved = true
 WHERE r.tx_hash IN (SELECT g.tx_hash FROM gone AS g UNION ALL SELECT l.tx_hash FROM legs AS l)";

/// Marks the movements that are stored, among all legs of their transactions.
const EDGES_KNOWN: &str = "
INSERT INTO pg_temp.arx_import_stored (tx_hash, position, from_address, to_address, value)
SELECT t.tx_hash, -1, t.from_address, t.to_address, t.value
  FROM pg_temp.arx_import_hashes AS h
  JOIN arx.transactions AS t ON t.network = h.network AND t.tx_hash = h.tx_hash
 UNION ALL
SELECT l.tx_hash, l.position, l.from_address, l.to_address, l.value
  FROM pg_temp.arx_import_hashes AS h
  JOIN arx.internal_transfers AS l ON l.network = h.network AND l.tx_hash = h.tx_hash;
ANALYZE pg_temp.arx_import_stored;
UPDATE pg_temp.arx_import_rows AS r SET is_known = true
  FROM (SELECT s.tx_hash, coalesce(s.from_address, '') AS sender, coalesce(s.to_address, '') AS receiver, s.value,
               row_number() OVER (PARTITION BY s.tx_hash, s.from_address, s.to_address, s.value ORDER BY s.position)
                   AS occurrence
          FROM pg_temp.arx_import_stored AS s) AS k
 WHERE r.outcome IS NULL AND k.tx_hash = r.tx_hash AND k.occurrence = r.occurrence AND k.value = r.value
   AND k.sender = coalesce(r.from_address, '') AND k.receiver = coalesce(r.to_address, '')";

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
                                    from_address, to_address, value, kind, succeeded, block_hash)
SELECT r.network, r.tx_hash, coalesce(p.last, -1) + row_number() OVER (PARTITION BY r.tx_hash ORDER BY r.row_id), false,
       r.block_number, r.transaction_index, r.\"timestamp\", r.from_address, r.to_address, r.value, r.kind,
       CASE r.status WHEN 'confirmed' THEN true WHEN 'failed' THEN false END, r.block_hash
  FROM pg_temp.arx_import_rows AS r
  LEFT JOIN (SELECT l.tx_hash, max(l.position) AS last
               FROM pg_temp.arx_import_hashes AS h
               JOIN arx.internal_transfers AS l ON l.network = h.network AND l.tx_hash = h.tx_hash
              GROUP BY l.tx_hash) AS p ON p.tx_hash = r.tx_hash
 WHERE r.outcome IS NULL;
UPDATE pg_temp.arx_import_rows SET outcome = CASE WHEN is_moved THEN 'moved' ELSE 'imported' END WHERE outcome IS NULL;
WITH facts AS (
    SELECT r.network, r.tx_hash, max(r.status) FILTER (WHERE r.status <> 'unknown') AS status,
           max(r.transaction_index) AS transaction_index, max(r.gas_used) AS gas_used, max(r.gas_price) AS gas_price,
           max(r.block_hash) AS block_hash
      FROM pg_temp.arx_import_rows AS r WHERE r.outcome IN ('imported', 'moved', 'unchanged') GROUP BY r.network, r.tx_hash
), updated AS (
    UPDATE arx.transactions AS t
       SET status = CASE WHEN t.status IN ('unknown', 'pending') THEN coalesce(f.status, t.status) ELSE t.status END,
           transaction_index = coalesce(t.transaction_index, f.transaction_index),
           gas_used = coalesce(t.gas_used, f.gas_used), gas_price = coalesce(t.gas_price, f.gas_price),
           block_hash = coalesce(t.block_hash, f.block_hash)
      FROM facts AS f
     WHERE t.network = f.network AND t.tx_hash = f.tx_hash
       AND (t.status IN ('unknown', 'pending') AND f.status <> t.status
            OR t.transaction_index IS NULL AND f.transaction_index IS NOT NULL
            OR t.gas_used IS NULL AND f.gas_used IS NOT NULL OR t.gas_price IS NULL AND f.gas_price IS NOT NULL
            OR t.block_hash IS NULL AND f.block_hash IS NOT NULL)
    RETURNING t.tx_hash
)
UPDATE pg_temp.arx_import_rows AS r SET outcome = 'updated'
 WHERE r.outcome = 'unchanged' AND r.tx_hash IN (SELECT u.tx_hash FROM updated AS u);
WITH facts AS MATERIALIZED (
    SELECT m.network, m.tx_hash, bool_and(m.succeeded) AS succeeded, max(m.transaction_index) AS transaction_index,
           max(m.block_hash) AS block_hash
      FROM (SELECT t.network, t.tx_hash, CASE t.status WHEN 'confirmed' THEN true WHEN 'failed' THEN false END AS succeeded,
                   t.transaction_index, t.block_hash
              FROM pg_temp.arx_import_hashes AS h
              JOIN arx.transactions AS t ON t.network = h.network AND t.tx_hash = h.tx_hash
             UNION ALL
            SELECT l.network, l.tx_hash, l.succeeded, l.transaction_index, l.block_hash
              FROM pg_temp.arx_import_hashes AS h
              JOIN arx.internal_transfers AS l ON l.network = h.network AND l.tx_hash = h.tx_hash) AS m
     GROUP BY m.network, m.tx_hash
)
UPDATE arx.internal_transfers AS l
   SET succeeded = coalesce(f.succeeded, l.succeeded),
       transaction_index = coalesce(l.transaction_index, f.transaction_index),
       block_hash = coalesce(l.block_hash, f.block_hash)
  FROM facts AS f
 WHERE l.network = f.network AND l.tx_hash = f.tx_hash
   AND (l.succeeded IS DISTINCT FROM f.succeeded AND f.succeeded IS NOT NULL
        OR l.transaction_index IS NULL AND f.transaction_index IS NOT NULL
        OR l.block_hash IS NULL AND f.block_hash IS NOT NULL)";

/// Returns the statements that load lists of movements.
pub(super) fn edges(whole: bool) -> String {
    let rule = if whole { EDGES_WHOLE } else { EDGES_COMPLETE };
    [EDGES_BLOCKS, HASHES, &occurrences(MOVEMENT, "true"), EDGES_KNOWN, rule, EDGES_INSERT].join(";")
}

/// Passes over the calls that are transactions themselves, if those are stored; otherwise their
/// value would be lost.
pub(super) const LEGS_ROOTS: &str = "
UPDATE pg_temp.arx_import_rows AS r SET outcome = 'nothing'
  FROM pg_temp.arx_import_found AS f
 WHERE r.outcome IS NULL AND r.path = '' AND r.kind IN ('call', 'create') AND r.failed IS DISTINCT FROM 1
   AND f.tx_hash = r.tx_hash;
UPDATE pg_temp.arx_import_rows AS r
   SET outcome = 'rejected',
       reason = format('transaction not imported|transaction %s is not in arx.transactions, which has the value of this call: import transactions first', r.tx_hash)
 WHERE r.outcome IS NULL AND r.path = '' AND r.kind IN ('call', 'create') AND r.failed IS DISTINCT FROM 1";

/// Rejects rows that belong to another block than their stored transactions.
const OTHER_BLOCK: &str = "
UPDATE pg_temp.arx_import_rows AS r
   SET outcome = 'rejected',
       reason = format('another block|the line of %s is of block %s, and the transaction is stored in block %s',
                       r.tx_hash, r.block_number, f.block_number)
  FROM pg_temp.arx_import_found AS f
 WHERE r.outcome IS NULL AND f.tx_hash = r.tx_hash
   AND (r.block_number <> f.block_number OR r.\"timestamp\" <> f.\"timestamp\")";

/// Finds failed calls (`failed` 1) and those within them (2), also in earlier chunks, and passes
/// over them and over calls without value.
const LEGS_FAILURES: &str = "
INSERT INTO pg_temp.arx_import_failed
SELECT DISTINCT r.tx_hash, r.path FROM pg_temp.arx_import_rows AS r
 WHERE r.outcome IS NULL AND r.failed = 1 AND r.path IS NOT NULL
    ON CONFLICT DO NOTHING;
UPDATE pg_temp.arx_import_rows SET outcome = 'nothing' WHERE outcome IS NULL AND failed = 1;
UPDATE pg_temp.arx_import_rows AS r SET outcome = 'nothing', failed = 2
 WHERE r.row_id IN (SELECT i.row_id
                      FROM pg_temp.arx_import_rows AS i
                     CROSS JOIN LATERAL (SELECT string_to_array(i.path, ',') AS parts) AS a
                     CROSS JOIN LATERAL (SELECT array_to_string(a.parts[:n.depth], ',') AS path
                                           FROM generate_series(0, cardinality(a.parts) - 1) AS n (depth)) AS p
                      JOIN pg_temp.arx_import_failed AS f ON f.tx_hash = i.tx_hash AND f.path = p.path
                     WHERE i.outcome IS NULL
                       AND EXISTS (SELECT FROM pg_temp.arx_import_failed AS t WHERE t.tx_hash = i.tx_hash));
UPDATE pg_temp.arx_import_rows SET outcome = 'nothing' WHERE outcome IS NULL AND value = 0";

/// Gives legs the time and place of their transactions.
const LEGS_DATES: &str = "
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

/// Returns the statements that find failed calls and date legs, after [`LEGS_ROOTS`].
pub(super) fn legs_dates() -> String {
    [LEGS_FAILURES, OTHER_BLOCK, LEGS_DATES].join(";")
}

/// Removes stored legs of another block, lists the others, and carries failures over to them: a
/// failed call takes the calls within it along, and a failed root is a failed transaction. The path
/// of a reward says nothing.
const LEGS_STORED: &str = "
DELETE FROM arx.internal_transfers AS l USING pg_temp.arx_import_found AS f, pg_temp.arx_import_hashes AS h
 WHERE h.tx_hash = f.tx_hash AND l.network = h.network AND l.tx_hash = h.tx_hash
   AND (l.\"timestamp\" <> f.\"timestamp\" OR l.block_number <> f.block_number);
INSERT INTO pg_temp.arx_import_stored (network, tx_hash, \"timestamp\", position, from_address, to_address, value, kind, trace_path,
                                       is_ordered, succeeded, block_number, transaction_index, block_hash)
SELECT l.network, l.tx_hash, l.\"timestamp\", l.position, l.from_address, l.to_address, l.value, l.kind, l.trace_path,
       l.is_ordered, l.succeeded, l.block_number, l.transaction_index, l.block_hash
  FROM pg_temp.arx_import_hashes AS h
  JOIN arx.internal_transfers AS l ON l.network = h.network AND l.tx_hash = h.tx_hash;
ANALYZE pg_temp.arx_import_stored;
UPDATE pg_temp.arx_import_rows SET path = NULL WHERE kind IN ('reward', 'genesis');
UPDATE pg_temp.arx_import_rows AS r
   SET outcome = 'rejected',
       reason = format('contradicts the stored row|the call %s of transaction %s is stored as successful', r.path, r.tx_hash)
  FROM pg_temp.arx_import_stored AS s
 WHERE r.outcome = 'nothing' AND r.failed = 1 AND s.tx_hash = r.tx_hash AND s.trace_path = r.path AND s.succeeded;
WITH failures AS (
    SELECT r.row_id, r.tx_hash, r.path
      FROM pg_temp.arx_import_rows AS r
      LEFT JOIN pg_temp.arx_import_found AS f ON f.tx_hash = r.tx_hash
     WHERE r.outcome = 'nothing' AND r.failed IN (1, 2) AND r.path IS NOT NULL
       AND (r.block_number <> f.block_number) IS NOT TRUE
), failed AS (
    SELECT s.stored_id, f.row_id
      FROM pg_temp.arx_import_stored AS s
     CROSS JOIN LATERAL (SELECT string_to_array(s.trace_path, ',') AS parts) AS a
     CROSS JOIN LATERAL (SELECT array_to_string(a.parts[:n.depth], ',') AS path
                           FROM generate_series(0, cardinality(a.parts)) AS n (depth)) AS p
      JOIN failures AS f ON f.tx_hash = s.tx_hash AND f.path = p.path
     WHERE s.succeeded IS DISTINCT FROM false
), roots AS (
    UPDATE arx.transactions AS t SET status = 'failed'
      FROM failures AS f, pg_temp.arx_import_hashes AS h
     WHERE f.path = '' AND h.tx_hash = f.tx_hash AND t.network = h.network AND t.tx_hash = h.tx_hash
       AND t.status IN ('unknown', 'pending')
    RETURNING f.row_id
), legs AS (
    UPDATE pg_temp.arx_import_stored AS s SET succeeded = false, is_changed = true
     WHERE s.stored_id IN (SELECT d.stored_id FROM failed AS d)
)
UPDATE pg_temp.arx_import_rows AS r SET outcome = 'updated'
 WHERE r.row_id IN (SELECT d.row_id FROM failed AS d UNION ALL SELECT o.row_id FROM roots AS o);
UPDATE pg_temp.arx_import_found AS f SET status = 'failed'
  FROM pg_temp.arx_import_rows AS r
 WHERE r.tx_hash = f.tx_hash AND r.outcome = 'updated' AND r.failed = 1 AND r.path = '' AND f.status IN ('unknown', 'pending')";

/// Rejects transactions of which two calls have one path, and calls that contradict the stored
/// ones; marks repeated lines.
const LEGS_PATHS: &str = "
UPDATE pg_temp.arx_import_rows AS r
   SET outcome = 'rejected',
       reason = format('lines of one transaction contradict each other|lines of transaction %s differ at trace address %s',
                       r.tx_hash, coalesce(nullif(c.path, ''), '(none)'))
  FROM (SELECT d.tx_hash, min(d.path) AS path
          FROM (SELECT i.tx_hash, i.path
                  FROM pg_temp.arx_import_rows AS i WHERE i.outcome IS NULL AND i.path IS NOT NULL
                 GROUP BY i.tx_hash, i.path
                HAVING count(DISTINCT ROW(i.from_address, i.to_address, i.value)::text) > 1) AS d
         GROUP BY d.tx_hash) AS c
 WHERE r.outcome IS NULL AND c.tx_hash = r.tx_hash;
UPDATE pg_temp.arx_import_rows AS r
   SET outcome = 'rejected',
       reason = format('contradicts the stored row|the call %s of transaction %s is stored as %s from %s to %s',
                       c.trace_path, r.tx_hash, c.value, coalesce(c.from_address, '-'), coalesce(c.to_address, '-'))
  FROM (SELECT DISTINCT ON (s.tx_hash) s.*
          FROM pg_temp.arx_import_rows AS i
          JOIN pg_temp.arx_import_stored AS s ON s.tx_hash = i.tx_hash AND s.trace_path = i.path
         WHERE i.outcome IS NULL
           AND (s.value <> i.value OR s.from_address IS DISTINCT FROM i.from_address
                OR s.to_address IS DISTINCT FROM i.to_address)
         ORDER BY s.tx_hash, s.position) AS c
 WHERE r.outcome IS NULL AND c.tx_hash = r.tx_hash;
UPDATE pg_temp.arx_import_rows AS r SET outcome = 'unchanged'
  FROM (SELECT i.tx_hash, i.path, min(i.row_id) AS first
          FROM pg_temp.arx_import_rows AS i WHERE i.outcome IS NULL AND i.path IS NOT NULL
         GROUP BY i.tx_hash, i.path HAVING count(*) > 1) AS d
 WHERE r.outcome IS NULL AND d.tx_hash = r.tx_hash AND d.path = r.path AND d.first <> r.row_id";

/// Matches lines with stored legs: by path; where one side does not know it, by ends and value.
/// Without the numbers of matches, the plan would compare each stored leg with each transaction.
const LEGS_MATCH: &str = "
UPDATE pg_temp.arx_import_stored AS s SET row_id = r.row_id
  FROM pg_temp.arx_import_rows AS r
 WHERE r.outcome IS NULL AND r.tx_hash = s.tx_hash AND r.path = s.trace_path;
UPDATE pg_temp.arx_import_rows AS r SET is_known = true
  FROM pg_temp.arx_import_stored AS s WHERE s.row_id = r.row_id;
UPDATE pg_temp.arx_import_stored AS s SET row_id = m.row_id
  FROM (SELECT k.stored_id, n.row_id
          FROM (SELECT r.row_id, r.tx_hash, coalesce(r.from_address, '') AS sender, coalesce(r.to_address, '') AS receiver, r.value,
                       row_number() OVER (PARTITION BY r.tx_hash, r.from_address, r.to_address, r.value
                                              ORDER BY string_to_array(r.path, ',')::integer[]) AS occurrence
                  FROM pg_temp.arx_import_rows AS r WHERE r.outcome IS NULL AND NOT r.is_known AND r.path IS NOT NULL) AS n
          JOIN (SELECT i.stored_id, i.tx_hash, coalesce(i.from_address, '') AS sender, coalesce(i.to_address, '') AS receiver, i.value,
                       row_number() OVER (PARTITION BY i.tx_hash, i.from_address, i.to_address, i.value ORDER BY i.position)
                           AS occurrence
                  FROM pg_temp.arx_import_stored AS i WHERE i.row_id IS NULL AND i.trace_path IS NULL) AS k
            ON k.tx_hash = n.tx_hash AND k.sender = n.sender AND k.receiver = n.receiver AND k.value = n.value
           AND k.occurrence = n.occurrence) AS m
 WHERE m.stored_id = s.stored_id;
UPDATE pg_temp.arx_import_stored AS s SET row_id = m.row_id
  FROM (SELECT k.stored_id, r.row_id
          FROM pg_temp.arx_import_rows AS r
          JOIN (SELECT i.stored_id, i.tx_hash, coalesce(i.from_address, '') AS sender, coalesce(i.to_address, '') AS receiver, i.value,
                       row_number() OVER (PARTITION BY i.tx_hash, i.from_address, i.to_address, i.value ORDER BY i.position)
                           AS occurrence
                  FROM pg_temp.arx_import_stored AS i WHERE i.row_id IS NULL) AS k
            ON k.tx_hash = r.tx_hash AND k.sender = coalesce(r.from_address, '') AND k.receiver = coalesce(r.to_address, '')
           AND k.value = r.value AND k.occurrence = r.occurrence
         WHERE r.outcome IS NULL AND r.path IS NULL) AS m
 WHERE m.stored_id = s.stored_id;
UPDATE pg_temp.arx_import_rows AS r SET is_known = true
  FROM pg_temp.arx_import_stored AS s WHERE s.row_id = r.row_id AND NOT r.is_known;
ANALYZE pg_temp.arx_import_stored;
WITH learned AS (
    SELECT s.stored_id, r.row_id, r.path, r.block_number, r.transaction_index, f.block_hash,
           CASE WHEN f.status = 'failed' THEN false WHEN s.succeeded IS NOT NULL THEN s.succeeded
                WHEN r.failed = 0 OR f.status = 'confirmed' THEN true END AS succeeded
      FROM pg_temp.arx_import_stored AS s
      JOIN pg_temp.arx_import_rows AS r ON r.row_id = s.row_id
      LEFT JOIN pg_temp.arx_import_found AS f ON f.tx_hash = s.tx_hash
)
UPDATE pg_temp.arx_import_stored AS s
   SET trace_path = coalesce(s.trace_path, n.path), succeeded = n.succeeded, is_changed = true,
       block_number = coalesce(s.block_number, n.block_number),
       transaction_index = coalesce(s.transaction_index, n.transaction_index),
       block_hash = coalesce(s.block_hash, n.block_hash)
  FROM learned AS n
 WHERE n.stored_id = s.stored_id
   AND (s.trace_path IS NULL AND n.path IS NOT NULL OR s.succeeded IS DISTINCT FROM n.succeeded
        OR s.block_number IS NULL AND n.block_number IS NOT NULL
        OR s.transaction_index IS NULL AND n.transaction_index IS NOT NULL
        OR s.block_hash IS NULL AND n.block_hash IS NOT NULL)";

/// Places the legs of transactions that have new ones, or of which a path is new: in the order of
/// paths, then those whose order is unknown. Stored legs keep all that the import does not know.
const LEGS_APPLY: &str = "
WITH touched AS (
    SELECT r.tx_hash FROM pg_temp.arx_import_rows AS r WHERE r.outcome IS NULL AND NOT r.is_known
     UNION
    SELECT s.tx_hash FROM pg_temp.arx_import_stored AS s WHERE s.is_changed AND s.trace_path IS NOT NULL
), legs AS (
    SELECT s.tx_hash, s.stored_id, s.row_id, string_to_array(s.trace_path, ',')::integer[] AS path,
           s.kind IN ('reward', 'genesis') AS is_minted, s.to_address, s.value, s.position, s.is_ordered
      FROM pg_temp.arx_import_stored AS s
     UNION ALL
    SELECT r.tx_hash, NULL, r.row_id, string_to_array(r.path, ',')::integer[], r.kind IN ('reward', 'genesis'), r.to_address,
           r.value, NULL, false
      FROM pg_temp.arx_import_rows AS r WHERE r.outcome IS NULL AND NOT r.is_known
)
INSERT INTO pg_temp.arx_import_places
SELECT l.stored_id, l.row_id,
       row_number() OVER (PARTITION BY l.tx_hash
                              ORDER BY l.path NULLS LAST, CASE WHEN l.is_minted THEN l.to_address END,
                                       CASE WHEN l.is_minted THEN l.value END, l.position NULLS LAST, l.row_id) - 1,
       l.path IS NOT NULL OR l.is_minted
           OR l.is_ordered AND NOT bool_or(l.path IS NOT NULL) OVER (PARTITION BY l.tx_hash)
  FROM legs AS l WHERE l.tx_hash IN (SELECT t.tx_hash FROM touched AS t);
INSERT INTO pg_temp.arx_import_places
SELECT s.stored_id, s.row_id, s.position, s.is_ordered
  FROM pg_temp.arx_import_stored AS s
 WHERE s.is_changed AND NOT EXISTS (SELECT FROM pg_temp.arx_import_places AS p WHERE p.stored_id = s.stored_id);
ANALYZE pg_temp.arx_import_places;
UPDATE arx.internal_transfers AS l SET position = l.position + 1000000000
  FROM pg_temp.arx_import_stored AS s JOIN pg_temp.arx_import_places AS p ON p.stored_id = s.stored_id
 WHERE p.position <> s.position AND l.network = s.network AND l.tx_hash = s.tx_hash AND l.position = s.position
   AND l.\"timestamp\" = s.\"timestamp\";
UPDATE arx.internal_transfers AS l
   SET position = p.position, is_ordered = p.is_ordered, trace_path = s.trace_path, succeeded = s.succeeded,
       block_number = s.block_number, transaction_index = s.transaction_index, block_hash = s.block_hash
  FROM pg_temp.arx_import_stored AS s JOIN pg_temp.arx_import_places AS p ON p.stored_id = s.stored_id
 WHERE (p.position <> s.position OR p.is_ordered <> s.is_ordered OR s.is_changed)
   AND l.network = s.network AND l.tx_hash = s.tx_hash AND l.\"timestamp\" = s.\"timestamp\"
   AND l.position = s.position + CASE WHEN p.position <> s.position THEN 1000000000 ELSE 0 END;
INSERT INTO arx.internal_transfers (network, tx_hash, position, is_ordered, block_number, transaction_index, \"timestamp\",
                                    from_address, to_address, value, kind, succeeded, trace_path, block_hash)
SELECT r.network, r.tx_hash, p.position, p.is_ordered, r.block_number, r.transaction_index, r.\"timestamp\", r.from_address,
       r.to_address, r.value, r.kind,
       CASE WHEN f.status = 'failed' THEN false WHEN r.failed = 0 OR f.status = 'confirmed' THEN true END,
       r.path, coalesce(f.block_hash, b.block_hash)
  FROM pg_temp.arx_import_rows AS r
  JOIN pg_temp.arx_import_places AS p ON p.row_id = r.row_id AND p.stored_id IS NULL
  LEFT JOIN pg_temp.arx_import_found AS f ON f.tx_hash = r.tx_hash
  LEFT JOIN (SELECT i.network, i.block_number, min(t.block_hash) AS block_hash
               FROM (SELECT DISTINCT n.network, n.block_number FROM pg_temp.arx_import_rows AS n
                      WHERE n.outcome IS NULL AND n.kind = 'reward') AS i
               JOIN arx.transactions AS t ON t.network = i.network AND t.block_number = i.block_number
              GROUP BY i.network, i.block_number HAVING count(DISTINCT t.block_hash) = 1) AS b
    ON r.kind = 'reward' AND b.network = r.network AND b.block_number = r.block_number;
UPDATE pg_temp.arx_import_rows AS r
   SET outcome = CASE WHEN NOT r.is_known THEN 'imported'
                      WHEN r.row_id IN (SELECT s.row_id FROM pg_temp.arx_import_stored AS s
                                         WHERE s.is_changed AND s.row_id IS NOT NULL) THEN 'updated' ELSE 'unchanged' END
 WHERE r.outcome IS NULL";

/// Returns the statements that load legs, after [`HASHES`], [`FOUND`] and [`legs_dates`].
pub(super) fn legs() -> String {
    [LEGS_STORED, LEGS_PATHS, &occurrences(MOVEMENT, "i.path IS NULL"), LEGS_MATCH, LEGS_APPLY].join(";")
}

/// Gives token transfers the time and block of their transactions, and keeps the last block of
/// transactions that the chunk has in several.
const TRANSFERS_DATES: &str = "
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

/// Returns the statements that date token transfers, after [`FOUND`].
pub(super) fn transfers_dates() -> String {
    [OTHER_BLOCK, TRANSFERS_DATES].join(";")
}

/// Returns whether rows of the chunk lack the log index, and whether rows have it.
pub(super) const LOG_INDEXES: &str = "
SELECT coalesce(bool_or(log_index IS NULL), false), coalesce(bool_or(log_index IS NOT NULL), false)
  FROM pg_temp.arx_import_rows";

/// Rejects the transfers of transactions of which some have a log index and some do not, in the
/// chunk and in the rows that the transactions `$1` have written. Transfers that lack it follow
/// each other in the order of their lines; their place among others is unknown. Returns the hashes,
/// each with its first row, counted from 0.
pub(super) const REJECT_MIXED: &str = "
WITH mixed AS MATERIALIZED (
    SELECT h.tx_hash, h.first
      FROM (SELECT i.network, i.tx_hash, min(i.row_id) AS first, bool_or(i.log_index IS NULL) AS some_lack,
                   bool_or(i.log_index IS NOT NULL) AS some_have
              FROM pg_temp.arx_import_rows AS i WHERE i.outcome IS NULL GROUP BY i.network, i.tx_hash) AS h
     WHERE h.some_lack AND h.some_have
        OR EXISTS (SELECT FROM arx.token_transfers AS t
                    WHERE t.network = h.network AND t.tx_hash = h.tx_hash AND t.ingest_xid = ANY ($1::text[]::xid8[])
                      AND (t.log_index >= 1000000000) = h.some_have)
), rejected AS (
    UPDATE pg_temp.arx_import_rows AS r
       SET outcome = 'rejected',
           reason = format('some transfers of a transaction lack log_index|some transfers of transaction %s have a log_index and some do not: the file must have it for all of them, or for none', r.tx_hash)
      FROM mixed AS m WHERE r.outcome IS NULL AND r.tx_hash = m.tx_hash
)
SELECT m.tx_hash, m.first - (SELECT min(f.row_id) FROM pg_temp.arx_import_rows AS f) FROM mixed AS m";

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

/// Compares transfers that have a log index with the stored ones.
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
  FROM compared AS c WHERE c.row_id = r.row_id";

/// Numbers equal transfers with a log index, which are all different.
const TRANSFERS_OCCURRENCES: &str = "
UPDATE pg_temp.arx_import_rows AS r
   SET occurrence = o.occurrence
  FROM (SELECT i.row_id,
               row_number() OVER (PARTITION BY i.tx_hash, i.token_address, i.from_address, i.to_address, i.amount, i.token_id
                                      ORDER BY i.log_index, i.row_id) AS occurrence
          FROM pg_temp.arx_import_rows AS i WHERE i.outcome IS NULL AND i.log_index IS NOT NULL) AS o
 WHERE o.row_id = r.row_id";

/// Inserts transfers that are not stored; those of failed transactions move nothing, and a trigger
/// keeps them out of the table. Transfers without a log index are numbered from
/// 1,000,000,000, which no block reaches; a file that knows the index replaces them.
const TRANSFERS_INSERT: &str = "
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
UPDATE pg_temp.arx_import_rows AS r SET outcome = 'nothing'
  FROM pg_temp.arx_import_found AS f
 WHERE r.outcome IS NULL AND f.tx_hash = r.tx_hash AND f.status = 'failed' AND f.\"timestamp\" = r.\"timestamp\";
UPDATE pg_temp.arx_import_rows
   SET outcome = CASE WHEN is_known THEN 'updated' WHEN is_moved THEN 'moved' ELSE 'imported' END
 WHERE outcome IS NULL";

/// Finds out whether stored transfers of contracts have ids, NULL where none is stored: `FILTER`
/// chooses the rows of the chunk whose contracts are asked for.
const STORED_IDS: &str = "
    SELECT d.network, d.token_address,
           CASE WHEN EXISTS (SELECT FROM arx.token_transfers AS t
                              WHERE t.token_address = d.token_address AND t.network = d.network
                                AND t.token_id IS NOT NULL) THEN true
                WHEN EXISTS (SELECT FROM arx.token_transfers AS t
                              WHERE t.token_address = d.token_address AND t.network = d.network) THEN false END AS has_ids
      FROM (SELECT DISTINCT i.network, i.token_address
              FROM pg_temp.arx_import_rows AS i WHERE i.outcome IS NULL AND FILTER) AS d";

/// Rejects values of contracts whose stored transfers have ids: they may be ids as well.
fn transfers_doubts() -> String {
    let tokens = STORED_IDS.replace("FILTER", "i.token_id IS NULL");
    format!(
        "WITH tokens AS MATERIALIZED ({tokens}) \
         UPDATE pg_temp.arx_import_rows AS r \
            SET outcome = 'rejected', \
                reason = format('the value may be a token id|stored transfers of %s have token ids: state by --erc721 or \
                                 --erc20 whether the values of this file are ids or amounts', r.token_address) \
           FROM tokens AS k \
          WHERE k.has_ids AND r.outcome IS NULL AND r.token_id IS NULL AND k.network = r.network \
            AND k.token_address = r.token_address"
    )
}

/// Returns the query for the number of new transfers with ids whose contracts have stored transfers
/// without.
pub(super) fn late_ids() -> String {
    let tokens = STORED_IDS.replace("FILTER", "i.token_id IS NOT NULL");
    format!(
        "WITH tokens AS MATERIALIZED ({tokens}) \
         SELECT count(*) FROM pg_temp.arx_import_rows AS r \
           JOIN tokens AS k ON k.network = r.network AND k.token_address = r.token_address \
          WHERE NOT k.has_ids AND r.outcome IS NULL AND r.token_id IS NOT NULL"
    )
}

/// Returns the statements that compare token transfers with the stored ones, after [`HASHES`],
/// [`FOUND`] and [`transfers_dates`]. Unless the user has stated what values are, they are compared
/// with the stored transfers of their contracts.
pub(super) fn transfers_compare(is_stated: bool) -> String {
    let doubts = if is_stated { String::new() } else { transfers_doubts() };
    [TRANSFERS_APPLY, TRANSFERS_COMPARE, &doubts].join(";")
}

/// Returns the statements that insert new token transfers, after [`transfers_compare`].
pub(super) fn transfers_insert() -> String {
    let content = "i.token_address, i.from_address, i.to_address, i.amount, i.token_id";
    let unplaced = occurrences(content, "i.log_index IS NULL");
    [TRANSFERS_OCCURRENCES, &unplaced, TRANSFERS_INSERT].join(";")
}
