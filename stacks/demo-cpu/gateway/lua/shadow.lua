-- Hands a share of what Ollama answered to the side-car, which asks vLLM the same later: after the client has its
-- answer, in a timer of its own, so that nothing here can slow it down. What is too much is dropped and counted.
local state = require 'state'

local M = {}

local shared = ngx.shared.gateway
local MOST = 262144       -- bytes of a request, and of an answer
local FLYING_MOST = 4     -- of a worker, on their way to the side-car
local CONNECT_MS, SEND_MS, READ_MS = 500, 1000, 1000
local flying = 0

local function count(route, word) shared:incr('shadow:' .. word .. ':' .. route, 1, 0) end

local function drop(route, why)
  count(route, 'dropped')
  ngx.log(ngx.INFO, 'shadow: a sample was dropped: ', why)
end

-- Draws whether this request, which Ollama answers, is a sample.
function M.draw(request, percent)
  if math.random() * 100 >= percent then return end
  count(request.route, 'sampled')
  local text = ngx.req.get_body_data()
  if not text or #text > MOST then return drop(request.route, 'the request is too large') end
  request.shadow = { request = text, parts = {}, size = 0 }
end

-- A piece of the answer.
function M.add(sample, chunk)
  sample.size = sample.size + #chunk
  if sample.size <= MOST then sample.parts[#sample.parts + 1] = chunk end
end

local function hand_over(head, sample)
  local socket = ngx.socket.tcp()
  socket:settimeouts(CONNECT_MS, SEND_MS, READ_MS)
  local ok, why = socket:connect(state.shadow.host, state.shadow.port)
  if not ok then return why end
  ok, why = socket:send { head, sample.request, sample.parts }
  local line = ok and socket:receive('*l')
  socket:close()
  if not ok then return why end
  return not (line and line:find(' 202', 1, true)) and (line or 'no answer') or nil
end

local function deliver(premature, route, head, sample)
  local why = premature and 'the worker ends'
  if not why then
    local ran, said = pcall(hand_over, head, sample)
    why = not ran and tostring(said) or said
  end
  flying = flying - 1
  if why then return drop(route, why) end
  count(route, 'sent')
end

local function quoted(text) return '"' .. text:gsub('[%c"\\\127-\255]', '?') .. '"' end

-- The answer is complete and sent. Only whole, good answers of Ollama are worth a comparison.
function M.send(request, outcome, total)
  local sample, route = request.shadow, request.route
  request.shadow = nil
  if request.side ~= 'ollama' or request.failover or outcome ~= 'complete' or ngx.status ~= 200 then
    return drop(route, 'Ollama gave no whole answer')
  end
  if sample.size > MOST then return drop(route, 'the answer is too large') end
  if flying >= FLYING_MOST then return drop(route, 'too many at once') end
  local meta = '{"route":' .. quoted(route) .. ',"uri":' .. quoted(request.uri) .. ',"id":' .. quoted(request.id)
    .. ',"type":' .. quoted(ngx.header.content_type or '') .. ',"ttft_ms":'
    .. (request.ttft and ('%.3f'):format(request.ttft) or 'null') .. ',"total_ms":' .. ('%.3f'):format(total * 1000) .. '}'
  local head = 'POST /shadow HTTP/1.1\r\nHost: shadow\r\nConnection: close\r\nX-Shadow: ' .. meta
    .. '\r\nX-Request-Length: ' .. #sample.request .. '\r\nContent-Length: ' .. #sample.request + sample.size .. '\r\n\r\n'
  flying = flying + 1
  if not ngx.timer.at(0, deliver, route, head, sample) then
    flying = flying - 1
    drop(route, 'no timer')
  end
end

-- {route = {percent, sampled, sent, dropped}} of the routes that have a shadow, since the start.
function M.status()
  local all = {}
  for route, known in pairs(state.routes) do
    if known.shadow then
      all[route] = { percent = known.shadow }
      for _, word in ipairs { 'sampled', 'sent', 'dropped' } do
        all[route][word] = shared:get('shadow:' .. word .. ':' .. route) or 0
      end
    end
  end
  return all
end

return M
