-- Caches a profile unless a newer one is cached. KEYS: profile. ARGV: height of the snapshot it is
-- true at, snapshot, body, time to live in milliseconds, microseconds that reading it took, 1 if it
-- comes from the follower. Returns 1 if the profile was cached. Heights are compared as text, by
-- length and then by digits: a Lua number is exact only to 2^53. Of two profiles of one height the
-- follower's counts: it has seen labels end that a reader's snapshot cannot tell apart.
local cached = redis.call('HGET', KEYS[1], 'height')
if cached and string.find(cached, '^%d+$') then
    if #cached > #ARGV[1] or (#cached == #ARGV[1] and cached > ARGV[1]) then
        return 0
    end
    if cached == ARGV[1] and ARGV[6] ~= '1' then
        redis.call('PEXPIRE', KEYS[1], ARGV[4])
        return 0
    end
end
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'height', ARGV[1], 'snapshot', ARGV[2], 'body', ARGV[3], 'cost', ARGV[5])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return 1
