-- Reads a cached profile of a cluster, with the mark of the node that has it: one that was
-- restarted, or that has taken the place of another one, may lack the latest values. KEYS: profile.
-- Returns height, snapshot, body and cost, the time to live in milliseconds, and the mark.
local fields = redis.call('HMGET', KEYS[1], 'height', 'snapshot', 'body', 'cost')
if not fields[1] then
    return {fields, -2, ''}
end
local server = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
    .. '.' .. string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)')
return {fields, redis.call('PTTL', KEYS[1]), server}
