//! The tables of an export: their columns, and the queries that read them. The names of columns are
//! those of ethereum-etl, by which `arx-sidecar import` reads them.

use arx_pgwire::snapshot::PgSnapshot;
use chrono::DateTime;
use serde::{Deserialize, Serialize};

use super::request::{Filter, Format, Range};
use crate::error::SidecarError;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Table {
    /// Wallets with their score and their labels, as they are in the snapshot.
    Wallets,
    Labels,
    Transactions,
    InternalTransfers,
    TokenTransfers,
    /// Nodes and edges in one file.
    Graph,
}

/// Tables of facts, whose rows have a time and a stamp.
pub(super) const FACTS: [Table; 3] = [Table::Transactions, Table::InternalTransfers, Table::TokenTransfers];

/// The type of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    /// A text that hardly ever repeats, for which a dictionary is no use.
    Name,
    Integer,
    Time,
    /// `numeric(38,18)`.
    Coins,
    /// `numeric(20,2)`.
    Dollars,
    Boolean,
    Json,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Column {
    pub(super) name: &'static str,
    expression: &'static str,
    pub(super) kind: Kind,
    pub(super) is_required: bool,
}

const fn required(name: &'static str, expression: &'static str, kind: Kind) -> Column {
    Column { name, expression, kind, is_required: true }
}

const fn optional(name: &'static str, expression: &'static str, kind: Kind) -> Column {
    Column { name, expression, kind, is_required: false }
}

const WALLETS: &[Column] = &[
    required("network", "t.network", Kind::Text),
    required("address", "t.address", Kind::Name),
    optional("first_seen", "t.first_seen", Kind::Time),
    optional("last_activity", "t.last_activity", Kind::Time),
    optional("transaction_count", "t.transaction_count", Kind::Integer),
    optional("total_volume", "trim_scale(t.total_volume)::text", Kind::Text),
    optional("total_volume_usd", "t.total_volume_usd", Kind::Dollars),
    optional("risk_score", "t.risk_score::text", Kind::Text),
    optional("risk_state", "t.risk_state", Kind::Text),
    optional("category", "t.category", Kind::Text),
    optional("label", "t.label", Kind::Text),
    optional("labels", "t.labels", Kind::Json),
    optional("analytics_profile", "t.analytics_profile", Kind::Json),
];

const LABELS: &[Column] = &[
    required("network", "t.network", Kind::Text),
    required("address", "t.address", Kind::Name),
    required("category", "t.category", Kind::Text),
    required("severity", "t.severity", Kind::Text),
    required("label", "t.label", Kind::Text),
    required("source", "t.source", Kind::Text),
    required("confidence", "t.confidence::text", Kind::Text),
    optional("valid_from", "nullif(t.valid_from, '-infinity')", Kind::Time),
    optional("valid_to", "nullif(t.valid_to, 'infinity')", Kind::Time),
];

const TRANSACTIONS: &[Column] = &[
    required("network", "t.network", Kind::Text),
    required("hash", "t.tx_hash", Kind::Name),
    required("block_number", "t.block_number", Kind::Integer),
    optional("transaction_index", "t.transaction_index", Kind::Integer),
    required("block_timestamp", "t.\"timestamp\"", Kind::Time),
    required("from_address", "t.from_address", Kind::Text),
    optional("to_address", "t.to_address", Kind::Text),
    required("value", "t.value", Kind::Coins),
    required("unit", "'coin'::text", Kind::Text),
    optional("value_usd", "t.value_usd", Kind::Dollars),
    optional("receipt_gas_used", "t.gas_used", Kind::Integer),
    optional("gas_price", "t.gas_price", Kind::Integer),
    optional("receipt_status", "nullif(t.status, 'unknown')", Kind::Text),
    optional("receipt_contract_address", "t.metadata ->> 'contract_address'", Kind::Text),
    optional("block_hash", "t.block_hash", Kind::Text),
    optional("metadata", "t.metadata", Kind::Json),
];

const INTERNAL_TRANSFERS: &[Column] = &[
    required("network", "t.network", Kind::Text),
    required("transaction_hash", "t.tx_hash", Kind::Name),
    required("position", "t.position", Kind::Integer),
    required("is_ordered", "t.is_ordered", Kind::Boolean),
    optional("block_number", "t.block_number", Kind::Integer),
    optional("transaction_index", "t.transaction_index", Kind::Integer),
    required("block_timestamp", "t.\"timestamp\"", Kind::Time),
    optional("from_address", "t.from_address", Kind::Text),
    optional("to_address", "t.to_address", Kind::Text),
    required("value", "t.value", Kind::Coins),
    required("unit", "'coin'::text", Kind::Text),
    optional("value_usd", "t.value_usd", Kind::Dollars),
    required("type", "t.kind", Kind::Text),
    optional("success", "t.succeeded", Kind::Boolean),
    optional("trace_id", "t.trace_path", Kind::Text),
    optional("block_hash", "t.block_hash", Kind::Text),
];

