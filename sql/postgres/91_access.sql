-- Access to everything in the schema, and the comment of every function. This file runs last.
--
-- PUBLIC has no privileges. arx_reader may read, arx_operator may also change state, arx_feeder may
-- also write the state of feeds. Comments of tables and views stand with their definitions, and so
-- do the privileges on the tables of users.

REVOKE ALL ON SCHEMA arx FROM PUBLIC;
GRANT USAGE ON SCHEMA arx TO arx_reader;

-- Functions ---------------------------------------------------------------------------------------
-- One row a function: its name, the role that may call it, its comment. Without a role only the
-- owner of the extension may call it: it is a trigger, or a step of a SECURITY DEFINER function.
-- Overloads share a row. CREATE EXTENSION fails when a function has no row, or a row no function.
DO $do$
DECLARE
    declared record;
BEGIN
    FOR declared IN
        SELECT coalesce(d.name, f.name) AS name, d.name IS NOT NULL AS has_row, d.grantee, d.comment, f.signature,
               count(*) OVER (PARTITION BY d.name, f.signature::oid) AS row_count
          FROM (VALUES
            -- Tables of users
                ('create_tables', 'arx_operator',
             'creates the tables, types, views, indexes and triggers that do not exist yet, as the caller, who owns '
             'them; returns what it created'),
                ('replace_builtin_row', 'arx_operator',
             'trigger: lets a restored row that ARX ships take the place of the one that exists'),
            -- Networks and addresses
                ('normalize_network', 'arx_reader',
             'canonical name of a network: ETH, eip155:1 and ethereum name the same network'),
                ('network_family', 'arx_reader',
             'address format of a network: evm, bitcoin, litecoin, bitcoin_cash, tron, solana, ripple or opaque, which '
             'is any text'),
                ('listed_network_family', 'arx_reader',
             'network_family() as ARX lists it, regardless of arx.networks'),
                ('require_network_family', 'arx_reader',
             'the family given; one that the network cannot have is an error (22023)'),
                ('add_network', 'arx_operator',
             'adds a network with the format of its addresses (evm, bitcoin, tron, solana or opaque), its coin and the '
             'decimals of that; returns its canonical name. A network that exists stays, and may get a family if it has '
             'none'),
                ('registered_network', 'arx_reader',
             'canonical name of a network of arx.networks; any other is an error (22023), NULL is an error (22004)'),
                ('normalize_address', 'arx_reader',
             'an address as ARX stores it; a malformed address is an error (22023) that names the problem'),
                ('is_valid_address', 'arx_reader',
             'true if the address is valid on the network, NULL if ARX cannot check the addresses of the network'),
                ('is_normalized_address', 'arx_reader',
             'true if the network is registered and the address is written as normalize_address() writes it'),
                ('is_normal_spelling', 'arx_reader',
             'is_normalized_address() for a network that is known to be registered'),
                ('require_address', 'arx_reader', 'normalize_address(), except that NULL is an error (22004)'),
                ('checksum_address', 'arx_reader',
             'an address for display: mixed case by EIP-55 on EVM networks (EIP-1191 on Rootstock), as stored elsewhere'),
                ('require_limit', 'arx_reader',
             'the limit given; one that is not between 1 and 1000000 is an error (22023)'),

            -- Freshness
                ('is_new_since', 'arx_reader', 'true if a row with this stamp has become visible since a snapshot'),
                ('current_graph_epoch', 'arx_reader',
             'number that rises when TRUNCATE, ATTACH, DETACH or DROP changed a table of transfers'),
                ('label_rank', 'arx_reader',
             'rank of a label among those of its wallet: the lowest weighs most'),
                ('prune_changes', 'arx_operator',
             'removes the rows of transaction_changes that no job, feed or graph file can ask for any more; returns how '
             'many, the oldest transaction whose rows are kept, and the consumer that is the reason'),
                ('changed_transactions', 'arx_reader',
             'transactions and internal transfers that appeared or changed since a snapshot, in their present and former '
             'versions'),
                ('changed_times', 'arx_reader',
             'times of the transfers of an asset that appeared or changed since a snapshot, in their present and '
             'former versions'),
                ('changed_labels', 'arx_reader',
             'addresses whose labels appeared or changed since a snapshot; address NULL: the whole network, network '
             'NULL: all networks'),
                ('changed_wallets', 'arx_reader',
             'wallets by network whose transactions or labels changed since a snapshot, or whose labels began or '
             'ended since a time; whole: all wallets of the network, network NULL: all networks'),
                ('remove_blocks', 'arx_operator',
             'deletes the transactions, internal transfers and token transfers of the blocks from one height to another, '
             'which have left the chain; returns how many rows of each table'),
                ('stamp_row', 'arx_operator',
             'trigger: stamps an updated row with the current transaction'),
                ('restamp_row', 'arx_operator',
             'trigger: stamps a row again that was written with the stamp of another transaction'),
                ('complete_internal_transfer', 'arx_operator',
             'trigger: gives an internal transfer without outcome or block those of its transaction, or awaits that'),
                ('void_token_transfer', 'arx_operator',
             'trigger: keeps the token transfers of failed transactions out of their table'),
                ('complete_internal_transfers', 'arx_operator',
             'trigger: passes outcome and block of a transaction on to its internal transfers that lack them, and its failure '
             'to its token transfers'),
                ('settle_awaited_transactions', 'arx_operator',
             'gives internal transfers that lack outcome or block those of transactions stored at the same time by another '
             'session, as the refreshing functions do; returns the number of transactions'),
                ('is_moving_rows', 'arx_reader',
             'true while ARX moves rows between partitions or stamps restored rows, which changes no content'),
                ('plpgsql_as_owner_handler', NULL, 'handler of the language plpgsql_as_owner'),
                ('plpgsql_as_owner_validator', NULL, 'validator of the language plpgsql_as_owner'),
                ('calling_user', 'arx_reader',
             'role that has called a function of arx, also while it works with the rights of the tables'' owner'),
                ('is_in_job', 'arx_reader', 'true within a function of arx that changes tables'),
                ('sign_author', 'arx_operator', 'trigger: records the role that has called a function'),
                ('watched_tables', 'arx_reader',
             'tables whose changes consumers follow, each with its topic and the functions of its triggers'),
                ('read_columns', NULL, 'step of partitions_now(): the columns of a watched table that consumers read'),
                ('time_range', NULL, 'step of partitions_now(): the times of a partition, NULL if its bounds are not times'),
                ('partitions_now', NULL, 'watched tables and their partitions by the catalog'),
                ('current_command', NULL, 'number of the present command within its transaction'),
                ('raise_event', NULL,
             'step of the triggers: makes the consumers of a topic read a range of a table again, or start over'),
                ('prune_graph_epoch', NULL,
             'step of begin_refresh(): removes all but the latest rows of graph_epoch, without changing the epoch'),
                ('watch_truncate', NULL,
             'step of watch_truncates(): creates the TRUNCATE trigger of a partition; an unknown table is an error '
             '(42704), any other function an error (22023)'),
                ('watch_writers', NULL,
             'step of watch_truncates(): creates the trigger of a partition that notes writers; an unknown table is an '
             'error (42704)'),
                ('watch_truncates', 'arx_feeder',
             'gives every watched table its triggers of statements; a table that may have been truncated without them, or '
             'on a refresh lacks any other trigger, is an event for its consumers'),
                ('note_writer', NULL,
             'trigger: notes a transaction that writes transfers, so that the graph is asked for news only after one'),
                ('track_partitions', NULL,
             'step of the event triggers: compares the watched tables with those before the command'),
                ('restamp_future_rows', NULL,
             'step of track_partitions(): stamps the rows that bear stamps of another cluster; returns the '
             'number'),
                ('log_transaction_change', 'arx_operator', 'trigger: logs the former version of a changed row'),
                ('log_label_change', 'arx_operator', 'trigger: logs the address of a changed label'),
                ('log_label_meaning', 'arx_operator',
             'trigger: logs that the labels of many addresses changed their meaning or were removed'),
                ('raise_graph_epoch', 'arx_operator', 'trigger: makes the consumers of a table start over after TRUNCATE'),
                ('watch_partition_commands', NULL,
             'event trigger: gives new watched tables their TRUNCATE trigger, refuses unlogged and foreign ones, and makes '
             'consumers start over when one is attached, detached or altered'),
                ('watch_partition_drops', NULL,
             'event trigger: makes consumers start over when a watched table is dropped, or one of its columns or '
             'triggers'),
                ('watch_partition_rewrites', NULL,
             'event trigger: marks watched tables whose columns a command computes again'),

            -- Wallets and the transaction graph
                ('wallet_history', 'arx_reader',
             'transactions and internal transfers of a wallet, newest first, up to a time; for the next page pass the '
             'timestamp and tx_hash of the last row'),
                ('wallet_time_series', 'arx_reader',
             'a metric of a wallet by bucket of time: transactions, sent, received, net, volume, volume_usd or '
             'counterparties; gaps are zero, null, previous or none; whole is false for buckets that the range cuts'),
                ('network_time_series', 'arx_reader',
             'a metric of a network by bucket of time: transactions, failed, volume, volume_usd, senders or receivers; '
             'gaps are zero, null, previous or none; whole is false for buckets that the range cuts'),
                ('time_buckets', 'arx_reader',
             'the buckets of a range in local time: months, days, or hours and less that begin again at each midnight'),
                ('downsample', 'arx_reader',
             'the points of a series that keep its shape in a plot (largest triangle three buckets)'),
                ('check_series', 'arx_reader', 'a wrong metric or way to fill gaps is an error (22023)'),
                ('fill_series', 'arx_reader',
             'the rows of a series from the values of its buckets, with gaps filled as wallet_time_series() says'),
                ('hourly_stats_position', 'arx_reader',
             'snapshot at which hourly_transaction_stats is true; NULL: refresh_hourly_stats() must compute all of it'),
                ('refresh_hourly_stats', 'arx_operator',
             'recomputes the hours of hourly_transaction_stats that changed since the last run; returns the rows written'),
                ('query_catalogue', 'arx_reader',
             'the named analytics queries, with their parameters, columns, the facts that they read, and how exact '
             'ClickHouse answers them (NULL: it does not)'),
                ('resolve_query', 'arx_reader',
             'checks a request of the catalogue, and returns its arguments, demands and statement; an unknown query is an '
             'error (42704), a wrong parameter too (22023)'),
                ('transfers_changed', 'arx_reader',
             'true if transactions, internal transfers or token transfers have changed since a snapshot and its epoch'),
                ('run_query', 'arx_reader', 'answers a query of the catalogue from the tables, one JSON object a row'),
                ('route_explain', 'arx_reader',
             'the stores that could answer a query of the catalogue: whether each may, why, what it would cost, how old '
             'its data is, and which one would be chosen'),
                ('slow_queries', 'arx_reader',
             'queries of this database by mean time, from pg_stat_statements: calls, times in ms, rows, cache hits, and '
             'the share of all time'),
                ('explain_advice', 'arx_reader',
             'causes that slow a query down, from its plan, which is not run: a missing index, partitions not pruned, stale '
             'statistics, JIT compilation; each with the statement that mends it'),
                ('search_wallets', 'arx_reader',
             'wallets whose address, label, note or analytics match, best first: part of an address, words, similar '
             'words; filters is a JSON object of network, category, kind, source, band, state, min_score, max_score, path'),
                ('search_facets', 'arx_reader',
             'number of the wallets that search_wallets() would find, by network, category and band'),
                ('wallet_matches', 'arx_reader', 'wallets that match, in no order: what search_wallets() ranks'),
                ('check_search', 'arx_reader', 'the trimmed query; a wrong query or filter is an error (22023)'),
                ('create_search_indexes', 'arx_operator',
             'creates the indexes of search_wallets(): words, and with pg_trgm parts of addresses and labels; returns '
             'each index with its state'),
                ('wallet_connections', 'arx_reader',
             'wallets connected with a wallet, each once at its smallest depth, ranked by transfers within a depth; '
             'with in_time, those that its funds could have reached'),
                ('wallet_reach', 'arx_reader',
             'number of wallets a wallet reaches at each depth, with the transfers and their value; with in_time, '
             'those that its funds could have reached'),
                ('shortest_path', 'arx_reader',
             'cheapest paths between two wallets by hops, value or recency, one row a step, with the transactions '
             'behind each step; with in_time, the path with the fewest hops that funds could have taken'),
                ('match_paths', 'arx_reader',
             'paths of money whose wallets have kinds of labels in a given sequence, in the order of time, one row a '
             'transfer'),
                ('wallet_chokepoints', 'arx_reader',
             'wallets that every path from a wallet to target wallets, or to those of a category, must cross, with the '
             'number of targets behind each'),
                ('wallet_graph_dot', 'arx_reader',
             'neighbourhood of a wallet as a Graphviz drawing, coloured by label and risk, with hubs folded'),
                ('wallet_exposure', 'arx_reader',
             'shares of the funds of a wallet that came from or went to labelled wallets, by category, with the '
             'strongest path; then the wallets with a shortfall, and with asset usd the assets without a price'),
                ('screen_wallets', 'arx_reader',
             'exposure of many wallets, one row each: sanctions, illicit and service shares, the nearest illicit '
             'wallet, and what the wallet sent beyond what it is known to have received'),
                ('trace_funds', 'arx_reader',
             'transfers along which funds of a wallet or of transactions went or came, one row each, with the tainted '
             'amount; then the wallets with a shortfall, and with asset usd the assets without a price'),
                ('trace_summary', 'arx_reader',
             'wallets where the funds that trace_funds() follows ended, one row a wallet and reason; then the wallets '
             'with a shortfall, and with asset usd the assets without a price'),
                ('wallet_clusters', 'arx_reader',
             'wallets that belong together, largest cluster first: connected (weak, strong), sharing a deposit '
             'address, or funded together'),
                ('wallet_communities', 'arx_reader',
             'groups of wallets that transact more among themselves than with others, largest first, with the '
             'modularity'),
                ('cluster_merges', 'arx_reader',
             'evidence behind clusters, one row a merge, with its transactions and, if it was rejected, the reason'),
                ('cluster_labels', 'arx_reader',
             'labels that wallets inherit from others of their cluster; confidence falls with every merge between '
             'them'),
                ('exclude_cluster_merge', 'arx_operator',
             'keeps two wallets in separate clusters; returns false and replaces the reason when they were excluded '
             'before'),
                ('sign_cluster_exclusion', 'arx_operator', 'trigger: records the author and time of a changed exclusion'),
                ('restore_cluster_merge', 'arx_operator',
             'removes an exclusion, so that evidence that two wallets belong together counts again; returns true if '
             'it existed'),
                ('wallet_centrality', 'arx_reader',
             'wallets by degree, PageRank or betweenness, highest first, or one wallet with its rank'),
                ('detect_patterns', 'arx_reader',
             'laundering patterns within a window of time, strongest first, with the wallets and transactions of each'),
                ('pattern_types', 'arx_reader', 'patterns of detect_patterns(), their options and the source of each'),
                ('pattern_horizon', 'arx_reader',
             'time before and after the first transfer of a finding that holds all transfers the finding depends on'),
                ('pattern_network', 'arx_reader',
             'canonical name of a network; NULL: the only one with transfers, an error (22023) when there are several'),
                ('refresh_graph', 'arx_operator',
             'merges changes into a new file of the graph, or writes few changes next to a large file (appended), or with '
             'rebuild reads the tables again; not in a transaction that has written'),
                ('graph_status', 'arx_reader',
             'file of the graph that answers the caller: age, size, the size of its overlay, its delta segment, and the bytes '
             'that keeping it current has written since it was built'),
                ('verify_graph', 'arx_operator',
             'compares the graph with the tables, row by row, and reports differences by network'),

            -- Risk
                ('wallet_risk', 'arx_reader',
             'risk score of a wallet, 0 to 100, now or as of a time: probability, band, state, coverage, and the '
             'factors that add up to it'),
                ('risk_factors', 'arx_reader',
             'factors of wallet_risk(), one row each, with the transactions and counterparties that prove them'),
                ('risk_reasons', 'arx_reader',
             'reasons for the score of a wallet by family, at most eight, each with one sentence and its evidence; their '
             'points add up to the score'),
                ('score_wallets', 'arx_reader', 'risk scores of many wallets, one row each, without their factors'),
                ('risk_distribution', 'arx_reader',
             'number and share of the wallets of a network by band and state, by the active risk model or another one'),
                ('coverage_conflicts', 'arx_reader',
             'wallets whose history is stated to be complete in history_coverage, and that send more than they '
             'received; their scores do not rely on the statement'),
                ('coverage_digest', 'arx_operator', 'digest of history_coverage: another one scores every wallet again'),
                ('risk_history', 'arx_reader',
             'changes of the score of a wallet, newest first, each with the score before it (NULL for the first one)'),
                ('risk_features', 'arx_reader', 'features of scorecards: unit, formula, and whether they raise risk'),
                ('wallet_features', 'arx_reader', 'features of a wallet, one row each with its value'),
                ('feature_vectors', 'arx_reader',
             'features of many wallets, or of all wallets of a network, as arrays in the order of risk_features()'),
                ('wallets_near', 'arx_reader',
             'wallets whose score may change when transactions of some wallets or labels of others have changed'),
                ('explain_wallets', 'arx_reader',
             'risk scores of many wallets, one row each, with their factors and their reasons by family, without evidence; max_factors keeps the base and the factors that weigh most'),
                ('wallet_explanations', 'arx_reader',
             'explanations of explain_wallets() at the present, with factors and reasons as JSON in text: cheaper for callers who pass them on'),
                ('is_followed', NULL, 'step of log_profile_changes(): returns false while no cache follows the profiles'),
                ('log_profile_changes', 'arx_operator',
             'trigger: logs the wallets whose rows a statement has changed, while a cache follows the profiles'),
                ('follow_profiles', 'arx_feeder',
             'has changes of profiles logged, and waits for the transactions that did not; returns the number of this '
             'follower'),
                ('prune_profile_changes', 'arx_feeder',
             'removes the logged changes of profiles before a transaction, or, given NULL, those that no cache has asked '
             'for within a day; returns how many'),
                ('profile_basis', 'arx_feeder',
             'digest of what the profiles of all wallets depend on: model, calibration, coverage, labels that suffice'),
                ('changed_profiles', 'arx_feeder',
             'wallets whose profile may have changed since a snapshot, or by a label or an override that began or ended '
             'since a time; address NULL: the whole network, network NULL: all networks'),
                ('risk_basis', 'arx_reader',
             'networks with enough illicit and service labels for zero exposure to be meaningful'),
                ('override_risk', 'arx_operator',
             'sets the score of a wallet until a time at most a year ahead, replacing an earlier override; returns '
             'the override''s id'),
                ('end_risk_override', 'arx_operator',
             'ends an override before it expires; returns true if it was in force'),
                ('guard_risk_override', 'arx_operator',
             'trigger: keeps an ended override ended, and records the user that ended it'),

            -- Risk models
                ('active_risk_model', 'arx_reader', 'version of the active risk model'),
                ('default_risk_model', 'arx_reader', 'scorecard that ARX ships'),
                ('check_risk_model', 'arx_reader',
             'version of a scorecard; an invalid one is an error (22023) that names the problem'),
                ('require_risk_model', 'arx_reader',
             'scorecard of a version; an unknown version is an error (42704) that lists the existing ones'),
                ('evaluate_risk_model', 'arx_reader',
             'quality of a risk model on labelled wallets: measures, curves, calibration and the worst mistakes'),
                ('fit_risk_model', 'arx_operator',
             'fits a scorecard on labelled wallets and stores it as a draft, with cross-validated measures and the '
             'changes it would make'),
                ('import_risk_model', 'arx_operator',
             'checks a scorecard and stores it as a draft; returns its version'),
                ('discard_risk_model', 'arx_operator',
             'removes a draft; a model that was ever active is an error (55000)'),
                ('activate_risk_model', 'arx_operator',
             'activates a risk model, so that the next refresh scores every wallet again; returns the version that '
             'was active before'),
                ('rollback_risk_model', 'arx_operator',
             'activates the risk model that was active before the present one; repeated calls go further back; '
             'returns its version'),
                ('risk_model_states', 'arx_reader', 'state of each risk model by the log of activations'),
                ('lock_risk_models', 'arx_operator', 'waits for concurrent activations; returns the one in force'),
                ('guard_risk_model', 'arx_operator',
             'trigger: a model is stored as a draft, never changes, and cannot be removed once it was active'),
                ('settle_risk_models', 'arx_operator',
             'trigger: brings the states of risk_models in line with risk_model_activations'),

            -- Jobs
                ('lock_job', 'arx_operator',
             'waits for the transaction that runs a job, and keeps others waiting until this one ends'),
                ('hold_duty', NULL, 'step of take_duty() and take_import(): takes a duty unless another session has it'),
                ('take_duty', 'arx_feeder',
             'takes a duty of the sidecar until the session ends; returns false while another session has it'),
                ('take_import', 'arx_operator',
             'takes the import of a source until the session ends; returns false while another session has it'),
                ('held_duties', 'arx_reader', 'duties of sidecars, and the processes that have them'),

            -- Derived tables
                ('begin_refresh', 'arx_operator',
             'claims a refresh job for this transaction: the snapshot it has read (NULL: start over), the one it '
             'will have read, and the times of partitions that changed in between'),
                ('finish_refresh', 'arx_operator', 'stores the position that a refresh job has reached'),
                ('changed_periods', 'arx_operator',
             'hours or days whose statistics a refresh must compute again, and the parts of time that it reads'),
                ('wallets_within', 'arx_operator',
             'wallets that have transactions or internal transfers at some times, or had when their profiles were refreshed'),
                ('internal_activity', 'arx_reader',
             'internal transfers by wallet and transaction, with the transactions that they add to those sent or received'),
                ('refresh_wallet_profiles', 'arx_operator',
             'updates activity and volume in wallet_profiles from the changes since the last run; returns the wallets '
             'written'),
                ('refresh_daily_stats', 'arx_operator',
             'recomputes the days (UTC) of daily_transaction_stats that changed since the last run; returns the rows '
             'written'),
                ('refresh_patterns', 'arx_operator',
             'updates pattern_findings from the changes since the last run, for one pattern or all; returns counts of '
             'rows written'),
                ('refresh_risk_scores', 'arx_operator',
             'scores the wallets whose score may have changed, committing each batch; returns the wallets scored and '
             'those that changed'),
                ('queue_all_wallets', 'arx_operator',
             'queues every wallet of a network, or of all networks, to be scored; returns the number'),
                ('queue_risk_changes', 'arx_operator',
             'step of refresh_risk_scores(): queues the wallets whose score may have changed since the last call; '
             'returns the number'),
                ('lock_risk_queue', 'arx_operator', 'waits for the transactions of others that queue wallets'),
                ('queued_networks', 'arx_operator', 'step of refresh_risk_scores(): networks with queued wallets'),
                ('scored_network', 'arx_operator', 'step of refresh_risk_scores(): registered_network()'),
                ('load_risk_basis', 'arx_operator',
             'step of refresh_risk_scores(): reads labels before the transaction writes'),
                ('take_queued_wallets', 'arx_operator',
             'step of refresh_risk_scores(): takes the next wallets after an address from the queue; waiting: also '
             'those others have locked'),
                ('write_risk_scores', 'arx_operator',
             'step of refresh_risk_scores(): scores wallets taken from the queue; returns the number whose score or '
             'state changed'),
                ('max_price_age', 'arx_reader', 'age up to which a price is in force: the setting arx.max_price_age'),
                ('price_basis', 'arx_operator', 'step of apply_asset_prices(): digest of the prices and tokens of a network'),
                ('price_gap', 'arx_reader', 'why the coin of a network (NULL), or a token, has no value in USD at some times'),
                ('apply_asset_prices', 'arx_operator',
             'fills value_usd of the new rows of a network from asset_prices: the last price before each, not older than '
             'arx.max_price_age; returns rows with and without a price by asset'),
                ('price_coverage', 'arx_reader',
             'rows of a network with and without value_usd by asset, with the reason and the times'),
                ('apply_token_kinds', 'arx_operator',
             'moves the ids of NFTs from amount to token_id, by tokens and by the ids that rows have; returns rows corrected '
             'and rows that contradict the kind'),

            -- Partitions
                ('partition_plan', 'arx_reader',
             'steps that maintenance would take now for a table with a policy: statement, reason, lock and estimates; '
             'leave: something that stays as it is; blocked: a partition that cannot be created'),
                ('planned_steps', 'arx_reader', 'step of partition_plan(): the steps without statements'),
                ('maintenance_steps', 'arx_operator',
             'step of run_partition_maintenance(): the steps of all tables with a policy, those that create first'),
                ('managed_relations', 'arx_reader', 'tables with a policy in partition_policies'),
                ('partition_cover', 'arx_operator', 'partitions that are missing for a range of time'),
                ('manage_partitions', 'arx_operator',
             'with an interval: writes the policy of a table and returns its plan. Without: '
             'run_partition_maintenance() of one table'),
                ('run_partition_maintenance', 'arx_operator',
             'creates partitions ahead, drains the default partition and applies retention by partition_policies, for '
             'one table or all; a step that fails has its error and leaves the others done; dry_run only shows the steps'),
                ('maintain_partitions', 'arx_operator',
             'run_partition_maintenance() with a transaction for each step; a table in use is tried again for as long as '
             'patience says'),
                ('partition_step', 'arx_operator',
             'step of run_partition_maintenance(): carries out one step that the policy requires'),
                ('try_partition_step', 'arx_operator',
             'step of run_partition_maintenance(): partition_step() with its outcome as an event'),
                ('end_partition_run', 'arx_operator', 'step of run_partition_maintenance(): the end of a run as an event'),
                ('note_partition_event', 'arx_operator', 'step of run_partition_maintenance(): writes partition_events'),
                ('check_partition_policy', 'arx_operator',
             'trigger: rejects policies that do not suit their table, and those of tables of other roles'),
                ('in_transaction_block', 'arx_operator', 'true inside a transaction block, where a procedure cannot commit'),
                ('ensure_partitions', 'arx_operator',
             'creates the missing partitions for a range of time and drains the default partition into them; returns the '
             'number'),
                ('ensure_integer_partitions', 'arx_operator', 'ensure_partitions() for a table that is partitioned by integers'),
                ('drain_default_partition', 'arx_operator',
             'moves rows out of the default partition into partitions of their own, and impossible times into quarantine'),
                ('drain_default_partitions', 'arx_operator',
             'drain_default_partition() with a transaction for each range, of one table or all'),
                ('drain_steps', 'arx_operator', 'step of drain_default_partition(): what is to be moved'),
                ('attach_partition', 'arx_operator',
             'attaches a table that maintenance has detached, with its former bounds; or any table of the caller''s roles '
             'with the bounds given'),
                ('attach_range', 'arx_operator', 'step of attach_partition()'),
                ('check_partition_consent', 'arx_operator', 'trigger: only a member of the role that owns a table may consent'),
                ('write_partition_policy', 'arx_operator', 'step of manage_partitions(): writes partition_policies'),
                ('remove_partition_policy', 'arx_operator', 'step of unpartition_table(): removes a policy of a user'),
                ('note_archive', 'arx_operator', 'step of archive_partition(): writes archived_ranges'),
                ('note_attached_archive', 'arx_operator', 'step of attach_partition(): notes in archived_ranges that rows are back'),
                ('archive_queries', 'arx_operator', 'step of arx-sidecar maintain: the statements that read a partition'),
                ('lock_for_archive', 'arx_operator',
             'step of archive_partition(): locks the rows of a partition against changes, and returns their fingerprint'),
                ('archive_partition', 'arx_operator',
             'step of arx-sidecar maintain: lists an archive that was compared, and detaches its partition'),
                ('restore_archived_rows', 'arx_operator', 'step of arx-sidecar restore-archive: inserts rows given as JSON'),
                ('create_hash_partitions', 'arx_operator',
             'creates the partitions of a table that is partitioned by hash, or changes their number; of '
             'wallet_profiles, it splits the partition of a network by hash of the address, NULL: of every network with '
             'profiles'),
                ('convert_table', 'arx_operator',
             'makes an ordinary table of the caller a partitioned one with a policy: the table becomes the default '
             'partition, under a short lock; drain_default_partitions() then moves its rows'),
                ('unpartition_table', 'arx_operator',
             'makes a partitioned table of the caller an ordinary one while others read and write, with one short lock at '
             'the end; an interrupted call is resumed by the next'),
                ('apply_changes', 'arx_operator', 'step of unpartition_table(): copies the rows again that have changed'),
                ('begin_unpartition', 'arx_operator', 'step of unpartition_table(): makes the copy, and notes what changes'),
                ('claim_unpartition', 'arx_operator', 'step of unpartition_table(): lets one session at a time copy'),
                ('copy_partitions', 'arx_operator', 'step of unpartition_table(): copies partitions in batches'),
                ('begin_step', 'arx_operator', 'step of unpartition_table(): settings of a transaction'),
                ('require_read_committed', 'arx_operator', 'rejects another isolation level for a conversion'),
                ('require_same_columns', 'arx_operator',
             'step of unpartition_table(): rejects a table that has other columns than its copy'),
                ('revoke_default_privileges', 'arx_operator', 'step of convert_table(): takes the privileges of others from a new table'),
                ('is_copied', 'arx_operator', 'step of unpartition_table(): whether the copy is complete'),
                ('put_copy_in_place', 'arx_operator', 'step of unpartition_table(): gives the copy the name of its table'),
                ('require_unpartitionable', 'arx_operator', 'step of unpartition_table(): rejects a table that must stay as it is'),
                ('put_parent_in_place', 'arx_operator', 'step of convert_table(): makes an empty partitioned table in its place'),
                ('move_identities', 'arx_operator', 'step of convert_table(): identity columns go on where they were'),
                ('copy_replica_identity', 'arx_operator', 'step of convert_table(): the replica identity of another table'),
                ('conversion_name', 'arx_reader', 'step of convert_table(): a name with an ending, cut to 63 bytes'),
                ('conversion_dependent', 'arx_reader', 'the object that depends on a table and keeps it from being converted, or NULL'),
                ('conversion_policies', 'arx_reader',
             'step of convert_table(): row security and views of a table, as statements'),
                ('conversion_extras', 'arx_reader', 'step of convert_table(): what a table has beyond its columns, as statements'),
                ('policy_clauses', 'arx_reader', 'step of partition_plan(): clauses that a policy adds to its statements'),
                ('require_policy_objects', 'arx_operator', 'step of manage_partitions(): rejects names of what does not exist'),
                ('lock_in_attempts', 'arx_operator', 'step of convert_table(): locks a table in attempts of 100 ms'),
                ('conversion_obstacle', 'arx_reader', 'the obstacle to converting a table, or NULL'),
                ('printed_bounds', 'arx_reader', 'bounds of a partition by range of one column, of its printed expression'),
                ('partition_range', 'arx_reader',
             'bounds of a range partition of one timestamptz column; of the default partition NULL'),
                ('partition_keys', 'arx_reader',
             'bounds of a range partition as integers: microseconds since 1970, or with is_number as the key has them'),
                ('partition_times', 'arx_reader',
             'bounds of a range partition as times, also where integers count seconds or milliseconds'),

            -- Decisions about transfers, and alerts about wallets
                ('screen_transfer', 'arx_analyst',
             'allow, review or block for a transfer before it moves, with the rules that fire, within the caller''s transaction; '
             'stored in decisions, and once for an external id'),
                ('replay_decision', 'arx_analyst',
             'computes a decision again: its parts as recorded and as of now, and whether they are the same'),
                ('verify_audit_log', 'arx_reader',
             'checks the chains of hashes of decisions and alert_events, one row each: an entry that was changed, added or '
             'removed by hand is found'),
                ('screening_facts', 'arx_analyst', 'step of screen_transfer(): facts of sender and receiver'),
                ('screening_hits', 'arx_analyst', 'step of screen_transfer(): rules that fire on the facts of a transfer'),
                ('set_alert_rule', 'arx_analyst',
             'creates the next version of a rule of wallet alerts as a draft; returns its number'),
                ('set_alert_rule_state', 'arx_analyst',
             'makes a version of a rule draft, shadow, active, paused or retired; returns its former state'),
                ('check_alert_condition', 'arx_reader',
             'facts that the condition of a rule names; a fault is an error (22023) with its position'),
                ('compile_alert_condition', 'arx_reader',
             'condition of a rule as an SQL expression over facts, with its numbers and texts as parameters'),
                ('alert_condition_parts', 'arx_reader',
             'condition of a rule as a predicate of SQL/JSON path over an object of facts, then the facts that it names'),
                ('compiled_alert_rules', 'arx_reader', 'step of check_wallet_alerts(): the rules as one expression'),
                ('alert_facts', 'arx_reader', 'facts that conditions of wallet alert rules may name'),
                ('alert_fact_columns', 'arx_reader', 'facts as the columns of a record'),
                ('transfer_facts', 'arx_reader',
             'facts of both wallets of transfers that have become visible since a snapshot (NULL: all), within a range of times'),
                ('transfers_to_judge', 'arx_reader', 'number and times of the transfers that transfer_facts() would read'),
                ('transfer_facts_query', 'arx_reader', 'query of transfer_facts(), for few transfers or for many'),
                ('last_activity', 'arx_reader', 'last time before each time at which its wallet sent or received'),
                ('known_pairs', 'arx_reader', 'places of the pairs of wallets between which something moved before their times'),
                ('alert_candidates', 'arx_operator',
             'step of check_wallet_alerts(): sides of new transfers that rules may fire on, with facts about them'),
                ('judge_transfers', 'arx_operator', 'step of check_wallet_alerts(): judges transfers, and stores the hits'),
                ('wallet_alerts_wait', 'arx_operator',
             'true if check_wallet_alerts() has something to do, and the snapshot of that answer; the sidecar calls it'),
                ('check_wallet_alerts', 'arx_operator',
             'judges the transfers that have become visible since the last run by all rules, each transfer once; returns '
             'hits and alerts by rule'),
                ('group_alert_hits', 'arx_operator', 'step of check_wallet_alerts(): makes alerts of hits'),
                ('raise_typologies', 'arx_operator', 'step of check_wallet_alerts(): raises alerts of typologies'),
                ('retract_alert_hits', 'arx_operator', 'step of check_wallet_alerts(): takes back hits whose transfers are gone'),
                ('rescreen_watchlists', 'arx_operator',
             'judges the members of watchlists again whose answer may have changed since the last run; returns members, '
             'those judged and those changed, by network'),
                ('queue_watchlist_members', 'arx_analyst',
             'trigger: notes members of watchlists that were added or removed, for the next run of rescreen_watchlists()'),
                ('verify_watchlists', 'arx_reader', 'members whose stored answer is not the one of now, by judging all of them'),
                ('watch_answers', 'arx_reader', 'step of rescreen_watchlists(): score, state and label of wallets'),
                ('queue_alert_deliveries', 'arx_operator',
             'step of check_wallet_alerts(): puts open alerts into the queues of destinations, and notifies arx_alerts with '
             'their ids; returns the number of messages'),
                ('delivery_destinations', 'arx_operator', 'destinations that the sidecar delivers alerts to'),
                ('take_alert_deliveries', 'arx_operator',
             'takes messages that are due for a minute, at most one for each wallet; the sidecar calls it'),
                ('finish_alert_delivery', 'arx_operator',
             'stores the outcome of an attempt: delivered (problem NULL), or to be tried again'),
                ('acknowledge_alert', 'arx_analyst', 'takes an alert over; the caller becomes the assignee unless there is one'),
                ('assign_alert', 'arx_analyst', 'gives an alert to someone else'),
                ('comment_alert', 'arx_analyst', 'adds a note to the history of an alert'),
                ('close_alert', 'arx_analyst',
             'closes an alert with a reason; where its rule needs four eyes, the first role proposes (closing) and another '
             'one closes'),
                ('locked_alert', 'arx_analyst', 'step of the functions of cases: locks an alert that is not closed'),
                ('export_alert', 'arx_reader', 'an alert with its transfers and its whole history, as one document'),
                ('export_alert_csv', 'arx_reader', 'the same as CSV, safe to open in a spreadsheet'),
                ('csv_cell', 'arx_reader', 'a cell of CSV that a spreadsheet takes for a text'),
                ('backtest_alert_rule', 'arx_reader',
             'a version of a rule over past transfers: hits, share, alerts, hours of analysts, precision and recall by '
             'labels, overlap with other rules, examples'),
                ('guard_wallet_alert_rule', 'arx_analyst', 'trigger: checks the condition of a rule, which never changes'),
                ('seal_entry', 'arx_analyst', 'trigger: chains an entry of the audit log to the one before it, and records who has called'),
                ('keep_entry', 'arx_analyst', 'trigger: refuses changes of entries'),
                ('entry_hash', 'arx_reader', 'hash of an entry of the audit log and the one before it'),
                ('sealed_content', 'arx_reader', 'content of an entry that its hash covers'),
                ('extend_chain', 'arx_analyst', 'step of seal_entry(): chooses a chain that no other transaction extends'),
                ('add_alert_events', 'arx_operator', 'step of check_wallet_alerts(): adds entries to the history of alerts'),
                ('close_entry', 'arx_analyst', 'step of seal_entry(): stores the head of a chain'),

            -- Maintenance and alerts
                ('update_table_statistics', 'arx_operator',
             'analyzes the tables of schema arx with stale statistics, partitioned parents included; returns them '
             'with the reason'),
                ('index_pages_needed', NULL, 'step of index_maintenance_plan(): pages that the rows of a btree need, estimated'),
                ('measured_density', NULL, 'step of index_maintenance_plan(): filled share of the leaf pages of an index'),
                ('index_maintenance_plan', 'arx_reader',
             'statements that the indexes of schema arx need, to be run at top level: \gexec in psql, pg_cron, or '
             'arx-sidecar maintain-indexes'),
                ('maintain_indexes', 'arx_operator',
             'reports what the indexes need; returns the number of statements in index_maintenance_plan()'),
                ('performance_facts', 'arx_reader',
             'metrics of the server, one row each; counters start at the last sample of performance_samples, or at '
             'server start'),
                ('health_check', 'arx_reader',
             'state of the server and of ARX by the rules of alert_rules, worst first: value, threshold, severity (ok, info, '
             'unknown, warning, critical), cause and the statement that helps'),
                ('health_facts', 'arx_reader',
             'measurements of health_check(), by metric and object; value NULL: unknown if it applies'),
                ('health_metrics', 'arx_reader', 'metrics of health_facts() with their meaning'),
                ('server_measurements', 'arx_reader', 'step of health_facts(): what the server and the state of ARX show'),
                ('table_measurements', 'arx_reader', 'step of health_facts(): counts of rows, and what waits to be read'),
                ('misplaced_rows', 'arx_reader',
             'step of table_measurements(): rows of default partitions and quarantines, counted where superusers own them'),
                ('unmeasured', 'arx_reader', 'step of health_facts(): metrics that could not be measured, with the reason'),
                ('disk_usage', NULL, 'step of server_measurements(): used share and free bytes of the disk of a path'),
                ('requested_checkpoints', 'arx_reader',
             'checkpoints since the statistics were reset that did not wait for checkpoint_timeout'),
                ('forget_standby', 'arx_operator',
             'forgets a standby that was retired, so that health_check() does not miss it; returns true if it was known'),
                ('check_performance_alerts', 'arx_reader',
             'rules of alert_rules whose threshold is crossed now, and rules whose metric does not exist (value NULL)'),
                ('check_alert_metric', 'arx_operator', 'trigger: warns about a rule whose metric does not exist'),
                ('record_performance_alerts', 'arx_operator',
             'stores the result of check_performance_alerts() in alerts and takes a sample; returns the number of '
             'alerts'),
                ('take_performance_sample', 'arx_operator',
             'step of record_performance_alerts(): stores the counters of the server, and removes old ones'),
                ('schedule_owner', 'arx_reader', 'role that the jobs of arx.schedules run as: the owner of that table'),
                ('scheduled_jobs', 'arx_reader', 'rows of arx.schedules'),
                ('require_pg_cron', 'arx_operator',
             'raises an error (55000) unless pg_cron is installed in this database, or can be reached by dblink in another'),
                ('libpq_value', 'arx_operator', 'a value as a connection string of libpq needs it'),
                ('in_pg_cron', 'arx_operator', 'step of install_schedules(): runs a statement in the database of pg_cron'),
                ('schedule_statements', 'arx_reader', 'statements that schedule the jobs of arx.schedules in the database of pg_cron'),
                ('job_history', 'arx_operator',
             'runs of the jobs in this database by pg_cron or arx-sidecar, newest first: outcome, duration and message'),
                ('reject_schedule_writers', 'arx_operator',
             'step of install_schedules(): raises an error (55000) if another role than the owner can write arx.schedules'),
                ('require_schedules_here', 'arx_operator',
             'step of arx-sidecar maintain --schedules: raises an error unless this session may run arx.schedules'),
                ('begin_job_run', 'arx_operator', 'step of arx-sidecar maintain --schedules: the start of a run'),
                ('end_job_run', 'arx_operator', 'step of arx-sidecar maintain --schedules: the end of a run'),
                ('sidecar_runs', 'arx_operator', 'step of job_history(): the runs by arx-sidecar'),
                ('queue_maintenance', 'arx_operator',
             'queues the work that cannot run inside a function, for arx-sidecar maintain; returns the number of new tasks'),
                ('queue_task', 'arx_operator', 'step of queue_maintenance()'),
                ('take_task', 'arx_operator', 'step of arx-sidecar maintain: the next task of maintenance_queue'),
                ('maintenance_statement', 'arx_operator',
             'step of arx-sidecar maintain: the statement of a task, NULL if there is nothing to do any more'),
                ('finish_task', 'arx_operator', 'step of arx-sidecar maintain: the end of a task'),
                ('install_schedules', 'arx_operator',
             'schedules the jobs of arx.schedules with pg_cron, to run as the owner of that table, replacing those of the '
             'same name'),
                ('remove_schedules', 'arx_operator',
             'unschedules the jobs of arx.schedules from pg_cron; returns the number removed')
      ) AS d (name, grantee, comment)
          FULL JOIN (
            SELECT p.proname::text AS name, p.oid::regprocedure AS signature
              FROM pg_catalog.pg_proc AS p
              JOIN pg_catalog.pg_depend AS m
                ON m.classid = 'pg_catalog.pg_proc'::regclass AND m.objid = p.oid AND m.deptype = 'e'
               AND m.refclassid = 'pg_catalog.pg_extension'::regclass
              JOIN pg_catalog.pg_extension AS e ON e.oid = m.refobjid AND e.extname = 'arx'
          ) AS f ON f.name = d.name
         ORDER BY 1
    LOOP
        IF NOT declared.has_row THEN
            RAISE EXCEPTION 'function % has no row in 91_access.sql', declared.signature;
        ELSIF declared.signature IS NULL THEN
            RAISE EXCEPTION 'function "%" of 91_access.sql does not exist', declared.name;
        ELSIF declared.row_count > 1 THEN
            RAISE EXCEPTION 'function "%" has % rows in 91_access.sql', declared.name, declared.row_count;
        END IF;
        EXECUTE format('REVOKE ALL ON ROUTINE %s FROM PUBLIC', declared.signature);
        EXECUTE format('COMMENT ON ROUTINE %s IS %L', declared.signature, declared.comment);
        IF declared.grantee IS NOT NULL THEN
            EXECUTE format('GRANT EXECUTE ON ROUTINE %s TO %I', declared.signature, declared.grantee);
        END IF;
    END LOOP;
