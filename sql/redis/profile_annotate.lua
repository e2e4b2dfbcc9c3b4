-- Writes an annotation behind: into the cached profile, if there is one, and into the stream that PostgreSQL is written from.
-- KEYS: profile, stream. ARGV: network, address, annotation, longest stream, then the annotation's keys and values in turn.
-- Returns the entry's id, or 'FULL <length>' without writing anything. The cached version rises by one, as the stored one
-- will: a profile read from PostgreSQL before that cannot replace what is shown here.
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
