#!lua
-- Forget the cool-down and its doubling, since the product that opened it works.
--   KEYS[1]  record    ARGV[1..2]  see record.lua
--   ARGV[3] consent    ARGV[4] product
-- Returns done | refused
local record = read()
if
  not record
  or (record.lid or '') ~= ARGV[3]
  or number(record, 'cc') == 0
  or (record.cp or '') ~= ARGV[4]
then
  return { 'refused' }
end
write(record, { cu = 0, cc = 0, cp = false })
return { 'done' }
