-- What is known of a request, kept across internal redirects (which wipe ngx.ctx) until it is logged.
local ffi = require 'ffi'
local new_table = require 'table.new'
local get_request = require('resty.core.base').get_request
local plainly = require 'plainly'

local M = {}

local byte, sub = string.byte, string.sub

local cast, address = ffi.cast, ffi.typeof('uintptr_t')
local var = plainly.var

local kept, last = {}, 0
local born = ''
local usual = {}

-- Once per worker: what makes the ids of its requests differ from all others, and the paths of most requests.
function M.start(paths)
  born, usual = ('%x-%x-'):format(ngx.worker.pid(), ngx.now() * 1000), paths
end

-- nginx's own request, which stays the same over internal redirects.
local function place() return tonumber(cast(address, get_request())) end

function M.open()
  last = last + 1
  local request = new_table(0, 32)    -- so that it never grows
  local raw = var('request_uri')
  request.side, request.via, request.method = 'ollama', 'ollama', ngx.req.get_method()
  request.uri = raw
  if not usual[raw] then request.raw, request.uri = raw, var('uri') end
  request.id = born .. last
  kept[place()] = request
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
  local length = var('content_length')
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
  if not raw or raw == uri then return true end
  return byte(raw, #uri + 1) == 63 and sub(raw, 1, #uri) == uri
end

-- The request of this phase, or nil when none was opened.
function M.current() return kept[place()] end

function M.close() kept[place()] = nil end

return M
