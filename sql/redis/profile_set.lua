-- Caches a profile unless a newer one is cached. KEYS: profile. ARGV: version, body, time to live
-- in seconds. Returns 1 if the profile was cached. Versions are compared as text, by length and
-- then by digits: a Lua number is exact only to 2^53.
local cached = redis.call('HGET', KEYS[1], 'version')
if cached and (#cached > #ARGV[1] or (#cached == #ARGV[1] and cached > ARGV[1])) then
    return 0
end
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'version', ARGV[1], 'body', ARGV[2])
redis.call('EXPIRE', KEYS[1], ARGV[3])
return 1
