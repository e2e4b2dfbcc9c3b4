//! Every function that `arx_reader` may call, and arguments for the functions of the extension,
//! which fit the rows of [`fill`].

use arx_stack::Database;

use crate::fixtures::TESTNET;

/// Functions that `arx_reader` may call, with name and type of each parameter that has no default.
const FUNCTIONS: &str = "
SELECT p.proname, string_agg(a.name || ':' || format_type(a.type, NULL), ',' ORDER BY a.position)
  FROM pg_proc AS p
  LEFT JOIN LATERAL unnest(p.proargnames[:p.pronargs], p.proargtypes::oid[]) WITH ORDINALITY AS a (name, type, position)
         ON a.position <= p.pronargs - p.pronargdefaults
 WHERE p.pronamespace = 'arx'::regnamespace AND p.prokind = 'f'
   AND has_function_privilege('arx_reader', p.oid, 'EXECUTE')
 GROUP BY p.oid, p.proname ORDER BY p.proname";

/// Arguments of the calls: parameter, type, expression. A function can have a line of its own.
const ARGUMENTS: &[(&str, &str, &str)] = &[
    ("action", "text", "'create'"),
    ("actions", "text[]", "'{}'"),
    ("address", "text", "'w1'"),
    ("addresses", "text[]", "'{w1,w2,w3}'"),
    ("alert_id", "bigint", "1"),
    ("alert_ids", "bigint[]", "'{}'"),
    ("alias", "text", "'f'"),
    ("amount", "numeric", "1"),
    ("amount_usd", "numeric", "1"),
    ("applied", "bigint", "0"),
    ("archive", "jsonb", "'{}'"),
    ("archive_id", "uuid", "gen_random_uuid()"),
    ("archived_rows", "bigint", "1"),
    ("asset", "text", "'native'"),
    ("assignee", "text", "'eve'"),
    ("batch", "integer", "10"),
    ("batch_size", "integer", "10"),
    ("before", "xid8", "'1'"),
    ("began", "timestamp with time zone", "now()"),
    ("beyond", "text", "''"),
    ("bounds", "text", "'FROM 1 TO 2'"),
    ("bucket", "interval", "'1 day'"),
    ("category", "text", "'scam'"),
    ("chain", "uuid", "gen_random_uuid()"),
    ("changes", "text", "'arx.transactions'"),
    ("check_risk_model.document", "jsonb", "arx.default_risk_model()"),
    ("checksum", "numeric", "0"),
    ("close_alert.alert_id", "bigint", "0"),
    ("columns", "text", "'tx_hash'"),
    ("command", "text", "'SELECT 1'"),
    ("condition", "jsonb", r#"'{"fact": "amount", "op": ">", "value": 1e9}'"#),
    ("confidence", "numeric", "1"),
    ("consumer", "text", "'risk_scores'"),
    ("content", "jsonb", "'{}'"),
    ("convert_table.relation", "regclass", "'arx.address_labels'"),
    ("count", "bigint", "1"),
    ("counterparties", "text[]", "'{w2,w3,w1}'"),
    ("counts", "bigint[]", "'{1}'"),
    ("created", "oid[]", "'{}'"),
    ("decision_id", "bigint", "1"),
    ("delivery_id", "bigint", "1"),
    ("description", "text", "'x'"),
    ("destination", "text", "'log'"),
    ("details", "jsonb[]", "'{}'"),
    ("document", "jsonb", "jsonb_set(arx.default_risk_model(), '{version}', to_jsonb('m' || random()))"),
    ("duty", "text", "'feed'"),
    ("earliest", "timestamp with time zone", "'2024-01-01'"),
    ("ending", "text", "'_x'"),
    ("ends", "timestamp with time zone[]", "'{2024-01-02}'"),
    ("entry", "bigint", "1"),
    ("entry", "jsonb", "'{}'"),
    ("epoch", "bigint", "1"),
    ("error", "text", "''"),
    ("expires_at", "timestamp with time zone", "now() + interval '1 day'"),
    ("explain_advice.query", "text", "'SELECT 1'"),
    ("expression", "text", "'DEFAULT'"),
    ("failed", "jsonb", "'{}'"),
    ("family", "text", "'opaque'"),
    ("fill", "text", "'zero'"),
    ("filters", "jsonb", "'{}'"),
    ("fingerprint", "text", "''"),
    ("from", "timestamp with time zone", "'2024-01-01'"),
    ("from_address", "text", "'w1'"),
    ("from_block", "bigint", "60"),
    ("function", "oid", "'arx.raise_graph_epoch()'::regprocedure"),
    ("groups", "text[]", "'{labels,scores,watchlists,windows,idle,counterparty,exposure,patterns}'"),
    ("hash", "bytea", "''"),
    ("hash_column", "text", "'tx_hash'"),
    ("illicit", "text[]", "'{scam}'"),
    ("index", "oid", "'arx.transactions_pkey'::regclass"),
    ("interval", "text", "'1 month'"),
    ("is_by_time", "boolean", "true"),
    ("is_large", "boolean", "false"),
    ("is_number", "boolean", "false"),
    ("is_refresh", "boolean", "true"),
    ("job", "text", "'tables'"),
    ("key", "name", "'timestamp'"),
    ("key_from", "bigint", "1704067200000000"),
    ("key_to", "bigint", "1706745600000000"),
    ("key_types", "text", "'text'"),
    ("keys", "text", "'tx_hash'"),
    ("kind", "text", "'archive'"),
    ("latest", "timestamp with time zone", "'2024-01-02'"),
    ("licit", "text[]", "'{exchange}'"),
    ("limit", "bigint", "10"),
    ("limit", "integer", "10"),
    ("log", "text", "'decisions'"),
    ("match_paths.pattern", "text", "'scam -> any{1,3}'"),
    ("message", "text", "''"),
    ("metric", "text", "'volume'"),
    ("metrics", "text[]", "'{volume}'"),
    ("min_calls", "bigint", "1"),
    ("mode", "text", "'ACCESS EXCLUSIVE'"),
    ("most", "integer", "10"),
    ("name", "text", "'m2'"),
    ("native", "tstzmultirange", "'{[2024-01-01,2024-02-01)}'"),
    ("needs", "jsonb", "'{}'"),
    ("network", "text", "'testnet'"),
    ("networks", "text[]", "'{ethereum}'"),
    ("note", "text", "'x'"),
    ("numbers", "integer[]", "'{1}'"),
    ("numbers_before", "integer", "0"),
    ("outcome", "text", "'done'"),
    ("override_id", "bigint", "1"),
    ("parameters", "jsonb", r#"'{"network": "testnet"}'"#),
    ("parent", "oid", "'arx.transactions'::regclass"),
    ("parent", "regclass", "'arx.transactions'"),
    ("partition", "oid", "'arx.transactions_default'::regclass"),
    ("partition", "regclass", "'arx.transactions_default'"),
    ("partition", "text", "'arx.transactions_2024_01'"),
    ("partition_oid", "oid", "'arx.transactions_default'::regclass"),
    ("partitions", "integer", "2"),
    ("path", "text", "'/'"),
    ("pattern", "text", "'cycle'"),
    ("plain", "text", "'arx.transactions'"),
    ("points", "integer", "3"),
    (
        "policy",
        "jsonb",
        "jsonb_build_object('relation', 'arx.transactions'::regclass::oid, 'interval', '1 month', 'premake', 1, 'retention_mode', 'detach', 'time_zone', 'UTC', 'quarantine', true)",
    ),
    ("previous", "bytea", "''"),
    ("problem", "text", "'x'"),
    ("query", "text", "'w1'"),
    ("range_from", "bigint", "1"),
    ("range_from", "text", "'2024-01-01'"),
    ("range_from", "timestamp with time zone", "'2024-01-01'"),
    ("range_to", "bigint", "2"),
    ("range_to", "text", "'2024-02-01'"),
    ("range_to", "timestamp with time zone", "'2024-03-01'"),
    ("reason", "text", "'alter'"),
    ("receiver", "jsonb", "'{}'"),
    ("refreshed", "bigint", "1"),
    ("relabelled", "text[]", "'{w3}'"),
    ("relation", "oid", "'arx.transactions_default'::regclass"),
    ("relation", "regclass", "'arx.transactions'"),
    ("relation", "text", "'arx.transactions'"),
    ("resolve_query.name", "text", "'top_wallets'"),
    ("retention_schema", "text", "'arx'"),
    ("root", "text", "'transactions'"),
    ("route_explain.name", "text", "'top_wallets'"),
    ("rows", "text[]", "ARRAY[(SELECT row_to_json(t)::text FROM (SELECT 1) AS t)]"),
    ("rule", "text", "'large_transfer'"),
    ("rules", "jsonb", "'[]'"),
    ("run_id", "bigint", "1"),
    ("run_query.name", "text", "'top_wallets'"),
    ("score", "numeric", "50"),
    ("seen", "pg_snapshot", "'1:1:'"),
    ("seen", "text", "''"),
    ("sender", "jsonb", "'{}'"),
    ("severity", "text", "'high'"),
    ("since", "pg_snapshot", "'1:1:'"),
    ("since", "timestamp with time zone", "'2024-01-01'"),
    ("source", "text", "'w1'"),
    ("source", "regclass", "'arx.transactions'"),
    ("sqlstate", "text", "''"),
    ("stamp", "xid8", "'1'"),
    ("starts", "timestamp with time zone[]", "'{2024-01-01}'"),
    ("state", "text", "'active'"),
    ("statement", "text", "'SELECT 1::text'"),
    ("suffix", "text", "''"),
    ("sums", "numeric[]", "'{1}'"),
    ("tablespace", "text", "'pg_default'"),
    ("tablespace_ages", "jsonb", "'{}'"),
    ("target", "text", "'w2'"),
    ("target", "regclass", "'arx.transactions'"),
    ("targets", "text[]", "'{w2,w5}'"),
    ("task_id", "bigint", "1"),
    ("texts_before", "integer", "0"),
    ("times", "timestamp with time zone[]", "'{2024-01-01}'"),
    ("times", "tstzmultirange", "'{[2024-01-01,2024-02-01)}'"),
    ("tokens", "tstzmultirange", "'{[2024-01-01,2024-02-01)}'"),
    ("to", "timestamp with time zone", "'2024-02-01'"),
    ("to_address", "text", "'w2'"),
    ("to_block", "bigint", "60"),
    ("today", "date", "'2024-03-01'"),
    ("topic", "text", "'labels'"),
    ("touched", "text[]", "'{w1}'"),
    ("unit", "text", "'day'"),
    ("unmeasured.topic", "text", "'sessions'"),
    ("until", "pg_snapshot", "'1:1:'"),
    ("until", "timestamp with time zone", "'2024-03-01'"),
    ("value", "text", "'x'"),
    ("values", "double precision[]", "'{1}'"),
    ("version", "integer", "1"),
    ("version", "text", "arx.active_risk_model()"),
    ("waiting", "boolean", "true"),
    ("wallet", "text", "'w1'"),
    ("wallet_a", "text", "'w1'"),
    ("wallet_b", "text", "'w2'"),
    ("window", "interval", "'1 day'"),
];

/// Returns an expression for a parameter of a function.
///
/// # Panics
/// When the parameter has no value in `ARGUMENTS`.
#[must_use]
pub fn argument(function: &str, name: &str, kind: &str) -> &'static str {
    let own = format!("{function}.{name}");
    let of = |name: &str| ARGUMENTS.iter().find(|argument| argument.0 == name && argument.1 == kind);
    let found = of(&own).or_else(|| of(name)).unwrap_or_else(|| {
        panic!("parameter {name} {kind} of arx.{function}() has no value: add one to ARGUMENTS of tests/src/surface.rs")
    });
    found.2
}

/// Returns the arguments of a call from the parameters of a function: `name:type,…`.
///
/// # Panics
/// When a parameter has no value in `ARGUMENTS`.
#[must_use]
pub fn arguments(function: &str, parameters: &str) -> String {
    let argument = |parameter: &str| {
        let (name, kind) = parameter.split_once(':').unwrap();
        format!("\"{name}\" => ({})::{kind}", argument(function, name, kind))
    };
    let arguments: Vec<String> = parameters.split(',').filter(|text| !text.is_empty()).map(argument).collect();
    arguments.join(", ")
}

/// Stores a label and two transactions between three wallets, and refreshes what is derived from
/// them.
///
/// # Panics
/// When a statement fails.
pub fn fill(database: &Database<'_>) {
    database
        .query(&format!(
            "{TESTNET}
             INSERT INTO arx.address_labels (network, address, category, severity, source)
             VALUES ('testnet', 'w1', 'scam', 'high', 'x');
             INSERT INTO arx.transactions (network, tx_hash, block_number, \"timestamp\", from_address, to_address, value)
             VALUES ('testnet', 't1', 1, '2024-01-01', 'w1', 'w2', 1), ('testnet', 't2', 2, '2024-01-02', 'w2', 'w3', 2);
             SELECT arx.refresh_wallet_profiles();
             SELECT FROM arx.check_wallet_alerts()"
        ))
        .unwrap();
    database.query("CALL arx.refresh_risk_scores()").unwrap();
    database.query("SELECT outcome FROM arx.refresh_graph()").unwrap();
}

/// Returns a call of each function of `arx_reader`, by name.
///
/// # Panics
/// When a parameter has no value in `ARGUMENTS`.
#[must_use]
pub fn calls(database: &Database<'_>) -> Vec<(String, String)> {
    let functions = database.query(FUNCTIONS).unwrap();
    let call = |line: &str| {
        let (function, parameters) = line.split_once('|').unwrap();
        (function.to_owned(), format!("SELECT * FROM arx.{function}({})", arguments(function, parameters)))
    };
    functions.lines().map(call).collect()
}
