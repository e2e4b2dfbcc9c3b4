-- Alerts about the server. The rules are rows of alert_rules; check_performance_alerts() evaluates
-- them.

-- A rule with an unknown metric is accepted, because a later version may add the metric.
CREATE FUNCTION check_alert_metric() RETURNS trigger
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
BEGIN
    IF NEW.metric NOT IN (SELECT m.metric FROM arx.health_metrics() AS m
                          UNION ALL SELECT f.metric FROM arx.performance_facts() AS f) THEN
        RAISE WARNING 'metric "%" of alert rule "%" does not exist', NEW.metric, NEW.rule
            USING HINT = 'arx.health_facts() lists the metrics. '
                         'arx.check_performance_alerts() reports the rule instead of evaluating it.';
    END IF;
    RETURN NULL;
END;
$$;
CREATE FUNCTION record_performance_alerts() RETURNS bigint
    LANGUAGE plpgsql_as_owner VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    raised bigint;
BEGIN
    INSERT INTO arx.alerts (alert_type, severity, message, value, threshold)
    SELECT a.alert_type, a.severity, a.message, a.value, a.threshold FROM arx.check_performance_alerts() AS a;
    GET DIAGNOSTICS raised = ROW_COUNT;
    PERFORM arx.take_performance_sample();
    RETURN raised;
END;
$$;
