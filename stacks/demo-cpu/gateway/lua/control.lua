-- The control door: weights, lease, hold, status, metrics and the log.
local cjson = require 'cjson.safe'
local hold = require 'hold'
local live = require 'live'
local scrape = require 'scrape'
local shadow = require 'shadow'
local spread = require 'spread'
local state = require 'state'
local surface = require 'surface'
local weights = require 'weights'

local M = {}

local LOG_PAGE = 4194304   -- bytes of the log per answer
local LOG_FLUSH = 0.15     -- seconds: a worker writes its lines every 0.1 s
local HOLD_MOST = 600      -- seconds; clients give up sooner
local WAIT_MOST = 5000     -- requests; each has a connection and its body
local LEASE_MOST = 86400   -- seconds; its owner says so again long before
local OUT_MOST = 600       -- seconds; whoever takes a replica out says so again

local function answer(status, value)
  ngx.status = status
  ngx.header.content_type = 'application/json'
  ngx.say(cjson.encode(value))
end

-- Compares in a time that does not depend on where the texts differ.
local function same(given, expected)
  local differ = #given == #expected and 0 or 1
  for i = 1, #expected do
    if given:byte(i) ~= expected:byte(i) then differ = differ + 1 end
  end
  return differ == 0
end

-- Ends the request with 401 unless it carries the token. Without a token configured nobody enters.
function M.guard()
  local given = (ngx.var.http_authorization or ''):match('^[Bb]earer%s+(%S+)$')
  if given and state.token ~= '' and same(given, state.token) then return end
  answer(401, { error = 'a bearer token is needed' })
  return ngx.exit(401)
end

local function payload()
  ngx.req.read_body()
  local value = cjson.decode(ngx.req.get_body_data() or '')
  return type(value) == 'table' and value or nil
end

local function given(value)
  if value ~= cjson.null then return value end
  return nil
end

-- A number of seconds that can be kept: JSON's 1e999 is none.
local function period(value, most) return type(value) == 'number' and value >= 0 and value <= most end

-- A name as it can be shown again, whatever came.
local function name_of(value)
  if type(value) ~= 'string' then return 'unknown' end
  return (value:sub(1, 200):gsub('[%c\127-\255]', '?'))
end

local function conflict()
  answer(409, { error = 'the weights were changed by someone else, or would rise without their version',
    version = state.now().version })
end

local function set_weights()
  local asked = payload()
  if not asked then return answer(400, { error = 'a JSON object is needed' }) end
  local version = given(asked.version)
  if version ~= nil and type(version) ~= 'number' then return answer(400, { error = 'version: a number or null is needed' }) end
  local wrong = weights.invalid(asked.weights, state.routes)
  if wrong then return answer(400, { error = wrong }) end
  local by = name_of(asked.by)
  local changed, why = state.update(function(now) return weights.change(now, asked.weights, version, by, ngx.now()) end)
  if changed then return answer(200, { version = changed.version, unsaved = state.unsaved() }) end
  if why == 'conflict' then return conflict() end
  answer(500, { error = 'the weights could not be stored: ' .. tostring(why) })
end

local function set_lease()
  local asked = payload()
  local seconds = asked and asked.seconds
  if not period(seconds, LEASE_MOST) or type(asked.owner) ~= 'string' then
    return answer(400, { error = 'owner: text and seconds: from 0 to ' .. LEASE_MOST .. ' are needed' })
  end
  local fallback = given(asked.fallback) or {}
  if type(fallback) ~= 'table' then return answer(400, { error = 'fallback: an object of route names to weights is needed' }) end
  local wrong = next(fallback) and weights.invalid(fallback, state.routes)
  if wrong then return answer(400, { error = 'fallback: ' .. wrong }) end
  local lease = seconds > 0 and { owner = name_of(asked.owner), expires = ngx.now() + seconds, fallback = fallback } or nil
  local kept, why = state.update(function(now)
    return { version = now.version, weights = now.weights, lease = lease, by = now.by, changed = now.changed }
  end)
  if not kept then return answer(500, { error = 'the lease could not be stored: ' .. tostring(why) }) end
  answer(200, { lease = lease or cjson.null })
