-- What the doors let in, besides routing: callers' keys, Host and Origin, a closed store, vLLM's own port.
local cjson = require 'cjson.safe'
local ffi = require 'ffi'
local body = require 'body'
local keys = require 'keys'
local models = require 'models'
local origins = require 'origins'
local refuse = require 'refuse'
local requests = require 'request'
local state = require 'state'
local store = require 'store'

ffi.cdef 'unsigned char *SHA256(const unsigned char *data, size_t n, unsigned char *digest);'

local M = {}

local shared, callers = ngx.shared.gateway, ngx.shared.gateway_callers
local CALLERS_SHOWN = 100
local KNOWN_MOST = 10000   -- keys whose hash is remembered
local KEYS_EVERY = 1       -- seconds until a change of the file is seen
local TOUCHED = 'touched'

local PREFLIGHT = 'Authorization,Content-Type,User-Agent,Accept,X-Requested-With,Openai-Beta,X-Stainless-Arch,'
  .. 'X-Stainless-Async,X-Stainless-Custom-Poll-Interval,X-Stainless-Helper-Method,X-Stainless-Lang,X-Stainless-Os,'
  .. 'X-Stainless-Package-Version,X-Stainless-Poll-Helper,X-Stainless-Retry-Count,X-Stainless-Runtime,'
  .. 'X-Stainless-Runtime-Version,X-Stainless-Timeout'

local rules = origins.new('')
local config = {}
local entries, keys_text, enforced, known, knowns = {}, nil, true, {}, 0
local foreign = {}   -- names that only vLLM knows, as clients write them -> true
local started = 0

local function slurp(path)
  local file = io.open(path, 'rb')
  local text = file and file:read('*a')
  if file then file:close() end
  return text
end

local function refused(status, message)
  refuse.answer(status, message)
  return ngx.exit(status)
end

local function load_keys()
  local text = slurp(config.keys.file)
  if text == keys_text and text then return end
  if not text and keys_text ~= false then
    ngx.log(ngx.CRIT, config.keys.file, ' cannot be read: no key is known')
  end
  keys_text, known, knowns = text or false, {}, 0
  local wrong, mode
  entries, wrong, mode = keys.parse(text or '')
  enforced = (mode or config.keys.mode) ~= 'grace'
  if #wrong > 0 then ngx.log(ngx.CRIT, config.keys.file, ': no hash and name in line ', table.concat(wrong, ', ')) end
end

-- Before the workers start.
function M.init(etc_dir)
  local whole = assert(cjson.decode(assert(slurp(etc_dir .. '/config.json'))))
  config, started = whole.surface or {}, ngx.time()
  rules = origins.new(config.origins or '')
  requests.patience = config.patience or requests.patience
  for _, route in pairs(state.routes) do
    for _, name in ipairs(route.foreign or {}) do foreign[name:lower()] = true end
  end
  for route, said in pairs(cjson.decode(slurp(state.state_dir .. '/touched.json') or '') or {}) do
    if shared:get(TOUCHED .. route) == nil then shared:set(TOUCHED .. route, cjson.encode(said)) end
  end
  if config.keys then load_keys() end
end

function M.start_worker()
  if config.keys then assert(ngx.timer.every(KEYS_EVERY, load_keys)) end
end

