-- Replaces a cached profile by a mark that it changed, unless it is as new as the change. KEYS:
-- profile. ARGV: height of the snapshot that shows the change, time to live of the mark in
-- milliseconds. Returns 1 if the profile was replaced. The mark keeps a reader that loaded the
-- profile before the change from caching it afterwards.
local cached = redis.call('HGET', KEYS[1], 'height')
if cached and string.find(cached, '^%d+$')
   and (#cached > #ARGV[1] or (#cached == #ARGV[1] and cached > ARGV[1])) then
    return 0
end
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'height', ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