end

-- `on` may be left out: 0 seconds let go. No route: all requests.
local function set_hold()
  local asked = payload()
  if not asked then return answer(400, { error = 'a JSON object is needed' }) end
  local on, name, most = given(asked.on), given(asked.route), given(asked.most)
  local seconds = on == false and 0 or given(asked.seconds)
  if type(seconds) ~= 'number' or seconds ~= seconds or seconds < 0 or seconds > HOLD_MOST or (on and seconds == 0) then
    return answer(400, { error = 'seconds: more than 0 and at most ' .. HOLD_MOST .. ' are needed, or on: false' })
  end
  local route = type(name) == 'string' and state.route_of(name) or nil
  if name and not route then return answer(400, { error = 'route: no route named ' .. tostring(name) }) end
  if most and (type(most) ~= 'number' or most % 1 ~= 0 or most < 0 or most > WAIT_MOST) then
    return answer(400, { error = 'most: a whole number from 0 to ' .. WAIT_MOST .. ' is needed' })
  end
  hold.set(route, seconds, most, state.routes)
  answer(200, { on = seconds > 0, route = route or cjson.null })
end

-- Of one replica, or of an engine that has none: its requests go elsewhere. 0 seconds let it come back.
local function take_out()
  local asked = payload()
  local seconds = asked and asked.seconds
  if not period(seconds, OUT_MOST) or not state.engines[asked.replica or ''] then
    return answer(400, { error = 'replica: an engine or one of its replicas, and seconds: from 0 to ' .. OUT_MOST .. ' are needed' })
  end
  local kept, why = spread.take_out(asked.replica, seconds)
  if not kept then return answer(500, { error = tostring(why) }) end
  answer(200, { replica = asked.replica, seconds = seconds })
end

local function status()
  local now, all = state.now(), {}
  for route in pairs(state.routes) do all[route] = now.weights[route] or 0 end
  local counts, failovers = live.ended()
  answer(200, {
    stack = state.stack, role = state.role, version = now.version, weights = all,
    by = now.by or cjson.null, changed = now.changed or cjson.null,
    hold = hold.status(state.routes), shadow = shadow.status(),
    unsaved = state.unsaved(), lease = now.lease or cjson.null, live = live.in_flight(state.routes), counts = counts, failovers = failovers,
    replicas = spread.status(), circuits = spread.circuits(),
    touched = surface.all_touched(), keys = surface.key_status(),
  })
end

-- Every request that has ended when it is asked for is in it.
local function log_page()
  ngx.sleep(LOG_FLUSH)
  local from = tonumber((ngx.var.arg_from or ''):match('^%d+$')) or 0
  local file = io.open(state.log_path, 'rb')
  local size = file and file:seek('end') or 0
  if from > size then from = 0 end   -- the log was rotated meanwhile
  local text = ''
  if file then
    file:seek('set', from)
    text = (file:read(LOG_PAGE) or ''):match('^.*\n') or ''
    file:close()
  end
  ngx.header.content_type = 'application/x-ndjson'
  ngx.header['X-Next'] = ('%d'):format(from + #text)
  ngx.print(text)
end

local DOORS = {
  ['GET /control/status'] = status, ['GET /control/log'] = log_page, ['POST /control/weights'] = set_weights,
  ['POST /control/lease'] = set_lease, ['POST /control/hold'] = set_hold,
  ['POST /control/replica'] = take_out, ['GET /metrics'] = scrape.page,
}

function M.serve()
  local door = DOORS[ngx.req.get_method() .. ' ' .. ngx.var.uri]
  if not door then return answer(404, { error = 'no such door' }) end
  return door()
end

-- Which stack answers on this port: lets a take-over see that it has arrived.
function M.identity()
  answer(200, { stack = state.stack, role = state.role, version = state.now().version })
end

return M
