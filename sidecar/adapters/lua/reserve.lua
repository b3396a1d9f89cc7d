#!lua
-- Reserve one of the settlements of the running window for a grant.
--   KEYS[1]  settlements, a sorted set: grant -> when it was reserved (ms)
--   ARGV[1]  grant    ARGV[2] span of the window (ms)    ARGV[3] most in one window (-1: any number)
-- Returns 1 if it is reserved (now, or by an earlier call within the window) | 0
local now = moment()
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - tonumber(ARGV[2]))
if redis.call('ZMSCORE', KEYS[1], ARGV[1])[1] then
  return 1
end
local most = tonumber(ARGV[3])
if most >= 0 and redis.call('ZCARD', KEYS[1]) >= most then
  return 0
end
redis.call('ZADD', KEYS[1], string.format('%.0f', now), ARGV[1])
return 1