const TOKEN_TRANSFERS: &[Column] = &[
    required("network", "t.network", Kind::Text),
    required("transaction_hash", "t.tx_hash", Kind::Name),
    required("log_index", "t.log_index", Kind::Integer),
    required("block_number", "t.block_number", Kind::Integer),
    required("block_timestamp", "t.\"timestamp\"", Kind::Time),
    required("token_address", "t.token_address", Kind::Text),
    required("from_address", "t.from_address", Kind::Text),
    required("to_address", "t.to_address", Kind::Text),
    // Beyond the 38 digits of a decimal that readers of Parquet know.
    required("value", "t.amount::text", Kind::Text),
    optional("token_id", "t.token_id::text", Kind::Text),
    optional("value_usd", "t.value_usd", Kind::Dollars),
];

impl Table {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Wallets => "wallets",
            Self::Labels => "labels",
            Self::Transactions => "transactions",
            Self::InternalTransfers => "internal_transfers",
            Self::TokenTransfers => "token_transfers",
            Self::Graph => "graph",
        }
    }

    pub(super) const fn columns(self) -> &'static [Column] {
        match self {
            Self::Wallets => WALLETS,
            Self::Labels => LABELS,
            Self::Transactions => TRANSACTIONS,
            Self::InternalTransfers => INTERNAL_TRANSFERS,
            Self::TokenTransfers => TOKEN_TRANSFERS,
            Self::Graph => &[],
        }
    }

    /// Returns whether rows have a stamp by which an earlier snapshot can be read again.
    pub(super) fn is_of_facts(self) -> bool {
        FACTS.contains(&self)
    }

    /// Type of a relationship, in Neo4j's convention.
    pub(super) const fn relationship(self) -> &'static str {
        match self {
            Self::InternalTransfers => "INTERNAL_TRANSFER",
            Self::TokenTransfers => "TOKEN_TRANSFER",
            _ => "TRANSACTION",
        }
    }
}

/// The snapshot of a part.
#[derive(Debug, Clone, Copy)]
pub(super) enum Snapshot<'a> {
    /// The snapshot of the session.
    Own,
    /// An earlier snapshot, which the rows of the session are reduced to.
    Earlier(&'a str),
}

/// Writes queries. Values of the user are in settings of the session: COPY takes no parameters.
pub(super) struct Queries<'a> {
    pub(super) format: Format,
    pub(super) filter: &'a Filter,
    pub(super) snapshot: Snapshot<'a>,
}

/// Settings of a session that hold arrays of texts.
pub(super) const NETWORKS_SETTING: &str = "arx_export.networks";
pub(super) const WALLETS_SETTING: &str = "arx_export.wallets";

/// Wallets with their profile, their most important label and all of their labels.
///
/// Hundreds of thousands of addresses have one label, few have several. So the labels of an address
/// are put together in the order of an index, as the text that `jsonb` has, and the most important
/// one is only looked for where there are several.
pub(crate) const WALLET_ROWS: &str = r#"
SELECT coalesce(p.network_type, l.network) AS network, coalesce(p.wallet_address, l.address) AS address, p.first_seen,
       p.last_activity, p.transaction_count, p.total_volume, p.total_volume_usd,
       CASE WHEN p.risk_state <> 'unknown' THEN p.risk_score END AS risk_score, p.risk_state, l.category, l.label,
       l.labels::json AS labels, p.analytics_profile
  FROM arx.wallet_profiles AS p
  FULL JOIN (SELECT a.network, a.address, a.weightiest[1] AS category, a.weightiest[2] AS label, a.labels
               FROM (SELECT g.network, g.address, '[' || g.labels || ']' AS labels,
                            CASE WHEN g.count > 1
                                 THEN (SELECT ARRAY[w.category, w.label] FROM arx.current_labels AS w
                                        WHERE w.network = g.network AND w.address = g.address)
                                 WHEN c.category IS NOT NULL THEN ARRAY[g.category, g.label] END AS weightiest
                       FROM (SELECT v.network, v.address, count(*) AS count, min(v.category) AS category,
                                    min(v.label) AS label,
                                    string_agg('{"label": ' || to_json(v.label) || ', "source": ' || to_json(v.source)
                                               || ', "category": ' || to_json(v.category)
                                               || ', "severity": "' || v.severity
                                               || '", "confidence": "' || v.confidence || '"}', ', ') AS labels
                               FROM (SELECT s.* FROM arx.address_labels AS s
                                      WHERE s.valid_from <= now() AND s.valid_to > now()
                                      ORDER BY s.network, s.address, s.category, s.source, s.label, s.label_id) AS v
                              GROUP BY v.network, v.address) AS g
                       LEFT JOIN arx.label_categories AS c ON c.category = g.category
                     OFFSET 0) AS a
              WHERE a.weightiest IS NOT NULL) AS l
    ON l.network = p.network_type AND l.address = p.wallet_address"#;

