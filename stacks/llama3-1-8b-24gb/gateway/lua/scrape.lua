-- GET /metrics: everything that the gateway counts and knows, as Prometheus reads it.
local exposition = require 'exposition'
local hold = require 'hold'
local live = require 'live'
local metrics = require 'metrics'
local spread = require 'spread'
local state = require 'state'

local M = {}

local shared = ngx.shared.gateway
local SERIES = { 'door', 'route', 'side', 'engine', 'replica' }
local ANSWERS = { 'door', 'route', 'side', 'engine', 'replica', 'path', 'outcome', 'code' }
local CIRCUITS = { 'closed', 'failing', 'open', 'out' }

local function family(name, kind, help, labels, samples)
  return { name = 'migrate_gateway_' .. name, kind = kind, help = help, labels = labels, samples = samples }
end

local function one(value) return { { {}, value } } end

local function sorted(map)
  local keys = {}
  for key in pairs(map) do keys[#keys + 1] = key end
  table.sort(keys)
  return keys
end

local function answered()
  local all = metrics.all()
  for _, sample in ipairs(all.answers) do
    local class = sample[1][8]
    sample[1][8] = class == '0' and 'none' or class .. 'xx'
  end
  return {
    family('requests_total', 'counter', 'Requests that have ended, by how they were answered.', ANSWERS, all.answers),
    family('time_to_first_token_seconds', 'histogram', 'Until the first piece of a streamed answer.', SERIES, all.ttft),
    family('request_duration_seconds', 'histogram', 'Whole time of requests that were answered completely.', SERIES,
      all.total),
  }
end

local function in_flight()
  local now = live.in_flight(state.routes)
  local samples, known = {}, { ollama = 0, vllm = 0 }
  for _, route in ipairs(sorted(now.by_route)) do
    for _, side in ipairs { 'ollama', 'vllm' } do
      local n = now.by_route[route][side]
      known[side] = known[side] + n
      samples[#samples + 1] = { { route, side }, n }
    end
  end
  for _, side in ipairs { 'ollama', 'vllm' } do
    samples[#samples + 1] = { { '-', side }, math.max(0, now[side] - known[side]) }
  end
  return family('in_flight_requests', 'gauge', 'Requests that are being answered.', { 'route', 'side' }, samples)
end

local function weights(now)
  local samples = {}
  for _, route in ipairs(sorted(state.routes)) do samples[#samples + 1] = { { route }, (now.weights[route] or 0) / 100 } end
  local found = {
    family('weight_ratio', 'gauge', 'Share of a route that vLLM is to answer.', { 'route' }, samples),
    family('weights_version', 'gauge', 'Grows with each change of weights.', {}, one(now.version)),
  }
  if now.changed then
    found[#found + 1] = family('weights_changed_timestamp_seconds', 'gauge', 'When a weight was changed last.', {},
      one(now.changed))
  end
  if now.lease then
    found[#found + 1] = family('lease_expires_timestamp_seconds', 'gauge', 'When the guard takes weights back.', {},
      one(now.lease.expires))
  end
  return found
end

local function circuit(name, failing)
  local by = shared:get('away' .. name)
  if by == 'guard' then return 'out' end
  return by and 'open' or failing and 'failing' or 'closed'
end

-- Every engine, and every replica where there are several.
local function engines()
  local status, circuits, flying, failed, part = spread.status(), {}, {}, {}, {}
  for engine, replicas in pairs(status) do
    for name in pairs(replicas) do part[name] = engine end
  end
  for _, name in ipairs(sorted(state.engines)) do
    local engine = part[name] or name
    local known = part[name] and status[engine][name]
    local now = circuit(name, known and known.failing)
    for _, word in ipairs(CIRCUITS) do circuits[#circuits + 1] = { { engine, name, word }, now == word and 1 or 0 } end
    if known then
      flying[#flying + 1] = { { engine, name }, known.live }
      failed[#failed + 1] = { { engine, name }, known.failed }
    end
  end
  local names = { 'engine', 'replica' }
  local found = { family('circuit_state', 'gauge', '1 for the state in which an engine is.',
    { 'engine', 'replica', 'state' }, circuits) }
  if #flying > 0 then
    found[2] = family('replica_in_flight_requests', 'gauge', 'Requests that a replica is answering.', names, flying)
    found[3] = family('replica_failures_total', 'counter', 'Requests that a replica failed before its headers.', names,
      failed)
  end
  return found
end

local function families()
  local now, held = state.now(), hold.status(state.routes)
  local all = { family('info', 'gauge', 'Which stack this is.', { 'stack', 'role' },
    { { { state.stack, state.role }, 1 } }) }
  for _, group in ipairs { answered(), { in_flight() }, weights(now), engines() } do
    for _, each in ipairs(group) do all[#all + 1] = each end
  end
  all[#all + 1] = family('hold_active', 'gauge', '1 while requests are held.', {}, one((held.on or next(held.by_route)) and 1 or 0))
  all[#all + 1] = family('held_requests', 'gauge', 'Requests that wait for the hold to end.', {},
    one(held.waiting))
  return all
end

function M.page()
  local open = (ngx.var.http_accept or ''):find('application/openmetrics-text', 1, true) ~= nil
  ngx.header.content_type = open and exposition.OPEN_TYPE or exposition.TYPE
  ngx.print(exposition.text(families(), open))
end

return M
