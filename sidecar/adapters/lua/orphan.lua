#!lua
-- Take over, at once, the claim of a dead process whose spool the caller holds.
--   KEYS[1]  record    ARGV[1..2]  see record.lua
--   ARGV[3] claim of the dead process    ARGV[4] replica of both
--   ARGV[5..6] claim and boot of the caller    ARGV[7] lease (ms)
-- Returns leased record | refused
local record = read()
if not record or record.rep ~= ARGV[4] then
  return { 'refused' }
end
if record.st == 'leased' and record.op == ARGV[5] then
  return { 'leased', whole() }
end
if
  (record.st ~= 'leased' and record.st ~= 'sending')
  or record.op ~= ARGV[3]
  or record.rid ~= run_id
  or number(record, 'qu') > now
then
  return { 'refused' }
end
write(record, without_claim({
  st = 'leased',
  op = ARGV[5],
  rep = ARGV[4],
  boot = ARGV[6],
  lu = now + tonumber(ARGV[7]),
  prb = true,
  qu = 0,
}))
return { 'leased', whole() }
