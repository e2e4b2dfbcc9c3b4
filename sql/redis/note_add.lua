-- Accepts a write for PostgreSQL: into the pending writes of its wallet, which readers see at once,
-- and into the stream. KEYS: pending writes of the wallet, stream. ARGV: network, address,
-- annotation, key of the write, maximum length of the stream, then names and values of the
-- annotation in turn. Returns the id of the entry, or 'FULL <length>' without writing anything.
local length = redis.call('XLEN', KEYS[2])
if length >= tonumber(ARGV[5]) then
    return 'FULL ' .. length
end
for i = 6, #ARGV, 2 do
    redis.call('HSET', KEYS[1], 'a:' .. ARGV[i], ARGV[i + 1], 'w:' .. ARGV[i], ARGV[4])
end
return redis.call('XADD', KEYS[2], '*', 'network', ARGV[1], 'address', ARGV[2], 'annotation', ARGV[3], 'key', ARGV[4])
