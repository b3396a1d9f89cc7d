#!lua
-- End the caller's claim, of which no successor can appear any more. A probe stays one: what is
-- over is this claim, not the one whose answer was never seen.
--   KEYS[1]  record    ARGV[1..2]  see record.lua
--   ARGV[3] claim    ARGV[4] 1 if the request surely was not processed    ARGV[5] backoff (ms)
--   ARGV[6] 1 if there is an error    ARGV[7..8] its operation and reason
--   ARGV[9] 1 if the claim was that of a dead process of the caller's spool, which may go on
-- Returns done | refused
local record = read()
if not record or record.op ~= ARGV[3] then
  return { 'refused' }
end
if record.st == 'revoking' then -- the order stands; only its wait is over
  write(record, without_claim({}))
  return { 'done' }
end
if record.st ~= 'leased' and record.st ~= 'sending' then
  return { 'refused' }
end
local changes = { st = 'active', nx = 0, fc = 0, prb = record.prb == '1' }
if ARGV[9] == '1' then
  changes.rep = record.rep
end
without_claim(changes)
if ARGV[4] == '1' and record.st == 'sending' then
  changes.att = number(record, 'att') - 1
end
if tonumber(ARGV[5]) > 0 then
  changes.nx = now + math.min(tonumber(ARGV[5]), LONGEST_WAIT)
end
if ARGV[6] == '1' then
  changes.fc = number(record, 'fc') + 1
  with_error(changes, ARGV[7], ARGV[8])
end
write(record, changes)
return { 'done' }
