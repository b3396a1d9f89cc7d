#!lua
-- Note when the fleet first met an incarnation of the store.
--   KEYS[1]  incarnations, a hash    ARGV[1]  run_id
-- Returns when it was first met (ms)
local now = moment()
redis.call('HSETNX', KEYS[1], ARGV[1], string.format('%.0f', now))
return tonumber(redis.call('HGET', KEYS[1], ARGV[1]))
