-- Lets the requests of a route, or all, wait while a side is swapped, and lets them go in the order in which they
-- came. What is shared outlives a reload, and each request waits by itself: an old worker's end like all others.
local refuse = require 'refuse'

local M = {}

local shared = ngx.shared.gateway_hold
local ALL = '*'
local MOST = 1000          -- requests that wait at once, unless told otherwise
local LOOK_SECONDS = 0.01  -- between two looks whether the hold is over
local STALL_SECONDS = 0.5  -- whoever has not gone by then will not: its worker died
local LINGER_SECONDS = 15  -- for which a queue that moves on is still looked at

-- Not held by a hold of everything: they concern the store, and uploads are relayed as they come.
local STORE = { ['/api/pull'] = true, ['/api/create'] = true, ['/api/copy'] = true, ['/api/push'] = true,
  ['/api/delete'] = true }

-- Whether any hold may concern a request: the one question that each request asks.
function M.any() return shared:get('hold') end

local function waiting(queue)
  local went = shared:get('go:' .. queue) or 1
  return math.max(0, (shared:get('ticket:' .. queue) or 0) - went + 1 - (shared:get('left:' .. queue) or 0))
end

local function applies(queue) return shared:get('hold:' .. queue) ~= nil or waiting(queue) > 0 end

local function outside(uri) return STORE[uri] or uri:sub(1, 11) == '/api/blobs/' end

-- True when the request must wait.
function M.concerns(request)
  return applies(ALL) and not outside(request.uri) or request.route ~= nil and applies(request.route)
end

-- Ticket `at` is through; counted once, whoever says so.
local function pass(queue, at)
  if not shared:add('passed:' .. queue .. at, true, 60) then return end
  if shared:get('gone:' .. queue .. at) then
    shared:delete('gone:' .. queue .. at)
    shared:incr('left:' .. queue, -1)
  end
  shared:incr('go:' .. queue, 1, 1)
end

-- The request went away, or goes on.
function M.leave(request)
  local queue, ticket = request.queue, request.ticket
  request.queue, request.ticket = nil, nil
  if (shared:get('go:' .. queue) or 1) == ticket then return pass(queue, ticket) end
  if (shared:get('go:' .. queue) or 1) > ticket then return end
  shared:set('gone:' .. queue .. ticket, true, 3600)
  shared:incr('left:' .. queue, 1, 0)
end

local function in_turn(queue, ticket)
  local last, since
  while true do
    local go = shared:get('go:' .. queue) or 1
    if shared:get('hold:' .. queue) then
      last = nil
      ngx.sleep(LOOK_SECONDS)
    elseif go >= ticket then
      return
    else
      if go ~= last then last, since = go, ngx.now() end
      if shared:get('gone:' .. queue .. go) or ngx.now() - since > STALL_SECONDS then
        pass(queue, go)
      end
      ngx.sleep(math.min(LOOK_SECONDS, (ticket - go) * 0.0005 + 0.0005))
    end
  end
end

-- False when too many wait already.
local function stand_in_line(request, queue)
  if not applies(queue) then return true end
  if waiting(queue) >= (shared:get('most:' .. queue) or MOST) then return shared:get('hold:' .. queue) == nil end
  request.queue, request.ticket = queue, shared:incr('ticket:' .. queue, 1, 0)
  in_turn(queue, request.ticket)
  M.leave(request)
  return true
end

-- Waits for the request's turn. More than may wait are refused, in the words of an Ollama whose queue is full.
function M.wait(request)
  local began = ngx.now()
  local free = (outside(request.uri) or stand_in_line(request, ALL))
    and (not request.route or stand_in_line(request, request.route))
  request.held = (ngx.now() - began) * 1000
  if free then return end
  local left = math.max(shared:ttl('hold:' .. ALL) or 0, request.route and shared:ttl('hold:' .. request.route) or 0)
  ngx.header.retry_after = math.max(1, math.ceil(left))
  refuse.answer(503, 'server busy, please try again.  maximum pending requests exceeded')
  return ngx.exit(503)
end

-- For how long requests have to ask: the longest of all holds, and then until the queues are empty.
local function remember(routes)
  local longest = math.max(0, shared:ttl('hold:' .. ALL) or 0)
  for route in pairs(routes) do longest = math.max(longest, shared:ttl('hold:' .. route) or 0) end
  shared:set('hold', true, longest + LINGER_SECONDS)
end

-- Holds a route's requests for so many seconds, at most `most` of them; no route: all requests. 0 lets them go.
function M.set(route, seconds, most, routes)
  local queue = route or ALL
  if not M.any() then   -- nobody waits: what a dead worker left behind is forgotten
    shared:set('go:' .. queue, (shared:get('ticket:' .. queue) or 0) + 1)
    shared:delete('left:' .. queue)
  end
  shared:set('most:' .. queue, most or MOST)
  if seconds > 0 then shared:set('hold:' .. queue, ngx.now() + seconds, seconds) else shared:delete('hold:' .. queue) end
  remember(routes)
end

local function one(queue)
  local ends = shared:get('hold:' .. queue)
  return { on = ends ~= nil, ['until'] = ends, waiting = M.any() and waiting(queue) or 0,
    most = ends and shared:get('most:' .. queue) }
end

-- {on, until = epoch seconds, waiting, most} of all requests, with by_route = {route = the same}; `waiting` counts
-- those of all queues. A route that neither holds nor lets go is left out.
function M.status(routes)
  local all, by_route = one(ALL), {}
  for route in pairs(routes) do
    local its = one(route)
    all.waiting = all.waiting + its.waiting
    if its.on or its.waiting > 0 then by_route[route] = its end
  end
  all.by_route = by_route
  return all
end

return M
