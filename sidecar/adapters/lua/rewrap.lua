#!lua
-- Replace the envelopes of the very pair that stands; never bring back an erased one. A tombstone
-- has no tokens, but its owner's name is sealed too.
--   KEYS[1]  record    ARGV[1..2]  see record.lua
--   ARGV[3..4] consent, generation    ARGV[5] fingerprint    ARGV[6..7] sealed pair, sealed key
-- Returns done | refused
local record = read()
if
  not record
  or not stands_at(record, ARGV[3], ARGV[4])
  or (record.fp or '') ~= ARGV[5]
  or ((record.tok or '') == '') ~= (ARGV[6] == '')
then
  return { 'refused' }
end
write(record, { tok = ARGV[6], key = ARGV[7] })
return { 'done' }
