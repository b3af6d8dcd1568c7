-- What all workers share: the static configuration, and the weights with their version and lease.
-- The weights are one JSON string in a shared dictionary, so a reader never sees half a change.
local cjson = require 'cjson.safe'
local ffi = require 'ffi'
local hash = require 'hash'
local names = require 'names'
local replicas = require 'replicas'
local weights = require 'weights'

ffi.cdef [[
int fileno(void *stream);
int fsync(int fd);
int open(const char *path, int flags, ...);
int close(int fd);
]]

local M = { routes = {}, engines = {}, replicas = {}, token = '' }

local by_name = {}
local spellings, spelled = {}, 0   -- names as clients write them -> route, or false
local SPELLINGS_MOST = 1000

local shared = ngx.shared.gateway
local seen, decoded

local function slurp(path)
  local file, why = io.open(path, 'rb')
  if not file then return nil, why end
  local text = file:read('*a')
  file:close()
  return text
end

-- A mistake here must stop the start, with its reason.
local function load_config(path)
  local config, why = cjson.decode(assert(slurp(path)))
  assert(config, path .. ': ' .. tostring(why))
  M.stack, M.role = config.stack, config.role
  M.engines, M.routes = config.engines or {}, config.routes or {}
  for engine, several in pairs(config.replicas or {}) do
    for _, name in ipairs(several) do
      assert(M.engines[name], path .. ': replicas.' .. engine .. ': no address of ' .. tostring(name))
    end
    if #several > 1 then M.replicas[engine] = replicas.peers(several) end
  end
  local host, port = (config.shadow or ''):match('^(.+):(%d+)$')
  if host then M.shadow = { host = host, port = tonumber(port) } end
  local log = config.log or {}
  M.log_most, M.log_every = log.most or 256 * 1024 * 1024, log.every or 30
  for route, known in pairs(M.routes) do
    assert(M.engines[known.engine], path .. ': routes.' .. route .. ': no engine named ' .. tostring(known.engine))
    if not M.shadow or known.kind == 'embedding' then known.shadow = nil end
    known.seed, known.sticky = hash.hash(route), known.sticky ~= false
    by_name[names.canonical(route)] = route
    for _, name in ipairs(known.names or {}) do by_name[names.canonical(name)] = route end
  end
end

local function well_formed(state)
  return type(state) == 'table' and type(state.version) == 'number' and type(state.weights) == 'table'
end

-- A file that somebody wrote by hand may say what no command could: such a weight is 0.
local function mend(state, path)
  for route, weight in pairs(state.weights) do
    local wrong = M.routes[route] and weights.invalid({ [route] = weight }, M.routes)
    if wrong or type(weight) ~= 'number' then
      ngx.log(ngx.CRIT, path, ': ', wrong or 'no number', ': Ollama answers for ', tostring(route))
      state.weights[route] = nil
    end
  end
  local lease = state.lease
  if type(lease) ~= 'table' or type(lease.expires) ~= 'number' or type(lease.fallback) ~= 'table' then
    state.lease = cjson.null
  end
  return cjson.encode(state)
end

-- In this order: whoever sees the new number finds the new text.
local function publish(text)
  shared:set('state', text)
  shared:incr('change', 1, 0)
end

-- Reads the file only when nothing is shared yet: after a reload the memory is newer.
local function load_weights(path)
  if shared:get('state') then return end
  local text = slurp(path)
  local state = text and cjson.decode(text)
  if text and not well_formed(state) then
    ngx.log(ngx.CRIT, path, ' is not readable as weights: all requests go to Ollama; kept as ', path, '.bad')
    os.rename(path, path .. '.bad')
    text = nil
  end
  publish(text and mend(state, path) or '{"version":0,"weights":{},"lease":null}')
end

function M.init(etc_dir, state_dir)
  M.state_dir = state_dir
  M.log_path = state_dir .. '/access.jsonl'
  load_config(etc_dir .. '/config.json')
  M.token = (slurp(etc_dir .. '/token') or ''):gsub('%s+$', '')
  load_weights(state_dir .. '/weights.json')
end

-- The route that a name means, however it is spelled; nil when it means none.
function M.route_of(name)
  local route = spellings[name]
  if route == nil then
    route = by_name[names.canonical(name)] or false
    if spelled >= SPELLINGS_MOST then spellings, spelled = {}, 0 end
    spellings[name], spelled = route, spelled + 1
  end
  return route or nil
end

-- The state now: {version, weights, lease, by, changed}. Not to be changed in place.
-- A number tells whether it changed: to fetch the text for each request would cost more than all else here.
function M.now()
  local change = shared:get('change')
  if change ~= seen then
    seen, decoded = change, cjson.decode(shared:get('state'))
    if decoded.lease == cjson.null then decoded.lease = nil end
  end
  return decoded
end

-- Why the weights in effect are not the stored ones, or nil.
function M.unsaved() return shared:get('unsaved') end

local function sync_path(path)
  local fd = ffi.C.open(path, 0)
  if fd >= 0 then
    ffi.C.fsync(fd)
    ffi.C.close(fd)
  end
end

local function persist(text)
  local path = M.state_dir .. '/weights.json'
  local file, why = io.open(path .. '.tmp', 'wb')
  if not file then return nil, why end
  local written = file:write(text) and file:flush() and ffi.C.fsync(ffi.C.fileno(file)) == 0
  file:close()
  if not written then return nil, path .. '.tmp: write failed' end
  local renamed, reason = os.rename(path .. '.tmp', path)
  if not renamed then return nil, reason end
  sync_path(M.state_dir)
  return true
end

-- Replaces the state by what `change(state)` returns; its second result, a reason, leaves all as it was.
-- Persisted before it takes effect. One writer at a time over all workers. On a full disk a weight that is lowered is
-- lowered all the same: whoever does that may be the guard, with an engine that hangs.
function M.update(change)
  while not shared:add('writer', ngx.worker.pid(), 5) do ngx.sleep(0.001) end
  local state, why = change(M.now())
  if state then
    local text = cjson.encode({ version = state.version, weights = state.weights, lease = state.lease or cjson.null,
      by = state.by, changed = state.changed })
    local kept, reason = persist(text)
    if kept then
      shared:delete('unsaved')
    elseif state.lowers then
      ngx.log(ngx.CRIT, 'weights were lowered but could not be stored: ', reason)
      shared:set('unsaved', tostring(reason))
    end
    if kept or state.lowers then publish(text) else state, why = nil, reason end
  end
  shared:delete('writer')
  return state, why
end

return M
