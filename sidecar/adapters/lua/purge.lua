#!lua
-- Erase a tombstone old enough that no copy of its pairs is on its way any more.
--   KEYS[1]  record    ARGV[1..2]  see record.lua
--   ARGV[3] least age (ms)
-- Returns missing | purged | not_purged state wait
local record = read()
if not record then
  return { 'missing' }
end
if record.st ~= 'revoked' then
  return { 'not_purged', record.st, 0 }
end
bound(record)
local wait = number(record, 'ch') + tonumber(ARGV[3]) - now
if wait > 0 then
  return { 'not_purged', record.st, wait }
end
redis.call('DEL', KEYS[1])
return { 'purged' }
