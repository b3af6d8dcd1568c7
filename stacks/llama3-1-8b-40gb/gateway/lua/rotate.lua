-- The request log is kept below a size: a full one becomes access.jsonl.1, and nginx opens a new one. Without it the
-- disk would fill in the end, and on a full disk no weight can be lowered.
local ffi = require 'ffi'
local process = require 'ngx.process'
local state = require 'state'

ffi.cdef 'int kill(int pid, int sig);'

local M = {}

local REOPEN = 10   -- SIGUSR1: nginx opens its logs anew

local function size_of(path)
  local file = io.open(path, 'rb')
  local size = file and file:seek('end') or 0
  if file then file:close() end
  return size
end

local function look(leaving)
  if leaving or size_of(state.log_path) < state.log_most then return end
  if os.rename(state.log_path, state.log_path .. '.1') then ffi.C.kill(process.get_master_pid(), REOPEN) end
end

-- One worker looks; whoever reads the log from an offset beyond its end starts the new one at 0.
function M.start()
  if ngx.worker.id() == 0 then ngx.timer.every(state.log_every, look) end
end

return M
