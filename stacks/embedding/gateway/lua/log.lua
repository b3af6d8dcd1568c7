-- One JSON line per request, and the counters. No prompt, no query string, no header is written.
local cjson = require 'cjson.safe'
local live = require 'live'
local outcome = require 'outcome'
local requests = require 'request'

local M = {}

local null = cjson.null

-- Clients choose these texts: keep the line short and valid UTF-8.
local function clean(text)
  return text and (text:sub(1, 300):gsub('[%c\127-\255]', function(c) return ('%%%02X'):format(c:byte()) end)) or null
end

local function round(ms) return ms and math.floor(ms * 1000 + 0.5) / 1000 or null end

local function judge(request)
  if request.refused then return 'refused' end
  if ngx.status == 499 then return 'client_left' end
  local judged = request.judge or outcome.new(nil, ngx.status)
  local whole = ngx.var.request_completion == 'OK'
  local ended = request.ended or (whole and (request.method == 'HEAD' or not request.judge))
  return outcome.finish(judged, ended, whole)
end

function M.write()
  local request = requests.current()
  if not request then return end
  requests.close()
  live.leave(request)
  local result = judge(request)
  live.count(request, result)
  ngx.var.gw_line = cjson.encode({
    ts = ngx.req.start_time(), id = request.id, route = request.route or null, model = clean(request.model),
    side = request.side, engine = request.engine or null, via = request.via, method = request.method,
    uri = clean(request.uri), status = ngx.status, outcome = result, ttft_ms = round(request.ttft),
    total_ms = round((ngx.now() - ngx.req.start_time()) * 1000), bytes = tonumber(ngx.var.body_bytes_sent) or 0,
    weight = request.weight or null, failover = request.failover or false, forced = request.forced or false,
    version = request.version or null, replica = request.replica, upstream = ngx.var.upstream_addr or null,
  })
end

return M
