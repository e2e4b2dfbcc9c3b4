-- Screening decisions, watchlists, rules of wallet alerts, alerts and their cases.

-- A version of a rule never changes what it fires on: another condition is another version.
CREATE TABLE arx.wallet_alert_rules (
    rule         text NOT NULL CHECK (rule ~ '^[a-z][a-z0-9_]*$'),
    version      integer NOT NULL DEFAULT 1 CHECK (version > 0),
    builtin      boolean NOT NULL DEFAULT false,
    state        text NOT NULL DEFAULT 'draft' CHECK (state IN ('draft', 'shadow', 'active', 'paused', 'retired')),
    state_reason text,
    condition    jsonb NOT NULL,
    -- The wallet that is judged: sender, receiver, or each of them.
    side         text NOT NULL DEFAULT 'any' CHECK (side IN ('sender', 'receiver', 'any')),
    -- Transfers that have become visible, transfers before they move, or both.
    used_for     text NOT NULL DEFAULT 'alerts' CHECK (used_for IN ('alerts', 'screening', 'both')),
    verdict      text CHECK (verdict IN ('review', 'block')),
    severity     text NOT NULL DEFAULT 'medium' CHECK (severity IN ('low', 'medium', 'high', 'critical')),
    description  text NOT NULL CHECK (btrim(description) <> ''),
    cooldown     interval NOT NULL DEFAULT '1 day' CHECK (cooldown >= '0'),
    pending      interval NOT NULL DEFAULT '0' CHECK (pending >= '0'),
    sla          interval CHECK (sla > '0'),
    inhibited_by text[] NOT NULL DEFAULT '{}',
    four_eyes    boolean NOT NULL DEFAULT false,
    -- Share of the judged transfers above which the rule is paused.
    max_share    double precision NOT NULL DEFAULT 0.2 CHECK (max_share > 0 AND max_share <= 1),
    created_at   timestamptz NOT NULL DEFAULT now(),
    created_by   text NOT NULL DEFAULT current_user,
    PRIMARY KEY (rule, version),
    CONSTRAINT wallet_alert_rules_verdict CHECK ((verdict IS NULL) = (used_for = 'alerts'))
);
COMMENT ON TABLE arx.wallet_alert_rules IS 'rules of check_wallet_alerts() and screen_transfer() by version; of several active versions the latest is';
GRANT SELECT ON TABLE arx.wallet_alert_rules TO arx_reader;
GRANT INSERT (rule, version, state, condition, side, used_for, verdict, severity, description, cooldown, pending, sla,
              inhibited_by, four_eyes, max_share),
      UPDATE (state, state_reason) ON TABLE arx.wallet_alert_rules TO arx_analyst;