-- Who has this key, or nil. Hashed once, not once per request.
local function owner_of(key)
  local name = known[key]
  if name ~= nil then return name or nil end
  local digest = ffi.new('unsigned char[32]')
  ffi.C.SHA256(key, #key, digest)
  local hex = ffi.string(digest, 32):gsub('.', function(c) return ('%02x'):format(c:byte()) end)
  name = keys.find(entries, hex)
  if knowns >= KNOWN_MOST then known, knowns = {}, 0 end
  known[key], knowns = name or false, knowns + 1
  return name
end

local function open_to_all(request)
  return request.method == 'OPTIONS'
    or (request.uri == '/' and (request.method == 'GET' or request.method == 'HEAD'))
end

-- Asks for a key; what came as one goes no further, since neither side knows it.
local function check_key(request)
  local var = ngx.var
  local api_key = var.http_x_api_key
  local key = keys.given(var.http_authorization, api_key)
  request.caller = key and owner_of(key)
  var.gw_authorization = ''
  if api_key then ngx.req.clear_header('X-Api-Key') end
  if request.caller or open_to_all(request) then return end
  if not enforced then
    callers:incr(var.remote_addr, 1, 0)
    return
  end
  ngx.header.www_authenticate = 'Bearer'
  return refused(401, key and 'this key is not known here' or 'a key is needed: Authorization: Bearer KEY')
end

-- What the original answered when it listened on loopback.
local function check_host(request)
  local host, origin = ngx.var.http_host or '', ngx.var.http_origin
  if origin and origin ~= '' and not origins.same(origin, host) then
    if not origins.allowed(rules, origin) then return ngx.exit(M.bare(403)) end
    if request.method == 'OPTIONS' then return end   -- a preflight is answered before the host is looked at
  end
  if not origins.host_allowed(host) then return ngx.exit(M.bare(403)) end
  if request.method == 'OPTIONS' then return ngx.exit(M.bare(204)) end
end

-- An answer without body or type, as Ollama's.
function M.bare(status)
  ngx.status = status
  ngx.header.content_type = ''
  if status ~= 204 then ngx.header.content_length = 0 end
  ngx.send_headers()
  return status
end

-- Opens a request at a public door, where any of this is asked for.
function M.enter()
  local request = requests.open()
  if config.hosts then check_host(request) end
  if config.keys then check_key(request) end
  if config.read_only and store.changes(request.method, request.uri) then
    return refused(403, 'this gateway is read-only: models are changed on the server')
  end
  return request
end

-- Before an answer of vLLM or the adapter, which know nothing of origins. Returns false when it was refused.
function M.cross(request, origin)
  if origin == '' or origins.same(origin, ngx.var.http_host or '') then return true end
  if not origins.allowed(rules, origin) then
    ngx.exit(M.bare(403))
    return false
  end
  request.origin = origin
  ngx.req.clear_header('Origin')
  ngx.header['Access-Control-Allow-Origin'] = rules.all and '*' or origin
  if not rules.all then ngx.header['Vary'] = 'Origin' end
  return true
end

-- Ollama answers after all, and says it itself.
function M.uncross(request)
  ngx.req.set_header('Origin', request.origin)
  ngx.header['Access-Control-Allow-Origin'], ngx.header['Vary'] = nil, nil
  request.origin = nil
end

-- Before the adapter answers a GET of Ollama's own; all else of that path is Ollama's, at `there`.
function M.beside(there)
  if ngx.req.get_method() ~= 'GET' then return ngx.exec(there) end
  local request, origin = requests.current(), ngx.var.http_origin
  if request and origin then M.cross(request, origin) end
end

function M.back()
  local request = requests.current()
  if request and request.origin then M.uncross(request) end
end

-- A preflight where Ollama is no more; `allow`: the methods of its path.
function M.preflight(request, allow)
  local origin = ngx.var.http_origin
  if origin and not M.cross(request, origin) then return end
  if not request.origin then return refuse.answer(502, 'the model server cannot be reached', true) end
  ngx.header['Access-Control-Allow-Headers'] = PREFLIGHT
  ngx.header['Access-Control-Allow-Methods'] = 'GET,POST,PUT,PATCH,DELETE,HEAD,OPTIONS'
  ngx.header['Access-Control-Max-Age'] = '43200'
  ngx.header.allow = allow
  if not rules.all then
    ngx.header['Vary'] = 'Origin, Access-Control-Request-Method, Access-Control-Request-Headers'
  end
  return ngx.exit(M.bare(204))
end

-- Ollama is asked under a name that it knows: a Hugging Face id means nothing to it.
function M.rename(request)
  if not foreign[request.model:lower()] then return end
  local text = requests.body()
  local found = text and body.members(text, body.skip_space(text, 1))
  local from, to
  for k = 1, found and #found or 0, 4 do
    local key = body.unescape(text:sub(found[k], found[k + 1])):lower()
    if key == 'model' and body.text(text, found[k + 2], found[k + 3]) then from, to = found[k + 2], found[k + 3] end
  end
  if not from then return end
  ngx.req.set_body_data(text:sub(1, from - 1) .. cjson.encode(request.route) .. text:sub(to + 1))
end

-- A request that changes Ollama's store: see store.lua.
function M.store(request)
  request = request or requests.open()
  local uri = request.uri
  if store.METHODS[uri] ~= request.method then return request end
  local text = requests.body()
  local target = text and store.target(uri, text)
  local route = target and state.route_of(target)
  if not route or foreign[target:lower()] then return request end
  local weight = state.now().weights[route] or 0
  if uri == '/api/delete' and weight > 0 then
    return refused(409, ("model '%s' is served by vLLM, and Ollama's copy is the way back: run `migrate rollback %s` first")
      :format(target, route))
  end
  ngx.ctx.touched = route
  return request
end

-- Once it has ended: from now on the sides may differ.
function M.touched()
  local route = ngx.ctx.touched
  if not route or ngx.status >= 400 then return end
  local deed = ngx.var.uri:match('[^/]+$')
  shared:set(TOUCHED .. route, cjson.encode({ by = deed, at = ngx.time() }))
  local path = state.state_dir .. '/touched.json'
  local file = io.open(path .. '.tmp', 'wb')
  if not file then return ngx.log(ngx.CRIT, path, ' cannot be written') end
  file:write(cjson.encode(M.all_touched()))
  file:close()
  os.rename(path .. '.tmp', path)
end

-- {route = {by = what was done to Ollama's copy, at = epoch seconds}}
function M.all_touched()
  local all = {}
  for route in pairs(state.routes) do
    local said = shared:get(TOUCHED .. route)
    if said then all[route] = cjson.decode(said) end
  end
  return all
end

-- {mode, known = number of keys, callers = {address = requests without one}}; nil without keys.
function M.key_status()
  if not config.keys then return nil end
  local all = {}
  for _, address in ipairs(callers:get_keys(1000)) do all[#all + 1] = { address, callers:get(address) or 0 } end
  table.sort(all, function(a, b) return a[2] > b[2] end)
  local shown = {}
  for i = 1, math.min(#all, CALLERS_SHOWN) do shown[all[i][1]] = all[i][2] end
  return { mode = enforced and 'enforce' or 'grace', known = #entries, callers = shown }
end

-- The doors of vLLM's port: exactly these paths, however vLLM might read another spelling.
function M.openai(request, method)
  request = request or requests.open()
  if not requests.plain(request) then return refused(404, 'Not Found') end
  if request.method == method or request.method == 'OPTIONS' then return request end
  ngx.header.allow = method
  return refused(405, 'Method Not Allowed')
end

function M.no_such_path(request)
  local _ = request or requests.open()
  return refused(404, 'Not Found')
end

function M.list(request)
  request = M.openai(request, 'GET')
  local origin = ngx.var.http_origin
  if origin and not M.cross(request, origin) then return end
  local id = request.uri:match('^/v1/models/(.+)$')
  local value
  if not id then
    value = { object = 'list', data = models.list(state.routes, started) }
    if #value.data == 0 then value.data = cjson.empty_array end
  else
    value = models.find(state.routes, id, started)
    if not value then return refused(404, ('The model `%s` does not exist.'):format(id:sub(1, 200))) end
  end
  ngx.header.content_type = 'application/json'
  ngx.print(cjson.encode(value))
  return ngx.exit(200)
end

return M