END;
$do$;

-- A monitoring system needs no role of ARX: pg_monitor may ask how the server is.
GRANT USAGE ON SCHEMA arx TO pg_monitor;
GRANT EXECUTE ON FUNCTION health_check, health_facts, health_metrics, server_measurements, table_measurements, unmeasured, misplaced_rows,
    requested_checkpoints, check_performance_alerts, performance_facts TO pg_monitor;

-- JIT compilation of plans over many partitions takes longer than running them.
ALTER FUNCTION wallet_risk SET jit = off;
ALTER FUNCTION risk_factors SET jit = off;
ALTER FUNCTION risk_reasons SET jit = off;
ALTER FUNCTION score_wallets SET jit = off;
ALTER FUNCTION explain_wallets SET jit = off;
ALTER FUNCTION wallet_explanations SET jit = off;

-- Internal tables -------------------------------------------------------------------------------
-- Default privileges may have granted some.
DO $do$
DECLARE
    relation regclass;
BEGIN
    FOR relation IN
        SELECT c.oid FROM pg_catalog.pg_class AS c
          JOIN pg_catalog.pg_depend AS m
            ON m.classid = 'pg_catalog.pg_class'::regclass AND m.objid = c.oid AND m.deptype = 'e'
           AND m.refclassid = 'pg_catalog.pg_extension'::regclass
          JOIN pg_catalog.pg_extension AS e ON e.oid = m.refobjid AND e.extname = 'arx'
         WHERE c.relkind IN ('r', 'v')
    LOOP
        EXECUTE format('REVOKE ALL ON TABLE %s FROM PUBLIC', relation);
    END LOOP;
