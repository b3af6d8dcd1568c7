-- Decides where a request goes, once per hop.
local body = require 'body'
local choose = require 'choose'
local complain = require 'complain'
local direct = require 'direct'
local hash = require 'hash'
local hold = require 'hold'
local live = require 'live'
local plainly = require 'plainly'
local requests = require 'request'
local shadow = require 'shadow'
local spread = require 'spread'
local state = require 'state'
local surface = require 'surface'

local M = {}

local shared = ngx.shared.gateway
local CIRCUIT_SECONDS = 1    -- after a connect timeout: an address that is gone costs one request its time

local SETTLE_SECONDS = 0.1

-- What a route's weight applies to, and the kind of route that can answer it: an engine that generates
-- embeds nothing. All else of Ollama's API is about Ollama's own store.
local WEIGHTED = {
  ['/api/chat'] = 'generate', ['/api/generate'] = 'generate', ['/v1/chat/completions'] = 'generate',
  ['/v1/completions'] = 'generate', ['/v1/responses'] = 'generate', ['/v1/messages'] = 'generate',
  ['/v1/messages/count_tokens'] = 'generate',
  ['/api/embed'] = 'embedding', ['/api/embeddings'] = 'embedding', ['/v1/embeddings'] = 'embedding',
}

local settled = false

-- Just after the start the names of the upstreams are not resolved yet.
local function settling()
  settled = settled or (shared:get('settled_at') or 0) <= ngx.now()
  return not settled
end

-- Whose request it is: `key` chooses the side, `hash` the replica. With one key per program its conversations would
-- all share a replica, so there they are told apart.
local function identify(request, text, found, several)
  local session = ngx.var.http_x_session_id
  local named = session and session ~= '' and hash.hash(session) or choose.user(text, found)
  local talk = (several or not (named or request.caller)) and choose.conversation(text, found)
  request.key = named or request.caller and hash.hash(request.caller) or talk
  if several then request.hash = named or talk or nil end
end

-- A conversation is looked for only where it decides something.
local function undecided(weight) return weight > 0 and weight < 100 end

local function is_json(content_type)
  return content_type == 'application/json'       -- nearly always; a pattern costs more than all the rest
    or content_type ~= nil and content_type:lower():find('^%s*application/json') ~= nil
end

-- Fills in model, route, whether vLLM can take the body as it stands, and whose request it is.
local function recognise(request, path)
  if request.method ~= 'POST' or not WEIGHTED[path] then return end
  if not request.forced and not requests.plain(request) then return end   -- Ollama's to read
  local text = requests.body()
  if not text then return end
  local direct_model = path == '/v1/chat/completions' and is_json(plainly.var('http_content_type')) and direct.model(text)
  local model, found = direct_model, nil
  if not model then model, found = body.model(text) end
  if not model then return end
  request.model = model
  request.route = state.route_of(model)
  if not request.route then return end
  local known = state.routes[request.route]
  request.fits = known.kind == WEIGHTED[path]
  request.direct = direct_model and known.direct
  local several = state.replicas[known.engine]
  if several or known.sticky and (undecided(state.now().weights[request.route] or 0) or hold.any()) then
    identify(request, text, found or body.members(text, body.skip_space(text, 1)), several)
  end
end

local function weigh(request)
  local now = state.now()
  request.version = now.version
  if not request.route then return 'ollama' end
  request.weight = now.weights[request.route] or 0
  if not request.fits then return 'ollama' end
  local known = state.routes[request.route]
  local point = known.sticky and request.key and choose.point(request.key, known.seed) or math.random() * 100
  return choose.side(request.weight, point, known.kind)
end

-- The replica that takes it, and whether none can be reached. A check may name the one it asks.
local function place(request, engine)
  local peers = state.replicas[engine]
  if not peers then return nil, shared:get('away' .. engine) end
  local named = request.forced and ngx.var.http_x_migrate_replica
  if named and peers.is[named] then return named end
  local name, away = spread.choose(request, peers)
  return name, away and shared:get('away' .. name)
end

local function to_vllm(request)
  local origin = not request.forced and plainly.var('http_origin')
  if origin and not surface.cross(request, origin) then return end
  local route = state.routes[request.route]
  local guarded = route.failover ~= false and route.kind ~= 'embedding' and not request.forced
  local replica, away = place(request, route.engine)
  if guarded and away then
    request.failover = true
    return live.enter(request)
  end
  request.engine, request.replica = route.engine, replica
  request.side, request.via = 'vllm', request.direct and 'direct' or 'adapter'
  live.enter(request)
  plainly.set('gw_engine', replica or request.engine)
  if request.via == 'adapter' then ngx.var.gw_route = request.route end
  if guarded then return ngx.exec('@' .. request.via) end
  -- Nobody else may answer for one that hangs: its clients are told so at once.
  if away == 'guard' and not request.forced then return ngx.exec('@unavailable') end
  -- An answer is only looked at before it is sent on where another could replace it.
  local more = replica and not request.forced and spread.other(request, state.replicas[route.engine])
  return ngx.exec('@' .. request.via .. (more and '_spread' or '_only'))
end

