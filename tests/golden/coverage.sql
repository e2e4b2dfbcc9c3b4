-- Coverage of histories: which statements are accepted.
SET timezone = 'UTC';
INSERT INTO arx.networks (network, native_asset) VALUES ('testnet', 'TST');
INSERT INTO arx.history_coverage (network, source) VALUES ('testnet', 'test');
INSERT INTO arx.history_coverage (network, address, from_time, to_time, source)
VALUES ('testnet', 'alice', '2024-01-01', NULL, 'test'), ('testnet', 'alice', NULL, '2023-01-01', 'test');
SELECT network, address, from_time, to_time, source, recorded_by = current_user AS mine FROM arx.history_coverage
 ORDER BY address NULLS FIRST, from_time NULLS FIRST;
-- The same statement twice is one.
INSERT INTO arx.history_coverage (network, address, from_time, source) VALUES ('testnet', 'alice', '2024-01-01', 'test');
INSERT INTO arx.history_coverage (network, source) VALUES ('testnet', 'test') ON CONFLICT DO NOTHING;
-- A range that ends before it begins, an empty one, an infinite one, a wallet or network that does
-- not exist, no source. The row itself holds a time, so only the constraint is shown.
CREATE FUNCTION public.refused(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    constraint_name text;
BEGIN
    EXECUTE 'INSERT INTO arx.history_coverage (network, address, from_time, to_time, source) VALUES ' || statement;
    RETURN 'accepted';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS constraint_name = CONSTRAINT_NAME;
    RETURN SQLSTATE || ' ' || coalesce(nullif(constraint_name, ''), SQLERRM);
END;
$$;
SELECT statement, public.refused(statement) FROM unnest(ARRAY[
    $$('testnet', NULL, '2024-01-02', '2024-01-01', 'test')$$, $$('testnet', NULL, '2024-01-01', '2024-01-01', 'test')$$,
    $$('testnet', NULL, NULL, 'infinity', 'test')$$, $$('ethereum', '0x12', NULL, NULL, 'test')$$,
    $$('testnet', '', NULL, NULL, 'test')$$, $$('nowhere', NULL, NULL, NULL, 'test')$$,
    $$(NULL, NULL, NULL, NULL, 'test')$$, $$('testnet', NULL, NULL, NULL, ' ')$$]) AS s (statement);
