#!lua
-- Take a client's word that the consent is gone.
--   KEYS[1]  record    ARGV[1..2]  see record.lua
--   ARGV[3..4] operation and reason of the error
-- Returns missing | dead state | invalidated was
local record = read()
if not record then
  return { 'missing' }
end
if DEAD[record.st] then
  return { 'dead', record.st }
end
local was = record.st
local changes = without_claim({ st = 'reauth_required', ch = now })
write(record, with_error(changes, ARGV[3], ARGV[4]))
publish(record)
return { 'invalidated', was }
