-- What is known of a request, kept across internal redirects (which wipe ngx.ctx) until it is logged.
local new_table = require 'table.new'

local M = {}

local byte, sub = string.byte, string.sub

local kept, last = {}, 0
local born = ''
local usual = {}

-- Once per worker: what makes the ids of its requests differ from all others, and the paths of most requests.
function M.start(paths)
  born, usual = ('%x-%x-'):format(ngx.worker.pid(), ngx.now() * 1000), paths
end

function M.open()
  last = last + 1
  local request = new_table(0, 32)    -- so that it never grows
  local raw = ngx.var.request_uri
  request.side, request.via, request.method = 'ollama', 'ollama', ngx.req.get_method()
  request.raw, request.uri = raw, usual[raw] and raw or ngx.var.uri
  kept[last] = request
  request.id = born .. last
  ngx.var.gw_id = last
  ngx.ctx.request = request
  return request
end

-- A body of a megabyte or of unknown length may take so long: `seconds`, and its size at `rate` bytes per second.
M.patience = { seconds = 30, rate = 16384 }
local LONGEST = 67108864

local function read()
  ngx.req.read_body()
  return true
end

local function late(seconds)
  ngx.sleep(seconds)
  return false
end

local function read_in_time(length)
  local reader = ngx.thread.spawn(read)
  local now = coroutine.status(reader)
  if now == 'zombie' or now == 'dead' then return end   -- it was there already
  local clock = ngx.thread.spawn(late, M.patience.seconds + (length or LONGEST) / M.patience.rate)
  local _, came = ngx.thread.wait(reader, clock)
  if came then
    ngx.thread.kill(clock)
  else
    ngx.exit(408)
  end
end

-- The whole body, wherever nginx keeps it; nil for none.
function M.body()
  local length = ngx.var.content_length
  if length and #length < 7 then
    ngx.req.read_body()   -- bound by the time between two reads: no more trouble than a connection that idles
  else
    read_in_time(tonumber(length))
  end
  local text = ngx.req.get_body_data()
  if text then return text end
  local path = ngx.req.get_body_file()
  local file = path and io.open(path, 'rb')
  if not file then return nil end
  text = file:read('*a')
  file:close()
  return text
end

-- Whether the path is written as it reads: `/v1/%63hat` and `/x/../v1/chat` may read differently elsewhere.
function M.plain(request)
  local raw, uri = request.raw, request.uri
  if raw == uri then return true end
  return byte(raw, #uri + 1) == 63 and sub(raw, 1, #uri) == uri
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
