-- Counts what is in flight and what has ended, over all workers.
local M = {}

local live, counts = ngx.shared.gateway_live, ngx.shared.gateway_counts
local SEP = '\31'
local NO_ROUTE = '-'

-- The worker's pid is part of the key, so that a crashed worker's streams do not count for ever.
local function live_key(request)
  return table.concat({ ngx.worker.pid(), request.side, request.route or NO_ROUTE }, SEP)
end

function M.enter(request)
  request.live_key = live_key(request)
  live:incr(request.live_key, 1, 0)
end

function M.leave(request)
  if request.live_key then live:incr(request.live_key, -1, 0) end
  request.live_key = nil
end

function M.move(request, side)
  M.leave(request)
  request.side = side
  M.enter(request)
end

function M.count(request, outcome)
  counts:incr(table.concat({ request.route or NO_ROUTE, request.side, outcome }, SEP), 1, 0)
  if request.failover then counts:incr('failover' .. SEP .. (request.route or NO_ROUTE), 1, 0) end
end

local function split(key)
  local parts = {}
  for part in key:gmatch('[^' .. SEP .. ']+') do parts[#parts + 1] = part end
  return parts
end

local function alive(pid)
  local file = io.open('/proc/' .. pid .. '/stat')
  if file then file:close() end
  return file ~= nil
end

-- {ollama = n, vllm = n, by_route = {route = {ollama = n, vllm = n}}}
function M.in_flight(routes)
  local sum = { ollama = 0, vllm = 0, by_route = {} }
  for route in pairs(routes) do sum.by_route[route] = { ollama = 0, vllm = 0 } end
  for _, key in ipairs(live:get_keys(0)) do
    local pid, side, route = unpack(split(key))
    local n = live:get(key) or 0
    if n > 0 and alive(pid) then
      sum[side] = sum[side] + n
      if sum.by_route[route] then sum.by_route[route][side] = sum.by_route[route][side] + n end
    elseif not alive(pid) then
      live:delete(key)
    end
  end
  return sum
end

-- {route = {side = {outcome = n}}}, {route = failovers}
function M.ended()
  local sum, failovers = {}, {}
  for _, key in ipairs(counts:get_keys(0)) do
    local route, side, outcome = unpack(split(key))
    if route == 'failover' then
      failovers[side] = counts:get(key)
    else
      sum[route] = sum[route] or {}
      sum[route][side] = sum[route][side] or {}
      sum[route][side][outcome] = counts:get(key)
    end
  end
  return sum, failovers
end

return M
