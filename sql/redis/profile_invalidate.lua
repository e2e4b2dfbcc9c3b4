-- Forgets a cached profile that is not newer than what PostgreSQL holds now. KEYS: profile. ARGV: version in PostgreSQL.
-- Returns 1 if it was forgotten. A newer one holds annotations that are still on their way, and stays.
local cached = redis.call('HGET', KEYS[1], 'version')
if cached and (#cached > #ARGV[1] or (#cached == #ARGV[1] and cached > ARGV[1])) then
    return 0
end
return redis.call('DEL', KEYS[1])