END;
$do$;
GRANT SELECT ON TABLE transaction_changes, label_changes, graph_epoch, pruned_epochs, tracked_partitions, feed_positions,
    feed_loads, feed_chunks, feed_reloads, feed_rejects, feed_verified, feed_verified_hours, behaviour_windows, risk_queue, risk_refresh_state,
    performance_samples, price_positions, audit_chains, watchlist_state, profile_change_log, partition_events,
    partition_consents, maintenance_queue, job_runs, sidecar_reports
    TO arx_reader;
GRANT INSERT, UPDATE, DELETE ON TABLE partition_consents TO arx_operator;
GRANT INSERT, UPDATE, DELETE ON TABLE risk_queue, risk_refresh_state, price_positions, watchlist_state TO arx_operator;
GRANT INSERT, DELETE ON TABLE feed_reloads TO arx_operator;
GRANT DELETE ON TABLE sidecar_reports TO arx_operator;
GRANT INSERT, UPDATE ON TABLE sidecar_reports TO arx_feeder;
GRANT INSERT, UPDATE, DELETE ON TABLE feed_positions, feed_loads, feed_chunks, feed_reloads, feed_rejects,
    feed_verified, feed_verified_hours, behaviour_windows TO arx_feeder;
GRANT DELETE ON TABLE label_changes TO arx_feeder;
GRANT SELECT, INSERT, DELETE ON TABLE applied_writes TO arx_feeder;
