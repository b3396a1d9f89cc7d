#!lua
-- Hold strangers off for longer, while the claim is still in flight.
--   KEYS[1]  record    ARGV[1..2]  see record.lua
--   ARGV[3] claim    ARGV[4] hold (ms)
-- Returns done | refused
local record = read()
if not record or record.st ~= 'sending' or record.op ~= ARGV[3] or record.rid ~= run_id then
  return { 'refused' }
end
write(record, { hu = now + tonumber(ARGV[4]) })
return { 'done' }
