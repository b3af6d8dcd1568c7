-- Counts what is in flight and what has ended, over all workers.
local M = {}

local live, counts = ngx.shared.gateway_live, ngx.shared.gateway_counts
local SEP = '\31'
local NO_ROUTE = '-'
local REPLICA = 'replica'
local pid = ''
local keys = { ollama = {}, vllm = {} }    -- by side and route: there are few, and joining texts costs
local ended = { ollama = {}, vllm = {} }   -- likewise, and by outcome

M.busy = {}   -- requests of this worker in flight, by replica of an engine that has several

-- Once per worker.
function M.start() pid = tostring(ngx.worker.pid()) end

-- The worker's pid is part of the key, so that a crashed worker's streams do not count for ever.
local function live_key(request)
  local route = request.route or NO_ROUTE
  if request.side == 'vllm' and request.replica then
    return pid .. SEP .. request.side .. SEP .. route .. SEP .. request.replica
  end
  local key = keys[request.side][route]
  if not key then
    key = pid .. SEP .. request.side .. SEP .. route
    keys[request.side][route] = key
  end
  return key
end

local function busy(replica, by)
  if replica then M.busy[replica] = (M.busy[replica] or 0) + by end
end

function M.enter(request)
  request.live_key, request.live_on = live_key(request), request.replica
  live:incr(request.live_key, 1, 0)
  busy(request.live_on, 1)
end

function M.leave(request)
  if request.live_key then
    live:incr(request.live_key, -1, 0)
    busy(request.live_on, -1)
  end
  request.live_key, request.live_on = nil, nil
end

function M.move(request, side)
  M.leave(request)
  request.side = side
  M.enter(request)
end

local function ended_key(side, route, outcome)
  local by_outcome = ended[side][route]
  if not by_outcome then
    by_outcome = {}
    ended[side][route] = by_outcome
  end
  local key = by_outcome[outcome]
  if not key then
    key = route .. SEP .. side .. SEP .. outcome
    by_outcome[outcome] = key
  end
  return key
end

function M.count(request, outcome)
  local route = request.route or NO_ROUTE
  counts:incr(ended_key(request.side, route, outcome), 1, 0)
  if request.failover then counts:incr('failover' .. SEP .. route, 1, 0) end
  if request.replica then
    counts:incr(REPLICA .. SEP .. request.replica .. SEP .. route .. SEP .. outcome, 1, 0)
  end
end

-- A replica failed before its headers; another side or replica answers.
function M.count_failed(request) counts:incr(REPLICA .. SEP .. request.replica, 1, 0) end

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
    elseif route ~= REPLICA then
      sum[route] = sum[route] or {}
      sum[route][side] = sum[route][side] or {}
      sum[route][side][outcome] = counts:get(key)
    end
  end
  return sum, failovers
end

-- {replica = n in flight}
function M.by_replica()
  local sum = {}
  for _, key in ipairs(live:get_keys(0)) do
    local pid, _, _, replica = unpack(split(key))
    if replica and alive(pid) then sum[replica] = (sum[replica] or 0) + (live:get(key) or 0) end
  end
  return sum
end

-- {replica = {route = {outcome = n}}}, {replica = failures before the headers}
function M.ended_by_replica()
  local sum, failed = {}, {}
  for _, key in ipairs(counts:get_keys(0)) do
    local kind, replica, route, outcome = unpack(split(key))
    if kind == REPLICA and not route then
      failed[replica] = counts:get(key)
    elseif kind == REPLICA then
      sum[replica] = sum[replica] or {}
      sum[replica][route] = sum[replica][route] or {}
      sum[replica][route][outcome] = counts:get(key)
    end
  end
  return sum, failed
end

return M
