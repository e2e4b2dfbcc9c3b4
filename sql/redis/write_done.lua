-- Removes a write that PostgreSQL has applied from the pending writes of its wallet. KEYS: pending
-- writes of the wallet. ARGV: key of the write, then names of its pending writes. A name that a
-- later write has set stays.
for i = 2, #ARGV do
    if redis.call('HGET', KEYS[1], 'w:' .. ARGV[i]) == ARGV[1] then
        redis.call('HDEL', KEYS[1], ARGV[i], 'w:' .. ARGV[i])
    end
end
return 0
