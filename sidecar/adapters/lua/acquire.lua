#!lua
-- Take the lease of a grant, or say what stands against it.
--   KEYS[1]  record    ARGV[1..2]  see record.lua
--   ARGV[3..5]   claim, replica, boot of the caller
--   ARGV[6..7]   consent and generation that the caller wants replaced
--   ARGV[8..9]   announced run_id ('' if none), when it was first met (ms)
--   ARGV[10..11] lease, quarantine (ms)
--   ARGV[12]     1: the caller may present a token again whose answer nobody is known to hold
--   ARGV[13]     0, or an order: it skips the backoff unless one did so less than this ago (ms)
--   ARGV[14]     1: it may, where it gave back the claim of a process that it knows to be dead
-- Returns missing | dead state | fresh record | leased record | new_incarnation run_id |
--   quarantined until | held until | doubted until since | healing_over record |
--   backing_off until | busy until | probe_withheld
local record = read()
if not record then
  return { 'missing' }
end
if DEAD[record.st] then
  return { 'dead', record.st }
end
if (record.lid or '') ~= ARGV[6] or number(record, 'gen') > tonumber(ARGV[7]) then
  return { 'fresh', whole() }
end
if record.st == 'leased' and record.op == ARGV[3] then
  return { 'leased', whole() }
end
if record.rid ~= run_id then
  if ARGV[8] ~= run_id then
    return { 'new_incarnation', run_id }
  end
  local quarantine_end = tonumber(ARGV[9]) + tonumber(ARGV[11])
  local changes = { rid = run_id, qu = quarantine_end }
  if record.st == 'leased' then -- nothing was sent, and its mark would be refused
    changes.st = 'active'
    changes.prb = record.prb == '1'
    without_claim(changes)
  elseif record.st == 'sending' or record.st == 'in_doubt' then
    changes.hu = math.max(number(record, 'hu'), quarantine_end)
  end
  write(record, changes)
end
bound(record)
if number(record, 'qu') > now then
  return { 'quarantined', number(record, 'qu') }
end
if record.st == 'in_doubt' then
  if number(record, 'hu') > now then
    return { 'doubted', number(record, 'hu'), number(record, 'ch') }
  end
  return { 'healing_over', whole() }
end
local backoff_end, order_every = number(record, 'nx'), tonumber(ARGV[13])
if order_every > 0 then
  local next_order = number(record, 'ov') + order_every
  if next_order <= now or next_order > now + order_every then
    backoff_end = 0
  else
    backoff_end = math.min(backoff_end, next_order)
  end
end
if backoff_end > now then
  return { 'backing_off', backoff_end }
end
if record.st == 'leased' and number(record, 'lu') > now then
  return { 'busy', number(record, 'lu') }
end
if record.st == 'sending' and number(record, 'hu') > now then
  return { 'held', number(record, 'hu') }
end
local is_probe = record.st == 'sending' or record.prb == '1'
local may_go_on = ARGV[14] == '1' and record.st == 'active' and record.rep == ARGV[4]
if is_probe and ARGV[12] ~= '1' and not may_go_on then
  return { 'probe_withheld' }
end
if number(record, 'nx') > now then -- an order, which may: once, and not twice at once
  write(record, { nx = 0, ov = now })
end
write(record, without_claim({
  st = 'leased',
  op = ARGV[3],
  rep = ARGV[4],
  boot = ARGV[5],
  lu = now + tonumber(ARGV[10]),
  prb = is_probe,
  qu = 0,
}))
return { 'leased', whole() }
