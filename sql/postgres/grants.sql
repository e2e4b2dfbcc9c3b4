-- Rights and comments, last: PUBLIC gets nothing, arx_reader looks, arx_operator acts.

REVOKE ALL ON SCHEMA arx FROM PUBLIC;
GRANT USAGE ON SCHEMA arx TO arx_reader;
REVOKE ALL ON ALL TABLES IN SCHEMA arx FROM PUBLIC;
REVOKE ALL ON ALL ROUTINES IN SCHEMA arx FROM PUBLIC;
DO $$
DECLARE
    kind record;
BEGIN
    FOR kind IN SELECT t.typname FROM pg_catalog.pg_type AS t
                 WHERE t.typnamespace = 'arx'::regnamespace AND t.typtype = 'e' LOOP
        EXECUTE format('REVOKE ALL ON TYPE arx.%I FROM PUBLIC', kind.typname);
        EXECUTE format('GRANT USAGE ON TYPE arx.%I TO arx_reader', kind.typname);
    END LOOP;
END;
$$;

GRANT SELECT ON ALL TABLES IN SCHEMA arx TO arx_reader;
REVOKE ALL ON TABLE users FROM arx_reader;
GRANT SELECT, INSERT, UPDATE, DELETE ON TABLE users TO arx_operator;
GRANT INSERT, UPDATE, DELETE ON TABLE networks, label_categories, address_labels, asset_prices, wallet_profiles,
    wallet_profiles_default, pattern_findings, daily_transaction_stats, hourly_volume, feed_positions, feed_loads, feed_chunks,
    feed_reloads, behaviour_thresholds, behaviour_windows, import_progress, partition_policies,
    alert_rules, schedules, cluster_exclusions, risk_queue, risk_refresh_state TO arx_operator;
GRANT INSERT ON TABLE risk_score_history TO arx_operator;
-- who did it and whether ARX ships it is not for the doer to say
GRANT INSERT (version, document, network, report) ON TABLE risk_models TO arx_operator;
GRANT INSERT (version, follows, reason) ON TABLE risk_model_activations TO arx_operator;
GRANT INSERT (network, address, score, reason, expires_at) ON TABLE risk_overrides TO arx_operator;
GRANT UPDATE (report) ON TABLE risk_models TO arx_operator;
GRANT UPDATE (ended_at, ended_by) ON TABLE risk_overrides TO arx_operator;
GRANT INSERT, UPDATE, DELETE, TRUNCATE ON TABLE transactions, transactions_default, token_transfers, token_transfers_default
    TO arx_operator;
GRANT DELETE ON TABLE alerts, performance_samples, transaction_changes, label_changes, risk_models, risk_score_history TO arx_operator;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA arx TO arx_operator;

