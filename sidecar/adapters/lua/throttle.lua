#!lua
-- Take one step on what holds the whole fleet back.
--   KEYS[1]  throttle, a hash; a field that is not there means 0 or nothing
--   ARGV[1]  step: look | decided | pull | release | grants | refusal | acceptance | canary
--   decided: ARGV[2..3] decided, denied
--            ARGV[4..5] span of a slice (ms), how many slices count
--            ARGV[6..7] least decided, the share of denials that is too much (one of so many)
--   release: ARGV[2] nothing pulls the brake for so long (ms)
--   grants:  ARGV[2] how many there are
--   refusal: ARGV[2] reason, ARGV[3] next canary after (ms), ARGV[4] refusals that open the breaker
--   canary:  ARGV[2] next canary after (ms)
-- Returns granted (1: a canary may leave), the whole hash
local now = moment()
local flat = redis.call('HGETALL', KEYS[1])
local throttle = {}
for i = 1, #flat, 2 do
  throttle[flat[i]] = flat[i + 1]
end

local function number(field)
  return tonumber(throttle[field] or '0')
end

local is_changed = false

local function put(field, value)
  if type(value) == 'number' then
    value = string.format('%.0f', value)
  end
  if throttle[field] ~= value then
    is_changed = true
    throttle[field] = value
    redis.call('HSET', KEYS[1], field, value)
  end
end

local function drop(field)
  if throttle[field] then
    is_changed = true
    throttle[field] = nil
    redis.call('HDEL', KEYS[1], field)
  end
end

-- The fields of slices: each has its number in its name, and holds what was decided and denied.
local function slices()
  local found = {}
  for field, value in pairs(throttle) do
    local slice = tonumber(string.match(field, '^w:(%d+)$'))
    if slice then
      local decided, denied = string.match(value, '^(%d+) (%d+)$')
      found[slice] = { tonumber(decided), tonumber(denied) }
    end
  end
  return found
end

local function pull(cause)
  if not throttle.ba and number('bf') <= now then
    put('ba', now)
    put('bc', cause)
  end
end

local steps = {}

function steps.look() end

function steps.decided()
  local slice = math.floor(now / tonumber(ARGV[4]))
  local found = slices()
  local mine = found[slice] or { 0, 0 }
  mine = { mine[1] + tonumber(ARGV[2]), mine[2] + tonumber(ARGV[3]) }
  found[slice] = mine
  put(string.format('w:%.0f', slice), string.format('%.0f %.0f', mine[1], mine[2]))
  local decided, denied = 0, 0
  for each, counts in pairs(found) do
    if each > slice - tonumber(ARGV[5]) then
      decided, denied = decided + counts[1], denied + counts[2]
    else
      drop(string.format('w:%.0f', each))
    end
  end
  if decided >= tonumber(ARGV[6]) and denied * tonumber(ARGV[7]) > decided then
    pull('denials')
  end
end

function steps.pull()
  pull('settlements')
end

function steps.release()
  if not throttle.ba then
    return
  end
  for each in pairs(slices()) do
    drop(string.format('w:%.0f', each))
  end
  drop('ba')
  drop('bc')
  put('bf', now + tonumber(ARGV[2]))
end

function steps.grants()
  if tonumber(ARGV[2]) ~= number('gr') then
    put('gr', ARGV[2])
  end
end

function steps.refusal()
  put('rf', number('rf') + 1)
  put('rr', ARGV[2])
  put('ca', now + tonumber(ARGV[3]))
  if number('rf') >= tonumber(ARGV[4]) and not throttle.oa then
    put('oa', now)
  end
end

function steps.acceptance()
  for _, field in ipairs({ 'rf', 'rr', 'oa', 'ca' }) do
    drop(field)
  end
end

function steps.canary()
  if not throttle.oa then
    return 1
  end
  if number('ca') > now then
    return 0
  end
  put('ca', now + tonumber(ARGV[2]))
  return 1
end

local granted = steps[ARGV[1]]() or 0
if is_changed then
  put('n', number('n') + 1)
end
return { granted, redis.call('HGETALL', KEYS[1]) }