GRANT UPDATE (state, state_reason), DELETE ON TABLE arx.wallet_alert_rules TO arx_operator;
INSERT INTO arx.wallet_alert_rules (rule, builtin, state, condition, side, used_for, verdict, severity, description, inhibited_by, four_eyes)
SELECT r.rule, true, 'active', r.condition::jsonb, r.side, r.used_for, r.verdict, r.severity, r.description, r.inhibited_by::text[], r.four_eyes
  FROM (VALUES
    ('large_transfer', '{"fact": "amount_usd", "op": ">=", "value": 100000}', 'any', 'alerts', NULL, 'medium',
     'a transfer of at least 100,000 dollars', '{}', false),
    ('watchlist_hit', '{"any": [{"fact": "wallet_watched", "op": "=", "value": true}, {"fact": "counterparty_watched", "op": "=", "value": true}]}',
     'sender', 'both', 'review', 'medium', 'a wallet of a watchlist takes part', '{}', false),
    ('sanctions_hit', '{"any": [{"fact": "wallet_category", "op": "=", "value": "sanctions"}, {"fact": "counterparty_category", "op": "=", "value": "sanctions"}]}',
     'any', 'both', 'block', 'critical', 'one of the wallets is under sanctions', '{}', true),
    ('sanctions_exposure', '{"any": [{"fact": "sanctions_in", "op": ">", "value": 0}, {"fact": "sanctions_out", "op": ">", "value": 0}]}',
     'any', 'screening', 'review', 'high', 'funds of the wallet came from, or went to, wallets under sanctions', '{}', true),
    ('illicit_share', '{"any": [{"fact": "illicit_share_in", "op": ">=", "value": 0.1}, {"fact": "illicit_share_out", "op": ">=", "value": 0.1}]}',
     'any', 'screening', 'review', 'high', 'at least a tenth of the funds are of illicit wallets', '{}', false),
    ('high_score', '{"any": [{"fact": "wallet_score", "op": ">=", "value": 75}, {"fact": "counterparty_score", "op": ">=", "value": 75}]}',
     'sender', 'screening', 'review', 'high', 'the score of one of the wallets is at least 75', '{}', false),
    ('velocity', '{"any": [{"fact": "count_1h", "op": ">=", "value": 50}, {"fact": "sum_usd_24h", "op": ">=", "value": 1000000}]}',
     'sender', 'alerts', NULL, 'medium', '50 transfers within an hour, or a million dollars within a day', '{sanctions_hit}', false),
    ('new_risky_counterparty', '{"all": [{"fact": "is_new_counterparty", "op": "=", "value": true}, {"any": [{"fact": "counterparty_score", "op": ">=", "value": 75}, {"fact": "counterparty_kind", "op": "=", "value": "illicit"}]}]}',
     'any', 'alerts', NULL, 'high', 'the first transfer with an illicit wallet, or one with a score of at least 75', '{sanctions_hit}', false),
    ('dormant_awakened', '{"all": [{"fact": "days_idle", "op": ">=", "value": 365}, {"fact": "amount", "op": ">", "value": 0}]}',
     'sender', 'alerts', NULL, 'low', 'a wallet sends after a year without activity', '{}', false),
    ('structuring', '{"fact": "below_10000_usd_24h", "op": ">=", "value": 3}', 'sender', 'alerts', NULL, 'high',
     'three transfers of 8,000 to 10,000 dollars within a day', '{}', false),
    ('risk_jump', '{"fact": "score_change_7d", "op": ">=", "value": 20}', 'any', 'alerts', NULL, 'high',
     'the score of the wallet rose by 20 within a week', '{}', false)
  ) AS r (rule, condition, side, used_for, verdict, severity, description, inhibited_by, four_eyes);
CREATE TRIGGER arx_guard BEFORE INSERT OR UPDATE ON arx.wallet_alert_rules
    FOR EACH ROW EXECUTE FUNCTION arx.guard_wallet_alert_rule();
ALTER TABLE arx.wallet_alert_rules ENABLE ALWAYS TRIGGER arx_guard;
CREATE TRIGGER arx_author BEFORE INSERT ON arx.wallet_alert_rules
    FOR EACH ROW EXECUTE FUNCTION arx.sign_author('created_by');

-- Alerts: what a rule found about a wallet, until its cooldown has passed without another hit.
CREATE TABLE arx.wallet_alerts (
    alert_id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    dedup_key    text NOT NULL UNIQUE,
    rule         text NOT NULL,
    rule_version integer NOT NULL,
    severity     text NOT NULL,
    network      text NOT NULL,
    address      text NOT NULL,
    -- Silenced and inhibited alerts are kept, and not delivered; a retracted one has no transfers.
    state        text NOT NULL CHECK (state IN ('pending', 'open', 'silenced', 'inhibited', 'retracted')),
    status       text NOT NULL DEFAULT 'new' CHECK (status IN ('new', 'acknowledged', 'closing', 'closed')),
    hits         bigint NOT NULL,
    first_hit_at timestamptz NOT NULL,
    last_hit_at  timestamptz NOT NULL,
    amount_usd   numeric,
    evidence     jsonb NOT NULL,
    raised_at    timestamptz NOT NULL DEFAULT now(),
    deliver_from timestamptz NOT NULL DEFAULT now(),
    -- In the queues of the destinations that were enabled when it was to be delivered.
    is_queued    boolean NOT NULL DEFAULT false,
    due_at       timestamptz,
    assignee     text,
    close_reason text,
    closed_by    text,
    closed_at    timestamptz
);
COMMENT ON TABLE arx.wallet_alerts IS 'alerts about wallets and their cases: a wallet, a rule, its hits with evidence, status and assignee';
GRANT SELECT ON TABLE arx.wallet_alerts TO arx_reader;
GRANT UPDATE (status, assignee, close_reason, closed_by, closed_at) ON TABLE arx.wallet_alerts TO arx_analyst;
GRANT INSERT, UPDATE ON TABLE arx.wallet_alerts TO arx_operator;
GRANT USAGE ON SEQUENCE arx.wallet_alerts_alert_id_seq TO arx_operator;
CREATE INDEX idx_wallet_alerts_wallet ON arx.wallet_alerts (network, address, rule, last_hit_at DESC);
CREATE INDEX idx_wallet_alerts_raised ON arx.wallet_alerts (raised_at);
CREATE INDEX idx_wallet_alerts_pending ON arx.wallet_alerts (deliver_from) WHERE state = 'pending';
CREATE INDEX idx_wallet_alerts_unqueued ON arx.wallet_alerts (alert_id) WHERE state = 'open' AND NOT is_queued;
CREATE INDEX idx_wallet_alerts_open ON arx.wallet_alerts (due_at) WHERE status <> 'closed';

