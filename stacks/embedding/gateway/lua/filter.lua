-- Sees every piece of a response: when the first came, and how it ended.
local outcome = require 'outcome'
local requests = require 'request'

local M = {}

-- Ollama ends these streams with done:true; its other line streams (pull, create) end otherwise.
local GENERATES = { ['/api/chat'] = true, ['/api/generate'] = true }

function M.chunk()
  local request = requests.current()
  if not request then return end
  local chunk = ngx.arg[1]
  if not request.judge then
    request.judge = outcome.new(ngx.header.content_type, ngx.status, GENERATES[request.uri])
  end
  if chunk ~= '' then
    if not request.ttft then
      ngx.update_time()
      request.ttft = (ngx.now() - ngx.req.start_time()) * 1000
    end
    request.judge:feed(chunk)
  end
  if ngx.arg[2] then request.ended = true end
end

return M