-- Whoever looks may call what only looks.
GRANT EXECUTE ON FUNCTION
    normalize_network(text), network_family(text), normalize_address(text, text), is_valid_address(text, text),
    require_address(text, text), checksum_address(text, text), registered_network(text), require_limit(integer),
    wallet_history(text, text, timestamptz, integer, text), wallet_risk(text, text, timestamptz), risk_factors(text, text, timestamptz),
    wallet_features(text, text, timestamptz), feature_vectors(text, text[], timestamptz), risk_features(),
    risk_distribution(text, text, timestamptz), evaluate_risk_model(text, text, text[], text[], integer, bigint, timestamptz),
    score_wallets(text[], text, timestamptz), wallets_near(text, text[], text[]), risk_history(text, text, integer),
    default_risk_model(), check_risk_model(jsonb), active_risk_model(), require_risk_model(text), risk_basis(),
    is_normalized_address(text, text),
    wallet_connections(text, text, integer, text, text, timestamptz, timestamptz, numeric, bigint, integer, boolean, bigint, interval),
    wallet_reach(text, text, integer, text, text, timestamptz, timestamptz, numeric, bigint, boolean, bigint, interval, boolean),
    shortest_path(text, text, text, text, integer, integer, text, text, timestamptz, timestamptz, numeric, bigint, boolean, bigint, interval),
    wallet_graph_dot(text, text, integer, text, text, timestamptz, timestamptz, numeric, bigint, integer, boolean, bigint, interval),
    wallet_exposure(text, text, text, integer, text, timestamptz, timestamptz, bigint, interval),
    screen_wallets(text[], text, text, integer, text, timestamptz, timestamptz, bigint, interval),
    trace_funds(text, text, text[], text, text, integer, timestamptz, timestamptz, text, numeric, bigint, boolean, bigint, interval),
    trace_summary(text, text, text[], text, text, integer, timestamptz, timestamptz, text, numeric, bigint, boolean, bigint, interval),
    wallet_clusters(text, text, timestamptz, timestamptz, text, numeric, integer, integer, integer, jsonb, interval),
    cluster_merges(text, text, text, timestamptz, timestamptz, text, numeric, integer, jsonb, interval),
    cluster_labels(text, text, double precision, double precision, timestamptz, timestamptz, text, numeric, integer, jsonb, interval),
    wallet_centrality(text, text, integer, text, timestamptz, timestamptz, text, numeric, jsonb, interval),
    detect_patterns(text, interval, text, timestamptz, timestamptz, text, numeric, jsonb, integer, interval, text), pattern_types(),
    pattern_horizon(text, interval, jsonb), pattern_network(text, text), changed_times(text, text, pg_snapshot),
    graph_status(), current_graph_epoch(), parse_range_bound(text), partition_plan(text),
    index_maintenance_plan(), performance_facts(), check_performance_alerts(), changed_transactions(pg_snapshot),
    changed_labels(pg_snapshot), changed_wallets(pg_snapshot, timestamptz)
    TO arx_reader;
GRANT EXECUTE ON FUNCTION
    begin_refresh(text), finish_refresh(text, pg_snapshot, bigint, bigint), refresh_wallet_profiles(),
    refresh_daily_stats(), refresh_patterns(text, interval, text, text, numeric, jsonb),
    apply_asset_prices(text, boolean), partition_cover(text, timestamptz, timestamptz),
    ensure_partitions(regclass, timestamptz, timestamptz), manage_partitions(regclass, boolean),
    run_partition_maintenance(boolean), create_hash_partitions(regclass, integer, text), update_table_statistics(),
    fit_risk_model(text, text, text, text[], text[], integer, bigint, timestamptz),
    lock_risk_models(), activate_risk_model(text, text), rollback_risk_model(text), discard_risk_model(text), import_risk_model(jsonb, text),
    override_risk(text, text, numeric, text, timestamptz), end_risk_override(bigint), queue_all_wallets(text), lock_risk_queue(), queue_risk_changes(),
    take_queued_wallets(text, integer, text, boolean), write_risk_scores(text, text[]),
    exclude_cluster_merge(text, text, text, text), restore_cluster_merge(text, text, text),
    refresh_graph(boolean), verify_graph(), after_restore(), maintain_indexes(), record_performance_alerts(), require_pg_cron(), install_schedules(), remove_schedules()
    TO arx_operator;
GRANT EXECUTE ON PROCEDURE refresh_risk_scores(text, integer, bigint, bigint) TO arx_operator;

-- Plans over many partitions cost more to compile than to run.
ALTER FUNCTION wallet_risk(text, text, timestamptz) SET jit = off;
ALTER FUNCTION risk_factors(text, text, timestamptz) SET jit = off;
ALTER FUNCTION score_wallets(text[], text, timestamptz) SET jit = off;