-- One row a transfer that a rule fired on: it fires once for it, in whatever version.
CREATE TABLE arx.wallet_alert_hits (
    hit_id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    rule         text NOT NULL,
    rule_version integer NOT NULL,
    is_shadow    boolean NOT NULL,
    network      text NOT NULL,
    address      text NOT NULL,
    counterparty text,
    direction    text NOT NULL CHECK (direction IN ('in', 'out')),
    relation     text NOT NULL,
    tx_hash      text NOT NULL,
    log_index    integer,
    "timestamp"  timestamptz NOT NULL,
    amount_usd   numeric,
    facts        jsonb NOT NULL,
    alert_id     bigint,
    is_retracted boolean NOT NULL DEFAULT false,
    hit_at       timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT wallet_alert_hits_once
        UNIQUE NULLS NOT DISTINCT (tx_hash, rule, is_shadow, direction, relation, log_index, "timestamp", network, address)
);
COMMENT ON TABLE arx.wallet_alert_hits IS 'transfers that rules fired on, once each; of a rule in shadow without an alert';
GRANT SELECT ON TABLE arx.wallet_alert_hits TO arx_reader;
GRANT INSERT, UPDATE ON TABLE arx.wallet_alert_hits TO arx_operator;
GRANT USAGE ON SEQUENCE arx.wallet_alert_hits_hit_id_seq TO arx_operator;
CREATE INDEX idx_wallet_alert_hits_alert ON arx.wallet_alert_hits (alert_id);
CREATE INDEX idx_wallet_alert_hits_waiting ON arx.wallet_alert_hits (rule) WHERE alert_id IS NULL AND NOT is_shadow AND NOT is_retracted;

-- Weights of rules that mean more together. Alerts of a typology have its name as their rule, and
-- version 0.
CREATE TABLE arx.alert_typologies (
    typology    text PRIMARY KEY CHECK (typology ~ '^[a-z][a-z0-9_]*$'),
    weights     jsonb NOT NULL CHECK (jsonb_typeof(weights) = 'object' AND NOT jsonb_path_exists(weights, '$.* ? (@.type() != "number")')),
    threshold   numeric NOT NULL CHECK (threshold > 0),
    "window"    interval NOT NULL DEFAULT '30 days' CHECK ("window" > '0'),
    severity    text NOT NULL DEFAULT 'high' CHECK (severity IN ('low', 'medium', 'high', 'critical')),
    description text NOT NULL CHECK (btrim(description) <> ''),
    enabled     boolean NOT NULL DEFAULT true
);
COMMENT ON TABLE arx.alert_typologies IS 'rules that mean more together: weights by rule, and the sum from which a wallet is reported';
GRANT SELECT ON TABLE arx.alert_typologies TO arx_reader;
GRANT INSERT, UPDATE, DELETE ON TABLE arx.alert_typologies TO arx_analyst;

