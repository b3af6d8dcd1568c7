-- What is known of a request, kept across internal redirects (which wipe ngx.ctx) until it is logged.
local M = {}

local kept, last = {}, 0
local born = ''

-- Once per worker: what makes the ids of its requests differ from all others.
function M.start() born = ('%x-%x-'):format(ngx.worker.pid(), ngx.now() * 1000) end

function M.open()
  last = last + 1
  local request = { side = 'ollama', via = 'ollama', uri = ngx.var.uri, method = ngx.req.get_method() }
  kept[last] = request
  request.id = born .. last
  ngx.var.gw_id = last
  ngx.ctx.request = request
  return request
end

-- The request of this phase, or nil when none was opened.
function M.current()
  local request = ngx.ctx.request
  if not request then
    request = kept[tonumber(ngx.var.gw_id)]
    ngx.ctx.request = request
  end
  return request
end

function M.close() kept[tonumber(ngx.var.gw_id) or 0] = nil end

return M
