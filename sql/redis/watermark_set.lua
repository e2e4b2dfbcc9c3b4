-- Renews the watermark, if the server is the one that has taken every value of the follower: one
-- that was restarted, or that another has replaced, may have lost some. KEYS: watermark. ARGV: mark
-- of the server that the follower knows, watermark, time to live in milliseconds. Returns the mark
-- of the server; the watermark is renewed if it is the same.
local server = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
    .. '.' .. string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)')
if server == ARGV[1] then
    redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
end
return server
