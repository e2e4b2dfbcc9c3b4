-- Removes a cached profile unless it is newer than the one in PostgreSQL. KEYS: profile. ARGV:
-- version in PostgreSQL. Returns 1 if the profile was removed. A newer profile holds annotations
-- that have not reached PostgreSQL yet, and is kept.
local cached = redis.call('HGET', KEYS[1], 'version')
if cached and (#cached > #ARGV[1] or (#cached == #ARGV[1] and cached > ARGV[1])) then
    return 0
end
return redis.call('DEL', KEYS[1])
