#!lua flags=allow-oom
-- Make a pair the newest one, if it is. Never looks at a lease; runs even when memory is full,
-- since the caller holds the only live token in the world.
--   KEYS[1]  record    ARGV[1..2]  see record.lua
--   ARGV[3..5]   consent, when it was given (ms), generation
--   ARGV[6..8]   fingerprint, sealed pair, sealed key
--   ARGV[9..10]  end of trust (ms), iat (s)
--   ARGV[11..12] claim that brought it ('' if none), 1 if it is live and not a replay
-- Returns committed was gap | stale | duplicate | forked ours_kept | superseded | revoke_successor
--   (was: '' where there was no record or an older consent)
local record = read()
local generation = tonumber(ARGV[5])
local is_live = ARGV[12] == '1'

local function pair()
  return {
    gen = generation,
    fp = ARGV[6],
    tok = ARGV[7],
    key = ARGV[8],
    iexp = tonumber(ARGV[9]),
    iiat = tonumber(ARGV[10]),
    up = now,
  }
end

local function to_revoke(changes)
  if record.st ~= 'revoking' then
    changes.ch = now
  end
  changes.st = 'revoking'
  write(record, changes)
  publish(record)
  return { 'revoke_successor' }
end

local function compare()
  local is_ending = record.st == 'revoking' or record.st == 'revoked'
  if ARGV[6] == (record.fp or '') then
    -- An answer that got lost must come again: the pair is still to be revoked.
    return { record.st == 'revoking' and 'revoke_successor' or 'duplicate' }
  end
  if tonumber(ARGV[10]) <= number(record, 'iiat') then
    return { 'forked', 0 }
  end
  local changes = pair()
  changes.grid = false
  if is_ending then
    return to_revoke(changes)
  end
  if record.st == 'in_doubt' or record.st == 'reauth_required' then
    -- What was denied was the other token.
    changes.st, changes.att = 'active', 0
    without_claim(changes)
  end
  write(record, changes)
  publish(record)
  return { 'forked', 1 }
end

local function store()
  local is_first = is_live and generation == 0
  local is_marked_here = is_live
    and ARGV[11] ~= ''
    and record.st == 'sending'
    and record.op == ARGV[11]
    and record.rid == run_id
    and number(record, 'qu') == 0
  local changes = without_claim(pair())
  changes.st = 'active'
  changes.att, changes.nx, changes.fc = 0, 0, 0
  changes.grid = (is_first or is_marked_here) and run_id
  if is_first then
    changes.rid, changes.qu = run_id, 0
  end
  return changes
end

if record and (record.lid or '') == ARGV[3] then
  local stands = number(record, 'gen')
  if generation < stands then
    return { 'stale' }
  end
  if generation == stands then
    return compare()
  end
  local was = record.st
  local changes = store()
  if was == 'revoking' or was == 'revoked' then
    return to_revoke(changes)
  end
  write(record, changes)
  publish(record)
  return { 'committed', was, generation > stands + 1 and 1 or 0 }
end
if record and is_older(record, ARGV[3], ARGV[4]) then
  return { 'superseded' }
end
record = record or {}
local changes = store()
changes.lid, changes.liat = ARGV[3], tonumber(ARGV[4])
changes.cu, changes.cc, changes.cp = 0, 0, false
write(record, changes)
publish(record)
return { 'committed', '', 0 }
