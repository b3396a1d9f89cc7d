#!lua
-- Believe a denial that nobody healed in time.
--   KEYS[1]  record    ARGV[1..2]  see record.lua
--   ARGV[3..4] consent, generation
-- Returns done | dead, state | refused
local record = read()
if not record or not stands_at(record, ARGV[3], ARGV[4]) then
  return { 'refused' }
end
if record.st == 'reauth_required' then
  return { 'dead', record.st }
end
if record.st ~= 'in_doubt' or number(record, 'hu') > now then
  return { 'refused' }
end
write(record, without_claim({ st = 'reauth_required', ch = now }))
publish(record)
return { 'done' }
