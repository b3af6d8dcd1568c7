-- What the requests came to, for Prometheus. A worker counts in its own memory and tells the shared dictionary once a
-- second: that costs a request a tenth of what counting there costs. A worker that is killed loses its last second.
local histogram = require 'histogram'

local M = {}

local shared = ngx.shared.gateway_metrics
local floor, observe = math.floor, histogram.observe
local EVERY = 1           -- seconds
local SEP = '\31'
local NO_ROUTE = '-'

local tree, told = {}, true
local leaving = false     -- after a reload nothing more comes from a timer: this worker only ends its streams

local function down(node, key)
  local child = node[key]
  if child == nil then
    child = {}
    node[key] = child
  end
  return child
end

-- What is counted under the same door, route, side, engine and replica.
local function leaf_of(request)
  local engine = request.engine or ''
  local node = down(tree, request.forced and 'control' or 'public')
  node = down(down(down(node, request.route or NO_ROUTE), request.side), engine)
  local replica = request.replica or engine
  local leaf = node[replica]
  if leaf == nil then
    leaf = { answers = {}, ttft = histogram.new(), total = histogram.new() }
    node[replica] = leaf
  end
  return leaf
end

-- How it came to its answer; each request has one of these.
local function path_of(request)
  if request.own then return 'gateway' end
  if request.failover then return 'failover' end
  if request.replayed then return 'replayed' end
  return request.via
end

-- Once per request, with what log.write returns; `status` is nginx's, `total` in seconds. The first piece of a whole
-- answer tells nothing of the first token, and what failed at once would flatter the total time: neither is in a
-- histogram.
function M.count(request, outcome, status, total)
  if not request then return end
  local leaf = leaf_of(request)
  local by_class = down(down(leaf.answers, path_of(request)), outcome)
  local class = status == 499 and 0 or floor(status / 100)
  by_class[class] = (by_class[class] or 0) + 1
  local judge, ttft = request.judge, request.ttft
  if ttft and judge and judge.kind then observe(leaf.ttft, ttft / 1000) end
  if outcome == 'complete' and status < 400 then observe(leaf.total, total) end
  told = false
  if leaving then M.tell() end
end

local function add(key, n)
  if n ~= 0 then shared:incr(key, n, 0) end
end

local function tell_leaf(labels, leaf)
  for path, by_outcome in pairs(leaf.answers) do
    for outcome, by_class in pairs(by_outcome) do
      for class, n in pairs(by_class) do
        add('answers' .. SEP .. labels .. SEP .. path .. SEP .. outcome .. SEP .. class, n)
      end
    end
  end
  for _, name in ipairs { 'ttft', 'total' } do
    for cell, n in pairs(leaf[name]) do add(name .. SEP .. labels .. SEP .. cell, n) end
  end
end

-- Adds what this worker counted to what all know.
function M.tell()
  if told then return end
  local counted = tree
  tree, told = {}, true
  for door, by_route in pairs(counted) do
    for route, by_side in pairs(by_route) do
      for side, by_engine in pairs(by_side) do
        for engine, by_replica in pairs(by_engine) do
          for replica, leaf in pairs(by_replica) do
            tell_leaf(door .. SEP .. route .. SEP .. side .. SEP .. engine .. SEP .. replica, leaf)
          end
        end
      end
    end
  end
end

-- Once per worker.
function M.start()
  ngx.timer.every(EVERY, function(premature)
    leaving = leaving or premature
    M.tell()
  end)
end

local function split(key)
  local parts, from = {}, 1
  while true do
    local at = key:find(SEP, from, true)
    parts[#parts + 1] = key:sub(from, (at or 0) - 1)
    if not at then return parts end
    from = at + 1
  end
end

-- {answers = {{door, route, side, engine, replica, path, outcome, class}, n}, ttft = {{door … replica}, cells}, total}
function M.all()
  M.tell()
  local found, histograms = { answers = {}, ttft = {}, total = {} }, {}
  local keys = shared:get_keys(0)
  table.sort(keys)
  for _, key in ipairs(keys) do
    local parts, n = split(key), shared:get(key) or 0
    local name = table.remove(parts, 1)
    if name == 'answers' then
      table.insert(found.answers, { parts, n })
    else
      local cell = table.remove(parts)
      local id = name .. SEP .. table.concat(parts, SEP)
      local one = histograms[id]
      if not one then
        one = histogram.new()
        histograms[id] = one
        table.insert(found[name], { parts, one })
      end
      one[tonumber(cell) or cell] = n
    end
  end
  return found
end

return M