COMMENT ON FUNCTION normalize_network(text) IS 'canonical name of a network: ETH, eip155:1 and ethereum are one';
COMMENT ON FUNCTION network_family(text) IS 'how addresses of a network are written: evm, bitcoin, litecoin, tron, solana or opaque';
COMMENT ON FUNCTION normalize_address(text, text) IS 'the one way an address is stored; an error (22023) that says what is wrong with a malformed one';
COMMENT ON FUNCTION is_valid_address(text, text) IS 'whether normalize_address() accepts the address';
COMMENT ON FUNCTION require_address(text, text) IS 'normalize_address(), but NULL is an error (22004)';
COMMENT ON FUNCTION registered_network(text) IS
    'canonical name of a network of arx.networks; an error (22023) for any other, (22004) for NULL';
COMMENT ON FUNCTION checksum_address(text, text) IS 'an address as it is shown: EIP-55 mixed case on EVM networks, else as stored';
COMMENT ON FUNCTION wallet_risk(text, text, timestamptz) IS
    'risk score of a wallet, 0 to 100, now or as of a time: probability, band, state, coverage, and the factors that add up to it';
COMMENT ON FUNCTION risk_factors(text, text, timestamptz) IS
    'the factors of wallet_risk(), one row each, with the transactions and counterparties that prove them';
COMMENT ON FUNCTION wallet_features(text, text, timestamptz) IS 'what a scorecard looks at in a wallet: every feature with its value';
COMMENT ON FUNCTION feature_vectors(text, text[], timestamptz) IS
    'the features of many wallets, or of all of a network, as arrays in the order of risk_features()';
COMMENT ON FUNCTION risk_features() IS 'the features there are: unit, formula, and whether they raise risk';
COMMENT ON FUNCTION risk_distribution(text, text, timestamptz) IS 'wallets of a network by band and state, by the active risk model or another';
COMMENT ON FUNCTION fit_risk_model(text, text, text, text[], text[], integer, bigint, timestamptz) IS
    'fits a scorecard on labelled wallets, and stores it as a draft with cross-validated measures and what it would change';
COMMENT ON FUNCTION evaluate_risk_model(text, text, text[], text[], integer, bigint, timestamptz) IS
    'how good a risk model is on labelled wallets: measures, curves, calibration and the worst mistakes';
COMMENT ON FUNCTION score_wallets(text[], text, timestamptz) IS 'risk scores of many wallets at once, one row each, without their factors';
COMMENT ON FUNCTION wallets_near(text, text[], text[]) IS
    'wallets whose score may change when transactions of some wallets, or labels of others, have changed';
COMMENT ON FUNCTION risk_basis() IS
    'on which networks enough wallets are labelled for it to mean something that none of them is met: illicit ones, services';
COMMENT ON FUNCTION default_risk_model() IS 'the scorecard that ARX ships';
COMMENT ON FUNCTION check_risk_model(jsonb) IS 'version of a scorecard, or an error (22023) that says what is wrong with it';
COMMENT ON FUNCTION
    wallet_connections(text, text, integer, text, text, timestamptz, timestamptz, numeric, bigint, integer, boolean, bigint, interval) IS
    'wallets that a wallet is connected with, each once at its smallest depth, ranked by transfers within a depth';
COMMENT ON FUNCTION
    wallet_reach(text, text, integer, text, text, timestamptz, timestamptz, numeric, bigint, boolean, bigint, interval, boolean) IS
    'how many wallets a wallet reaches at each depth, over how many transfers of what value';
COMMENT ON FUNCTION
    shortest_path(text, text, text, text, integer, integer, text, text, timestamptz, timestamptz, numeric, bigint, boolean, bigint, interval) IS
    'the cheapest paths between two wallets by hops, value or recency, one row a step, with the transactions behind each';
COMMENT ON FUNCTION
    wallet_graph_dot(text, text, integer, text, text, timestamptz, timestamptz, numeric, bigint, integer, boolean, bigint, interval) IS
    'the wallets around one as a Graphviz drawing, coloured by label and risk, with hubs folded';
COMMENT ON FUNCTION wallet_exposure(text, text, text, integer, text, timestamptz, timestamptz, bigint, interval) IS
    'how much of what a wallet received and sent came from labelled wallets or went there, by category, with the strongest path';
