-- When and where a script runs: the clock and the incarnation of this server.
-- The process alone does not name an incarnation: a former primary that is promoted again is the
-- same process and has forgotten what the other one wrote in between. The replication id changes
-- with each promotion, and alone it would survive a restart. Half of each is plenty.
-- Put before every script. Nothing else reads either, so that a test can put its own in its place.
local function moment()
  local time = redis.call('TIME')
  local info = redis.call('INFO', 'server', 'replication')
  local process = string.match(info, 'run_id:(%x+)')
  local history = string.match(info, 'master_replid:(%x+)')
  if not process or not history then
    error({ err = 'SIDECAR this server tells scripts no run_id' })
  end
  local incarnation = string.sub(process, 1, 20) .. string.sub(history, 1, 20)
  return time[1] * 1000 + math.floor(time[2] / 1000), incarnation
end
