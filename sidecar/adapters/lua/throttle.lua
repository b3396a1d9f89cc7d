#!lua
-- Take one step on what holds the whole fleet back.
--   KEYS[1]  throttle, a hash; a field that is not there means 0 or nothing
--   ARGV[1]  step: look | decided | pull | reserve | release | release_all | grants | refusal |
--            acceptance | canary
--   ARGV[2]  after a release of all nothing pulls the brake for so long (ms)
--   ARGV[3..4] how long a trial lasts (ms), the share of its denials that is too much (one of so many)
--   decided: ARGV[5..6] decided, denied
--            ARGV[7..8] span of a slice (ms), how many slices count
--            ARGV[9..10] least decided, the share of denials that is too much (one of so many)
--            ARGV[11] how many of the grants that follow were denied; the rest got a pair
--   reserve: ARGV[5] grant
--   release: ARGV[5] how many grants are let go
--   grants:  ARGV[5] how many there are
--   refusal: ARGV[5] reason, ARGV[6] next canary after (ms), ARGV[7] refusals that open the breaker
--   canary:  ARGV[5] next canary after (ms)
-- Returns granted (1: a canary may leave, or a trial lets this grant be settled), the whole hash
local now = moment()
local FREE, TRIAL, TRIAL_DENIED_OF = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local GRAVITY = { p = 0, d = 1, s = 2 }
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

-- A span that ends later than it can have begun is of another clock, and does not run.
local function is_running(field, span)
  return number(field) > now and number(field) <= now + span
end

-- The grants of a trial, each with its fate in its field, and how many there are.
local function fates()
  local found, count = {}, 0
  for field, value in pairs(throttle) do
    local grant = string.match(field, '^t:(.+)$')
    if grant then
      found[grant], count = value, count + 1
    end
  end
  return found, count
end

local function is_on_trial(count)
  if not throttle.tl or throttle.ba or is_running('bf', FREE) then
    return false
  end
  local age = now - number('ts')
  return age >= 0 and age < TRIAL and (count or select(2, fates())) < number('tl')
end

local function drop_window()
  for each in pairs(slices()) do
    drop(string.format('w:%.0f', each))
  end
end

local function drop_trial()
  for grant in pairs((fates())) do
    drop('t:' .. grant)
  end
  for _, field in ipairs({ 'tl', 'ts', 'tx' }) do
    drop(field)
  end
end

-- Notes what became of a grant; returns how many there are then.
local function note(found, count, grant, fate)
  local known = found[grant]
  if known and GRAVITY[known] >= GRAVITY[fate] or not known and count >= number('tl') then
    return count
  end
  found[grant] = fate
  put('t:' .. grant, fate)
  return known and count or count + 1
end

-- A full trial ends: with the brake, or with the usual rules.
local function judge(found, count)
  if count < number('tl') then
    return
  end
  local denied = 0
  for _, fate in pairs(found) do
    if fate ~= 'p' then
      denied = denied + 1
    end
  end
  if denied * TRIAL_DENIED_OF > count then
    put('ba', now)
    put('bc', 'denials') -- which earlier versions know too
    put('tx', now)
  else
    drop_trial()
    drop_window()
  end
end

local function pull(cause)
  if not throttle.ba and not is_running('bf', FREE) and not is_on_trial() then
    put('ba', now)
    put('bc', cause)
  end
end

local steps = {}

function steps.look() end

function steps.decided()
  if throttle.tl and not throttle.ba and not is_running('bf', FREE) and not is_on_trial() then
    drop_trial() -- its day is over; the usual rules begin afresh
    drop_window()
  end
  local slice = math.floor(now / tonumber(ARGV[7]))
  local found = slices()
  local mine = found[slice] or { 0, 0 }
  mine = { mine[1] + tonumber(ARGV[5]), mine[2] + tonumber(ARGV[6]) }
  found[slice] = mine
  put(string.format('w:%.0f', slice), string.format('%.0f %.0f', mine[1], mine[2]))
  local decided, denied = 0, 0
  for each, counts in pairs(found) do
    if each > slice - tonumber(ARGV[8]) and each <= slice then
      decided, denied = decided + counts[1], denied + counts[2]
    else
      drop(string.format('w:%.0f', each))
    end
  end
  local ends, count = fates()
  if is_on_trial(count) then
    for i = 12, #ARGV do
      count = note(ends, count, ARGV[i], i < 12 + tonumber(ARGV[11]) and 'd' or 'p')
    end
    judge(ends, count)
  elseif decided >= tonumber(ARGV[9]) and denied * tonumber(ARGV[10]) > decided then
    pull('denials')
  end
end

function steps.pull()
  pull('settlements')
end

function steps.reserve()
  local grant = ARGV[5]
  local found, count = fates()
  if is_on_trial(count) then
    judge(found, note(found, count, grant, 's'))
    return 1
  end
  -- The last one of a trial whose answer was lost.
  local is_its = throttle.ba and throttle.tx == throttle.ba and throttle['t:' .. grant] == 's'
  return is_its and 1 or 0
end

local function let_go()
  drop_trial()
  drop_window()
  for _, field in ipairs({ 'ba', 'bc', 'bf' }) do
    drop(field)
  end
end

function steps.release()
  if throttle.ba then
    let_go()
    put('tl', tonumber(ARGV[5]))
    put('ts', now)
  end
end

function steps.release_all()
  if throttle.ba or is_on_trial() then
    let_go()
    put('bf', now + FREE)
  end
end

function steps.grants()
  if tonumber(ARGV[5]) ~= number('gr') then
    put('gr', ARGV[5])
  end
end

function steps.refusal()
  put('rf', number('rf') + 1)
  put('rr', ARGV[5])
  put('ca', now + tonumber(ARGV[6]))
  if number('rf') >= tonumber(ARGV[7]) and not throttle.oa then
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
  if is_running('ca', tonumber(ARGV[5])) then
    return 0
  end
  put('ca', now + tonumber(ARGV[5]))
  return 1
end

local granted = steps[ARGV[1]]() or 0
if is_changed then
  put('n', number('n') + 1)
end
return { granted, redis.call('HGETALL', KEYS[1]) }
