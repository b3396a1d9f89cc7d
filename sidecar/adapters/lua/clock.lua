-- When and where a script runs: the clock and the incarnation of this server.
-- Put before every script. Nothing else reads either, so that a test can put its own in its place.
local function moment()
  local time = redis.call('TIME')
  local run_id = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)')
  if not run_id then
    error({ err = 'SIDECAR this server tells scripts no run_id' })
  end
  return time[1] * 1000 + math.floor(time[2] / 1000), run_id
end
