#!lua
-- Note that the refresh token may be spent from now on.
--   KEYS[1]  record    ARGV[1..2]  see record.lua
--   ARGV[3] claim    ARGV[4..5] consent, generation    ARGV[6] hold (ms)
-- Returns done | refused
local record = read()
if
  not record
  or (record.st ~= 'leased' and record.st ~= 'sending')
  or record.op ~= ARGV[3]
  or not stands_at(record, ARGV[4], ARGV[5])
  or record.rid ~= run_id
  or number(record, 'qu') > now
then
  return { 'refused' }
end
if record.st == 'sending' then
  return { 'done' }
end
if number(record, 'lu') < now then
  return { 'refused' }
end
write(record, {
  st = 'sending',
  lu = 0,
  sa = now,
  hu = now + tonumber(ARGV[6]),
  att = number(record, 'att') + 1,
})
return { 'done' }