COMMENT ON FUNCTION screen_wallets(text[], text, text, integer, text, timestamptz, timestamptz, bigint, interval) IS
    'the exposure of many wallets at once, one row each: sanctions, illicit and service shares, the nearest illicit wallet';
COMMENT ON FUNCTION
    trace_funds(text, text, text[], text, text, integer, timestamptz, timestamptz, text, numeric, bigint, boolean, bigint, interval) IS
    'where funds of a wallet or of transactions went, or came from: one row a transfer, with how much of it is tainted';
COMMENT ON FUNCTION
    trace_summary(text, text, text[], text, text, integer, timestamptz, timestamptz, text, numeric, bigint, boolean, bigint, interval) IS
    'where the funds that trace_funds() follows ended: one row a wallet and reason';
COMMENT ON FUNCTION wallet_clusters(text, text, timestamptz, timestamptz, text, numeric, integer, integer, integer, jsonb, interval) IS
    'wallets that belong together, largest cluster first: connected (weak, strong), customers by their deposit addresses, or funded together';
COMMENT ON FUNCTION cluster_merges(text, text, text, timestamptz, timestamptz, text, numeric, integer, jsonb, interval) IS
    'the evidence behind clusters, one row a merge, with its transactions, whether it was accepted, and why not';
COMMENT ON FUNCTION cluster_labels(text, text, double precision, double precision, timestamptz, timestamptz, text, numeric, integer, jsonb, interval) IS
    'labels that wallets have from others of their cluster, less sure with every merge between them';
COMMENT ON FUNCTION wallet_centrality(text, text, integer, text, timestamptz, timestamptz, text, numeric, jsonb, interval) IS
    'wallets by degree, PageRank or betweenness, highest first, or one wallet with its rank';
COMMENT ON FUNCTION
    detect_patterns(text, interval, text, timestamptz, timestamptz, text, numeric, jsonb, integer, interval, text) IS
    'laundering patterns within a window of time, strongest first, with the wallets and transactions that make each';
COMMENT ON FUNCTION pattern_types() IS 'the patterns of detect_patterns(), what may be set of each, and where it comes from';
COMMENT ON FUNCTION pattern_horizon(text, interval, jsonb) IS
    'how far before and after its first transfer the transfers lie that decide whether something is a finding';
COMMENT ON FUNCTION pattern_network(text, text) IS
    'canonical name of a network, or of the only one with transfers when none is given; an error (22023) when there are several';
COMMENT ON FUNCTION refresh_graph(boolean) IS
    'merges what has changed into a new file of the graph, or with rebuild reads the tables anew; not in a transaction that has written';
COMMENT ON FUNCTION graph_status() IS 'the file of the graph that answers the caller: age, size, and what is laid over it';
COMMENT ON FUNCTION verify_graph() IS 'holds the graph against the tables, row by row, and says by network where they differ';
COMMENT ON FUNCTION partition_plan(text) IS 'what manage_partitions() would do to a relation of partition_policies now';
COMMENT ON FUNCTION partition_cover(text, timestamptz, timestamptz) IS 'the monthly partitions that are missing for a range of time';
COMMENT ON FUNCTION check_performance_alerts() IS 'which thresholds of alert_rules are crossed now';