impl Queries<'_> {
    /// Returns the statements that read the rows of a part.
    ///
    /// # Errors
    /// [`SidecarError::Protocol`] for a malformed snapshot.
    pub(super) fn statements(&self, table: Table, range: Range) -> Result<Vec<String>, SidecarError> {
        let queries = match (self.format, table) {
            (Format::Graphml, _) => {
                let mut queries = vec![self.nodes(range)?];
                for table in FACTS {
                    queries.push(self.relationships(table, range)?);
                }
                queries
            }
            (Format::Neo4j, Table::Wallets) => vec![self.nodes(range)?],
            (Format::Neo4j, table) if table.is_of_facts() => vec![self.relationships(table, range)?],
            (Format::Jsonl, table) => {
                let rows = self.rows(table, range, json_text)?;
                vec![format!("SELECT row_to_json(r) FROM ({rows}) AS r")]
            }
            (Format::Neo4j | Format::Parquet, table) => vec![self.rows(table, range, binary)?],
        };
        let options = match self.format {
            Format::Parquet | Format::Graphml => "FORMAT binary",
            Format::Neo4j => "FORMAT csv",
            // No character of a JSON document is one of these, so that its text stays as it is.
            Format::Jsonl => r"FORMAT csv, DELIMITER E'\x01', QUOTE E'\x02'",
        };
        Ok(queries.into_iter().map(|query| format!("COPY ({query}) TO STDOUT ({options})")).collect())
    }

    fn rows(&self, table: Table, range: Range, show: fn(&Column) -> String) -> Result<String, SidecarError> {
        let columns: Vec<String> =
            table.columns().iter().map(|column| format!("{} AS {}", show(column), column.name)).collect();
        Ok(format!("SELECT {} FROM {}", columns.join(", "), self.source(table, range)?))
    }

    /// Returns the table with the condition of its rows.
    fn source(&self, table: Table, range: Range) -> Result<String, SidecarError> {
        let mut conditions = Vec::new();
        if !self.filter.networks.is_empty() {
            conditions.push(format!("t.network IN (SELECT unnest(current_setting('{NETWORKS_SETTING}')::text[]))"));
        }
        let in_wallets = |column: &str| {
            format!(
                "(t.{column} IN (SELECT unnest(current_setting('{WALLETS_SETTING}')::text[])) OR t.{column} IS NULL)"
            )
        };
        if table.is_of_facts() {
            let time = |micros: i64| DateTime::from_timestamp_micros(micros).unwrap_or_default();
            conditions.extend(range.from.map(|from| format!("t.\"timestamp\" >= timestamptz '{}'", shown(time(from)))));
            conditions
                .extend(range.until.map(|until| format!("t.\"timestamp\" < timestamptz '{}'", shown(time(until)))));
            if self.filter.wallet.is_some() {
                conditions.extend(["from_address", "to_address"].map(in_wallets));
            }
            if let Snapshot::Earlier(snapshot) = self.snapshot {
                let snapshot = snapshot_literal(snapshot)?;
                conditions.push(format!(
                    "(t.ingest_xid < pg_snapshot_xmin({snapshot}) OR pg_visible_in_snapshot(t.ingest_xid, {snapshot}))"
                ));
            }
        } else if self.filter.wallet.is_some() {
            conditions.push(in_wallets("address"));
        }
        let source = match table {
            Table::Wallets => format!("({WALLET_ROWS}) AS t"),
            Table::Labels => "arx.address_labels AS t".to_owned(),
            _ => format!("arx.{} AS t", table.name()),
        };
        let conditions = if conditions.is_empty() { "true".to_owned() } else { conditions.join(" AND ") };
        Ok(format!("{source} WHERE {conditions}"))
    }

    /// Returns the query for nodes: both ends of each exported transfer, and all exported wallets.
    /// The missing end of rewards and burns is a node without an address, one a network.
    fn nodes(&self, range: Range) -> Result<String, SidecarError> {
        let mut ends = Vec::new();
        for table in FACTS {
            let source = self.source(table, range)?;
            for end in ["from_address", "to_address"] {
                ends.push(format!("SELECT t.network, coalesce(t.{end}, '') AS address FROM {source}"));
            }
        }
        let wallets = self.source(Table::Wallets, range)?;
        let columns: Vec<String> = Table::Wallets.columns().iter().map(plain_text).collect();
        Ok(format!(
            "SELECT t.network || ':' || t.address, CASE t.address WHEN '' THEN 'Missing' ELSE 'Wallet' END, {} \
               FROM (SELECT coalesce(w.network, e.network) AS network, coalesce(w.address, e.address) AS address, \
                            w.first_seen, w.last_activity, w.transaction_count, w.total_volume, w.total_volume_usd, \
                            w.risk_score, w.risk_state, w.category, w.label, w.labels, w.analytics_profile \
                       FROM (SELECT * FROM {wallets}) AS w \
                       FULL JOIN ({}) AS e ON e.network = w.network AND e.address = w.address) AS t",
            columns.join(", "),
            ends.join(" UNION ")
        ))
    }

    fn relationships(&self, table: Table, range: Range) -> Result<String, SidecarError> {
        let columns: Vec<String> = table.columns().iter().map(plain_text).collect();
        Ok(format!(
            "SELECT t.network || ':' || coalesce(t.from_address, ''), t.network || ':' || coalesce(t.to_address, ''), \
                    '{}', {} FROM {}",
            table.relationship(),
            columns.join(", "),
            self.source(table, range)?
        ))
    }
}