-- Sends it to another replica, once; returns when there is none that may answer.
local function ask_another(request, way)
  if not request.replica or not spread.failed(request) then return end
  local other = spread.other(request, state.replicas[request.engine])
  if not other then return end
  request.retried, request.replica = true, other
  ngx.var.gw_engine = other
  live.move(request, 'vllm')
  return ngx.exec('@' .. request.via .. way)
end

-- Once per worker. A reload keeps the names that were resolved.
function M.start_worker()
  live.start()
  requests.start(WEIGHTED)
  math.randomseed(ngx.worker.pid() * 1000 + ngx.now() * 1000 % 1000)
  shared:add('settled_at', ngx.now() + SETTLE_SECONDS)
end

local function go(request)
  if weigh(request) == 'vllm' then return to_vllm(request) end
  if request.route then
    local share = state.routes[request.route].shadow
    if share and request.fits then shadow.draw(request, share) end
    surface.rename(request)
  end
  live.enter(request)
end

local function route(request)
  recognise(request, request.uri)
  if hold.any() and hold.concerns(request) then return ngx.exec('@held') end
  return go(request)
end

local function attempt(step, request)
  local decided, why = pcall(step, request)
  if decided then return end
  complain('routing failed, Ollama answers: ' .. tostring(why))
  request.side, request.via, request.engine = 'ollama', 'ollama', nil
end

-- A public door; `request` when it was opened already. Should deciding ever fail, Ollama answers, as it did before
-- there was a gateway.
function M.public(request)
  while settling() do ngx.sleep(0.01) end
  return attempt(route, request or requests.open())
end

-- A request that must wait, in a location that notices when its client leaves.
function M.held()
  local request = requests.current()
  hold.wait(request)
  return attempt(go, request)
end

-- Everything under /side/ollama and /side/vllm of the control door.
function M.forced(side)
  local request = requests.open()
  request.forced = true
  ngx.var.gw_uri = ngx.var.request_uri:match('^/+side/%w+(/.*)$') or '/'
  request.uri = request.uri:match('^/side/%w+(/.*)$') or '/'
  recognise(request, request.uri)
  weigh(request)
  if side == 'ollama' then return live.enter(request) end
  if request.route then return to_vllm(request) end
  -- A check asks an engine about itself (/health, /v1/models): there is no model in the request to go by.
  local engine = ngx.var.http_x_migrate_replica or ngx.var.http_x_migrate_engine
  if engine and state.engines[engine] then
    request.side, request.via, request.engine = 'vllm', 'direct', engine
    live.enter(request)
    ngx.var.gw_engine = engine
    return ngx.exec('@direct_only')
  end
  request.side, request.via = 'vllm', 'adapter'
  live.enter(request)
  return ngx.exec('@adapter_only')
end

-- vLLM did not take it, and nothing was sent to the client: Ollama answers.
function M.fall_back()
  local request = requests.current()
  ask_another(request, '')
  local status = tostring(ngx.var.upstream_status):match('(%d+)%s*$')
  if not request.replica and status == '504' and tostring(ngx.var.upstream_connect_time):match('%-%s*$') then
    shared:add('away' .. request.engine, 'gateway', CIRCUIT_SECONDS)   -- never in place of the guard's
  end
  request.failover, request.via, request.engine, request.replica = true, 'ollama', nil, nil
  if request.origin then surface.uncross(request) end
  surface.rename(request)
  ngx.var.gw_route, ngx.var.gw_engine = '', ''
  live.move(request, 'ollama')
end

-- The same where Ollama may not answer: another replica may, and its word is the last.
function M.another()
  ask_another(requests.current(), '_only')
  return ngx.exec('@unavailable')
end

-- vLLM found fault with a body that Ollama might accept: the adapter decides.
function M.replay()
  local request = requests.current()
  request.via, request.replayed = 'adapter', true
  ngx.var.gw_route = request.route
end

-- vLLM answers for an absent Ollama where clients are let onto it already: such a route was proven, and approved.
local function stand_in(request)
  local route = request.fits and not request.failover and (request.weight or 0) > 0 and state.routes[request.route]
  if not route or route.failover == false or route.kind == 'embedding' then return end
  local replica, away = place(request, route.engine)
  if away then return end
  request.failover, request.engine, request.replica = true, route.engine, replica
  request.via = request.direct and 'direct' or 'adapter'
  live.move(request, 'vllm')
  plainly.set('gw_engine', replica or request.engine)
  if request.via == 'adapter' then ngx.var.gw_route = request.route end
  return ngx.exec('@' .. request.via .. '_only')
end

-- Ollama is not there: vLLM may answer, and the adapter knows the lists of models; what needs Ollama itself is refused.
function M.without_ollama()
  local request = requests.current()
  if request.method == 'OPTIONS' then return surface.preflight(request, WEIGHTED[request.uri] and 'POST') end
  local origin = ngx.var.http_origin
  if origin and not surface.cross(request, origin) then return end
  local answerable = request.method == 'GET' or request.method == 'HEAD' or request.uri == '/api/show'
  if request.route and not request.forced then stand_in(request) end
  if not answerable or request.forced then return ngx.exec('@unavailable') end
  request.failover, request.via = true, 'adapter'
  live.move(request, 'vllm')
end

return M
