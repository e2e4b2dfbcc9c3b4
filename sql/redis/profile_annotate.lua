-- Writes an annotation behind: into the cached profile, if it exists, and into the stream from
-- which PostgreSQL is updated. KEYS: profile, stream. ARGV: network, address, annotation, maximum
-- length of the stream, then keys and values of the annotation in turn. Returns the id of the
-- entry, or 'FULL <length>' without writing anything. The cached version rises by one, as the
-- stored one will: a profile read from PostgreSQL before that cannot replace the cached one.
local length = redis.call('XLEN', KEYS[2])
if length >= tonumber(ARGV[4]) then
    return 'FULL ' .. length
end
if redis.call('EXISTS', KEYS[1]) == 1 then
    for i = 5, #ARGV, 2 do
        redis.call('HSET', KEYS[1], 'a:' .. ARGV[i], ARGV[i + 1])
    end
    redis.call('HINCRBY', KEYS[1], 'version', 1)
end
return redis.call('XADD', KEYS[2], '*', 'network', ARGV[1], 'address', ARGV[2], 'annotation', ARGV[3])
