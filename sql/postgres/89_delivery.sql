-- Delivery of alerts: one queue a destination. The sidecar takes what is due, by a lease: a message
-- whose sender has gone is due again.

-- Puts open alerts into the queue of each destination that wants them, and notifies listeners of
-- their ids.
CREATE FUNCTION queue_alert_deliveries() RETURNS bigint
    LANGUAGE plpgsql_as_owner VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    queued bigint;
BEGIN
    INSERT INTO arx.alert_deliveries (destination, alert_id, network, address)
    SELECT d.destination, a.alert_id, a.network, a.address
      FROM arx.alert_destinations AS d
      JOIN arx.wallet_alerts AS a
        ON a.state = 'open' AND a.status <> 'closed' AND a.raised_at >= d.created_at AND a.deliver_from <= now()
       AND array_position('{low,medium,high,critical}'::text[], a.severity)
           >= array_position('{low,medium,high,critical}'::text[], d.min_severity)
     WHERE d.enabled AND NOT a.is_queued
     ORDER BY a.alert_id, d.destination
        ON CONFLICT ON CONSTRAINT alert_deliveries_once DO NOTHING;
    GET DIAGNOSTICS queued = ROW_COUNT;
    UPDATE arx.wallet_alerts AS a SET is_queued = true WHERE a.state = 'open' AND NOT a.is_queued AND a.deliver_from <= now();
    -- The id alone: a listener that is no reader learns nothing. Beyond a thousand alerts, an empty
    -- payload says that there is much to read.
    PERFORM pg_notify('arx_alerts', n.payload)
       FROM (SELECT CASE WHEN count(*) OVER () <= 1000 THEN a.alert_id::text ELSE '' END AS payload
               FROM arx.wallet_alerts AS a WHERE a.state = 'open' AND a.raised_at = now()) AS n;
    RETURN queued;
END;
$$;

-- Returns true if check_wallet_alerts() has something to do. `seen` is the snapshot of an earlier
-- call, after which the run was made: while no transaction has ended since, nothing is to be done.
CREATE FUNCTION wallet_alerts_wait(seen text, OUT snapshot text, OUT waits boolean)
    LANGUAGE plpgsql_as_owner VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    SET jit = off
    AS $$
DECLARE
    stored arx.feed_positions;
BEGIN
    snapshot := pg_current_snapshot()::text;
    waits := false;
    IF EXISTS (SELECT FROM arx.wallet_alerts AS a WHERE a.state = 'pending' AND a.deliver_from <= now()) THEN
        waits := true;
    ELSIF snapshot IS DISTINCT FROM seen
          AND EXISTS (SELECT FROM arx.wallet_alert_rules AS r WHERE r.state IN ('active', 'shadow') AND r.used_for <> 'screening') THEN
        SELECT p.* INTO stored FROM arx.feed_positions AS p WHERE p.consumer = 'wallet_alerts';
        waits := stored.position IS NULL OR stored.epoch IS DISTINCT FROM arx.current_graph_epoch()
                 OR EXISTS (SELECT FROM arx.transactions AS t WHERE arx.is_new_since(t.ingest_xid, stored.position))
                 OR EXISTS (SELECT FROM arx.internal_transfers AS t WHERE arx.is_new_since(t.ingest_xid, stored.position))
                 OR EXISTS (SELECT FROM arx.token_transfers AS t WHERE arx.is_new_since(t.ingest_xid, stored.position))
                 OR EXISTS (SELECT FROM arx.transaction_changes AS c WHERE arx.is_new_since(c.changed_xid, stored.position));
    END IF;
END;
$$;

CREATE FUNCTION delivery_destinations() RETURNS TABLE (destination text, kind text, target text, secret_name text)
    LANGUAGE plpgsql_as_owner STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
BEGIN
    RETURN QUERY SELECT d.destination, d.kind, d.target, d.secret_name FROM arx.alert_destinations AS d WHERE d.enabled;
END;
$$;

-- Takes messages that are due, for a minute: at most one for each wallet, the first that waits.
CREATE FUNCTION take_alert_deliveries(destination text, "limit" bigint)
    RETURNS TABLE (delivery_id bigint, alert_id bigint, message_id text, payload jsonb)
    LANGUAGE plpgsql_as_owner VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    SET TimeZone = 'UTC'
    AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    WITH due AS (
        SELECT q.delivery_id
          FROM arx.alert_deliveries AS q
         WHERE q.destination = $1 AND q.state = 'waiting' AND q.next_attempt_at <= clock_timestamp()
           AND NOT EXISTS (SELECT FROM arx.alert_deliveries AS e
                            WHERE e.destination = q.destination AND e.network = q.network AND e.address = q.address
                              AND e.state = 'waiting' AND e.delivery_id < q.delivery_id)
         ORDER BY q.delivery_id
         LIMIT $2 FOR UPDATE SKIP LOCKED
    ), taken AS (
        UPDATE arx.alert_deliveries AS q
           SET attempts = q.attempts + 1, next_attempt_at = clock_timestamp() + interval '1 minute'
          FROM due AS d WHERE q.delivery_id = d.delivery_id
        RETURNING q.delivery_id, q.destination, q.alert_id
    )
    SELECT t.delivery_id, t.alert_id, format('arx_%s_%s', t.destination, t.alert_id),
           jsonb_build_object('type', 'arx.wallet_alert', 'timestamp', a.raised_at,
                              'data', to_jsonb(a) - '{dedup_key,deliver_from,is_queued,close_reason,closed_by,closed_at}'::text[])
      FROM taken AS t JOIN arx.wallet_alerts AS a ON a.alert_id = t.alert_id
     ORDER BY t.delivery_id;
END;
$$;

-- After a failure, the pause doubles from 5 seconds to an hour; after 20 attempts, which take about
-- 10 hours, the message is set aside. A message that was delivered may have a problem: one of
-- several recipients was rejected for good.
CREATE FUNCTION finish_alert_delivery(delivery_id bigint, problem text, is_delivered boolean DEFAULT NULL) RETURNS void
    LANGUAGE plpgsql_as_owner VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
BEGIN
    UPDATE arx.alert_deliveries AS q
       SET state = CASE WHEN coalesce($3, $2 IS NULL) THEN 'delivered' WHEN q.attempts >= 20 THEN 'dead' ELSE 'waiting' END,
           delivered_at = CASE WHEN coalesce($3, $2 IS NULL) THEN clock_timestamp() END, problem = left($2, 500),
           next_attempt_at = clock_timestamp() + least(interval '5 s' * power(2, least(q.attempts - 1, 20)), interval '1 hour')
     WHERE q.delivery_id = $1 AND q.state = 'waiting';
END;
$$;
