-- Accepts a write for PostgreSQL: into the pending writes of its wallet, which readers see at once,
-- and into the stream. KEYS: pending writes of the wallet, stream. ARGV: maximum length of the
-- stream, key of the write, number of arguments of the entry, these (names and values in turn),
-- then names and values of the pending writes in turn. Returns the id of the entry, or
-- 'FULL <length>' without writing anything.
local length = redis.call('XLEN', KEYS[2])
if length >= tonumber(ARGV[1]) then
    return 'FULL ' .. length
end
local last = 3 + tonumber(ARGV[3])
for i = last + 1, #ARGV, 2 do
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1], 'w:' .. ARGV[i], ARGV[2])
end
return redis.call('XADD', KEYS[2], '*', 'key', ARGV[2], unpack(ARGV, 4, last))
