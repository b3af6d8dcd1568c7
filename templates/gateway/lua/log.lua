-- One JSON line per request, and the counters. No prompt, no query string, no header is written.
local cjson = require 'cjson.safe'
local hold = require 'hold'
local live = require 'live'
local outcome = require 'outcome'
local plainly = require 'plainly'
local requests = require 'request'
local shadow = require 'shadow'

local M = {}

local var, get_status = plainly.var, plainly.status

local TEXTS_MOST = 1000
local texts, known = {}, 0   -- as they were written last: there are few, and escaping is slow

local function hex(c) return ('%%%02X'):format(c:byte()) end

-- Clients choose these texts: keep the line short and valid UTF-8.
local function learn(value)
  if known >= TEXTS_MOST then texts, known = {}, 0 end
  local written = cjson.encode((value:sub(1, 300):gsub('[%c\127-\255]', hex)))
  texts[value], known = written, known + 1
  return written
end

-- Apart from `learn`: LuaJIT compiles no function that makes a closure or calls gsub.
local function text(value) return value and (texts[value] or learn(value)) or 'null' end

local function ms(value) return value and ('%.3f'):format(value) or 'null' end

local function judge(request)
  if request.refused then return 'refused' end
  if get_status() == 499 then return 'client_left' end
  local judged = request.judge or outcome.new(nil, get_status())
  local whole = var('request_completion') == 'OK'
  local ended = request.ended or (whole and (request.method == 'HEAD' or not request.judge))
  return outcome.finish(judged, ended, whole)
end

-- Returns what metrics.count wants. Called in here it would make this function too long to be compiled.
function M.write()
  local request = requests.current()
  if not request then return end
  requests.close()
  live.leave(request)
  if request.queue then hold.leave(request) end
  local result = judge(request)
  live.count(request, result)
  local start, status = ngx.req.start_time(), get_status()
  -- In pieces: an encoder would cost a third of the whole hop.
  local line = '{"ts":' .. ('%.3f'):format(start) .. ',"id":"' .. request.id .. '","route":' .. text(request.route)
    .. ',"model":' .. text(request.model) .. ',"side":"' .. request.side .. '","engine":' .. text(request.engine)
    .. ',"via":"' .. request.via .. '","method":' .. text(request.method) .. ',"uri":' .. text(request.uri)
    .. ',"status":' .. status .. ',"outcome":"' .. result .. '","ttft_ms":' .. ms(request.ttft)
    .. ',"total_ms":' .. ms((ngx.now() - start) * 1000) .. ',"bytes":' .. (var('body_bytes_sent') or 0)
    .. ',"weight":' .. (request.weight or 'null') .. ',"failover":' .. (request.failover and 'true' or 'false')
    .. ',"forced":' .. (request.forced and 'true' or 'false') .. ',"version":' .. (request.version or 'null')
    .. ',"upstream":' .. text(var('upstream_addr'))
  if request.held then line = line .. ',"held_ms":' .. ms(request.held) end
  if request.replica then line = line .. ',"replica":' .. text(request.replica) end
  plainly.set('gw_line', line .. '}')
  if request.shadow then shadow.send(request, result, ngx.now() - start) end
  return request, result, status, ngx.now() - start
end

return M
