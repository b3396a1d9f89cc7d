#!lua flags=allow-oom
-- Tell the clock and the incarnation; proves that scripts run and may ask for both.
-- Returns now (ms), run_id
local now, run_id = moment()
return { now, run_id }