/// Renders a snapshot as a literal.
///
/// # Errors
/// [`SidecarError::Protocol`] for a malformed snapshot.
pub(super) fn snapshot_literal(text: &str) -> Result<String, SidecarError> {
    let snapshot: PgSnapshot = text
        .parse()
        .map_err(|_| SidecarError::Protocol { detail: format!("the export has a malformed snapshot: {text:?}") })?;
    Ok(format!("'{snapshot}'::pg_snapshot"))
}

fn shown(time: DateTime<chrono::Utc>) -> String {
    time.format("%Y-%m-%d %H:%M:%S%.6f+00").to_string()
}

/// Returns the expression of a column as the encoder of Parquet decodes it.
fn binary(column: &Column) -> String {
    match column.kind {
        Kind::Integer => format!("({})::bigint", column.expression),
        Kind::Json => format!("({})::text", column.expression),
        _ => column.expression.to_owned(),
    }
}

/// Returns the expression of a column as a value of JSON: numbers that are no whole numbers are
/// texts, which no reader rounds.
fn json_text(column: &Column) -> String {
    match column.kind {
        Kind::Coins => format!("trim_scale({})::text", column.expression),
        Kind::Dollars => format!("({})::text", column.expression),
        _ => column.expression.to_owned(),
    }
}

/// Returns the expression of a column as a text.
fn plain_text(column: &Column) -> String {
    match column.kind {
        Kind::Coins => format!("trim_scale({})::text", column.expression),
        Kind::Time => {
            format!(r#"to_char({} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"#, column.expression)
        }
        _ => format!("({})::text", column.expression),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_the_user_are_in_no_statement() {
        let filter = Filter {
            networks: vec!["x'; DROP".into()],
            wallet: Some("y'; DROP".into()),
            depth: 1,
            from: None,
            until: None,
        };
        for format in [Format::Parquet, Format::Jsonl, Format::Neo4j, Format::Graphml] {
            let queries = Queries { format, filter: &filter, snapshot: Snapshot::Earlier("10:20:11") };
            for table in [Table::Wallets, Table::Labels, Table::Transactions] {
                let range = Range { from: Some(0), until: Some(1_500_000) };
                let text = queries.statements(table, range).unwrap().join("\n");
                assert!(!text.contains("DROP"), "{text}");
            }
        }
        let queries = Queries { format: Format::Parquet, filter: &filter, snapshot: Snapshot::Earlier("1'; DROP") };
        assert!(queries.statements(Table::Transactions, Range::default()).is_err());
    }

    #[test]
    fn a_part_is_limited_by_literals_which_choose_the_partitions() {
        let filter = Filter::default();
        let queries = Queries { format: Format::Parquet, filter: &filter, snapshot: Snapshot::Own };
        let range = Range { from: Some(0), until: Some(1_500_000) };
        let text = queries.statements(Table::Transactions, range).unwrap().join("\n");
        assert!(text.contains("t.\"timestamp\" >= timestamptz '1970-01-01 00:00:00.000000+00'"), "{text}");
        assert!(text.contains("t.\"timestamp\" < timestamptz '1970-01-01 00:00:01.500000+00'"), "{text}");
        let all = queries.statements(Table::Labels, range).unwrap().join("\n");
        assert!(all.contains("WHERE true"), "{all}");
    }
}
