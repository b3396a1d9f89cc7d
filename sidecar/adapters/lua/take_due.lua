#!lua
-- Take what is due of one shard of the schedule. Whoever takes a grant has it for a while; then it
-- is due again, in case the taker died.
--   KEYS[1]  a shard, a sorted set of grants by their instants (ms)
--   ARGV[1] most    ARGV[2] for how long (ms)
-- Returns grant, instant, grant, instant, ... the oldest first
local now = moment()
local range = { '-inf', string.format('%.0f', now), 'WITHSCORES', 'LIMIT', 0, ARGV[1] }
local taken = redis.call('ZRANGEBYSCORE', KEYS[1], unpack(range))
local again = string.format('%.0f', now + ARGV[2])
for i = 1, #taken, 2 do
  redis.call('ZADD', KEYS[1], again, taken[i])
end
return taken
