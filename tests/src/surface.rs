//! Every function that `arx_reader` may call, with arguments that fit the rows of [`fill`].

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
const ARGUMENTS: [(&str, &str, &str); 61] = [
    ("address", "text", "'b'"),
    ("addresses", "text[]", "'{a,b,c}'"),
    ("alert_id", "bigint", "1"),
    ("alias", "text", "'f'"),
    ("asset", "text", "'native'"),
    ("bucket", "interval", "'1 day'"),
    ("condition", "jsonb", r#"'{"fact": "amount", "op": ">", "value": 1}'"#),
    ("content", "jsonb", "'{}'"),
    ("document", "jsonb", "arx.default_risk_model()"),
    ("entry", "jsonb", "'{}'"),
    ("explain_advice.query", "text", "'SELECT 1'"),
    ("family", "text", "'evm'"),
    ("fill", "text", "'zero'"),
    ("filters", "jsonb", "'{}'"),
    ("from", "timestamp with time zone", "'2024-01-01'"),
    ("groups", "text[]", "'{labels,scores,watchlists,windows,idle,counterparty,exposure,patterns}'"),
    ("is_large", "boolean", "false"),
    ("is_number", "boolean", "false"),
    ("key", "name", "'timestamp'"),
    ("limit", "integer", "10"),
    ("log", "text", "'decisions'"),
    ("match_paths.pattern", "text", "'scam -> unlabelled{1,2}'"),
    ("metric", "text", "'volume'"),
    ("metrics", "text[]", "'{volume}'"),
    ("min_calls", "bigint", "1"),
    ("most", "integer", "10"),
    ("needs", "jsonb", "'{}'"),
    ("network", "text", "'testnet'"),
    ("numbers_before", "integer", "0"),
    ("parent", "regclass", "'arx.transactions'"),
    ("partition", "regclass", "'arx.transactions_default'"),
    ("pattern", "text", "'cycle'"),
    ("points", "integer", "3"),
    ("previous", "bytea", "''"),
    ("problem", "text", "'x'"),
    ("query", "text", "'scam'"),
    ("range_from", "timestamp with time zone", "'2024-01-01'"),
    ("range_to", "timestamp with time zone", "'2024-03-01'"),
    ("relabelled", "text[]", "'{c}'"),
    ("relation", "regclass", "'arx.transactions'"),
    ("relation", "text", "'arx.transactions'"),
    ("rule", "text", "'large_transfer'"),
    ("seen", "pg_snapshot", "'1:1:'"),
    ("since", "pg_snapshot", "'1:1:'"),
    ("since", "timestamp with time zone", "'2024-01-01'"),
    ("source", "text", "'a'"),
    ("stamp", "xid8", "'1'"),
    ("suffix", "text", "''"),
    ("target", "text", "'c'"),
    ("targets", "text[]", "'{c}'"),
    ("texts_before", "integer", "0"),
    ("times", "timestamp with time zone[]", "'{2024-01-01}'"),
    ("to", "timestamp with time zone", "'2024-02-01'"),
    ("topic", "text", "'sessions'"),
    ("touched", "text[]", "'{a}'"),
    ("until", "timestamp with time zone", "'2024-03-01'"),
    ("value", "text", "'=1'"),
    ("values", "double precision[]", "'{1}'"),
    ("version", "integer", "1"),
    ("version", "text", "arx.active_risk_model()"),
    ("window", "interval", "'7 days'"),
];

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
             VALUES ('testnet', 'a', 'scam', 'high', 'x');
             INSERT INTO arx.transactions (network, tx_hash, block_number, \"timestamp\", from_address, to_address, value)
             VALUES ('testnet', 't1', 1, '2024-01-01', 'a', 'b', 1), ('testnet', 't2', 2, '2024-01-02', 'b', 'c', 2);
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
        let argument = |parameter: &str| {
            let (name, kind) = parameter.split_once(':').unwrap();
            let own = format!("{function}.{name}");
            let argument = ARGUMENTS.iter().find(|argument| [name, &own].contains(&argument.0) && argument.1 == kind);
            let expression = argument.map(|argument| argument.2);
            let expression = expression.unwrap_or_else(|| {
                panic!("parameter {name} {kind} of arx.{function}() has no value: add one to ARGUMENTS")
            });
            format!("\"{name}\" => ({expression})::{kind}")
        };
        let arguments: Vec<String> = parameters.split(',').filter(|text| !text.is_empty()).map(argument).collect();
        (function.to_owned(), format!("SELECT * FROM arx.{function}({})", arguments.join(", ")))
    };
    functions.lines().map(call).collect()
}