COMMENT ON TABLE networks IS 'networks known here; add your own by INSERT (network, native_asset)';
COMMENT ON TABLE users IS 'people who work with ARX; not readable by arx_reader';
COMMENT ON TABLE label_categories IS 'what kinds of labels there are and what they mean for risk';
COMMENT ON TABLE address_labels IS 'what is known about addresses, from whom, how sure and for how long';
COMMENT ON TABLE asset_prices IS 'prices of assets in USD, each in force until the next';
COMMENT ON TABLE transactions IS 'transactions by month; values in coins, addresses as normalize_address() writes them';
COMMENT ON TABLE token_transfers IS 'token transfers by month; amounts in raw units of the token';
COMMENT ON TABLE transaction_changes IS 'former selves of updated and deleted transactions and token transfers';
COMMENT ON TABLE graph_epoch IS 'what changed transactions without a trigger for each row: TRUNCATE, ATTACH, DETACH, DROP';
COMMENT ON TABLE wallet_profiles IS 'one row a wallet: activity, volume, risk, and what users and ClickHouse know of it';
COMMENT ON TABLE daily_transaction_stats IS 'transactions per day (UTC) and network; volume counts what did not fail';
COMMENT ON TABLE hourly_volume IS 'transactions per hour (UTC) and network, computed by ClickHouse; volume counts what did not fail';
COMMENT ON TABLE pattern_findings IS 'what detect_patterns() finds, kept up to date by refresh_patterns()';
COMMENT ON TABLE feed_positions IS 'up to which snapshot each consumer of transactions has seen everything';
COMMENT ON TABLE feed_loads IS 'first loads of feeds that are not complete yet';
COMMENT ON TABLE feed_chunks IS 'chunks of first loads, and which of them are in';
COMMENT ON TABLE feed_reloads IS 'hours that the feed to ClickHouse is to load again';
COMMENT ON TABLE behaviour_thresholds IS 'above which numbers a wallet is a whale, a trader or a distributor';
COMMENT ON TABLE behaviour_windows IS 'up to which day the behaviour of a network''s wallets is known';
COMMENT ON TABLE import_progress IS 'how far each imported source has come';

-- Rows that are the users' own go into a dump; rows that ARX ships come with CREATE EXTENSION. What jobs have seen and what they have
-- queued stays: in a restored database they start afresh. So does label_changes: no snapshot there is older.
SELECT pg_catalog.pg_extension_config_dump('arx.networks', 'WHERE NOT builtin');
SELECT pg_catalog.pg_extension_config_dump('arx.label_categories', 'WHERE NOT builtin');
SELECT pg_catalog.pg_extension_config_dump('arx.users', '');
SELECT pg_catalog.pg_extension_config_dump('arx.address_labels', '');
SELECT pg_catalog.pg_extension_config_dump('arx.asset_prices', '');
SELECT pg_catalog.pg_extension_config_dump('arx.transactions_default', '');
SELECT pg_catalog.pg_extension_config_dump('arx.token_transfers_default', '');
SELECT pg_catalog.pg_extension_config_dump('arx.wallet_profiles_default', '');
SELECT pg_catalog.pg_extension_config_dump('arx.transaction_changes', '');
SELECT pg_catalog.pg_extension_config_dump('arx.daily_transaction_stats', '');
SELECT pg_catalog.pg_extension_config_dump('arx.hourly_volume', '');
SELECT pg_catalog.pg_extension_config_dump('arx.import_progress', '');
SELECT pg_catalog.pg_extension_config_dump('arx.pattern_findings', '');
SELECT pg_catalog.pg_extension_config_dump('arx.partition_policies', 'WHERE origin = ''user''');
SELECT pg_catalog.pg_extension_config_dump('arx.behaviour_thresholds', 'WHERE origin = ''user''');
SELECT pg_catalog.pg_extension_config_dump('arx.alert_rules', 'WHERE origin = ''user''');
SELECT pg_catalog.pg_extension_config_dump('arx.cluster_exclusions', '');
SELECT pg_catalog.pg_extension_config_dump('arx.alerts', '');
SELECT pg_catalog.pg_extension_config_dump('arx.risk_models', 'WHERE NOT builtin');
SELECT pg_catalog.pg_extension_config_dump('arx.risk_model_activations', 'WHERE NOT builtin');
SELECT pg_catalog.pg_extension_config_dump('arx.risk_overrides', '');
SELECT pg_catalog.pg_extension_config_dump('arx.risk_score_history', '');
SELECT pg_catalog.pg_extension_config_dump('arx.risk_model_activations_activation_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('arx.risk_overrides_override_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('arx.risk_score_history_entry_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('arx.address_labels_label_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('arx.transaction_changes_change_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('arx.alerts_alert_id_seq', '');
