-- Extends a session that is used. KEYS: sessions of the user. ARGV: digest of the token, lifetime
-- without use and longest lifetime in milliseconds. Returns the milliseconds that are left, or 0 if
-- there is no such session.
local session = redis.call('HGET', KEYS[1], ARGV[1])
local opened, expires = string.match(session or '', '^(%d+) (%d+)$')
if not opened then
    return 0
end
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local ends = math.min(now + tonumber(ARGV[2]), tonumber(opened) + tonumber(ARGV[3]))
if tonumber(expires) <= now or ends <= now then
    redis.call('HDEL', KEYS[1], ARGV[1])
    return 0
end
redis.call('HSET', KEYS[1], ARGV[1], string.format('%s %.0f', opened, ends))
redis.call('PEXPIRE', KEYS[1], math.max(redis.call('PTTL', KEYS[1]), ends - now))
return ends - now
