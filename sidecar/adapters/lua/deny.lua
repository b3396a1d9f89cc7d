#!lua
-- Doubt the grant whose token was refused, unless somebody already replaced the token.
--   KEYS[1]  record    ARGV[1..2]  see record.lua
--   ARGV[3] claim    ARGV[4..5] consent, generation
--   ARGV[6] 1 if the claim sent exactly one request    ARGV[7] time to heal (ms)
--   ARGV[8..9] operation and reason of the error
-- Returns missing | healed record | cleanly_denied | in_doubt until | being_revoked | not_ours
local record = read()
if not record then
  return { 'missing' }
end
if record.st == 'revoking' or record.st == 'revoked' then
  if record.op == ARGV[3] then
    write(record, without_claim({}))
  end
  return { 'being_revoked' }
end
local generation = tonumber(ARGV[5])
if (record.lid or '') ~= ARGV[4] or generation < number(record, 'gen') then
  return { 'healed', whole() }
end
if generation > number(record, 'gen') then -- the store fell behind what the caller claimed
  return { 'not_ours' }
end

local function doubt()
  if number(record, 'hu') > now then
    return { 'in_doubt', number(record, 'hu') }
  end
  return { 'cleanly_denied' }
end

if record.st == 'in_doubt' then
  return doubt()
end
if record.st ~= 'sending' or record.op ~= ARGV[3] then
  return { 'not_ours' }
end
local is_clean = ARGV[6] == '1'
  and number(record, 'att') == 1
  and record.prb ~= '1'
  and record.grid == run_id
local heal = is_clean and 0 or tonumber(ARGV[7])
local is_probe = record.prb == '1' -- the cause of the loss, if it turns out to be one
local changes = without_claim({ st = 'in_doubt', prb = is_probe, hu = now + heal, ch = now })
write(record, with_error(changes, ARGV[8], ARGV[9]))
publish(record)
return doubt()
