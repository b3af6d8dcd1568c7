-- What all workers know of the replicas of an engine: which failed lately, which the guard has taken out.
local hash = require 'hash'
local live = require 'live'
local replicas = require 'replicas'
local state = require 'state'

local M = {}

local shared = ngx.shared.gateway
local AWAY_SECONDS = 1       -- after a failed connection
local FAILED_SECONDS = 10    -- in which errors are counted
local FAILED_MOST = 3        -- so many of them, and others are asked first
local GUARD = 'guard'

local function standing_among(peers)
  local all = 0
  for _, name in ipairs(peers.names) do all = all + (live.busy[name] or 0) end
  return function(name)
    if shared:get('away' .. name) then return replicas.AWAY end
    if (shared:get('failed' .. name) or 0) >= FAILED_MOST then return replicas.FAILING end
    if replicas.crowded(live.busy[name] or 0, all, #peers.names) then return replicas.CROWDED end
    return replicas.FINE
  end
end

local function pick(request, peers, except)
  request.hash = request.hash or hash.hash(request.id)
  return replicas.pick(peers, request.hash, standing_among(peers), except)
end

-- The replica for a request, and whether all of them are out of reach.
function M.choose(request, peers)
  local name, rank = pick(request, peers)
  return name, rank == replicas.AWAY
end

-- Another replica that may answer in its place, or nil.
function M.other(request, peers)
  if request.retried then return nil end
  local name, rank = pick(request, peers, request.replica)
  return name and rank < replicas.AWAY and name or nil
end

local function last(value) return tostring(value):match('([%d.]+)%s*$') end

-- Remembers that the request's replica failed; false when the adapter did, before it asked a replica.
function M.failed(request)
  local name, answered = request.replica, last(ngx.var.upstream_header_time)
  if request.via == 'adapter' and not answered then return false end
  -- the adapter's own word for an engine to which it cannot connect
  if not answered or (request.via == 'adapter' and last(ngx.var.upstream_status) == '502') then
    shared:add('away' .. name, 'gateway', AWAY_SECONDS)   -- never in place of the guard's
  else
    shared:incr('failed' .. name, 1, 0, FAILED_SECONDS)
  end
  live.count_failed(request)
  return true
end

-- The guard's word: nothing goes to this engine or replica for so many seconds; 0 lets it come back now, all
-- forgiven.
function M.take_out(name, seconds)
  if seconds > 0 then return shared:set('away' .. name, GUARD, seconds) end
  shared:delete('failed' .. name)
  shared:delete('away' .. name)
  return true
end

-- {engine = {out = seconds left, by}} of those that the guard keeps requests from, or the gateway for a moment.
function M.circuits()
  local all = {}
  for engine in pairs(state.engines) do
    local by = shared:get('away' .. engine)
    if by then all[engine] = { out = math.max(0, shared:ttl('away' .. engine) or 0), by = by } end
  end
  return all
end

-- {engine = {replica = {out = seconds left, by, failing, failed_lately, failed, live, counts}}}; `failed` counts
-- since the start, `counts` are {route = {outcome = n}}.
function M.status()
  local all, in_flight, counts, failed = {}, live.by_replica(), live.ended_by_replica()
  for engine, peers in pairs(state.replicas) do
    all[engine] = {}
    for _, name in ipairs(peers.names) do
      local by, lately = shared:get('away' .. name), shared:get('failed' .. name) or 0
      all[engine][name] = {
        out = by and math.max(0, shared:ttl('away' .. name) or 0) or 0, by = by, failing = lately >= FAILED_MOST,
        failed_lately = lately, failed = failed[name] or 0, live = in_flight[name] or 0, counts = counts[name] or {},
      }
    end
  end
  return all
end

return M
