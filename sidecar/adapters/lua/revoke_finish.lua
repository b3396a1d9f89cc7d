#!lua
-- Erase the tokens, of which the identity provider was told, and leave a tombstone.
--   KEYS[1]  record    ARGV[1..2]  see record.lua
--   ARGV[3..4] consent, generation
-- Returns done | refused
local record = read()
if not record or not stands_at(record, ARGV[3], ARGV[4]) then
  return { 'refused' }
end
if record.st == 'revoked' then
  return { 'done' }
end
if record.st ~= 'revoking' then
  return { 'refused' }
end
write(record, without_claim({ st = 'revoked', tok = false, iexp = 0, ch = now }))
publish(record)
return { 'done' }