-- Silences; NULL stands for all.
CREATE TABLE arx.alert_silences (
    silence_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    rule       text,
    network    text,
    address    text,
    starts_at  timestamptz NOT NULL DEFAULT now(),
    ends_at    timestamptz NOT NULL CHECK (isfinite(ends_at)),
    reason     text NOT NULL CHECK (btrim(reason) <> ''),
    created_by text NOT NULL DEFAULT current_user,
    CONSTRAINT alert_silences_times CHECK (starts_at < ends_at)
);
COMMENT ON TABLE arx.alert_silences IS 'periods in which alerts of a rule or about a wallet are kept and not delivered';
GRANT SELECT ON TABLE arx.alert_silences TO arx_reader;
GRANT INSERT (rule, network, address, starts_at, ends_at, reason), UPDATE (ends_at) ON TABLE arx.alert_silences TO arx_analyst;
GRANT USAGE ON SEQUENCE arx.alert_silences_silence_id_seq TO arx_analyst;
CREATE TRIGGER arx_author BEFORE INSERT ON arx.alert_silences
    FOR EACH ROW EXECUTE FUNCTION arx.sign_author('created_by');

-- Watchlists: customers, addresses, tags.
CREATE TABLE arx.watchlists (
    watchlist   text NOT NULL CHECK (watchlist <> ''),
    network     text NOT NULL REFERENCES arx.networks,
    address     text NOT NULL CHECK (address <> ''),
    customer    text,
    tags        text[] NOT NULL DEFAULT '{}',
    added_at    timestamptz NOT NULL DEFAULT now(),
    added_by    text NOT NULL DEFAULT current_user,
    PRIMARY KEY (watchlist, network, address)
);
COMMENT ON TABLE arx.watchlists IS 'members of watchlists: addresses, with the customer and tags they belong to';
GRANT SELECT ON TABLE arx.watchlists TO arx_reader;
GRANT INSERT (watchlist, network, address, customer, tags), UPDATE (customer, tags), DELETE ON TABLE arx.watchlists TO arx_analyst;
ALTER TABLE arx.watchlists ADD CONSTRAINT watchlists_address_normalized
    CHECK (address = arx.normalize_address(address, network));
CREATE INDEX idx_watchlists_address ON arx.watchlists (network, address);

CREATE TABLE arx.watchlist_queue (
    -- NULL for all members.
    network text,
    address text,
    CONSTRAINT watchlist_queue_all CHECK ((network IS NULL) = (address IS NULL))
);
COMMENT ON TABLE arx.watchlist_queue IS 'members of watchlists that were added or removed since the last run of rescreen_watchlists()';
GRANT SELECT ON TABLE arx.watchlist_queue TO arx_reader;
GRANT INSERT ON TABLE arx.watchlist_queue TO arx_analyst;
GRANT INSERT, DELETE ON TABLE arx.watchlist_queue TO arx_operator;
CREATE TRIGGER arx_queue_added AFTER INSERT ON arx.watchlists REFERENCING NEW TABLE AS new_members
    FOR EACH STATEMENT EXECUTE FUNCTION arx.queue_watchlist_members();
CREATE TRIGGER arx_queue_moved AFTER UPDATE ON arx.watchlists REFERENCING OLD TABLE AS former_members NEW TABLE AS new_members
    FOR EACH STATEMENT EXECUTE FUNCTION arx.queue_watchlist_members();
CREATE TRIGGER arx_queue_removed AFTER DELETE ON arx.watchlists REFERENCING OLD TABLE AS former_members
    FOR EACH STATEMENT EXECUTE FUNCTION arx.queue_watchlist_members();
CREATE TRIGGER arx_queue_emptied AFTER TRUNCATE ON arx.watchlists
    FOR EACH STATEMENT EXECUTE FUNCTION arx.queue_watchlist_members();
ALTER TABLE arx.watchlists ENABLE ALWAYS TRIGGER arx_queue_added;
ALTER TABLE arx.watchlists ENABLE ALWAYS TRIGGER arx_queue_moved;
ALTER TABLE arx.watchlists ENABLE ALWAYS TRIGGER arx_queue_removed;
ALTER TABLE arx.watchlists ENABLE ALWAYS TRIGGER arx_queue_emptied;

-- The answers for members of watchlists, and how they changed.
CREATE TABLE arx.watchlist_results (
    network       text NOT NULL,
    address       text NOT NULL,
    score         numeric(4,1) NOT NULL,
    band          text NOT NULL,
    state         text NOT NULL,
    model_version text NOT NULL,
    category      text,
    changed_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (network, address)
);
COMMENT ON TABLE arx.watchlist_results IS 'answers of rescreen_watchlists() for the members of watchlists';
GRANT SELECT ON TABLE arx.watchlist_results TO arx_reader;
GRANT INSERT, UPDATE, DELETE ON TABLE arx.watchlist_results TO arx_operator;

