#!lua
-- Open a cool-down twice as long as the last one, unless one runs.
--   KEYS[1]  record    ARGV[1..2]  see record.lua
--   ARGV[3] consent    ARGV[4] product    ARGV[5..6] first and longest span (ms)
-- Returns missing | refused | cooling until
local MOST_DOUBLINGS = 30
local record = read()
if not record then
  return { 'missing' }
end
if (record.lid or '') ~= ARGV[3] then
  return { 'refused' }
end
local until_now = number(record, 'cu')
if until_now <= now or until_now > now + tonumber(ARGV[6]) then -- the latter is not of this clock
  local count = number(record, 'cc')
  local doubled = tonumber(ARGV[5]) * 2 ^ math.min(count, MOST_DOUBLINGS)
  write(record, {
    cu = now + math.min(tonumber(ARGV[6]), doubled),
    cc = count + 1,
    cp = ARGV[4],
  })
end
return { 'cooling', number(record, 'cu') }
