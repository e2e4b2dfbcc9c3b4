-- Renews the watermark, if the server is one that has taken every value of the follower: one that
-- was restarted, or that another has replaced, may have lost some. KEYS: watermark. ARGV: marks of
-- the servers that the follower knows, with commas, watermark, time to live in milliseconds.
-- Returns the mark of the server; the watermark is renewed if it is one of them.
local server = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
    .. '.' .. string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)')
if string.find(',' .. ARGV[1] .. ',', ',' .. server .. ',', 1, true) then
    redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
end
return server
