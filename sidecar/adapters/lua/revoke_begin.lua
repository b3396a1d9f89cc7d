#!lua
-- Stop serving a consent; leaves a tombstone in the making even where there is no record.
--   KEYS[1]  record    ARGV[1..2]  see record.lua
--   ARGV[3..4] consent, when it was given (ms)
-- Returns revocation_begun in_flight_until record | already_revoked | superseded
local record = read()

local function begun()
  local hold_end = number(record, 'hu')
  local in_flight = record.op and hold_end > now
  return { 'revocation_begun', in_flight and hold_end or 0, whole() }
end

if not record or (record.lid or '') ~= ARGV[3] then
  if record and is_older(record, ARGV[3], ARGV[4]) then
    return { 'superseded' }
  end
  local sealed_key = record and record.key or ''
  redis.call('DEL', KEYS[1])
  record = {}
  write(record, {
    lid = ARGV[3],
    liat = tonumber(ARGV[4]),
    gen = -1,
    key = sealed_key,
    st = 'revoking',
    ch = now,
  })
  publish(record)
  return begun()
end
if record.st == 'revoked' then
  return { 'already_revoked' }
end
bound(record)
if record.st ~= 'revoking' then
  local changes = { st = 'revoking', ch = now }
  if record.st ~= 'sending' then -- else a successor may still come: its owner and hold are kept
    without_claim(changes)
  end
  write(record, changes)
  publish(record)
end
return begun()
