-- How a script reads and writes a record. Put between the clock and every script.
--   KEYS[1]  the record, a hash; a field that is not there means 0, false or nothing
--   ARGV[1]  the channel of notices
--   ARGV[2]  the id of the grant, for the notice
-- A number is written as a whole decimal number and true as 1; 0, false and '' are not written.
-- Consents and runs are compared as strings; ids are lower-case hex, so their order is the bytes'.
-- LONGEST_WAIT is put before this: no instant of a record is further ahead than that (ms).
local SCHEMA = 1
local DEAD = { reauth_required = true, revoking = true, revoked = true }
local now, run_id = moment()

local function read()
  local flat = redis.call('HGETALL', KEYS[1])
  if #flat == 0 then
    return nil
  end
  local record = {}
  for i = 1, #flat, 2 do
    record[flat[i]] = flat[i + 1]
  end
  if (tonumber(record.v) or 0) > SCHEMA then
    error({ err = 'SIDECARSCHEMA a newer sidecar wrote this record' })
  end
  return record
end

local function number(record, field)
  return tonumber(record[field] or '0')
end

local function write(record, changes)
  local set, drop = { 'v', tostring(SCHEMA) }, {}
  for field, value in pairs(changes) do
    if value == true then
      value = '1'
    elseif type(value) == 'number' and value ~= 0 then
      value = string.format('%.0f', value)
    end
    if value == false or value == 0 or value == '' then
      record[field] = nil
      drop[#drop + 1] = field
    else
      record[field] = value
      set[#set + 1] = field
      set[#set + 1] = value
    end
  end
  redis.call('HSET', KEYS[1], unpack(set))
  if #drop > 0 then
    redis.call('HDEL', KEYS[1], unpack(drop))
  end
end

-- Corrects instants that are further ahead than this protocol puts one: another version wrote
-- them, or the clock stepped back since.
local function bound(record)
  local changes = {}
  for _, field in ipairs({ 'lu', 'hu', 'qu', 'nx' }) do
    if number(record, field) > now + LONGEST_WAIT then
      changes[field] = now + LONGEST_WAIT
    end
  end
  for _, field in ipairs({ 'ch', 'up' }) do
    if number(record, field) > now then
      changes[field] = now
    end
  end
  if next(changes) then
    write(record, changes)
  end
end

-- Adds to `changes` what ends a claim.
local function without_claim(changes)
  for _, field in ipairs({ 'op', 'rep', 'boot', 'lu', 'sa', 'hu', 'prb' }) do
    if changes[field] == nil then
      changes[field] = false
    end
  end
  return changes
end

-- Adds to `changes` the last error, at this moment.
local function with_error(changes, operation, reason)
  changes.eo, changes.er, changes.ea = operation, reason, string.format('%.0f', now)
  return changes
end

local function stands_at(record, consent_id, generation)
  return (record.lid or '') == consent_id and number(record, 'gen') == tonumber(generation)
end

-- Whether the given consent is older than the record's.
local function is_older(record, consent_id, consented_at)
  local at = number(record, 'liat')
  consented_at = tonumber(consented_at)
  if consented_at ~= at then
    return consented_at < at
  end
  return consent_id < (record.lid or '')
end

local function whole()
  return redis.call('HGETALL', KEYS[1])
end

local function publish(record)
  redis.call('PUBLISH', ARGV[1], cjson.encode({
    grant = ARGV[2],
    consent = record.lid or '',
    generation = number(record, 'gen'),
    state = record.st,
  }))
end