CREATE TABLE arx.watchlist_changes (
    change_id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    network         text NOT NULL,
    address         text NOT NULL,
    former_score    numeric(4,1),
    score           numeric(4,1) NOT NULL,
    former_state    text,
    state           text NOT NULL,
    former_category text,
    category        text,
    changed_at      timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE arx.watchlist_changes IS 'answers for members of watchlists that rescreen_watchlists() found changed';
GRANT SELECT ON TABLE arx.watchlist_changes TO arx_reader;
GRANT INSERT ON TABLE arx.watchlist_changes TO arx_operator;
GRANT USAGE ON SEQUENCE arx.watchlist_changes_change_id_seq TO arx_operator;
CREATE INDEX idx_watchlist_changes_wallet ON arx.watchlist_changes (address, network, changed_at DESC);

-- Transfers and withdrawal attempts that were announced before they moved.
CREATE TABLE arx.registered_transfers (
    transfer_id   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    external_id   text NOT NULL UNIQUE CHECK (external_id <> ''),
    network       text NOT NULL,
    from_address  text NOT NULL,
    to_address    text NOT NULL,
    asset         text NOT NULL,
    amount        numeric NOT NULL,
    amount_usd    numeric,
    decision_id   bigint,
    registered_at timestamptz NOT NULL DEFAULT now(),
    registered_by text NOT NULL DEFAULT current_user
);
COMMENT ON TABLE arx.registered_transfers IS 'transfers that screen_transfer() was asked about with an external id, each once';
GRANT SELECT ON TABLE arx.registered_transfers TO arx_reader;
GRANT INSERT, UPDATE (decision_id) ON TABLE arx.registered_transfers TO arx_analyst;
GRANT USAGE ON SEQUENCE arx.registered_transfers_transfer_id_seq TO arx_analyst;

-- Decisions. An entry is the hash of its content and of the entry before it in its chain; the heads
-- of the chains are in a table of the extension, where the owner of this table cannot write.
CREATE TABLE arx.decisions (
    decision_id   bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    decided_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    decided_by    text NOT NULL DEFAULT current_user,
    network       text NOT NULL,
    from_address  text NOT NULL,
    to_address    text NOT NULL,
    asset         text NOT NULL,
    amount        numeric NOT NULL,
    amount_usd    numeric,
    external_id   text,
    decision      text NOT NULL CHECK (decision IN ('allow', 'review', 'block')),
    reasons       jsonb NOT NULL,
    facts         jsonb NOT NULL,
    rules         jsonb NOT NULL,
    model_version text NOT NULL,
    label_state   text NOT NULL,
    snapshot      text NOT NULL,
    complete      boolean NOT NULL,
    chain         uuid,
    entry         bigint,
    previous_hash bytea,
    entry_hash    bytea
);
COMMENT ON TABLE arx.decisions IS 'decisions of screen_transfer() with what they depend on, chained by hashes; entries never change: see verify_audit_log()';
GRANT SELECT ON TABLE arx.decisions TO arx_reader;
GRANT INSERT (network, from_address, to_address, asset, amount, amount_usd, external_id, decision, reasons, facts, rules,
              model_version, label_state, snapshot, complete) ON TABLE arx.decisions TO arx_analyst;
GRANT USAGE ON SEQUENCE arx.decisions_decision_id_seq TO arx_analyst;
CREATE INDEX idx_decisions_chain ON arx.decisions (chain, entry);
CREATE INDEX idx_decisions_wallet ON arx.decisions (to_address, network, decided_at DESC);
CREATE TRIGGER arx_seal BEFORE INSERT ON arx.decisions
    FOR EACH ROW EXECUTE FUNCTION arx.seal_entry();
ALTER TABLE arx.decisions ENABLE ALWAYS TRIGGER arx_seal;
CREATE TRIGGER arx_keep BEFORE UPDATE OR DELETE ON arx.decisions
    FOR EACH ROW EXECUTE FUNCTION arx.keep_entry();
ALTER TABLE arx.decisions ENABLE ALWAYS TRIGGER arx_keep;

-- History of the cases, chained in the same way.
CREATE TABLE arx.alert_events (
    event_id      bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    alert_id      bigint NOT NULL,
    happened_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    actor         text NOT NULL DEFAULT current_user,
    action        text NOT NULL,
    detail        jsonb NOT NULL DEFAULT '{}',
    chain         uuid,
    entry         bigint,
    previous_hash bytea,
    entry_hash    bytea
);
COMMENT ON TABLE arx.alert_events IS 'history of alerts about wallets: actor, action and detail, chained by hashes';
GRANT SELECT ON TABLE arx.alert_events TO arx_reader;
GRANT INSERT (alert_id, action, detail) ON TABLE arx.alert_events TO arx_analyst;
GRANT USAGE ON SEQUENCE arx.alert_events_event_id_seq TO arx_analyst;
CREATE INDEX idx_alert_events_alert ON arx.alert_events (alert_id, event_id);
CREATE INDEX idx_alert_events_chain ON arx.alert_events (chain, entry);
-- An entry that brings its hash comes with others of its chain, or with a restored dump.
CREATE TRIGGER arx_seal BEFORE INSERT ON arx.alert_events
    FOR EACH ROW WHEN (NEW.entry_hash IS NULL) EXECUTE FUNCTION arx.seal_entry();
ALTER TABLE arx.alert_events ENABLE ALWAYS TRIGGER arx_seal;
CREATE TRIGGER arx_keep BEFORE UPDATE OR DELETE ON arx.alert_events
    FOR EACH ROW EXECUTE FUNCTION arx.keep_entry();
ALTER TABLE arx.alert_events ENABLE ALWAYS TRIGGER arx_keep;
CREATE TRIGGER arx_builtin BEFORE INSERT ON arx.wallet_alert_rules
    FOR EACH ROW WHEN (NEW.builtin) EXECUTE FUNCTION arx.replace_builtin_row('rule');
ALTER TABLE arx.wallet_alert_rules ENABLE ALWAYS TRIGGER arx_builtin;

-- Receivers of alerts. Secrets are not here: `secret_name` names one of the sidecar's environment.
CREATE TABLE arx.alert_destinations (
    destination  text PRIMARY KEY CHECK (destination ~ '^[a-z][a-z0-9_]*$'),
    kind         text NOT NULL CHECK (kind IN ('webhook', 'smtp', 'redis', 'file')),
    target       text NOT NULL CHECK (target <> ''),
    secret_name  text CHECK (secret_name ~ '^[a-z][a-z0-9_]*$'),
    min_severity text NOT NULL DEFAULT 'low' CHECK (min_severity IN ('low', 'medium', 'high', 'critical')),
    enabled      boolean NOT NULL DEFAULT true,
    created_at   timestamptz NOT NULL DEFAULT now(),
    -- A URL with a password would be shown to every reader.
    CONSTRAINT alert_destinations_secret CHECK (target !~ '://[^/]*@')
);
COMMENT ON TABLE arx.alert_destinations IS 'receivers of alerts about wallets: webhooks and mail servers by URL, channels and streams of Redis, files by path on the machine of the sidecar';
GRANT SELECT ON TABLE arx.alert_destinations TO arx_reader;
GRANT INSERT (destination, kind, target, secret_name, min_severity, enabled),
      UPDATE (target, secret_name, min_severity, enabled), DELETE ON TABLE arx.alert_destinations TO arx_operator;

CREATE TABLE arx.alert_deliveries (
    delivery_id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    destination     text NOT NULL,
    alert_id        bigint NOT NULL,
    network         text NOT NULL,
    address         text NOT NULL,
    state           text NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'delivered', 'dead')),
    attempts        integer NOT NULL DEFAULT 0,
    next_attempt_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    delivered_at    timestamptz,
    problem         text,
    CONSTRAINT alert_deliveries_once UNIQUE (destination, alert_id)
);
COMMENT ON TABLE arx.alert_deliveries IS 'queue of alerts by destination, with attempts and the last problem; dead: set aside after 20 attempts';
GRANT SELECT ON TABLE arx.alert_deliveries TO arx_reader;
GRANT INSERT, UPDATE, DELETE ON TABLE arx.alert_deliveries TO arx_operator;
GRANT USAGE ON SEQUENCE arx.alert_deliveries_delivery_id_seq TO arx_operator;
CREATE INDEX idx_alert_deliveries_waiting ON arx.alert_deliveries (destination, network, address, delivery_id) WHERE state = 'waiting';
