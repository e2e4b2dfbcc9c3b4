-- Opens a session, and appends the login to the stream of writes. KEYS: sessions of the user,
-- stream. ARGV: maximum length of the stream, key of the write, digest of the token, user, lifetime
-- without use and longest lifetime in milliseconds, number of sessions of a user. Returns the id of
-- the entry, or 'FULL <length>' without opening anything. A session is a field of its digest, with
-- the times in milliseconds at which it was opened and expires. Of too many, the first to expire
-- ends.
local length = redis.call('XLEN', KEYS[2])
if length >= tonumber(ARGV[1]) then
    return 'FULL ' .. length
end
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local sessions = {}
local fields = redis.call('HGETALL', KEYS[1])
for i = 1, #fields, 2 do
    local expires = tonumber(string.match(fields[i + 1], '^%d+ (%d+)$') or '0')
    if expires <= now then
        redis.call('HDEL', KEYS[1], fields[i])
    else
        table.insert(sessions, {fields[i], expires})
    end
end
table.sort(sessions, function (a, b) return a[2] < b[2] end)
for i = 1, #sessions - tonumber(ARGV[7]) + 1 do
    redis.call('HDEL', KEYS[1], sessions[i][1])
end
local lifetime = math.min(tonumber(ARGV[5]), tonumber(ARGV[6]))
redis.call('HSET', KEYS[1], ARGV[3], string.format('%.0f %.0f', now, now + lifetime))
redis.call('PEXPIRE', KEYS[1], math.max(redis.call('PTTL', KEYS[1]), lifetime))
local at = string.format('%.0f', tonumber(time[1]) * 1000000 + tonumber(time[2]))
return redis.call('XADD', KEYS[2], '*', 'key', ARGV[2], 'user', ARGV[4], 'at', at)
